"""The contract of stores: single dates, cron expressions and jitter, as keepers must know them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from tests.contracts.suite.store_harness import Fleet


class ScheduleContract(ContractPart):
    """Ticks of every kind of schedule: due when they say, by their delay, and once."""

    def test_a_one_off_task_fires_once(self, fleet: Fleet) -> None:
        """Its schedule ends with it, and no restart brings it back."""
        process = fleet.join({"work": make_task(interval=None, at=NOON + timedelta(hours=1))})
        fleet.clock.forward(3_600)
        claim = process.claim_one()
        process.finish(claim)
        process.sync({"work": make_task(interval=None, at=NOON + timedelta(hours=1))})
        claimed = process.claim()
        assert (len(claimed.claims), claimed.next_wakeup) == (0, None)
        assert [state.next_fire for state in process.store.tasks()] == [None]

    def test_a_one_off_task_that_is_seen_too_late_runs_at_once(self, fleet: Fleet) -> None:
        """As any tick that nobody was there to run; `grace` says how late it may be."""
        at = NOON - timedelta(hours=1)
        late = make_task(interval=None, at=at)
        process = fleet.join({"work": late, "strict": make_task(interval=None, at=at, grace=60)})
        claimed = process.claim()
        assert [claim.run.task for claim in claimed.claims] == ["work"]
        assert [(run.task, run.outcome) for run in claimed.not_run] == [("strict", Outcome.MISSED)]

    def test_a_cron_task_fires_where_its_expression_says(self, fleet: Fleet) -> None:
        """In its zone, whatever the anchor."""
        process = fleet.join({"work": make_task(interval=None, cron="30 13 * * *")})
        claimed = process.claim()
        assert claimed.next_wakeup == claimed.now + 5_400 * SECOND
        fleet.clock.forward(5_400)
        assert process.claim_one().run.fire_time == claimed.next_wakeup

    def test_a_jittered_tick_is_due_later_than_it_says(self, fleet: Fleet) -> None:
        """The wake-up knows the delay, nothing is claimed before, and the fire time stays."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen, woken = fleet.clock.wall(), process.claim().next_wakeup or 0
        assert woken > seen + 600 * SECOND
        fleet.clock.forward((woken - seen - 1) / SECOND)
        early = process.claim()
        fleet.clock.forward(0.000_001)
        assert (len(early.claims), early.next_wakeup) == (0, woken)
        claim = process.claim_one()
        assert (claim.run.fire_time, claim.run.trigger) == (seen + 600 * SECOND, Trigger.SCHEDULE)

    def test_a_jittered_tick_that_is_due_after_a_pause_runs(self, fleet: Fleet) -> None:
        """A pause between its fire time and its delay costs nothing: it was not due in it."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen, woken = fleet.clock.wall(), process.claim().next_wakeup or 0
        fleet.clock.forward((woken - seen) / SECOND - 1)
        for paused in (True, False):
            process.store.pause("work", paused=paused)
        fleet.clock.forward(1)
        claimed = process.claim()
        assert [one.run.fire_time for one in claimed.claims] == [seen + 600 * SECOND]
        assert not claimed.not_run

    def test_a_jittered_tick_that_was_due_in_a_pause_is_missed(self, fleet: Fleet) -> None:
        """The next one, whose delay is not over when the task is resumed, is none of those."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        seen = fleet.clock.wall()
        process.store.pause("work", paused=True)
        fleet.clock.forward(1_800)
        process.store.pause("work", paused=False)
        claimed = process.claim()
        assert [(run.outcome, run.count) for run in claimed.not_run] == [(Outcome.MISSED, 2)]
        fleet.clock.forward(600)
        assert process.claim_one().run.fire_time == seen + 1_800 * SECOND

    def test_a_changed_jitter_moves_the_wake_up_alone(self, fleet: Fleet) -> None:
        """The cursor stays where it was."""
        process = fleet.join({"work": make_task(interval=600, jitter=600)})
        (before,) = process.store.tasks()
        process.sync({"work": make_task(interval=600)})
        (after,) = process.store.tasks()
        assert process.claim().next_wakeup == after.next_fire == before.next_fire
