"""The contract of stores: single dates, cron expressions and jitter."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.store.steering import Pause
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from tests.contracts.suite.store_harness import Fleet


class ScheduleContract(ContractPart):
    """A tick of every kind of schedule is due on time, after its jitter, and once."""

    def test_one_off_task_fires_once(self, fleet: Fleet) -> None:
        """No restart brings it back."""
        process = fleet.join({"work": make_task(interval=None, at=NOON + timedelta(hours=1))})
        fleet.clock.forward(3_600)
        claim = process.claim_one()
        process.finish(claim)
        process.sync({"work": make_task(interval=None, at=NOON + timedelta(hours=1))})
        claimed = process.claim()
        assert (len(claimed.claims), claimed.next_wakeup) == (0, None)
        assert [state.next_fire for state in process.store.tasks()] == [None]

    def test_one_off_task_with_a_past_date_runs_at_once(self, fleet: Fleet) -> None:
        """Like any missed tick, `grace` limits how late it may run."""
        at = NOON - timedelta(hours=1)
        late = make_task(interval=None, at=at)
        process = fleet.join({"work": late, "strict": make_task(interval=None, at=at, grace=60)})
        claimed = process.claim()
        assert [claim.run.task for claim in claimed.claims] == ["work"]
        assert [(run.task, run.outcome) for run in claimed.not_run] == [("strict", Outcome.MISSED)]

    def test_cron_task_fires_at_the_times_of_its_expression(self, fleet: Fleet) -> None:
        """The expression is evaluated in its time zone, whatever the anchor is."""
        process = fleet.join({"work": make_task(interval=None, cron="30 13 * * *")})
        claimed = process.claim()
        assert claimed.next_wakeup == claimed.now + 5_400 * SECOND
        fleet.clock.forward(5_400)
        assert process.claim_one().run.fire_time == claimed.next_wakeup

    def test_jittered_tick_is_due_after_its_delay(self, fleet: Fleet) -> None:
        """The wake-up includes the delay, nothing is claimed before, and the fire time stays."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen, woken = fleet.clock.wall(), process.claim().next_wakeup or 0
        assert woken > seen + 600 * SECOND
        fleet.clock.forward((woken - seen - 1) / SECOND)
        early = process.claim()
        fleet.clock.forward(0.000_001)
        assert (len(early.claims), early.next_wakeup) == (0, woken)
        claim = process.claim_one()
        assert (claim.run.fire_time, claim.run.trigger) == (seen + 600 * SECOND, Trigger.SCHEDULE)

    def test_jittered_tick_that_is_due_after_a_pause_runs(self, fleet: Fleet) -> None:
        """A pause between the fire time and the end of the delay has no effect."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen, woken = fleet.clock.wall(), process.claim().next_wakeup or 0
        fleet.clock.forward((woken - seen) / SECOND - 1)
        for paused in (True, False):
            process.store.pause("work", Pause() if paused else None)
        fleet.clock.forward(1)
        claimed = process.claim()
        assert [one.run.fire_time for one in claimed.claims] == [seen + 600 * SECOND]
        assert not claimed.not_run

    def test_jittered_tick_that_was_due_during_a_pause_is_missed(self, fleet: Fleet) -> None:
        """The next tick, whose delay has not passed when the task is resumed, runs."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen = fleet.clock.wall()
        process.store.pause("work", Pause())
        fleet.clock.forward(1_800)
        process.store.pause("work", None)
        claimed = process.claim()
        assert [(run.outcome, run.count) for run in claimed.not_run] == [(Outcome.MISSED, 2)]
        fleet.clock.forward(600)
        assert process.claim_one().run.fire_time == seen + 1_800 * SECOND

    def test_changed_jitter_moves_only_the_wakeup(self, fleet: Fleet) -> None:
        """The cursor stays."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        (before,) = process.store.tasks()
        process.sync({"work": make_task(interval=600)})
        (after,) = process.store.tasks()
        assert process.claim().next_wakeup == after.next_fire == before.next_fire
