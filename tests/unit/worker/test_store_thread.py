"""The thread through which the process of a worker uses the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

import pytest

from pulse import events
from pulse.clock import SECOND, SystemClock
from pulse.core.run import CLAIM_LOST, RECORDED, CompletedRun, Outcome, RecordResult, Result
from pulse.errors import StoreUnavailableError
from pulse.forks import ForkMark
from pulse.store.base import HeartbeatResult
from pulse.store.process_identity import this_member
from pulse.store.steering import MemberReport, StopRequest
from pulse.testing.recorder import Recorder
from pulse.testing.sample_runs import make_claim, read_seconds
from pulse.worker import store_thread
from pulse.worker.bells import make_bell
from pulse.worker.store_thread import StoreThread, WorkerParts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pulse.clock import Span
    from pulse.core.run import Claim
    from pulse.store.base import Member

T = TypeVar("T")

BOUND_S = 10.0
LEASE: Span = SECOND // 2
NEVER: Span = 2**62
DONE = Result(Outcome.SUCCEEDED, 0, 1)
OUTAGE = StoreUnavailableError("no answer")


class SpyStore:
    """A store that records its calls with the thread that made them, and fails on demand.

    Attributes:
        problem: what every call raises; None for nothing.
        lost: whether the claims of this process are lost.
        stops: the requests that the next heartbeat finds.

    """

    name = "spy:"

    def __init__(self) -> None:
        self.problem: Exception | None = None
        self.lost = False
        self.stops: dict[str, StopRequest] = {}
        self.calls: list[tuple[str, object]] = []
        self.threads: set[int] = set()
        self.report: Callable[[], MemberReport] = MemberReport
        self._news = threading.Condition()

    def _note(self, name: str, value: object = None) -> None:
        with self._news:
            self.threads.add(threading.get_ident())
            self.calls.append((name, value))
            self._news.notify_all()
        if self.problem is not None:
            raise self.problem

    def count(self, name: str) -> int:
        """Return how many calls of that name have come."""
        return sum(one == name for one, _ in list(self.calls))

    def await_calls(self, name: str, count: int) -> list[object]:
        """Return the values of the calls of that name, once there are *count* of them."""
        with self._news:
            came = self._news.wait_for(lambda: self.count(name) >= count, BOUND_S)
        assert came, f"expected {count} calls of {name}, got {self.calls}"
        return [value for one, value in list(self.calls) if one == name]

    def await_more(self, name: str, count: int = 2) -> None:
        """Wait for calls that begin from now on: one may be in progress."""
        self.await_calls(name, self.count(name) + count)

    def open_as_worker(self, member: Member, *, report: Callable[[], MemberReport]) -> None:
        """Record the call."""
        self.report = report
        self._note("open_as_worker", member)

    def close(self) -> None:
        """Record the call."""
        self._note("close")

    def heartbeat(self) -> HeartbeatResult:
        """Record the call, and return the requests to stop runs once."""
        self._note("heartbeat")
        stops, self.stops = self.stops, {}
        return HeartbeatResult((), (), (), None, stops=stops)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Record the call."""
        self._note("renew", [claim.run.id for claim in claims])
        return [not self.lost for _ in claims]

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record the call."""
        self._note("finish", [one.claim.run.id for one in completed])
        return [CLAIM_LOST if self.lost else RECORDED for _ in completed]

    def post(self, posted: object) -> None:
        """Record the call: a worker posts nothing."""
        self._note("post", posted)

    def give_back(self, returned: object) -> None:
        """Record the call: a worker gives nothing back when it flushes."""
        self._note("give_back", returned)

    def answer(self, value: T) -> T:
        """Stand for any other method."""
        self._note("answer", value)
        return value


class Worker:
    """A store thread, and what it calls and emits."""

    def __init__(self, *, lease_us: Span = LEASE) -> None:
        self.store = SpyStore()
        self.bus = events.EventBus()
        self.seen = Recorder(self.bus)
        self.clock = SystemClock()
        self.interrupted: list[tuple[Claim, str]] = []
        self.watched = threading.Event()
        self.pause: Span = NEVER
        self.mark = ForkMark()
        self.member = this_member("celery prefork", "digest", lease_us)
        self.thread = StoreThread(
            WorkerParts(
                member=self.member,
                store=self.store,  # type: ignore[arg-type] # the part of a store that is used
                bus=self.bus,
                clock=self.clock,
                interrupt=lambda claim, reason: self.interrupted.append((claim, reason)),
                watch=self._watch,
                slots=3,
                stops_runs=True,
                version="9.9",
                mark=self.mark,
            )
        )

    def _watch(self, _: Span) -> Span:
        self.watched.set()
        return self.pause

    def take(self) -> Claim:
        """Take a run, as a worker does: its lease begins with the call."""
        claim = make_claim("quick")
        until = self.clock.boot() + self.member.lease_us
        self.thread.call(lambda _: self.thread.track(claim, until))
        return claim


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Return one whose thread runs, and stop it after the test."""
    worker = Worker()
    worker.thread.start()
    yield worker
    worker.store.problem = None
    worker.thread.stop()


def record(worker: Worker, completed_run: CompletedRun) -> None:
    """Record an end as the process of a worker does, and wait for that."""
    recorded = make_bell()
    worker.thread.record(completed_run, recorded)
    worker.thread.wait_until_recorded(recorded)


def end(worker: Worker, claim: Claim) -> None:
    """Record the end of a run."""
    record(worker, CompletedRun(claim, DONE))


def test_the_thread_joins_the_store_as_a_worker(worker: Worker) -> None:
    """It shows at once that it lives, and what it is."""
    assert worker.store.await_calls("open_as_worker", 1) == [worker.member]
    worker.store.await_calls("heartbeat", 1)
    assert worker.store.report() == MemberReport(
        version="9.9", server="celery prefork", slots=3, used=0, stops_runs=True
    )


def test_a_worker_reports_how_many_runs_it_executes(worker: Worker) -> None:
    """Those whose leases it renews."""
    claim = worker.take()
    used = worker.store.report().used
    end(worker, claim)
    assert (used, worker.store.report().used) == (1, 0)


def test_call_returns_what_the_store_returns(worker: Worker) -> None:
    """The store is called in one thread, whichever thread asks."""
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.append(worker.thread.call(lambda store: store.answer(number)))  # type: ignore[attr-defined]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    assert sorted(answers) == [*range(20)]
    assert len(worker.store.threads) == 1
    assert not worker.store.threads & {
        thread.ident for thread in [*threads, threading.main_thread()]
    }


def test_call_raises_what_the_store_raises(worker: Worker) -> None:
    """In the caller; the thread goes on."""
    with pytest.raises(KeyError, match="nowhere"):
        worker.thread.call(lambda _: {}["nowhere"])
    assert worker.thread.call(lambda _: 7) == 7
    assert worker.seen.of(events.SchedulerError) == []


def test_an_outage_is_raised_in_the_caller_and_reported_once(worker: Worker) -> None:
    """And so is its end, without a call."""
    worker.store.await_calls("heartbeat", 1)
    worker.store.problem = OUTAGE
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            worker.thread.call(lambda store: store.answer(1))  # type: ignore[attr-defined]
    worker.store.problem = None
    worker.seen.wait_for(events.StoreRecovered)
    assert len(worker.seen.of(events.StoreUnavailable)) == 1
    assert worker.thread.call(lambda _: 7) == 7


def test_a_store_that_is_down_at_the_start_is_joined_later() -> None:
    """A call before that fails, and one after it is answered."""
    worker = Worker()
    worker.store.problem = OUTAGE
    worker.thread.start()
    with pytest.raises(StoreUnavailableError):
        worker.thread.call(lambda _: 7)
    worker.store.problem = None
    worker.seen.wait_for(events.StoreRecovered)
    assert worker.thread.call(lambda _: 7) == 7
    worker.thread.stop()
    assert worker.store.count("open_as_worker") >= 2


def test_an_unexpected_error_is_reported_and_the_thread_goes_on(worker: Worker) -> None:
    """The next heartbeat comes when it is due."""
    worker.store.await_calls("heartbeat", 1)
    worker.store.problem = error = RuntimeError("a bug")
    reported = worker.seen.wait_for(events.SchedulerError)
    worker.store.problem = None
    worker.store.await_more("heartbeat")
    assert reported[0].error is error
    assert worker.thread.call(lambda _: 7) == 7


# Leases -----------------------------------------------------------------------------------


def test_the_lease_of_a_run_is_renewed_until_its_end(worker: Worker) -> None:
    """Each third of a lease; after the end there is nothing to renew."""
    claim = worker.take()
    renewed = worker.store.await_calls("renew", 4)
    was_valid = worker.thread.is_valid(claim)
    end(worker, claim)
    count = worker.store.count("renew")
    worker.store.await_more("heartbeat")
    assert renewed[:4] == [[claim.run.id]] * 4
    assert (was_valid, worker.thread.is_valid(claim)) == (True, False)
    assert worker.store.count("renew") == count


def test_a_run_is_valid_for_longer_than_the_lease_that_it_was_taken_with(worker: Worker) -> None:
    """The renewals say until when."""
    claim = worker.take()
    until = worker.clock.boot() + LEASE
    while worker.clock.boot() <= until:
        worker.store.await_more("renew", 1)
    assert worker.thread.is_valid(claim)
    end(worker, claim)


@pytest.mark.parametrize("kind", ["outage", "lost"])
def test_a_run_whose_lease_is_not_renewed_is_not_valid_once_it_is_over(
    worker: Worker, kind: str
) -> None:
    """Another process may have recorded it as abandoned then."""
    claim = worker.take()
    worker.store.await_calls("renew", 1)
    if kind == "outage":
        worker.store.problem = OUTAGE
    worker.store.lost = kind == "lost"
    until = worker.clock.boot() + LEASE
    before = worker.thread.is_valid(claim)
    while worker.clock.boot() <= until:
        worker.store.await_more("renew", 1)
    assert (before, worker.thread.is_valid(claim)) == (True, False)
    worker.store.problem, worker.store.lost = None, False
    end(worker, claim)


def test_a_run_that_was_not_taken_here_is_not_valid(worker: Worker) -> None:
    """Nobody renews its lease."""
    assert not worker.thread.is_valid(make_claim("quick"))


def test_heartbeats_are_more_frequent_while_a_run_is_executed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that requests to stop it are read soon; an idle worker needs a third of its lease."""
    monkeypatch.setattr(store_thread, "HEARTBEAT_INTERVAL", SECOND // 100)
    worker = Worker(lease_us=3 * SECOND)
    worker.thread.start()
    claim = worker.take()
    worker.store.await_calls("renew", 1)  # with a heartbeat, after the first idle third
    before = read_seconds()
    worker.store.await_more("heartbeat", 10)
    assert read_seconds() - before < BOUND_S
    assert worker.store.count("renew") <= 1 + (read_seconds() - before)
    end(worker, claim)
    worker.thread.stop()


# Ends -------------------------------------------------------------------------------------


def test_record_returns_once_the_end_is_recorded(worker: Worker) -> None:
    """With one event."""
    claim = worker.take()
    end(worker, claim)
    assert worker.store.await_calls("finish", 1) == [[claim.run.id]]
    (ended,) = worker.seen.of(events.RunEnded)
    assert (ended.claim, ended.result) == (claim, DONE)


def test_the_end_of_a_claim_that_was_lost_is_reported(worker: Worker) -> None:
    """The caller goes on with the next run."""
    claim = worker.take()
    worker.store.lost = True
    end(worker, claim)
    assert [event.claim for event in worker.seen.of(events.ClaimLost)] == [claim]


def test_record_waits_no_longer_than_a_lease(worker: Worker) -> None:
    """The end is recorded when the store answers again."""
    claim = worker.take()
    worker.store.problem = OUTAGE
    before = read_seconds()
    end(worker, claim)
    took = read_seconds() - before
    unrecorded = worker.seen.of(events.RunEnded)
    worker.store.problem = None
    worker.seen.wait_for(events.RunEnded)
    assert (took >= LEASE / SECOND, took < BOUND_S, unrecorded) == (True, True, [])


def test_an_end_during_an_outage_is_recorded_after_it(worker: Worker) -> None:
    """The caller waits for that."""
    claim = worker.take()
    worker.store.problem = OUTAGE
    healer = threading.Timer(0.1, lambda: setattr(worker.store, "problem", None))
    healer.start()
    end(worker, claim)
    healer.join()
    assert [event.claim for event in worker.seen.of(events.RunEnded)] == [claim]


def test_ends_of_many_callers_are_all_recorded(worker: Worker) -> None:
    """A worker with threads ends many runs at once."""
    claims = [worker.take() for _ in range(20)]
    threads = [threading.Thread(target=end, args=(worker, claim)) for claim in claims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND_S)
    ended = {event.claim.run.id for event in worker.seen.of(events.RunEnded)}
    assert ended == {claim.run.id for claim in claims}


def test_the_last_end_is_recorded_in_the_thread_itself(worker: Worker) -> None:
    """The thread kills the process then, whether or not the store answers."""
    first, second = worker.take(), worker.take()
    worker.thread.call(lambda _: worker.thread.record_now(CompletedRun(first, DONE)))
    assert worker.store.await_calls("finish", 1) == [[first.run.id]]
    worker.store.problem = OUTAGE
    worker.thread.call(lambda _: worker.thread.record_now(CompletedRun(second, DONE)))
    worker.store.problem = None
    worker.seen.wait_for(events.RunEnded, 2)


# Requests and deadlines -------------------------------------------------------------------


def test_a_run_that_somebody_wants_to_stop_is_interrupted(worker: Worker) -> None:
    """With the reason; requests for runs of others have no effect."""
    claim = worker.take()
    request = StopRequest(at=1, by="anna", note="too slow")
    worker.store.stops = {claim.run.id: request, "another": request}
    worker.store.await_more("heartbeat")
    assert worker.interrupted == [(claim, "stopped by anna: too slow")]
    end(worker, claim)


def test_the_reason_of_a_stop_is_recorded_with_the_run(worker: Worker) -> None:
    """A run that was interrupted says why."""
    claim = worker.take()
    worker.store.stops = {claim.run.id: StopRequest(at=1, by="anna")}
    worker.store.await_more("heartbeat")
    record(worker, CompletedRun(claim, Result(Outcome.INTERRUPTED, 0, 1, message="here")))
    (ended,) = worker.seen.of(events.RunEnded)
    assert ended.result.message == "stopped by anna\nhere"


def test_wake_lets_the_deadlines_be_checked_now(worker: Worker) -> None:
    """A run has begun; the thread may sleep for a third of a lease otherwise."""
    worker.thread.call(lambda _: worker.watched.clear())
    worker.thread.wake()
    assert worker.watched.wait(BOUND_S)


def test_deadlines_are_checked_again_when_they_are_due() -> None:
    """Without a call, and long before the next heartbeat."""
    worker = Worker(lease_us=600 * SECOND)
    worker.pause = SECOND // 100
    worker.thread.start()
    for _ in range(5):
        worker.watched.clear()
        assert worker.watched.wait(BOUND_S)
    worker.thread.stop()


# The end of the process -------------------------------------------------------------------


def test_stop_leaves_the_store() -> None:
    """A second call returns too."""
    worker = Worker()
    worker.thread.start()
    worker.thread.stop()
    worker.thread.stop()
    assert worker.store.calls[-1] == ("close", None)


def test_stop_records_what_has_ended() -> None:
    """Also after an outage that is over in time."""
    worker = Worker()
    worker.thread.start()
    claim = worker.take()
    worker.store.problem = OUTAGE
    threading.Thread(target=end, args=(worker, claim)).start()
    worker.store.await_calls("finish", 1)
    worker.store.problem = None
    worker.thread.stop()
    assert [event.claim for event in worker.seen.of(events.RunEnded)] == [claim]
    assert worker.store.calls[-1] == ("close", None)


def test_stop_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer does not keep the process; an error of `close` is reported."""
    monkeypatch.setattr(store_thread, "_LEAVE", SECOND // 10)
    worker = Worker()
    worker.thread.start()
    worker.take()
    worker.store.problem = OUTAGE
    before = read_seconds()
    worker.thread.stop()
    assert read_seconds() - before < BOUND_S / 2
    worker.store.await_calls("close", 1)


def test_call_after_a_stop_is_refused() -> None:
    """A thread of the pool that comes late is not left waiting."""
    worker = Worker()
    worker.thread.start()
    worker.thread.stop()
    with pytest.raises(StoreUnavailableError, match="this worker has left it"):
        worker.thread.call(lambda _: 7)


def test_heartbeats_are_frequent_as_soon_as_a_run_is_taken() -> None:
    """The lease is long, and the next heartbeat comes within a second all the same."""
    worker = Worker(lease_us=600 * SECOND)
    worker.thread.start()
    worker.store.await_calls("heartbeat", 1)
    claim = worker.take()
    worker.store.await_more("heartbeat", 2)
    end(worker, claim)
    worker.thread.stop()


def test_an_unexpected_error_that_lasts_is_reported_once(worker: Worker) -> None:
    """Not at each heartbeat: the turns between them call no store, and prove nothing."""
    worker.store.await_calls("heartbeat", 1)
    worker.store.problem = RuntimeError("a bug")
    worker.store.await_more("heartbeat", 4)
    worker.store.problem = None
    assert len(worker.seen.of(events.SchedulerError)) == 1
