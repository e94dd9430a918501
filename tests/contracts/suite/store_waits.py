"""The contract of stores: under `overlap = wait` one run waits until it may start."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.planner import (
    MAX_RUNNING_REACHED,
    OLDER_THAN_NEWEST,
    RUN_UNFINISHED,
    RUN_WAITING,
    TOO_LATE,
)
from pulse.core.records import PAUSED_REASON
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import WAITED_TOO_LONG
from pulse.store.steering import Pause
from pulse.testing.clock import NOON
from tests.contracts.suite.store_fleet import race
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Claim


def begin(fleet: Fleet, **keywords: object) -> tuple[Process, Claim]:
    """Return a process with a claimed run of a waiting task, and its next fire time due."""
    process = fleet.join({"work": make_task(**{"overlap": "wait"} | keywords)})
    fleet.clock.forward(EVERY)
    claim = process.claim_one()
    fleet.clock.forward(EVERY)
    return process, claim


class WaitContract(ContractPart):
    """At most one run of a task waits; it is claimed, missed or skipped, never lost."""

    def test_tick_during_a_run_waits_under_overlap_wait(self, fleet: Fleet) -> None:
        """The waiting run is pending, and causes no wake-up."""
        process, _ = begin(fleet)
        claimed = process.claim()
        assert (list(claimed.claims), list(claimed.not_run)) == ([], [])
        assert claimed.next_wakeup == claimed.now + EVERY * SECOND
        (run, _) = process.store.runs()
        assert (run.scheduled_for, run.holder, run.attempt) == (claimed.now, "", 0)
        assert [row.unfinished for row in process.store.tasks()] == [2]

    def test_waiting_run_is_claimed_when_the_other_has_finished(self, fleet: Fleet) -> None:
        """It has its own fire time and trigger, and is a first attempt."""
        process, claim = begin(fleet)
        process.claim()
        due = fleet.clock.wall()
        fleet.clock.forward(3)
        process.finish(claim)
        assert process.claim(0).next_wakeup == due
        waited = process.claim_one().run
        assert (waited.scheduled_for, waited.fire_time, waited.attempt) == (due, due, 1)
        assert (waited.trigger, waited.holder) == (Trigger.SCHEDULE, process.member.holder)

    def test_tick_is_claimed_at_once_when_the_earlier_run_has_finished(self, fleet: Fleet) -> None:
        """No run of the task is unfinished, so the tick does not wait."""
        process, claim = begin(fleet)
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_second_waiting_tick_is_skipped(self, fleet: Fleet) -> None:
        """Further ticks are counted in one record."""
        process, claim = begin(fleet)
        process.claim()
        for count in (1, 2):
            fleet.clock.forward(EVERY)
            (row,) = process.claim().not_run
            assert (row.outcome, row.count, row.message) == (Outcome.SKIPPED, count, RUN_WAITING)
        process.finish(claim)
        assert process.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_next_tick_waits_while_a_waiting_run_is_executed(self, fleet: Fleet) -> None:
        """Runs are executed one at a time, in order."""
        process, claim = begin(fleet)
        process.claim()
        process.finish(claim)
        waited = process.claim_one()
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        process.finish(waited)
        assert process.claim_one().run.fire_time == fleet.clock.wall()

    def test_run_that_waits_for_a_run_that_is_not_due_is_claimed_at_once(
        self, fleet: Fleet
    ) -> None:
        """A manual run that was created before the clock was set back blocks nothing."""
        process = fleet.join({"work": make_task(overlap="wait")})
        process.store.trigger("work")
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        yesterday = NOON - timedelta(days=1)
        process.sync({"work": make_task(overlap="wait", interval=1, start=yesterday)})
        fleet.clock.forward(1)
        opened = process.claim()
        assert (len(opened.claims), opened.next_wakeup) == (0, opened.now)
        assert process.claim_one().run.trigger is Trigger.SCHEDULE

    def test_waiting_run_later_than_its_grace_is_missed(self, fleet: Fleet) -> None:
        """The record states the reason."""
        process, claim = begin(fleet, grace=4)
        process.claim()
        fleet.clock.forward(5)
        process.finish(claim)
        claimed = process.claim()
        assert not claimed.claims
        (row,) = claimed.not_run
        assert (row.outcome, row.count, row.message) == (Outcome.MISSED, 1, WAITED_TOO_LONG)
        assert process.store.runs()[0] == row
        assert [state.unfinished for state in process.store.tasks()] == [0]

    def test_waiting_run_as_late_as_its_grace_is_claimed(self, fleet: Fleet) -> None:
        """Only a microsecond more is too late."""
        process, claim = begin(fleet, grace=4)
        process.claim()
        fleet.clock.forward(4)
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_manual_run_waits_without_grace(self, fleet: Fleet) -> None:
        """It is refused only while another run waits, and never missed."""
        process, claim = begin(fleet, grace=4, interval=EVERY)
        opened = process.store.trigger("work")
        assert opened is not None
        assert process.store.trigger("work") is None
        fleet.clock.forward(5)
        process.claim()
        process.finish(claim)
        assert process.claim_one().run.id == opened.id

    def test_waiting_run_is_claimed_when_the_other_is_abandoned(self, fleet: Fleet) -> None:
        """The death of a holder ends the wait, as a result does."""
        process, claim = begin(fleet, interval=EVERY)
        process.claim()
        beats = fleet.wait(LEASE_S + 10, process)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        waited = process.claim_one().run
        assert waited.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_run_that_a_tick_waits_for_is_not_retried(self, fleet: Fleet) -> None:
        """The due tick replaces the retry."""
        process, claim = begin(fleet, retries=3, retry_min_backoff=1)
        process.claim()
        assert process.fail(claim) is None
        assert process.claim_one().run.attempt == 1

    def test_waiting_run_is_retried_like_any_other(self, fleet: Fleet) -> None:
        """It is retried once it was executed."""
        process, claim = begin(fleet, retries=3, retry_min_backoff=1)
        process.claim()
        process.finish(claim)
        at = process.fail(process.claim_one())
        assert at is not None
        fleet.clock.forward(2)
        assert process.claim_one().run.attempt == 2

    def test_retry_waits_for_a_manual_run_and_expires_in_time(self, fleet: Fleet) -> None:
        """The two never overlap, and the retry is not made past the next tick."""
        process, claim = begin(fleet, retries=3, retry_min_backoff=1)
        process.finish(claim)
        claim = process.claim_one()
        process.fail(claim)
        process.store.trigger("work")
        manual = process.claim_one()
        fleet.clock.forward(3)
        assert not process.claim().claims
        fleet.clock.forward(EVERY - 3)
        claimed = process.claim()
        assert ([run.id for run in claimed.expired_retries], list(claimed.claims)) == (
            [claim.run.id],
            [],
        )
        process.finish(manual)
        assert process.claim_one().run.fire_time == fleet.clock.wall()

    def test_ticks_wait_at_the_cursor_under_misfire_all(self, fleet: Fleet) -> None:
        """None is skipped: the next run is created when the one before has finished."""
        process, claim = begin(fleet, misfire="all")
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert (list(claimed.claims), list(claimed.not_run)) == ([], [])
        offsets = []
        for _ in range(2):
            process.finish(claim)
            claim = process.claim_one()
            offsets.append(claim.run.fire_time - fleet.clock.wall())
        assert offsets == [-EVERY * SECOND, 0]

    def test_waiting_run_outlives_a_restart(self, fleet: Fleet) -> None:
        """It is in the store, not in a process."""
        process, claim = begin(fleet)
        process.claim()
        process.sync({"work": make_task(overlap="wait")})
        assert not process.claim().claims
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_clock_set_back_creates_no_second_waiting_run(self, fleet: Fleet) -> None:
        """The run is claimed when the clock reaches its instant again."""
        process, claim = begin(fleet)
        process.claim()
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        process.finish(claim)
        assert not process.claim().claims
        fleet.clock.set_wall(NOON + timedelta(seconds=2 * EVERY))
        assert process.claim_one().run.attempt == 1
        assert len(process.store.runs()) == 2

    def test_one_tick_waits_when_the_clock_is_ten_years_ahead(self, fleet: Fleet) -> None:
        """The newest tick waits; one missed record counts the others."""
        process, _ = begin(fleet)
        fleet.clock.set_wall(NOON + timedelta(days=3652))
        claimed = process.claim()
        assert [(run.outcome, run.message) for run in claimed.not_run] == [
            (Outcome.MISSED, OLDER_THAN_NEWEST)
        ]
        waiting = process.store.runs()
        assert [run.trigger for run in waiting if run.attempt == 0 and run.outcome is None] == [
            Trigger.CATCH_UP
        ]

    def test_missed_and_skipped_ticks_record_a_reason(self, fleet: Fleet) -> None:
        """Each record has a reason and a count."""
        tasks = {
            "over": make_task(),
            "late": make_task(misfire="skip", grace=2),
            "skip": make_task(),
            "full": make_task(overlap="allow", max_running=1),
            "paused": make_task(),
        }
        process = fleet.join(tasks)
        process.store.pause("paused", Pause())
        process.store.pause("over", Pause())
        fleet.clock.forward(EVERY)
        process.claim()
        process.store.pause("paused", None)
        process.store.pause("over", None)
        process.claim()
        fleet.clock.forward(2 * EVERY + 3)
        process.claim()
        found = {(run.task, run.message): run.count for run in process.store.runs() if run.message}
        assert found == {
            ("over", PAUSED_REASON): 1,
            ("over", OLDER_THAN_NEWEST): 1,
            ("late", TOO_LATE): 2,
            ("skip", OLDER_THAN_NEWEST): 1,
            ("skip", RUN_UNFINISHED): 1,
            ("full", OLDER_THAN_NEWEST): 1,
            ("full", MAX_RUNNING_REACHED): 1,
            ("paused", PAUSED_REASON): 1,
            ("paused", OLDER_THAN_NEWEST): 1,
        }


class FleetWaitContract(ContractPart):
    """The fleet decides overlap, waiting, retries and misfires together."""

    def test_tick_waits_for_a_run_of_another_process(self, fleet: Fleet) -> None:
        """The first process that polls after the run has finished claims it."""
        one, other = (fleet.join({"work": make_task(overlap="wait")}) for _ in range(2))
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.clock.forward(EVERY)
        assert not other.claim().claims
        assert not one.claim().claims
        one.finish(claim)
        waited = other.claim_one()
        assert (waited.run.attempt, list(one.claim().claims)) == (1, [])

    def test_skip_is_reported_by_one_process(self, fleet: Fleet) -> None:
        """It is recorded and counted once in the fleet."""
        one, other = (fleet.join({"work": make_task(overlap="wait")}) for _ in range(2))
        fleet.clock.forward(EVERY)
        one.claim_one()
        for _ in range(2):
            fleet.clock.forward(EVERY)
            passed = [len(process.claim().not_run) for process in (one, other)]
        assert passed == [1, 0]
        assert [run.count for run in one.store.runs() if run.outcome is Outcome.SKIPPED] == [1]

    def test_racing_processes_claim_one_waiting_run_at_a_time(self, fleet: Fleet) -> None:
        """A process with an outdated read claims nothing beside a run that was claimed since."""
        tasks = {f"t{number}": make_task(overlap="wait", interval=3_600) for number in range(40)}
        processes = [fleet.join(tasks) for _ in range(4)]
        for name in (*tasks, *tasks):
            assert processes[0].store.trigger(name) is not None
        assert sorted(race(processes)) == sorted(tasks)

    def test_overlap_allow_limits_runs_in_the_whole_fleet(self, fleet: Fleet) -> None:
        """The processes share the limit."""
        tasks = {"work": make_task(overlap="allow", max_running=2)}
        processes = [fleet.join(tasks) for _ in range(3)]
        opened = []
        for process in processes:
            fleet.clock.forward(EVERY)
            opened.append([run.outcome for run in process.claim().not_run])
        assert opened == [[], [], [Outcome.SKIPPED]]

    def test_retry_may_be_claimed_by_another_process(self, fleet: Fleet) -> None:
        """The process of the failed attempt may have ended."""
        tasks = {"work": make_task(retries=1, retry_min_backoff=2)}
        one, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        one.fail(claim)
        one.store.close()
        fleet.clock.forward(3)
        again = other.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        assert [run.message for run in other.store.runs()] == [""]

    def test_expired_retry_is_reported_by_one_process(self, fleet: Fleet) -> None:
        """The other process finds the run finished and the tick claimed."""
        tasks = {"work": make_task(retries=1, retry_min_backoff=2)}
        one, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(EVERY)
        one.fail(one.claim_one())
        fleet.clock.forward(EVERY)
        expired_retries = [len(process.claim().expired_retries) for process in (one, other)]
        assert expired_retries == [1, 0]

    def test_retry_is_claimed_with_the_newest_definition(self, fleet: Fleet) -> None:
        """In a rolling deploy the new code makes the next attempt."""
        old = fleet.join({"work": make_task(retries=1, retry_min_backoff=2)})
        fleet.clock.forward(EVERY)
        old.fail(old.claim_one())
        new = fleet.join({"work": make_task(retries=1, retry_min_backoff=2, timeout=7)})
        fleet.clock.forward(3)
        assert [len(process.claim().claims) for process in (old, new)] == [0, 1]

    def test_missed_fire_times_are_counted_once_in_the_fleet(self, fleet: Fleet) -> None:
        """One process decides, under each misfire policy, and the others find it decided."""
        tasks = {
            "latest": make_task(),
            "late": make_task(misfire="skip", grace=2),
            "each": make_task(misfire="all", grace=EVERY),
        }
        one, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(4 * EVERY + 5)
        told = [process.claim() for process in (one, other)]
        assert [len(claimed.claims) for claimed in told] == [2, 0]
        missed = {run.task: (run.count, run.message) for run in told[0].not_run}
        assert missed == {
            "latest": (3, OLDER_THAN_NEWEST),
            "late": (4, TOO_LATE),
            "each": (3, TOO_LATE),
        }
        assert not told[1].not_run
