"""The end of a run is recorded, whatever becomes of the task of Celery that waits for it."""

from __future__ import annotations

import pytest

from pulse.core.run import CompletedRun, Outcome, Result
from pulse.testing.sample_runs import make_claim
from pulse.worker import process
from pulse.worker.bells import ThreadBell
from pulse.worker.process import WorkerProcess

DONE = Result(Outcome.SUCCEEDED, 0, 1)


class KilledError(BaseException):
    """Stands for the exception by which Celery ends a greenlet."""


class SpyThread:
    """Notes what is to be recorded, and the claims that are given back."""

    def __init__(self) -> None:
        self.recorded: list[CompletedRun] = []
        self.left: list[object] = []

    def record(self, completed_run: CompletedRun, recorded: ThreadBell) -> None:
        """Note an end."""
        self.recorded.append(completed_run)
        recorded.ring()

    def leave(self, claim: object) -> None:
        """Note a claim."""
        self.left.append(claim)

    def wait_until_recorded(self, recorded: ThreadBell) -> None:
        """Wait."""
        assert recorded.wait(0)


class Executor:
    """Reports each claim with one result, before or after the waiter is killed."""

    def __init__(self, worker: WorkerProcess, result: Result = DONE) -> None:
        self.worker = worker
        self.result = result
        self.waits: CompletedRun | None = None
        self.at_once = False

    def submit(self, claim: object) -> None:
        """Keep the end of the claim until it is reported."""
        self.waits = CompletedRun(claim, self.result)  # type: ignore[arg-type] # a claim
        if self.at_once:
            self.report()

    def report(self) -> None:
        """Report the end."""
        assert self.waits is not None
        self.worker._report(self.waits)


def make(result: Result = DONE) -> tuple[WorkerProcess, SpyThread, Executor]:
    """Return a process without an application, its store thread and its executor."""
    worker = object.__new__(WorkerProcess)
    worker._waiting = {}
    worker._thread = thread = SpyThread()  # type: ignore[assignment] # the part that is used
    worker._executor = executor = Executor(worker, result)
    return worker, thread, executor


@pytest.mark.parametrize("reports_first", [True, False], ids=["ended before", "ends later"])
def test_an_end_is_recorded_though_the_one_who_waits_is_killed(
    monkeypatch: pytest.MonkeyPatch, *, reports_first: bool
) -> None:
    """At the moment of the report, too."""
    worker, thread, executor = make()

    class KilledBell(ThreadBell):
        def wait(self, timeout_us: int | None = None) -> bool:  # noqa: ARG002 - the signature
            if reports_first:
                executor.report()
            raise KilledError

    monkeypatch.setattr(process, "make_bell", KilledBell)
    with pytest.raises(KilledError):
        worker._execute(make_claim("quick"))
    if not reports_first:
        executor.report()
    assert [one.result for one in thread.recorded] == [DONE]


def test_a_run_that_has_not_begun_is_given_back() -> None:
    """Another worker executes it; it is not recorded as interrupted."""
    worker, thread, executor = make(Result(Outcome.INTERRUPTED, 0, 0, was_dispatched=False))
    executor.at_once = True
    claim = make_claim("quick")
    worker._execute(claim)
    assert (thread.left, thread.recorded) == ([claim], [])
