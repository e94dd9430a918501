"""How a process lets claims go: posted to a queue, given back, or recorded as ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse import events
from pulse.clock import SECOND
from pulse.core.run import RECORDED, CompletedRun, Outcome, Result
from pulse.errors import StoreUnavailableError
from pulse.scheduler.completer import Completer
from pulse.store.base import PostedRun, ReturnedRun
from pulse.testing.recorder import Recorder
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.core.run import Claim, RecordResult

DONE = Result(Outcome.SUCCEEDED, 0, 1)


class SpyStore:
    """Records the calls of a completer, refuses them or fails on demand."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.failing: set[str] = set()
        self.refusing = False
        self.meanwhile: Callable[[], None] = lambda: None

    def _note(self, name: str, claims: list[Claim]) -> list[bool]:
        if name in self.failing:
            raise StoreUnavailableError(name)
        self.calls.append((name, [claim.run.task for claim in claims]))
        self.meanwhile()
        return [not self.refusing for _ in claims]

    def post(self, posted: Sequence[PostedRun]) -> list[bool]:
        """Record the call."""
        return self._note("post", [one.claim for one in posted])

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:
        """Record the call."""
        return self._note("give_back", [one.claim for one in returned])

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record the call."""
        return [RECORDED for _ in self._note("finish", [one.claim for one in completed])]


class Process:
    """A completer with a store, and what it has emitted."""

    def __init__(self) -> None:
        self.store = SpyStore()
        bus = events.EventBus()
        self.seen = Recorder(bus)
        self.completer = Completer(self.store, bus, {})

    def claim(self, name: str) -> Claim:
        """Return a claim that this process has won."""
        made = make_claim(name)
        run = msgspec.structs.replace(made.run, id=f"{name:0>32}")
        claim = msgspec.structs.replace(made, run=run)
        self.completer.track([claim])
        return claim

    def post(self, *names: str) -> None:
        """Let claims be posted, as an engine does."""
        self.completer.posted.extend(PostedRun(self.claim(one), SECOND, "jobs") for one in names)

    def give_back(self, *names: str) -> None:
        """Let claims be given back, as an engine does."""
        for name in names:
            self.completer.returned.append(ReturnedRun(self.claim(name), SECOND, "no broker"))

    def end(self, *names: str) -> None:
        """Let runs end."""
        for name in names:
            self.completer.put(CompletedRun(self.claim(name), DONE))


@pytest.fixture
def process() -> Process:
    """Return one that holds no claim."""
    return Process()


def test_there_is_no_work_without_claims(process: Process) -> None:
    """The store is not called."""
    assert (process.completer.has_work, process.completer.flush()) == (False, False)
    assert process.store.calls == []


@pytest.mark.parametrize("kind", ["post", "give_back", "end"])
def test_each_way_to_let_a_claim_go_is_work(process: Process, kind: str) -> None:
    """Until it is recorded; the claim is held as long."""
    getattr(process, kind)("a")
    before = (process.completer.has_work, process.completer.busy)
    process.completer.flush()
    assert before == (True, True)
    assert (process.completer.has_work, process.completer.busy) == (False, False)


def test_claims_are_let_go_in_one_batch_of_each_kind(process: Process) -> None:
    """Those that are posted first: a worker may take them already."""
    process.end("e", "f")
    process.give_back("c", "d")
    process.post("a", "b")
    process.completer.flush()
    assert process.store.calls == [
        ("post", ["a", "b"]),
        ("give_back", ["c", "d"]),
        ("finish", ["e", "f"]),
    ]


def test_the_store_gets_the_wait_the_queue_and_the_reason(process: Process) -> None:
    """As the engine has passed them on."""
    posted = PostedRun(process.claim("a"), 60 * SECOND, "slow")
    returned = ReturnedRun(process.claim("b"), 4 * SECOND, "no broker")
    process.completer.posted.append(posted)
    process.completer.returned.append(returned)
    seen: list[object] = []
    process.store.post = lambda batch: seen.append(list(batch))  # type: ignore[assignment,func-returns-value]
    process.store.give_back = lambda batch: seen.append(list(batch))  # type: ignore[assignment,func-returns-value]
    process.completer.flush()
    assert seen == [[posted], [returned]]


def test_claims_that_the_store_refuses_are_no_event(process: Process) -> None:
    """A worker was faster, or the lease was over: the process does not hold them any more."""
    process.store.refusing = True
    process.post("a")
    process.give_back("b")
    process.completer.flush()
    assert (process.seen.events, process.completer.claim_count) == ([], 0)


def test_posted_claims_are_no_event_either(process: Process) -> None:
    """The worker reports the end of the run."""
    process.post("a")
    process.give_back("b")
    process.completer.flush()
    assert process.seen.events == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("post", False), ("give_back", True), ("end", True)]
)
def test_a_claim_follows_where_a_run_may_have_become_pending(
    process: Process, kind: str, *, expected: bool
) -> None:
    """A posted run still counts for its task; one that was given back can be claimed."""
    getattr(process, kind)("a")
    assert process.completer.flush() is expected


@pytest.mark.parametrize("failing", ["post", "give_back", "finish"])
def test_an_outage_keeps_what_is_not_recorded(process: Process, failing: str) -> None:
    """It is recorded after the outage, in order; what was recorded before it is not repeated."""
    process.post("a", "b")
    process.give_back("c")
    process.end("d")
    process.store.failing = {failing}
    with pytest.raises(StoreUnavailableError):
        process.completer.flush()
    kept = process.completer.claim_count
    process.store.failing = set()
    process.post("e")
    process.completer.flush()
    assert kept == {"post": 4, "give_back": 2, "finish": 1}[failing]
    recorded = [(kind, task) for kind, tasks in process.store.calls for task in tasks]
    assert sorted(recorded) == [
        ("finish", "d"),
        ("give_back", "c"),
        ("post", "a"),
        ("post", "b"),
        ("post", "e"),
    ]
    assert process.completer.claim_count == 0


def test_what_comes_during_a_call_is_recorded_by_the_next_one(process: Process) -> None:
    """The engine passes claims on while the store works."""

    def come() -> None:
        process.store.meanwhile = lambda: None
        process.post("b")

    process.post("a")
    process.store.meanwhile = come
    process.completer.flush()
    assert (process.completer.has_work, process.completer.claim_count) == (True, 1)
    process.completer.flush()
    assert process.store.calls == [("post", ["a"]), ("post", ["b"])]


def test_a_later_claim_of_the_same_run_is_kept(process: Process) -> None:
    """The run was given back by others and claimed here again before this one was recorded."""
    process.post("a")
    later = process.claim("a")
    process.completer.flush()
    assert process.completer.in_progress() == [later]


def test_the_claims_to_renew_are_those_that_are_not_recorded(process: Process) -> None:
    """A run that was sent and is not posted yet is still claimed by this process."""
    process.post("a")
    process.give_back("b")
    assert [claim.run.task for claim in process.completer.in_progress()] == ["a", "b"]
    process.completer.flush()
    assert process.completer.in_progress() == []


def test_a_request_to_stop_a_posted_run_is_forgotten_with_its_claim(process: Process) -> None:
    """A later run of the same id has no reason of an earlier one."""
    process.post("a")
    (claim,) = process.completer.in_progress()
    process.completer.stopping(claim.run.id, "stopped by anna")
    process.completer.flush()
    again = process.claim("a")
    process.completer.put(CompletedRun(again, Result(Outcome.INTERRUPTED, 0, 1, message="x")))
    process.completer.flush()
    (ended,) = process.seen.of(events.RunEnded)
    assert ended.result.message == "x"


def test_a_drain_records_all_that_is_left(process: Process) -> None:
    """The process ends after it."""
    process.post("a")
    process.give_back("b")
    process.end("c")
    process.completer.drain(lambda: False)
    assert [kind for kind, _ in process.store.calls] == ["post", "give_back", "finish"]


def test_a_drain_waits_for_the_store(process: Process) -> None:
    """As long as the process may."""
    process.post("a")
    process.store.failing = {"post"}
    waits: list[bool] = []

    def linger() -> bool:
        waits.append(True)
        if len(waits) == 2:
            process.store.failing = set()
        return True

    process.completer.drain(linger)
    assert (len(waits), process.store.calls) == (2, [("post", ["a"])])


def test_a_drain_ends_when_the_process_has_to(process: Process) -> None:
    """The claims are abandoned when their leases are over."""
    process.post("a")
    process.store.failing = {"post"}
    process.completer.drain(lambda: False)
    assert (process.store.calls, process.completer.claim_count) == ([], 1)


def test_one_claim_that_the_store_cannot_record_keeps_no_other_one(process: Process) -> None:
    """Its lease ends by itself; what waits behind it is recorded, and the error is reported."""
    process.post("a")
    process.give_back("b")
    process.end("c")

    def post(_: object) -> list[bool]:
        raise ValueError("a text that the store refuses")

    process.store.post = post  # type: ignore[method-assign]
    process.completer.flush()
    assert [kind for kind, _ in process.store.calls] == ["give_back", "finish"]
    (event,) = process.seen.of(events.SchedulerError)
    assert (event.task, process.completer.has_work) == ("a", False)
