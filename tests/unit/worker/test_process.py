"""The end of a run is recorded, whatever becomes of the task of Celery that waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.carrier.base import parcel_of
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.testing.clock import FakeClock
from pulse.testing.sample_runs import make_claim
from pulse.worker import process
from pulse.worker.bells import ThreadBell
from pulse.worker.process import SLOW, TAKE_WITHIN, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.core.run import Claim
    from pulse.store.base import Store

DONE = Result(Outcome.SUCCEEDED, 0, 1)


class KilledError(BaseException):
    """Stands for the exception by which Celery ends a greenlet."""


class SpyThread:
    """Notes what is to be recorded, and the claims that are given back."""

    def __init__(self) -> None:
        self.recorded: list[CompletedRun] = []
        self.left: list[object] = []
        self.tracked: list[Claim] = []
        self.claim = make_claim("quick")
        self.kills = False
        self.takes: Callable[[], object] = lambda: None
        self.makes: Callable[[], object] = lambda: None

    def record(self, completed_run: CompletedRun, recorded: ThreadBell) -> None:
        """Note an end."""
        self.recorded.append(completed_run)
        recorded.ring()

    def leave(self, claim: object) -> None:
        """Note a claim."""
        self.left.append(claim)

    def give_back(self, claim: Claim, reason: str) -> None:
        """Note a claim and why it is given back."""
        self.left.append((claim, reason))

    def is_worker(self, _: str) -> bool:
        """Return that the one who posts is a web process."""
        return False

    def track(self, claim: Claim, _: int) -> None:
        """Take a claim."""
        self.tracked.append(claim)

    def leave_taken(self, taken: Sequence[Claim]) -> None:
        """Note what was taken in vain, once the calls before have been made."""
        self.makes()
        self.left += taken

    def call(self, call: Callable[[Store], object]) -> object:
        """Make the call, or let it be made once the greenlet that waits was killed."""
        store: Store = self  # type: ignore[assignment] # the part that is used
        if not self.kills:
            return call(store)
        self.makes = lambda: call(store)
        raise KilledError

    def take(self, *_: object, **__: object) -> Claim:
        """Give the run to this worker, as the store."""
        self.takes()
        return self.claim

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
    worker._clock = FakeClock()
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


def take(worker: WorkerProcess, thread: SpyThread) -> Claim | None:
    """Take the run of a parcel."""
    claim = thread.claim
    parcel = parcel_of(claim.run, digest="00ff", timeout_us=1, wait_us=1)
    return worker._take(parcel, claim.definition)


def test_a_run_that_is_taken_is_tracked() -> None:
    """Its lease is renewed before it begins."""
    worker, thread, _ = make()
    taken = take(worker, thread)
    assert taken is not None
    assert (thread.tracked, thread.left) == ([taken], [])


def test_a_run_that_was_taken_too_slowly_is_given_back_until_the_store_answers() -> None:
    """The store may be about to fail: the thread repeats it."""
    worker, thread, _ = make()
    thread.takes = lambda: worker._clock.forward((TAKE_WITHIN + 1) / 1e6)  # type: ignore[attr-defined] # a settable clock
    assert take(worker, thread) is None
    assert (thread.tracked, thread.left) == ([], [(thread.claim, SLOW)])


def test_a_run_that_a_killed_greenlet_was_to_take_is_given_back() -> None:
    """The native thread takes it all the same, and would renew its lease for ever."""
    worker, thread, _ = make()
    thread.kills = True
    with pytest.raises(KilledError):
        take(worker, thread)
    assert thread.left == thread.tracked
    assert len(thread.left) == 1
