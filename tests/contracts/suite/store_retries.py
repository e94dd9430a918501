"""The contract of stores: failed runs are tried again, before the next tick at the latest."""

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
    """Return a task that is tried three times in all, two seconds after each failure."""
    words = {"retries": 2, "retry_min_backoff": WAIT, "retry_max_backoff": WAIT}
    return {"work": make_task(**words | keywords)}


def begin(fleet: Fleet, **keywords: object) -> tuple[Process, Claim]:
    """Return a process that has claimed a run of such a task."""
    process = fleet.join(retried(**keywords))
    fleet.clock.forward(EVERY)
    return process, process.claim_one()


class RetryContract(ContractPart):
    """Retries: the same run, its next attempt, whoever is free; never past the next tick."""

    def test_a_failed_run_is_claimed_again_when_its_time_has_come(self, fleet: Fleet) -> None:
        """It is the same run with the next attempt number, and not before `retry_at`."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        assert at == fleet.clock.wall() + WAIT * SECOND
        assert not process.claim().claims
        fleet.clock.forward(WAIT)
        again = process.claim_one()
        assert (again.run.id, again.run.scheduled_for) == (claim.run.id, claim.run.scheduled_for)
        assert (again.run.attempt, again.run.trigger) == (2, Trigger.SCHEDULE)

    def test_a_retry_is_told_as_work(self, fleet: Fleet) -> None:
        """`next_wakeup` is the instant from which it may be claimed."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        assert [process.claim(limit).next_wakeup for limit in (0, 1)] == [at, at]

    def test_a_retry_moves_no_cursor(self, fleet: Fleet) -> None:
        """The next tick comes when it would have come."""
        process, claim = begin(fleet)
        (before,) = process.store.tasks()
        process.fail(claim)
        assert process.store.tasks() == [before]

    def test_history_shows_all_attempts_under_one_run(self, fleet: Fleet) -> None:
        """The run has its last attempt, and what came of those before."""
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

    def test_while_a_retry_waits_its_run_shows_the_last_attempt(self, fleet: Fleet) -> None:
        """It is open, held by nobody, and says what went wrong."""
        process, claim = begin(fleet)
        at = process.fail(claim)
        (run,) = process.store.runs()
        assert (run.outcome, run.holder, run.retry_at) == (None, "", at)
        assert (run.attempt, run.status, run.message) == (1, 503, "busy")

    def test_a_run_that_is_tried_again_shows_nothing_of_the_attempt_before(
        self, fleet: Fleet
    ) -> None:
        """Status and message belong to the attempt that has them."""
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

    def test_what_a_try_said_is_bounded(self, fleet: Fleet) -> None:
        """A long reply is kept whole with the last attempt alone."""
        process, claim = begin(fleet)
        process.fail(claim, message="x" * 2_000)
        (run,) = process.store.runs()
        assert (len(run.message), len(run.attempts[0].message)) == (2_000, 500)

    def test_the_attempts_come_to_an_end(self, fleet: Fleet) -> None:
        """After as many retries as the task allows the run ends as its last attempt did."""
        process, claim = begin(fleet)
        told = [process.fail(claim) is not None]
        for _ in range(2):
            fleet.clock.forward(WAIT)
            claim = process.claim_one()
            told.append(process.fail(claim) is not None)
        assert told == [True, True, False]
        (run,) = process.store.runs()
        assert (run.outcome, run.attempt, len(run.attempts)) == (Outcome.FAILED, 3, 2)

    def test_a_task_without_retries_is_not_tried_again(self, fleet: Fleet) -> None:
        """That is the default."""
        process, claim = begin(fleet, retries=0)
        assert process.fail(claim) is None
        assert [run.outcome for run in process.store.runs()] == [Outcome.FAILED]

    def test_a_failure_that_a_retry_cannot_mend_is_final(self, fleet: Fleet) -> None:
        """Such as a page that is not there, or a process that stops."""
        process, claim = begin(fleet)
        assert process.fail(claim, status=404) is None
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert process.fail(claim, outcome=Outcome.INTERRUPTED, status=None) is None

    def test_a_retry_that_would_begin_at_the_next_tick_is_none(self, fleet: Fleet) -> None:
        """The tick takes its place; a microsecond earlier is early enough."""
        process, claim = begin(fleet)
        asked = EVERY * SECOND
        assert process.fail(claim, retry_after_us=asked) is None
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=asked - 1) == fleet.clock.wall() + asked - 1

    def test_a_reply_may_ask_for_a_longer_wait(self, fleet: Fleet) -> None:
        """It cannot ask for a shorter one."""
        process, claim = begin(fleet)
        assert process.fail(claim, retry_after_us=SECOND) == fleet.clock.wall() + WAIT * SECOND
        fleet.clock.forward(WAIT)
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=5 * SECOND) == fleet.clock.wall() + 5 * SECOND

    def test_a_lost_claim_is_not_retried(self, fleet: Fleet) -> None:
        """What was recorded before stands, and the answer says that it was refused."""
        process, claim = begin(fleet)
        process.fail(claim)
        assert process.fail(claim) is None
        assert not process.finish(claim)

    def test_a_manual_run_is_retried_within_a_day(self, fleet: Fleet) -> None:
        """No tick follows it, however near the next fire time is."""
        process = fleet.join(retried())
        process.store.trigger("work")
        claim = process.claim_one()
        assert process.fail(claim, retry_after_us=DAY - 1) == fleet.clock.wall() + DAY - 1
        fleet.clock.set_wall(NOON + timedelta(days=1, microseconds=-1))
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        assert process.fail(again) is None

    def test_a_start_up_run_is_retried(self, fleet: Fleet) -> None:
        """It keeps its trigger."""
        process = fleet.join(retried(run_at_start=True))
        process.fail(process.claim_one())
        fleet.clock.forward(WAIT)
        again = process.claim_one().run
        assert (again.trigger, again.attempt) == (Trigger.STARTUP, 2)

    def test_a_run_that_waits_for_its_retry_counts_as_running(self, fleet: Fleet) -> None:
        """A manual run finds no room beside it."""
        process, claim = begin(fleet)
        process.fail(claim)
        assert process.store.trigger("work") is None
        assert [row.unfinished for row in process.store.tasks()] == [1]

    def test_a_retry_that_nobody_took_is_given_up_before_the_next_tick(self, fleet: Fleet) -> None:
        """It ends as its last attempt did, is told of once, and the tick runs."""
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

    def test_a_retry_never_outlasts_a_tick_that_a_deploy_brings_nearer(self, fleet: Fleet) -> None:
        """The first tick of a quicker schedule runs, and none is skipped until then."""
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

    def test_a_deploy_brings_no_manual_retry_nearer(self, fleet: Fleet) -> None:
        """No tick takes its place: it waits for as long as it was to wait."""
        process = fleet.join(retried())
        process.store.trigger("work")
        at = process.fail(process.claim_one())
        process.sync(retried(interval=WAIT / 2))
        assert [run.retry_at for run in process.store.runs()] == [at]

    def test_ten_years_ahead_a_retry_is_given_up(self, fleet: Fleet) -> None:
        """One catch-up, one missed row, and the run has ended."""
        process, claim = begin(fleet)
        process.fail(claim)
        fleet.clock.set_wall(NOON + timedelta(days=3652))
        claimed = process.claim()
        assert [run.id for run in claimed.expired_retries] == [claim.run.id]
        assert [one.run.trigger for one in claimed.claims] == [Trigger.CATCH_UP]

    def test_a_clock_set_back_delays_a_retry_and_repeats_nothing(self, fleet: Fleet) -> None:
        """The run waits until the clock says its instant again."""
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

    def test_a_retry_whose_holder_dies_is_abandoned(self, fleet: Fleet) -> None:
        """The row says so, and keeps the attempts before."""
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

    def test_a_run_that_is_dispatched_again_names_the_attempt_that_died(self, fleet: Fleet) -> None:
        """With `on_abandoned = rerun` the history shows the lost attempt among the others."""
        process, claim = begin(fleet, on_abandoned="rerun", retries=0)
        fleet.wait(LEASE_S + 10, process)
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        attempts = [(one.attempt, one.outcome, one.started_at) for one in again.run.attempts]
        assert attempts == [(1, Outcome.ABANDONED, None)]

    def test_a_run_that_is_dispatched_again_is_not_given_up(self, fleet: Fleet) -> None:
        """It is no retry: the next tick does not take its place."""
        process, claim = begin(fleet, on_abandoned="rerun")
        process.finish(claim, outcome=Outcome.ABANDONED)
        fleet.clock.forward(EVERY)
        assert [one.run.id for one in process.claim().claims] == [claim.run.id]

    def test_side_by_side_runs_are_retried(self, fleet: Fleet) -> None:
        """Under `overlap = allow` each on its own."""
        process, first = begin(fleet, overlap="allow")
        fleet.clock.forward(EVERY)
        second = process.claim_one()
        assert (process.fail(first), process.fail(second)) == (
            fleet.clock.wall() + WAIT * SECOND,
        ) * 2
        fleet.clock.forward(WAIT)
        assert {one.run.id for one in process.claim().claims} == {first.run.id, second.run.id}

    def test_under_all_a_run_is_retried_until_the_next_tick_is_due(self, fleet: Fleet) -> None:
        """While it catches up, the next tick is due already."""
        process, claim = begin(fleet, misfire="all")
        assert process.fail(claim) is not None
        fleet.clock.forward(3 * EVERY)
        claim = process.claim_one()
        assert process.fail(claim) is None
        assert process.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_a_retry_of_a_host_or_a_process_stays_in_its_place(self, fleet: Fleet) -> None:
        """Its run belongs there."""
        for scope, part in (("host", "host"), ("process", "holder")):
            process, claim = begin(fleet, scope=scope, interval=EVERY)
            process.fail(claim)
            fleet.clock.forward(WAIT)
            again = process.claim_one().run
            assert (again.partition, again.attempt) == (getattr(process.member, part), 2)
            process.store.close()
