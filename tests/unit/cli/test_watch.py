"""`pulse watch`: what the screen shows first, and that it fits."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from pulse.cli.main import main
from pulse.cli.watch import Line, Seen, needs_attention, screen
from pulse.clock import SECOND
from pulse.core.run import Outcome, Run
from pulse.store.steering import MemberState, Pause, TaskState

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOW = 1_767_225_600 * SECOND
MEMBER = MemberState(
    holder="web1:7:a",
    host="web1",
    pid=7,
    mode="gevent",
    digest="d",
    lease_us=30 * SECOND,
    seen_at=NOW,
)


def task(name: str, **words: object) -> TaskState:
    """Return the row of a task that fires in a minute."""
    known: dict[str, object] = {
        "partition": "",
        "source": "config",
        "digest": "d",
        "paused": False,
        "anchor": NOW,
        "next_fire": NOW + 60 * SECOND,
        "last_decided": NOW,
        "unfinished": 0,
        "schedule": {"interval": "1m"},
    }
    return TaskState(name=name, **(known | words))  # type: ignore[arg-type]


def seen(*states: TaskState, runs: tuple[Run, ...] = (), pause: Pause | None = None) -> Seen:
    """Return what a fleet of one process shows."""
    return Seen(NOW, states, runs, [MEMBER], pause)


def texts(lines: list[Line]) -> list[str]:
    """Return the lines without their styles."""
    return [line.text for line in lines]


def test_first_line_answers_whether_all_is_well() -> None:
    """And names the next run."""
    [first, *_] = texts(screen(seen(task("report"), task("work")), NOW, 80, 24))
    assert first == "All 2 tasks on time. Next: report in 1m."


def test_what_is_wrong_comes_first_and_the_worst_before_all() -> None:
    """Overdue tasks, then failed ones, then paused ones."""
    found = needs_attention(
        seen(
            task("paused", paused=True, pause=Pause(NOW, None, "ann", "release 7")),
            task("failed", failures=3, last_outcome=Outcome.FAILED),
            task("late", next_fire=NOW - 90 * SECOND),
            task("busy", next_fire=NOW - 90 * SECOND, unfinished=1),
            task("well"),
        )
    )
    assert texts(found) == [
        "  late: overdue by 1m30s",
        "  failed: failed 3 times in a row",
        "  paused: paused by ann: release 7",
    ]


def test_store_that_is_not_reached_leaves_the_last_copy_with_its_age() -> None:
    """The reason stands above it."""
    lines = texts(screen(seen(task("work")), NOW + 5 * SECOND, 120, 24, problem="no answer"))
    assert lines[0] == "the store is not reached; what follows is 5.00 s old: no answer"
    assert lines[1].startswith("The only task is on time.")
    assert texts(screen(None, NOW, 80, 24, problem="no")) == ["the store is not reached: no"]


@given(
    number=st.sampled_from([0, 1, 7, 1_000]),
    wrong=st.integers(0, 1_000),
    width=st.integers(20, 200),
    height=st.integers(5, 60),
)
def test_screen_fits_whatever_there_is(number: int, wrong: int, width: int, height: int) -> None:
    """The first line stays, and what does not fit is counted."""
    states = [
        task(f"task-{n}", failures=int(n < wrong), last_outcome=Outcome.FAILED)
        for n in range(number)
    ]
    runs = tuple(
        Run(
            id=f"{n:032x}",
            task=f"task-{n}",
            fire_time=NOW,
            outcome=Outcome.FAILED,
            message="x" * 300,
        )
        for n in range(50)
    )
    lines = screen(seen(*states, runs=runs), NOW, width, height)
    assert len(lines) <= height
    assert all(len(line.text) <= width for line in lines)
    assert lines[0].text.startswith(
        ("All ", "The only task is", "no tasks", f"{min(wrong, number):,} of ")
    )


def test_screen_is_shown_at_a_terminal_until_it_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends it with status 0, and the terminal is left as it was."""
    store = f"sqlite:///{tmp_path}/pulse.db"
    make = (
        "from pulse.clock import SystemClock\n"
        "from pulse.store.base import StoreOptions\n"
        "from pulse.store.factory import choose_store\n"
        "from pulse.store.process_identity import this_member\n"
        "from pulse import Task\n"
        "from pulse.core.task import build_definition\n"
        f"store, _ = choose_store({store!r}, StoreOptions(), clock=SystemClock(), origin='/')\n"
        "store.open(this_member('threading', 'd', 30_000_000))\n"
        "store.sync({'work': build_definition('work', Task(action='/w', interval='1h'))})\n"
    )
    subprocess.run([sys.executable, "-c", make], check=True, timeout=60)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse", "watch", "--store", store],
        stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"},
    )
    os.close(theirs)
    printed = b""
    while b"work" not in printed:
        printed += os.read(ours, 65_536)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    printed += os.read(ours, 65_536)
    os.close(ours)
    assert b"\x1b[?1049l" in printed  # the alternate screen is left


def test_watch_without_a_terminal_names_another_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit status 2."""
    (tmp_path / "pulse.db").touch()
    assert main(["watch", "--store", f"sqlite:///{tmp_path}/pulse.db"]) == 2
    assert "expected a terminal" in capsys.readouterr().err
