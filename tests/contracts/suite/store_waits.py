"""The contract of stores: under `overlap = wait` one run waits, whoever is first when it may go."""

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
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import WAITED_TOO_LONG
from pulse.store.rules import PAUSED
from pulse.testing.clock import NOON
from tests.contracts.suite.store_fleet import race
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Claim


def begin(fleet: Fleet, **keywords: object) -> tuple[Process, Claim]:
    """Return a process with a run of a task that waits, and the next fire time due."""
    process = fleet.join({"work": make_task(**{"overlap": "wait"} | keywords)})
    fleet.clock.forward(EVERY)
    claim = process.claim_one()
    fleet.clock.forward(EVERY)
    return process, claim


class WaitContract(ContractPart):
    """Waiting runs: one a task, in the store; taken, missed or skipped, never lost."""

    def test_a_tick_that_finds_a_run_going_waits(self, fleet: Fleet) -> None:
        """It is a run that nobody holds and nobody may claim, and no work."""
        process, _ = begin(fleet)
        claimed = process.claim()
        assert (list(claimed.claims), list(claimed.not_run)) == ([], [])
        assert claimed.next_wakeup == claimed.now + EVERY * SECOND
        (run, _) = process.store.runs()
        assert (run.scheduled_for, run.holder, run.attempt) == (claimed.now, "", 0)
        assert [row.unfinished for row in process.store.tasks()] == [2]

    def test_a_waiting_run_goes_as_soon_as_the_other_has_ended(self, fleet: Fleet) -> None:
        """With its own fire time and trigger, as its first attempt."""
        process, claim = begin(fleet)
        process.claim()
        due = fleet.clock.wall()
        fleet.clock.forward(3)
        process.finish(claim)
        assert process.claim(0).next_wakeup == due
        waited = process.claim_one().run
        assert (waited.scheduled_for, waited.fire_time, waited.attempt) == (due, due, 1)
        assert (waited.trigger, waited.holder) == (Trigger.SCHEDULE, process.member.holder)

    def test_the_end_of_the_other_in_the_same_call_lets_the_tick_go(self, fleet: Fleet) -> None:
        """Nothing waits where nothing is going any more."""
        process, claim = begin(fleet)
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_only_one_waits(self, fleet: Fleet) -> None:
        """The ticks that find one waiting are skipped, and counted in one row."""
        process, claim = begin(fleet)
        process.claim()
        for count in (1, 2):
            fleet.clock.forward(EVERY)
            (row,) = process.claim().not_run
            assert (row.outcome, row.count, row.message) == (Outcome.SKIPPED, count, RUN_WAITING)
        process.finish(claim)
        assert process.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_while_a_waiting_run_goes_the_next_one_waits(self, fleet: Fleet) -> None:
        """One at a time, in order."""
        process, claim = begin(fleet)
        process.claim()
        process.finish(claim)
        waited = process.claim_one()
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        process.finish(waited)
        assert process.claim_one().run.fire_time == fleet.clock.wall()

    def test_a_run_that_waits_for_one_that_is_not_due_is_taken_at_once(self, fleet: Fleet) -> None:
        """A manual run asked for before the clock was set back holds nobody up."""
        process = fleet.join({"work": make_task(overlap="wait")})
        process.store.trigger("work")
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        yesterday = NOON - timedelta(days=1)
        process.sync({"work": make_task(overlap="wait", interval=1, start=yesterday)})
        fleet.clock.forward(1)
        opened = process.claim()
        assert (len(opened.claims), opened.next_wakeup) == (0, opened.now)
        assert process.claim_one().run.trigger is Trigger.SCHEDULE

    def test_a_waiting_run_that_is_later_than_its_grace_is_missed(self, fleet: Fleet) -> None:
        """When its turn comes, it leaves a row that says so."""
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

    def test_a_waiting_run_is_in_time_to_the_last_microsecond(self, fleet: Fleet) -> None:
        """As late as its grace is not later."""
        process, claim = begin(fleet, grace=4)
        process.claim()
        fleet.clock.forward(4)
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_a_manual_run_waits_too(self, fleet: Fleet) -> None:
        """It is refused only while another one waits, and no grace makes it miss."""
        process, claim = begin(fleet, grace=4, interval=EVERY)
        opened = process.store.trigger("work")
        assert opened is not None
        assert process.store.trigger("work") is None
        fleet.clock.forward(5)
        process.claim()
        process.finish(claim)
        assert process.claim_one().run.id == opened.id

    def test_a_waiting_run_follows_an_abandoned_one(self, fleet: Fleet) -> None:
        """The death of a holder lets it go, as an end does."""
        process, claim = begin(fleet, interval=EVERY)
        process.claim()
        beats = fleet.wait(LEASE_S + 10, process)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        waited = process.claim_one().run
        assert waited.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_a_run_that_a_tick_waits_for_is_not_retried(self, fleet: Fleet) -> None:
        """The tick has come: it takes the place of the retry."""
        process, claim = begin(fleet, retries=3, retry_min_backoff=1)
        process.claim()
        assert process.fail(claim) is None
        assert process.claim_one().run.attempt == 1

    def test_a_waiting_run_is_retried_like_any_other(self, fleet: Fleet) -> None:
        """Once it has had its turn."""
        process, claim = begin(fleet, retries=3, retry_min_backoff=1)
        process.claim()
        process.finish(claim)
        at = process.fail(process.claim_one())
        assert at is not None
        fleet.clock.forward(2)
        assert process.claim_one().run.attempt == 2

    def test_a_retry_waits_for_a_manual_run_and_is_given_up_in_time(self, fleet: Fleet) -> None:
        """Neither of them runs beside the other, nor the retry past the next tick."""
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

    def test_under_all_the_ticks_wait_at_the_cursor(self, fleet: Fleet) -> None:
        """None is skipped: the next opens when the one before has ended."""
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

    def test_a_waiting_run_outlives_a_restart(self, fleet: Fleet) -> None:
        """It is in the store, not in a process."""
        process, claim = begin(fleet)
        process.claim()
        process.sync({"work": make_task(overlap="wait")})
        assert not process.claim().claims
        process.finish(claim)
        assert process.claim_one().run.attempt == 1

    def test_a_clock_set_back_lets_nothing_wait_twice(self, fleet: Fleet) -> None:
        """Its tick is below the floor; the run goes when the clock says its instant again."""
        process, claim = begin(fleet)
        process.claim()
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        process.finish(claim)
        assert not process.claim().claims
        fleet.clock.set_wall(NOON + timedelta(seconds=2 * EVERY))
        assert process.claim_one().run.attempt == 1
        assert len(process.store.runs()) == 2

    def test_ten_years_ahead_one_tick_waits(self, fleet: Fleet) -> None:
        """The newest; the others are one missed row."""
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

    def test_what_does_not_run_says_why(self, fleet: Fleet) -> None:
        """Each row of a missed or skipped tick has its reason, and counts."""
        tasks = {
            "over": make_task(),
            "late": make_task(misfire="skip", grace=2),
            "skip": make_task(),
            "full": make_task(overlap="allow", max_running=1),
            "paused": make_task(),
        }
        process = fleet.join(tasks)
        process.store.pause("paused", paused=True)
        process.store.pause("over", paused=True)
        fleet.clock.forward(EVERY)
        process.claim()
        process.store.pause("paused", paused=False)
        process.store.pause("over", paused=False)
        process.claim()
        fleet.clock.forward(2 * EVERY + 3)
        process.claim()
        found = {(run.task, run.message): run.count for run in process.store.runs() if run.message}
        assert found == {
            ("over", PAUSED): 1,
            ("over", OLDER_THAN_NEWEST): 1,
            ("late", TOO_LATE): 2,
            ("skip", OLDER_THAN_NEWEST): 1,
            ("skip", RUN_UNFINISHED): 1,
            ("full", OLDER_THAN_NEWEST): 1,
            ("full", MAX_RUNNING_REACHED): 1,
            ("paused", PAUSED): 1,
            ("paused", OLDER_THAN_NEWEST): 1,
        }


class FleetWaitContract(ContractPart):
    """What a fleet decides together: overlap, waiting, retries and misfires."""

    def test_a_tick_waits_for_a_run_of_another_process(self, fleet: Fleet) -> None:
        """Whichever process is first takes it when its turn has come."""
        one, other = (fleet.join({"work": make_task(overlap="wait")}) for _ in range(2))
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.clock.forward(EVERY)
        assert not other.claim().claims
        assert not one.claim().claims
        one.finish(claim)
        waited = other.claim_one()
        assert (waited.run.attempt, list(one.claim().claims)) == (1, [])

    def test_a_skip_is_told_by_one_process(self, fleet: Fleet) -> None:
        """Once in the fleet, and counted once."""
        one, other = (fleet.join({"work": make_task(overlap="wait")}) for _ in range(2))
        fleet.clock.forward(EVERY)
        one.claim_one()
        for _ in range(2):
            fleet.clock.forward(EVERY)
            passed = [len(process.claim().not_run) for process in (one, other)]
        assert passed == [1, 0]
        assert [run.count for run in one.store.runs() if run.outcome is Outcome.SKIPPED] == [1]

    def test_processes_that_race_for_waiting_runs_hold_one_at_a_time(self, fleet: Fleet) -> None:
        """A look that is out of date takes nothing beside a run that began since."""
        tasks = {f"t{number}": make_task(overlap="wait", interval=3_600) for number in range(40)}
        processes = [fleet.join(tasks) for _ in range(4)]
        for name in (*tasks, *tasks):
            assert processes[0].store.trigger(name) is not None
        assert sorted(race(processes)) == sorted(tasks)

    def test_side_by_side_counts_in_the_fleet(self, fleet: Fleet) -> None:
        """Under `allow` so many runs go, in whichever processes."""
        tasks = {"work": make_task(overlap="allow", max_running=2)}
        processes = [fleet.join(tasks) for _ in range(3)]
        opened = []
        for process in processes:
            fleet.clock.forward(EVERY)
            opened.append([run.outcome for run in process.claim().not_run])
        assert opened == [[], [], [Outcome.SKIPPED]]

    def test_a_retry_is_taken_by_whoever_is_free(self, fleet: Fleet) -> None:
        """The process that saw it fail may be gone."""
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

    def test_a_retry_is_given_up_by_one_process(self, fleet: Fleet) -> None:
        """Once in the fleet: the other finds it ended, and the tick claimed."""
        tasks = {"work": make_task(retries=1, retry_min_backoff=2)}
        one, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(EVERY)
        one.fail(one.claim_one())
        fleet.clock.forward(EVERY)
        expired_retries = [len(process.claim().expired_retries) for process in (one, other)]
        assert expired_retries == [1, 0]

    def test_a_retry_is_for_processes_with_the_newest_definition(self, fleet: Fleet) -> None:
        """In a rolling deploy the next attempt is made by the new code."""
        old = fleet.join({"work": make_task(retries=1, retry_min_backoff=2)})
        fleet.clock.forward(EVERY)
        old.fail(old.claim_one())
        new = fleet.join({"work": make_task(retries=1, retry_min_backoff=2, timeout=7)})
        fleet.clock.forward(3)
        assert [len(process.claim().claims) for process in (old, new)] == [0, 1]

    def test_missed_fire_times_are_counted_once_in_the_fleet(self, fleet: Fleet) -> None:
        """Whatever the misfire policy, one process decides and the others find it decided."""
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
