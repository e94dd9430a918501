"""The contract of shared stores: claims are given back, and the runs are claimed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.store.rules import NOT_DECLARED
from tests.contracts.suite.store_harness import (
    EVERY,
    LEASE_S,
    NOT_SENT,
    Fleet,
    Process,
    make_task,
)
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Claim


def begin(fleet: Fleet, *, every: float = 60, **keywords: object) -> tuple[Process, Claim]:
    """Return a process that has claimed the one run of a task, and the claim."""
    process = fleet.join({"work": make_task(interval=every, **keywords)})
    fleet.clock.forward(every)
    return process, process.claim_one()


def begin_retry(fleet: Fleet) -> tuple[Process, Claim]:
    """Return a process that has claimed the second attempt of a run, two seconds after its tick."""
    process, claim = begin(fleet, retries=3, retry_min_backoff=1, retry_max_backoff=1)
    process.fail(claim)
    fleet.clock.forward(2)
    return process, process.claim_one()


class GiveBackContract(ContractPart):
    """A run that was given back is as it was before its claim, but for when it is due."""

    def test_run_that_is_given_back_is_pending(self, fleet: Fleet) -> None:
        """With the attempts that it had, and the reason."""
        process, claim = begin(fleet)
        assert process.give_back(claim, delay=4)
        run = process.store.run(claim.run.id)
        assert run is not None
        assert (run.outcome, run.holder, run.attempt, run.claimed_at) == (None, "", 0, None)
        assert (run.retry_at, run.message) == (fleet.clock.wall() + 4 * SECOND, NOT_SENT)
        assert (run.scheduled_for, run.trigger) == (claim.run.scheduled_for, claim.run.trigger)
        assert [state.unfinished for state in process.store.tasks()] == [1]

    def test_run_that_is_given_back_is_claimed_again_when_it_is_due(self, fleet: Fleet) -> None:
        """By any process, as the same attempt."""
        process, claim = begin(fleet)
        other = fleet.join({"work": make_task(interval=60)})
        process.give_back(claim, delay=4)
        waiting = process.claim()
        assert (list(waiting.claims), waiting.next_wakeup) == ([], waiting.now + 4 * SECOND)
        fleet.clock.forward(4)
        again = other.claim_one()
        assert (again.run.id, again.run.attempt, again.run.message) == (claim.run.id, 1, "")
        assert not process.finish(claim)
        assert other.finish(again)

    def test_claim_that_is_not_held_is_not_given_back(self, fleet: Fleet) -> None:
        """It was given back, posted, taken or finished; the run stays as it is."""
        tasks = {name: make_task() for name in ("back", "posted", "taken", "finished", "held")}
        process, worker = fleet.join(tasks), fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        claims = {one.run.task: one for one in process.claim().claims}
        assert process.give_back(claims["back"])
        assert process.post(claims["posted"]) == [True]
        assert worker.take(claims["taken"]) is not None
        assert process.finish(claims["finished"])
        before = process.store.runs()
        done = process.store.give_back(
            [process.returned(claims[name]) for name in ("back", "posted", "taken", "finished")]
        )
        assert (done, process.store.runs()) == ([False] * 4, before)
        held = process.returned(claims["held"])
        assert process.store.give_back([held, held]) == [True, False]
        assert process.store.give_back([]) == []

    def test_run_later_than_its_grace_is_missed_for_its_own_reason(self, fleet: Fleet) -> None:
        """It did not wait for an earlier run."""
        process, claim = begin(fleet, grace=10)
        process.give_back(claim, delay=1)
        fleet.clock.forward(11)
        claimed = process.claim()
        assert not claimed.claims
        (run,) = claimed.not_run
        assert (run.id, run.outcome, run.message) == (claim.run.id, Outcome.MISSED, NOT_SENT)
        assert run == process.store.run(claim.run.id)

    def test_run_as_late_as_its_grace_is_claimed_again(self, fleet: Fleet) -> None:
        """Only a microsecond more is too late."""
        process, claim = begin(fleet, grace=10)
        process.give_back(claim, delay=1)
        fleet.clock.forward(10)
        assert process.claim_one().run.attempt == 1

    def test_run_that_waited_for_an_earlier_one_waits_again(self, fleet: Fleet) -> None:
        """While that one is executed, as before."""
        process, claim = begin(fleet, overlap="wait")
        fleet.clock.forward(60)
        assert not process.claim().claims
        process.finish(claim)
        waited = process.claim_one()
        assert process.give_back(waited)
        assert process.claim_one().run.id == waited.run.id

    def test_manual_run_that_is_given_back_keeps_its_body(self, fleet: Fleet) -> None:
        """It has no grace."""
        process, claim = begin(fleet, grace=1)
        process.finish(claim)
        process.store.trigger("work", body=b"x")
        claim = process.claim_one()
        process.give_back(claim, delay=30)
        fleet.clock.forward(30)
        again = process.claim_one().run
        assert (again.id, again.attempt, again.trigger) == (claim.run.id, 1, Trigger.MANUAL)
        assert (again.body, again.scheduled_for) == (b"x", None)

    def test_start_up_run_that_is_given_back_is_claimed_again(self, fleet: Fleet) -> None:
        """As the same attempt."""
        process = fleet.join({"work": make_task(run_at_start=True, grace=1)})
        claim = process.claim_one()
        process.give_back(claim, delay=5)
        fleet.clock.forward(5)
        again = process.claim_one().run
        assert (again.id, again.attempt, again.trigger) == (claim.run.id, 1, Trigger.STARTUP)

    def test_retry_that_is_given_back_is_claimed_again(self, fleet: Fleet) -> None:
        """As the same attempt, after the same attempts."""
        process, claim = begin_retry(fleet)
        process.give_back(claim, delay=2)
        fleet.clock.forward(2)
        again = process.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        assert again.run.attempts == claim.run.attempts
        assert process.finish(again)

    def test_retry_that_is_given_back_expires_as_its_last_attempt(self, fleet: Fleet) -> None:
        """The next tick replaces it: the record describes the attempt that failed."""
        process, claim = begin_retry(fleet)
        (failed,) = claim.run.attempts
        process.give_back(claim, delay=30)
        fleet.clock.forward(58)
        claimed = process.claim()
        assert [one.run.fire_time for one in claimed.claims] == [claimed.now]
        (run,) = claimed.expired_retries
        assert (run.id, run.outcome, run.attempt) == (claim.run.id, Outcome.FAILED, 1)
        assert (run.status, run.message, run.attempts) == (503, "busy", ())
        assert (run.started_at, run.took_us) == (failed.started_at, failed.took_us)
        assert run == process.store.run(claim.run.id)

    def test_retry_is_given_back_until_the_next_tick_at_most(self, fleet: Fleet) -> None:
        """A longer delay would let that tick be skipped for it."""
        process, claim = begin_retry(fleet)
        process.give_back(claim, delay=600)
        fleet.clock.forward(58)
        claimed = process.claim()
        assert [run.id for run in claimed.expired_retries] == [claim.run.id]
        assert (len(claimed.claims), list(claimed.not_run)) == (1, [])

    def test_rerun_that_is_given_back_is_claimed_again(self, fleet: Fleet) -> None:
        """Whatever its grace: it began once."""
        process, claim = begin(fleet, every=3_600, on_abandoned="rerun", grace=5)
        fleet.wait(LEASE_S + 10, process)
        claim = process.claim_one()
        assert claim.run.attempt == 2
        process.give_back(claim, delay=30)
        fleet.clock.forward(30)
        again = process.claim_one().run
        assert (again.attempt, again.attempts) == (2, claim.run.attempts)

    def test_run_of_an_archived_task_ends_instead(self, fleet: Fleet) -> None:
        """No process would claim it; the next heartbeat reports it."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert process.give_back(claim)
        run = process.store.run(claim.run.id)
        assert run is not None
        assert (run.outcome, run.attempt, run.message) == (Outcome.ABANDONED, 0, NOT_DECLARED)
        assert list(process.store.heartbeat().abandoned) == [run]

    def test_run_that_is_to_be_stopped_ends_instead(self, fleet: Fleet) -> None:
        """Somebody asked while the broker did not answer."""
        process, claim = begin(fleet)
        process.store.stop(claim.run.id, by="anna")
        assert process.give_back(claim)
        run = process.store.run(claim.run.id)
        assert run is not None
        assert (run.outcome, run.message) == (Outcome.INTERRUPTED, "stopped by anna")
        assert (run.holder, run.attempt) == ("", 0)

    def test_tick_that_is_given_back_is_missed_when_its_schedule_changes(
        self, fleet: Fleet
    ) -> None:
        """As a tick that waits for an earlier run."""
        process, claim = begin(fleet)
        process.give_back(claim, delay=5)
        synced = process.sync({"work": make_task(interval=7)})
        assert [run.id for run in synced.missed] == [claim.run.id]

    def test_tick_that_is_given_back_counts_for_overlap(self, fleet: Fleet) -> None:
        """Until it has run."""
        process, claim = begin(fleet, every=EVERY)
        process.give_back(claim, delay=EVERY + 1)
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert [run.outcome for run in claimed.not_run] == [Outcome.SKIPPED]
        fleet.clock.forward(1)
        assert process.claim_one().run.id == claim.run.id

    def test_tick_that_waits_is_not_executed_beside_one_that_was_given_back(
        self, fleet: Fleet
    ) -> None:
        """Whichever comes first."""
        process, claim = begin(fleet, every=EVERY, overlap="wait")
        process.give_back(claim, delay=EVERY + 1)
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        fleet.clock.forward(1)
        first = process.claim_one()
        assert not process.claim().claims
        process.finish(first)
        assert {first.run.id, process.claim_one().run.id} >= {claim.run.id}
