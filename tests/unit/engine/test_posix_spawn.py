"""A process that is started without a fork: how it begins, and what is known of its end."""

from __future__ import annotations

import os
import sys
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.engine.posix_spawn import SpawnedProcess
from tests.support.forks import in_child, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[[str], SpawnedProcess]

BOUND = 20 * SECOND


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Python on a text, its output in the file `out`."""
    out = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)

    def begin(text: str) -> SpawnedProcess:
        command = [sys.executable, "-c", text]
        return SpawnedProcess(command, dict(os.environ), stdin=nothing, stdout=out)

    yield begin
    os.close(out)
    os.close(nothing)


def test_an_end_and_its_status_are_known(start: Start) -> None:
    """Who waits learns that it ended, and how."""
    process = start("raise SystemExit(3)")
    ended = process.wait(BOUND, SystemClock())
    assert (ended, process.has_ended(), process.exit_description()) == (True, True, "exit status 3")


def test_a_wait_ends_with_its_time(start: Start) -> None:
    """Who waits for what goes on is told so."""
    process = start("import sys; sys.stdin.close(); import time; time.sleep(60)")
    ended = process.wait(SECOND // 50, SystemClock())
    os.kill(process.pid, 9)
    process.wait(BOUND, SystemClock())
    assert (ended, process.exit_description()) == (False, "signal SIGKILL")


def test_a_status_that_somebody_else_took_is_not_made_up(start: Start) -> None:
    """Where another part of the process has waited for every child, the status is not known."""
    process = start("raise SystemExit(3)")
    os.waitpid(process.pid, 0)
    assert process.wait(BOUND, SystemClock())
    assert (
        process.exit_description() == "exit status unknown: other code in this process has read it"
    )


def test_it_leads_a_session_of_its_own(start: Start, tmp_path: Path) -> None:
    """A signal to the server's group, such as Ctrl-C, does not reach it."""
    process = start("import os; os.write(1, f'{os.getsid(0)} {os.getpgrp()}'.encode())")
    process.wait(BOUND, SystemClock())
    assert (tmp_path / "out").read_text() == f"{process.pid} {process.pid}"


def test_a_program_that_is_not_there_is_an_error() -> None:
    """Nothing was started, and the caller hears of it."""
    with pytest.raises(FileNotFoundError):
        SpawnedProcess(["/no/such/program"], {}, stdin=0, stdout=1)


def test_a_copy_in_a_forked_child_sends_no_signal(start: Start) -> None:
    """The process is the parent's: its copy there ends nothing."""
    process = start("import sys; sys.stdin.close(); import time; time.sleep(60)")

    def signal_group() -> bool:
        process.signal_group(SIGKILL)
        return True

    status = status_of(in_child(signal_group))
    alive = not process.has_ended()
    process.signal_group(SIGKILL)
    assert (status, alive) == (0, True)
    assert process.wait(BOUND, SystemClock())
