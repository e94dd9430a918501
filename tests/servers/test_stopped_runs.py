"""A run in progress is stopped from another process, and a process without a scheduler asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.errors import RunNotStoppableError
from tests.support.servers import Server, free_port, program, wait_until
from tests.support.slow_site import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.core.run import Run
    from pulse.handle.handle import SchedulerHandle

pytestmark = pytest.mark.server

SOON_S = 5.0
"""A process that runs something looks each 0.75 s; a child has 2 s to end."""


def fleet(folder: Path, kind: str, mode: str) -> Server:
    """Return a gunicorn with two workers, not yet started."""
    port = free_port()
    command = [program("gunicorn"), "-b", f"127.0.0.1:{port}", "--no-control-socket", "-w", "2"]
    command += ["-k", kind, "tests.support.slow_site:make()"]
    environ: dict[str, str | None] = {"SLOW_DB": str(folder / "pulse.db"), "SLOW_MODE": mode}
    return Server(command, port=port, folder=folder, environ=environ)


@pytest.fixture
def handle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SchedulerHandle]:
    """Return the handle of a process in which no scheduler starts."""
    monkeypatch.setenv("SLOW_DB", str(tmp_path / "pulse.db"))
    found = wrapped(mode="threading", start="off").scheduler
    yield found
    found.attach(None)  # closes the store


def running(handle: SchedulerHandle) -> Run:
    """Return the run in progress, once there is one."""
    return wait_until(lambda: [*handle.runs(outcomes=["running"])], what="a run")[0]


@pytest.mark.parametrize(("kind", "mode"), [("gevent", "gevent"), ("gthread", "processing")])
def test_run_is_stopped_from_another_process(
    kind: str, mode: str, tmp_path: Path, handle: SchedulerHandle
) -> None:
    """Its holder interrupts it within about a second; who asked and why is on record."""
    with fleet(tmp_path, kind, mode):
        run = running(handle)
        handle.stop(run, by="anna", note="wrong month")
        ended = handle.wait(run, timeout=60)
        again = handle.wait(handle.trigger("slow") or run, timeout="1s")
    assert ended.outcome is Outcome.INTERRUPTED
    assert ended.message.startswith("stopped by anna: wrong month")
    asked = next(one for one in handle.audit() if one.verb == "stop")
    assert (asked.run, asked.by, asked.note) == (run.id, "anna", "wrong month")
    assert ended.started_at is not None
    assert ended.took_us is not None
    assert ended.started_at + ended.took_us - asked.at < SOON_S * SECOND
    assert again.outcome is None  # the slot goes on with another run


def test_run_of_threads_cannot_be_stopped(tmp_path: Path, handle: SchedulerHandle) -> None:
    """The call is refused at once, and the run goes on."""
    with fleet(tmp_path, "gthread", "threading"):
        run = running(handle)
        with pytest.raises(RunNotStoppableError, match="mode threading cannot stop a run"):
            handle.stop(run)
        assert handle.run(run.id) == run


def test_process_without_a_scheduler_sees_and_steers_the_fleet(
    tmp_path: Path, handle: SchedulerHandle
) -> None:
    """It is no member of the fleet, and its pause holds for all."""
    with fleet(tmp_path, "gevent", "gevent"):
        run = running(handle)
        members = handle.members()
        assert {one.host for one in members} == {run.holder.partition(":")[0]}
        reports = {one.holder: one.report for one in members}
        busy = reports[run.holder]
        assert busy is not None
        assert (busy.server, busy.slots, busy.stops_runs) == ("gunicorn", 10, True)
        wait_until(
            lambda: [one.report.used for one in handle.members() if one.report] in ([1, 0], [0, 1]),
            what="the reports of both processes",
        )
        handle.pause("slow", by="anna")
        assert handle.task("slow").paused
        handle.resume("slow")
    assert handle.task("slow").settings == {
        "action": "/slow",
        "interval": "1h",
        "run_at_start": "true",
        "timeout": "3m",
    }
