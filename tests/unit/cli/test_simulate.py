"""`pulse simulate`, in this process: what it tells, and where it has durations from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from pulse.clock import SECOND, SystemClock
from pulse.core.run import Ending, Outcome, Result
from pulse.core.task import Task, define
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASKS = """[filter:pulse]
use = egg:pulse
pulse.config.name = shop
pulse.config.store = sqlite:///shop.db
pulse.task.cleanup.action = cleanup
pulse.task.cleanup.interval = 5m
pulse.task.report.action = report
pulse.task.report.interval = 1h
"""
FROM = ["--from", "2026-01-05T12:00:00Z"]


def simulated(capsys: pytest.CaptureFixture[str], file: Path, *arguments: str) -> dict:
    """Return what `pulse simulate --json` tells of a file with one section."""
    assert main(["simulate", str(file), "--json", *FROM, *arguments]) == 0
    (section,) = json.loads(capsys.readouterr().out)
    return section


def record(path: Path, took_us: int) -> None:
    """Make a store in which a run of cleanup took so long."""
    store = SqliteStore(path, SystemClock(), name="shop", keep_runs=10, keep_for_us=10**15)
    store.open(this_member("inline", "", SECOND * 30))
    task = Task(action="cleanup", interval="5m", run_at_start=True)
    store.sync({"cleanup": define("cleanup", task)})
    (claim,) = store.claim_due(1).claims
    store.finish([Ending(claim, Result(Outcome.SUCCEEDED, SystemClock().wall(), took_us))])
    store.close()


def test_each_task_is_told_with_its_ticks(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """How many, the first, the last and the next few, in the window that was asked for."""
    found = simulated(capsys, ini(TASKS), "--for", "1d")
    assert (found["from"], found["until"], found["ticks"]) == (
        "2026-01-05T12:00:00Z",
        "2026-01-06T12:00:00Z",
        310,
    )
    assert found["tasks"][1] == {
        "task": "report",
        "schedule": {"interval": "1h"},
        "ticks": 23,
        "first": "2026-01-05T13:00:00Z",
        "last": "2026-01-06T11:00:00Z",
        "next": [f"2026-01-05T{hour}:00:00Z" for hour in range(13, 18)],
        "took_s": 1.0,
        "took_from": "assumed",
        "overlaps": False,
    }


def test_the_busiest_hours_and_the_peak_are_told(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where ticks pile up, and which tasks meet."""
    found = simulated(capsys, ini(TASKS), "--for", "1d")
    assert found["busiest_hours"][0] == {"start": "2026-01-05T13:00:00Z", "ticks": 13}
    assert found["peak"] == {
        "at_least": 2,
        "at_most": 2,
        "at": "2026-01-05T13:00:00Z",
        "tasks": ["cleanup", "report"],
    }


def test_durations_come_from_the_history(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The median of each task that has one."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=250_000)
    tasks = simulated(capsys, file)["tasks"]
    assert [(task["took_s"], task["took_from"]) for task in tasks] == [
        (0.25, "history"),
        (1.0, "assumed"),
    ]


def test_a_duration_that_is_given_goes_before_history(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody asks what would be if."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=250_000)
    task = simulated(capsys, file, "--took", "cleanup=6m")["tasks"][0]
    assert (task["took_s"], task["took_from"], task["overlaps"]) == (360, "given", True)


def test_reading_the_history_leaves_the_folder_as_it_was(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither a store nor a log of one is made."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=1)
    before = sorted(tmp_path.iterdir())
    simulated(capsys, file)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("store", ["sqlite:///shop.db", "memory:", None])
def test_a_store_that_is_not_there_is_not_made(
    store: str | None, ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look at the future leaves no trace."""
    line = "" if store is None else f"pulse.config.store = {store}\n"
    file = ini(TASKS.replace("pulse.config.store = sqlite:///shop.db\n", line))
    found = simulated(capsys, file)
    assert found["history"] == "no store with a history is here"
    assert [path.name for path in tmp_path.iterdir()] == ["pulse.ini"]


def test_a_history_that_cannot_be_read_is_told(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast goes on without it."""
    (tmp_path / "shop.db").write_text("this is no database, and long enough to see that" * 30)
    found = simulated(capsys, ini(TASKS))
    assert found["history"].startswith("the history cannot be read: ")
    assert found["tasks"][0]["took_from"] == "assumed"


def test_an_empty_history_is_none(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without the tables of this application tells no durations."""
    (tmp_path / "shop.db").touch()
    assert simulated(capsys, ini(TASKS))["tasks"][0]["took_from"] == "assumed"


def test_people_get_tables(ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks, busy hours and the peak; a run that meets its successor is pointed at."""
    assert main(["simulate", str(ini(TASKS)), *FROM, "--for", "1d", "--took", "report=2h"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        "[filter:pulse] 2026-01-05T12:00:00Z to 2026-01-06T12:00:00Z, as if the store first saw "
        "the tasks then; ticks: 310"
    )
    assert printed[4].split("  ")[0] == "report"
    assert printed[4].endswith("2h (given)         longer than to its next tick")
    assert printed[-1] == "most runs at once: 2, first at 2026-01-05T13:00:00Z: cleanup, report"


def test_people_are_told_the_time_of_the_configuration(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The window, each task, the busy hours and the peak; a task may have a zone of its own."""
    zones = "pulse.config.timezone = Europe/Berlin\npulse.task.report.timezone = Asia/Tokyo\n"
    start = "pulse.task.report.start = 2026-01-05T22:00\n"
    assert main(["simulate", str(ini(TASKS + zones + start)), *FROM, "--for", "1h"]) == 0
    printed = capsys.readouterr().out
    assert "[filter:pulse] 2026-01-05T13:00:00+01:00 to 2026-01-05T14:00:00+01:00" in printed
    assert "start = 2026-01-05T22:00:00+09:00" in printed
    assert "first at 2026-01-05T13:05:00+01:00: cleanup" in printed
    assert "Z" not in printed.replace(FROM[1], "")


def test_a_window_in_which_nothing_is_due_is_told(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """There are no busy hours and no peak."""
    assert main(["simulate", str(ini(TASKS)), *FROM, "--for", "1m"]) == 0
    printed = capsys.readouterr().out
    assert ("busiest" in printed, printed.splitlines()[-1]) == (False, "runs at once: none")


def test_a_peak_that_is_not_certain_says_so(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where too many ticks would have to be looked at, both bounds are told."""
    text = TASKS.replace("= 5m", "= 1ms").replace("= 1h", "= 61m")
    assert main(["simulate", str(ini(text)), *FROM, "--for", "2h10m"]) == 0
    assert "runs at once: at least 1, at most 2," in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (TASKS, ["--took", "reprt=1s"], "got 'reprt'; did you mean 'report'?"),
        (
            TASKS + "pulse.config.mode = gevnt\n",
            ["--json"],
            "[filter:pulse] pulse.config.mode: expected",
        ),
        (TASKS, ["--section", "filter:puls"], "did you mean 'filter:pulse'?"),
    ],
)
def test_what_is_wrong_ends_with_status_2(
    text: str,
    arguments: list[str],
    sentence: str,
    ini: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And with no forecast."""
    assert main(["simulate", str(ini(text)), *FROM, *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, sentence in printed.err) == ("", True)


def test_a_bad_duration_is_a_wrong_call(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The option is named."""
    with pytest.raises(SystemExit):
        main(["simulate", str(ini(TASKS)), "--took", "report=soon"])
    assert "--took: expected seconds as a number" in capsys.readouterr().err
