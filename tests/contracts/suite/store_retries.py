"""The contract of stores: failed runs are retried, before the next tick at the latest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.clock import DAY, SECOND
from pulse.core.run import Outcome, Trigger
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Claim
    from pulse.core.task import Task

WAIT = 2


def retried(**keywords: object) -> dict[str, Task]:
    """Return a task with two retries, each two seconds after a failure."""
    words = {"retries": 2, "retry_min_backoff": WAIT, "retry_max_backoff": WAIT}
    return {"work": make_task(**words | keywords)}


def begin(fleet: Fleet, **keywords: object) -> tuple[Process, Claim]:
    """Return a process that has claimed a run of such a task."""
    process = fleet.join(retried(**keywords))
    fleet.clock.forward(EVERY)
    return process, process.claim_one()


class RetryContract(ContractPart):
    """A retry is the next attempt of the same run, in any process, and never past the next tick."""

    def test_failed_run_is_claimed_again_at_its_retry_time(self, fleet: Fleet) -> None:
        """It is the same run with the next attempt number, and not before `retry_at`."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        assert at == fleet.clock.wall() + WAIT * SECOND
        assert not process.claim().claims
        fleet.clock.forward(WAIT)
        again = process.claim_one()
        assert (again.run.id, again.run.scheduled_for) == (claim.run.id, claim.run.scheduled_for)
        assert (again.run.attempt, again.run.trigger) == (2, Trigger.SCHEDULE)

    def test_next_wakeup_is_the_time_of_a_retry(self, fleet: Fleet) -> None:
        """The loop wakes up when the retry may be claimed."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        assert [process.claim(limit).next_wakeup for limit in (0, 1)] == [at, at]

    def test_retry_does_not_move_the_cursor(self, fleet: Fleet) -> None:
        """The next tick comes on schedule."""
        process, claim = begin(fleet)
        (before,) = process.store.tasks()
        process.fail(claim)
        assert process.store.tasks() == [before]

    def test_run_lists_all_its_attempts(self, fleet: Fleet) -> None:
        """The run has the values of its last attempt and a list of the earlier ones."""
        process, claim = begin(fleet)
        for _ in range(2):
            process.fail(claim)
            fleet.clock.forward(WAIT)
            claim = process.claim_one()
        assert process.finish(claim)
        (run,) = process.store.runs()
        assert (run.outcome, run.status, run.message) == (Outcome.SUCCEEDED, 200, "done")
        attempts = [(one.attempt, one.outcome, one.status, one.message) for one in run.attempts]
        assert attempts == [(1, Outcome.FAILED, 503, "busy"), (2, Outcome.FAILED, 503, "busy")]
        assert [one.took_us for one in run.attempts] == [5_000, 5_000]

    def test_run_with_a_pending_retry_shows_its_last_attempt(self, fleet: Fleet) -> None:
        """The run is pending, and the attempt has the reason of its failure."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        (run,) = process.store.runs()
        assert (run.outcome, run.holder, run.retry_at) == (None, "", at)
        assert (run.attempt, run.status, run.message) == (1, 503, "busy")

    def test_next_attempt_has_no_values_of_the_attempt_before(self, fleet: Fleet) -> None:
        """Status and message belong to one attempt."""
        process, claim = begin(fleet)
        process.fail(claim)
        fleet.clock.forward(WAIT)
        again = process.claim_one().run
        assert (again.status, again.message, again.started_at, again.took_us) == (
            None,
            "",
            None,
            None,
        )
        assert process.store.runs() == [again]

    def test_message_of_an_earlier_attempt_is_truncated(self, fleet: Fleet) -> None:
        """Only the last attempt keeps a long message whole."""
        process, claim = begin(fleet)
        process.fail(claim, message="x" * 2_000)
        (run,) = process.store.runs()
        assert (len(run.message), len(run.attempts[0].message)) == (2_000, 500)

    def test_last_retry_decides_the_outcome_of_the_run(self, fleet: Fleet) -> None:
        """After `retries` retries the run finishes as its last attempt did."""
        process, claim = begin(fleet)
        told = [process.fail(claim) is not None]
        for _ in range(2):
            fleet.clock.forward(WAIT)
            claim = process.claim_one()
            told.append(process.fail(claim) is not None)
        assert told == [True, True, False]
        (run,) = process.store.runs()
        assert (run.outcome, run.attempt, len(run.attempts)) == (Outcome.FAILED, 3, 2)

    def test_task_without_retries_is_not_retried(self, fleet: Fleet) -> None:
        """This is the default."""
        process, claim = begin(fleet, retries=0)
        assert process.fail(claim) is None
        assert [run.outcome for run in process.store.runs()] == [Outcome.FAILED]

    def test_failure_that_a_retry_cannot_fix_is_final(self, fleet: Fleet) -> None:
        """Examples are status 404 and a process that stops."""
        process, claim = begin(fleet)
        assert process.fail(claim, status=404) is None
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert process.fail(claim, outcome=Outcome.INTERRUPTED, status=None) is None

    def test_run_is_not_retried_at_the_next_fire_time(self, fleet: Fleet) -> None:
        """The tick replaces the retry; a microsecond earlier the retry is made."""
        process, claim = begin(fleet)
        asked = EVERY * SECOND
        assert process.fail(claim, retry_after_us=asked) is None
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=asked - 1) == fleet.clock.wall() + asked - 1

    def test_retry_after_can_only_lengthen_the_delay(self, fleet: Fleet) -> None:
        """A response cannot ask for a shorter delay."""
        process, claim = begin(fleet)
        assert process.fail(claim, retry_after_us=SECOND) == fleet.clock.wall() + WAIT * SECOND
        fleet.clock.forward(WAIT)
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=5 * SECOND) == fleet.clock.wall() + 5 * SECOND

    def test_failure_of_a_lost_claim_is_not_retried(self, fleet: Fleet) -> None:
        """The recorded outcome stays, and the result is refused."""
        process, claim = begin(fleet)
        process.fail(claim)
        assert process.fail(claim) is None
        assert not process.finish(claim)

    def test_manual_run_is_retried_within_a_day(self, fleet: Fleet) -> None:
        """No tick replaces its retry, however near the next fire time is."""
        process = fleet.join(retried())
        process.store.trigger("work")
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=DAY - 1) == fleet.clock.wall() + DAY - 1
        fleet.clock.set_wall(NOON + timedelta(days=1, microseconds=-1))
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        assert process.fail(again) is None

    def test_start_up_run_is_retried(self, fleet: Fleet) -> None:
        """It keeps its trigger."""
        process = fleet.join(retried(run_at_start=True))
        process.fail(process.claim_one())
        fleet.clock.forward(WAIT)
        again = process.claim_one().run
        assert (again.trigger, again.attempt) == (Trigger.STARTUP, 2)

    def test_run_with_a_pending_retry_counts_for_overlap(self, fleet: Fleet) -> None:
        """A manual run is refused beside it."""
        process, claim = begin(fleet)
        process.fail(claim)
        assert process.store.trigger("work") is None
        assert [row.unfinished for row in process.store.tasks()] == [1]

    def test_unclaimed_retry_expires_before_the_next_tick(self, fleet: Fleet) -> None:
        """The run finishes as its last attempt did, is reported once, and the tick runs."""
        process, claim = begin(fleet)
        process.fail(claim)
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert [run.id for run in claimed.expired_retries] == [claim.run.id]
        (run,) = claimed.expired_retries
        assert (run.outcome, run.attempt, run.status, run.attempts) == (Outcome.FAILED, 1, 503, ())
        assert [one.run.scheduled_for for one in claimed.claims] == [fleet.clock.wall()]
        assert process.store.runs()[1] == run
        assert not process.claim().expired_retries

    def test_retry_expires_before_an_earlier_tick_of_a_changed_schedule(self, fleet: Fleet) -> None:
        """The first tick of a shorter interval runs, and none is skipped until then."""
        slow = {"retry_min_backoff": 5 * EVERY, "retry_max_backoff": 5 * EVERY}
        process = fleet.join(retried(interval=10 * EVERY, **slow))
        fleet.clock.forward(10 * EVERY)
        claim = process.claim_one()
        process.fail(claim)
        process.sync(retried(interval=EVERY, **slow))
        assert process.claim().next_wakeup == fleet.clock.wall() + EVERY * SECOND
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert [run.id for run in claimed.expired_retries] == [claim.run.id]
        assert not claimed.not_run
        assert [one.run.scheduled_for for one in claimed.claims] == [fleet.clock.wall()]

    def test_changed_schedule_does_not_move_the_retry_of_a_manual_run(self, fleet: Fleet) -> None:
        """No tick replaces the retry of a manual run."""
        process = fleet.join(retried())
        process.store.trigger("work")
        at = process.fail(process.claim_one())
        process.sync(retried(interval=WAIT / 2))
        assert [run.retry_at for run in process.store.runs()] == [at]

    def test_retry_expires_when_the_clock_is_ten_years_ahead(self, fleet: Fleet) -> None:
        """There is one catch-up, one missed record, and the run has finished."""
        process, claim = begin(fleet)
        process.fail(claim)
        fleet.clock.set_wall(NOON + timedelta(days=3652))
        claimed = process.claim()
        assert [run.id for run in claimed.expired_retries] == [claim.run.id]
        assert [one.run.trigger for one in claimed.claims] == [Trigger.CATCH_UP]

    def test_clock_set_back_delays_a_retry_and_repeats_nothing(self, fleet: Fleet) -> None:
        """The retry is made when the clock reaches its instant again."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        claimed = process.claim()
        assert (list(claimed.claims), list(claimed.expired_retries), claimed.next_wakeup) == (
            [],
            [],
            at,
        )
        fleet.clock.set_wall(NOON + timedelta(seconds=EVERY + WAIT))
        assert process.claim_one().run.attempt == 2

    def test_retry_of_a_dead_holder_is_abandoned(self, fleet: Fleet) -> None:
        """The run keeps its earlier attempts."""
        process = fleet.join(retried(interval=600))
        fleet.clock.forward(600)
        claim = process.claim_one()
        process.fail(claim)
        fleet.clock.forward(WAIT)
        process.claim_one()
        fleet.wait(LEASE_S + 10, process)
        (run,) = process.store.runs()
        assert (run.outcome, run.attempt) == (Outcome.ABANDONED, 2)
        assert [one.outcome for one in run.attempts] == [Outcome.FAILED]

    def test_rerun_lists_the_abandoned_attempt(self, fleet: Fleet) -> None:
        """With `on_abandoned = rerun` the lost attempt is among the earlier ones."""
        process, claim = begin(fleet, on_abandoned="rerun", retries=0)
        fleet.wait(LEASE_S + 10, process)
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        attempts = [(one.attempt, one.outcome, one.started_at) for one in again.run.attempts]
        assert attempts == [(1, Outcome.ABANDONED, None)]

    def test_rerun_does_not_expire_at_the_next_tick(self, fleet: Fleet) -> None:
        """A rerun is not a retry, so the next tick does not replace it."""
        process, claim = begin(fleet, on_abandoned="rerun")
        process.finish(claim, outcome=Outcome.ABANDONED)
        fleet.clock.forward(EVERY)
        assert [one.run.id for one in process.claim().claims] == [claim.run.id]

    def test_overlapping_runs_are_retried_independently(self, fleet: Fleet) -> None:
        """This holds under `overlap = allow`."""
        process, first = begin(fleet, overlap="allow")
        fleet.clock.forward(EVERY)
        second = process.claim_one()
        assert (process.fail(first), process.fail(second)) == (
            fleet.clock.wall() + WAIT * SECOND,
        ) * 2
        fleet.clock.forward(WAIT)
        assert {one.run.id for one in process.claim().claims} == {first.run.id, second.run.id}

    def test_run_is_not_retried_while_misfire_all_catches_up(self, fleet: Fleet) -> None:
        """The next tick is due already, and replaces the retry."""
        process, claim = begin(fleet, misfire="all")
        assert process.fail(claim) is not None
        fleet.clock.forward(3 * EVERY)
        claim = process.claim_one()
        assert process.fail(claim) is None
        assert process.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_retry_stays_in_the_partition_of_its_run(self, fleet: Fleet) -> None:
        """This holds for the scopes `host` and `process`."""
        for scope, part in (("host", "host"), ("process", "holder")):
            process, claim = begin(fleet, scope=scope, interval=EVERY)
            process.fail(claim)
            fleet.clock.forward(WAIT)
            again = process.claim_one().run
            assert (again.partition, again.attempt) == (getattr(process.member, part), 2)
            process.store.close()
