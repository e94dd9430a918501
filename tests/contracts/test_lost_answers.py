"""The answer to a claim is lost: its holder gives the run back, whether and when it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.errors import StoreUnavailableError
from pulse.store.shared.backend import Transaction
from pulse.store.shared.unanswered import ANSWER_LOST, UnansweredClaims
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pulse.core.run import Claim
    from pulse.store.shared.store import SharedStore
    from tests.contracts.suite.store_harness import Fleet, Process

TASKS = {"work": make_task()}


class Wire:
    """The way to the storage of one process, on which the next write is lost, or its answer.

    Args:
        process: the process.
        monkeypatch: undoes it.

    """

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        store = shared(process)
        self._run = store._backend.run
        self._late: Callable[[], object] | None = None
        self._loses: Callable[[Callable[[], object]], object] | None = None
        monkeypatch.setattr(store._backend, "run", self._pass)

    def _pass(self, how: Transaction, rule: Callable[..., Any]) -> Any:
        loses = self._loses
        if loses is None or how is Transaction.READ:
            return self._run(how, rule)
        self._loses = None
        loses(lambda: self._run(how, rule))
        raise StoreUnavailableError("cut")

    def lose_answer(self) -> None:
        """Let the storage execute the next write."""
        self._loses = lambda call: call()

    def lose_call(self) -> None:
        """Let the storage not get the next write."""
        self._loses = lambda _: None

    def delay_call(self) -> None:
        """Let the storage execute the next write when `arrive` is called."""
        self._loses = lambda call: setattr(self, "_late", call)

    def arrive(self) -> None:
        """Let the storage execute the write that is late."""
        assert self._late is not None
        self._late()


@pytest.fixture
def process(fleet: Fleet) -> Process:
    """Return a process whose task is due."""
    joined = fleet.join(TASKS)
    fleet.clock.forward(EVERY)
    return joined


@pytest.fixture
def wire(process: Process, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Return the way from that process to the storage."""
    yield Wire(process, monkeypatch)
    monkeypatch.undo()  # before the store is closed


def shared(process: Process) -> SharedStore:
    """Return the store of a process."""
    store: SharedStore = process.store  # type: ignore[assignment] # each kind is one
    return store


def fail_to_claim(process: Process) -> None:
    """Claim in vain."""
    with pytest.raises(StoreUnavailableError):
        process.claim()


def renewed(process: Process, claim: Claim) -> bool:
    """Return whether a process holds a claim."""
    (is_held,) = process.store.renew([claim])
    return is_held


pytestmark = pytest.mark.parametrize("fleet", SHARED, indirect=True)


def test_claim_without_an_answer_is_given_back_by_the_next_heartbeat(
    fleet: Fleet, process: Process, wire: Wire
) -> None:
    """Any process claims the run, as the same attempt."""
    other = fleet.join(TASKS)
    wire.lose_answer()
    fail_to_claim(process)
    assert not other.claim().claims
    process.store.heartbeat()
    (run,) = process.store.runs()
    assert (run.outcome, run.holder, run.attempt, run.message) == (None, "", 0, ANSWER_LOST)
    again = other.claim_one()
    assert (again.run.id, again.run.attempt) == (run.id, 1)
    process.store.heartbeat()
    assert renewed(other, again)


def test_look_gives_a_claim_without_an_answer_back(process: Process, wire: Wire) -> None:
    """And lets the next call claim it."""
    wire.lose_answer()
    fail_to_claim(process)
    look = process.store.look(10)
    claims = process.claim().claims if look.claimed is None else look.claimed.claims
    assert [one.run.attempt for one in claims] == [1]


def test_retry_without_an_answer_keeps_its_attempts(
    fleet: Fleet, process: Process, wire: Wire
) -> None:
    """It is the same attempt again."""
    process.sync({"work": make_task(retries=2, retry_min_backoff=1, retry_max_backoff=1)})
    process.fail(process.claim_one())
    fleet.clock.forward(2)
    wire.lose_answer()
    fail_to_claim(process)
    process.store.heartbeat()
    again = process.claim_one()
    assert (again.run.attempt, len(again.run.attempts)) == (2, 1)


def test_claim_that_was_never_written_is_made_by_the_next_call(
    process: Process, wire: Wire
) -> None:
    """And stays with its holder, however many heartbeats follow."""
    wire.lose_call()
    fail_to_claim(process)
    claim = process.claim_one()
    for _ in range(3):
        process.store.heartbeat()
    assert renewed(process, claim)
    assert process.finish(claim)


def test_claim_that_is_written_late_is_given_back(process: Process, wire: Wire) -> None:
    """A server may execute a call after it has answered a later one."""
    wire.delay_call()
    fail_to_claim(process)
    process.store.heartbeat()
    assert process.store.runs() == []
    wire.arrive()
    process.store.heartbeat()
    assert process.claim_one().run.attempt == 1


def test_nothing_is_looked_for_a_lease_later(fleet: Fleet, process: Process, wire: Wire) -> None:
    """Until then nobody else has abandoned the run."""
    wire.lose_call()
    fail_to_claim(process)
    store = shared(process)
    process.store.heartbeat()
    fleet.clock.forward(LEASE_S - 1)
    process.store.heartbeat()
    assert store._unanswered.wanted
    fleet.clock.forward(1)
    process.store.heartbeat()
    assert not store._unanswered.wanted


def test_process_that_leaves_gives_back_what_it_may_have_claimed(
    fleet: Fleet, process: Process, wire: Wire
) -> None:
    """Its run would be abandoned otherwise."""
    other = fleet.join(TASKS)
    wire.lose_answer()
    fail_to_claim(process)
    process.store.close()
    assert other.claim_one().run.attempt == 1


def test_run_that_a_worker_took_without_an_answer_is_posted_again(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker gives it back: no message is left that another worker could take it from."""
    worker = fleet.join_as_worker()
    claim = process.claim_one()
    assert process.post(claim) == [True]
    wire = Wire(worker, monkeypatch)
    wire.lose_answer()
    with pytest.raises(StoreUnavailableError):
        worker.take(claim)
    worker.store.heartbeat()
    again = process.claim_one()
    assert (again.run.id, again.run.attempt) == (claim.run.id, 1)
    assert process.post(again) == [True]
    taken = worker.take(again)
    assert taken is not None
    worker.store.heartbeat()
    assert renewed(worker, taken)
    monkeypatch.undo()


def test_later_claim_is_left_alone_by_a_return_that_is_executed_late(
    fleet: Fleet, process: Process, wire: Wire
) -> None:
    """It is of the same attempt and the same holder."""
    wire.lose_answer()
    fail_to_claim(process)
    store = shared(process)
    late = store._calls.run(Transaction.READ, store._look_for_unanswered)
    assert len(late) == 1
    store.heartbeat()
    fleet.clock.forward(1)
    again = process.claim_one()
    store._give_back(late)
    assert renewed(process, again)
    assert process.finish(again)


def test_run_in_progress_is_left_alone_when_a_second_message_cannot_be_answered(
    fleet: Fleet, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may get a message twice, also while it executes the run."""
    worker = fleet.join_as_worker()
    claim = process.claim_one()
    process.post(claim)
    taken = worker.take(claim)
    assert taken is not None
    Wire(worker, monkeypatch).lose_answer()
    with pytest.raises(StoreUnavailableError):
        worker.take(claim)
    worker.store.heartbeat()
    assert renewed(worker, taken)
    assert worker.finish(taken)
    assert not shared(worker)._unanswered.wanted
    monkeypatch.undo()


def test_run_in_progress_is_left_alone_when_a_second_plan_cannot_be_answered(
    process: Process,
) -> None:
    """The row of a task may be set back, as by a restored database."""
    claim = process.claim_one()
    shared(process)._unanswered.add(claim.run.id, claim.run.attempt, claim.definition)
    process.store.heartbeat()
    assert renewed(process, claim)


def test_error_of_a_look_for_lost_claims_stops_one_heartbeat(
    process: Process, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is abandoned a lease later, and everything else goes on."""
    wire.lose_answer()
    fail_to_claim(process)

    def fail(*_: object) -> None:
        raise ArithmeticError("spoilt")

    monkeypatch.setattr(UnansweredClaims, "find", fail)
    with pytest.raises(ArithmeticError):
        process.store.heartbeat()
    process.store.heartbeat()
    process.store.close()
    assert shared(process)._key is None


def test_claims_that_others_have_won_are_forgotten_while_further_ones_fail(
    fleet: Fleet, process: Process, wire: Wire
) -> None:
    """As on a busy file: the heartbeats look for no more than those of the last lease."""
    other = fleet.join(TASKS)
    for _ in range(4 * LEASE_S // EVERY):
        wire.lose_call()
        fail_to_claim(process)
        fleet.clock.forward(1)  # Redis has reserved the row for the process whose call failed
        other.finish(other.claim_one())
        process.store.heartbeat()
        fleet.clock.forward(EVERY - 1)
    assert len(shared(process)._unanswered.wanted) <= LEASE_S // EVERY + 1
