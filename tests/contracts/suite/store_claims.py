"""The contract of stores: a due tick is claimed once, and a tick that does not run is recorded."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger, run_id
from pulse.core.task import build_definition
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.core.run import Claim
    from pulse.schedule.base import DueTimes


class BrokenSchedule:
    """A schedule with a first fire time that raises when asked for the next one."""

    def first(self, seen: Instant) -> Instant:
        """Return the only fire time."""
        return seen + EVERY * SECOND

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant:
        """Break."""
        raise ArithmeticError(f"no more after {after}, from {anchor}")

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:
        """Break."""
        raise ArithmeticError(f"none from {first} to {until}, from {anchor}")

    def next(self, after: datetime) -> datetime:
        """Break."""
        raise ArithmeticError(f"no more after {after}")

    def to_text(self) -> dict[str, str]:
        """Return a text that no other schedule has."""
        return {"interval": "broken"}


def drain(process: Process) -> list[Claim]:
    """Claim and finish due runs until none is left; return the claims."""
    claims: list[Claim] = []
    while found := process.claim().claims:
        for claim in found:
            process.finish(claim)
        claims += found
    return claims


class ClaimContract(ContractPart):
    """Ticks are claimed once, by the planner's rules, whatever the clock does."""

    def test_new_interval_task_is_due_one_interval_later(self, fleet: Fleet) -> None:
        """A new task is not due at once, and the store returns when it will be."""
        process = fleet.join({"work": make_task()})
        claimed = process.claim()
        assert not claimed.claims
        assert claimed.next_wakeup == claimed.now + EVERY * SECOND

    def test_claim_names_the_fire_time_and_a_lease(self, fleet: Fleet) -> None:
        """The claim has tick, holder and attempt, and is valid for one lease."""
        process = fleet.join({"work": make_task()}, space="shop")
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        slot = seen + EVERY * SECOND
        assert claim.run.id == run_id("shop", "work", "", slot)
        assert (claim.run.scheduled_for, claim.run.fire_time, claim.run.attempt) == (slot, slot, 1)
        assert (claim.run.holder, claim.run.trigger) == (process.member.holder, Trigger.SCHEDULE)
        assert claim.good_until == fleet.clock.boot() + LEASE_S * SECOND

    def test_late_claim_does_not_shift_the_following_ticks(self, fleet: Fleet) -> None:
        """Fire times of an interval are counted from the anchor, not from the last claim."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        slots = []
        for _ in range(3):
            fleet.clock.forward(EVERY + 1)
            claim = process.claim_one()
            process.finish(claim)
            slots.append(claim.run.fire_time - seen)
        assert slots == [10 * SECOND, 20 * SECOND, 30 * SECOND]

    def test_limit_of_zero_claims_and_decides_nothing(self, fleet: Fleet) -> None:
        """A tick that is due stays due."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claimed = process.claim(0)
        assert (list(claimed.claims), claimed.next_wakeup) == ([], claimed.now)
        assert process.claim_one().run.task == "work"

    def test_claims_beyond_the_limit_are_left_for_the_next_call(self, fleet: Fleet) -> None:
        """The next wake-up is at once."""
        process = fleet.join({name: make_task() for name in "abc"})
        fleet.clock.forward(EVERY)
        claimed = process.claim(2)
        assert len(claimed.claims) == 2
        assert claimed.next_wakeup is not None
        assert claimed.next_wakeup <= claimed.now
        assert len(process.claim(2).claims) == 1

    def test_schedule_that_raises_does_not_stop_other_tasks(self, fleet: Fleet) -> None:
        """The task is set aside and reported; all other due tasks are claimed."""
        process = fleet.join(None)
        broken = msgspec.structs.replace(
            build_definition("bad", make_task()), schedule=BrokenSchedule()
        )
        process.store.sync({"bad": broken, "good": build_definition("good", make_task())})
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert [claim.run.task for claim in claimed.claims] == ["good"]
        assert [(one.task, type(one.error)) for one in claimed.failed_tasks] == [
            ("bad", ArithmeticError)
        ]
        assert claimed.next_wakeup == claimed.now + EVERY * SECOND

    def test_claims_are_ordered_by_fire_time(self, fleet: Fleet) -> None:
        """The tick that has been due for longest comes first."""
        process = fleet.join({"slow": make_task(interval=9), "quick": make_task(interval=6)})
        fleet.clock.forward(10)
        assert [claim.run.task for claim in process.claim().claims] == ["quick", "slow"]

    def test_second_call_at_one_instant_claims_nothing(self, fleet: Fleet) -> None:
        """A claimed tick is not due any more."""
        process = fleet.join({"work": make_task(overlap="allow")})
        fleet.clock.forward(EVERY)
        process.claim_one()
        assert not process.claim().claims

    def test_clock_set_back_runs_no_tick_twice(self, fleet: Fleet) -> None:
        """A decided fire time is not decided again, however far the clock is set back."""
        process = fleet.join({"work": make_task(overlap="allow")})
        fleet.clock.forward(EVERY)
        first = process.claim_one()
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        assert not process.claim().claims
        process.sync({"work": make_task(overlap="allow")})
        fleet.clock.set_wall(NOON + timedelta(seconds=EVERY))
        assert not process.claim().claims
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.fire_time > first.run.fire_time

    def test_changed_interval_after_a_clock_set_back_repeats_no_fire_time(
        self, fleet: Fleet
    ) -> None:
        """The last decided fire time never moves back."""
        process = fleet.join({"work": make_task(overlap="allow")})
        fleet.clock.forward(EVERY)
        first = process.claim_one()
        fleet.clock.set_wall(NOON)
        process.sync({"work": make_task(overlap="allow", interval=5)})
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        fleet.clock.forward(5)
        assert process.claim_one().run.fire_time == first.run.fire_time + 5 * SECOND

    def test_ten_years_of_downtime_give_one_catch_up_and_one_record(self, fleet: Fleet) -> None:
        """One missed record counts all other fire times."""
        process = fleet.join({"work": make_task(interval=1)})
        fleet.clock.forward("3652d")
        claimed = process.claim()
        assert [claim.run.trigger for claim in claimed.claims] == [Trigger.CATCH_UP]
        ((outcome, count),) = [(run.outcome, run.count) for run in claimed.not_run]
        assert (outcome, count) == (Outcome.MISSED, 3652 * 86_400 - 1)

    @pytest.mark.parametrize(
        ("words", "missed"),
        [
            ({"misfire": "skip", "grace": 5}, 36_520 * 864 - 1),
            ({"misfire": "all", "grace": 15}, 36_520 * 864 - 2),
            ({"overlap": "wait"}, 36_520 * 864 - 1),
            ({"overlap": "allow"}, 36_520 * 864 - 1),
            ({"retries": 3}, 36_520 * 864 - 1),
        ],
        ids=str,
    )
    def test_clock_ten_years_ahead_gives_one_catch_up_under_each_policy(
        self, fleet: Fleet, words: dict[str, object], missed: int
    ) -> None:
        """One tick runs, one record counts the others, and later ticks run on schedule."""
        process = fleet.join({"work": make_task(**words)})
        fleet.clock.set_wall(NOON + timedelta(days=3652))
        claimed = process.claim()
        assert [claim.run.trigger for claim in claimed.claims] == [Trigger.CATCH_UP]
        assert [(run.outcome, run.count) for run in claimed.not_run] == [(Outcome.MISSED, missed)]
        process.finish(claimed.claims[0])
        drain(process)
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.fire_time == fleet.clock.wall()

    @pytest.mark.parametrize("overlap", ["skip", "wait", "allow"])
    @pytest.mark.parametrize("misfire", ["latest", "skip", "all"])
    def test_clock_set_back_decides_no_fire_time_again(
        self, fleet: Fleet, overlap: str, misfire: str
    ) -> None:
        """This holds under each policy, for runs and for missed and skipped ticks."""
        process = fleet.join({"work": make_task(overlap=overlap, misfire=misfire, grace=15)})
        fleet.clock.forward(3 * EVERY)
        claimed = process.claim()
        process.claim()
        seen = len(process.store.runs())
        fleet.clock.set_wall(NOON - timedelta(hours=1))
        process.claim()
        process.finish(claimed.claims[0])
        assert len(process.store.runs()) == seen
        fleet.clock.set_wall(NOON + timedelta(seconds=4 * EVERY))
        assert fleet.clock.wall() in [one.run.scheduled_for for one in drain(process)]

    def test_tick_later_than_its_grace_is_missed(self, fleet: Fleet) -> None:
        """With `misfire = skip` a late tick does not run, and is recorded."""
        process = fleet.join({"work": make_task(misfire="skip", grace=2)})
        fleet.clock.forward(EVERY + 3)
        claimed = process.claim()
        assert not claimed.claims
        assert [(run.outcome, run.count) for run in process.store.runs()] == [(Outcome.MISSED, 1)]

    def test_misfire_all_runs_each_fire_time_oldest_first(self, fleet: Fleet) -> None:
        """The next run starts when the one before has finished."""
        process = fleet.join({"work": make_task(misfire="all")})
        seen = fleet.clock.wall()
        fleet.clock.forward(3 * EVERY)
        offsets = []
        for _ in range(3):
            claim = process.claim_one()
            offsets.append(claim.run.fire_time - seen)
            process.finish(claim)
        assert offsets == [10 * SECOND, 20 * SECOND, 30 * SECOND]

    def test_tick_that_waits_at_the_cursor_is_no_work(self, fleet: Fleet) -> None:
        """While a run of the task continues, its next due fire time causes no wake-up."""
        process = fleet.join({"work": make_task(misfire="all"), "other": make_task(interval=60)})
        fleet.clock.forward(3 * EVERY)
        claim = process.claim_one()
        for limit in (0, 1):
            waiting = process.claim(limit)
            assert not waiting.claims
            assert waiting.next_wakeup is not None
            assert waiting.next_wakeup > waiting.now
        process.finish(claim)
        assert process.claim(0).next_wakeup == fleet.clock.wall() - EVERY * SECOND

    def test_tick_during_a_run_is_skipped_under_overlap_skip(self, fleet: Fleet) -> None:
        """The second run does not start, and the tick is recorded."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert not claimed.claims
        assert [run.outcome for run in claimed.not_run] == [Outcome.SKIPPED]

    def test_consecutive_skips_share_one_record(self, fleet: Fleet) -> None:
        """The record of the oldest skip counts the following ones."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        running = process.claim_one()
        for _ in range(3):
            fleet.clock.forward(EVERY)
            (row,) = process.claim().not_run
        assert row.count == 3
        assert row.fire_time == running.run.fire_time + EVERY * SECOND
        assert [run.count for run in process.store.runs()] == [3, 1]

    def test_skip_after_another_run_gets_a_record_of_its_own(self, fleet: Fleet) -> None:
        """Only consecutive skips share a record."""
        process = fleet.join({"work": make_task()})
        for _ in range(2):
            fleet.clock.forward(EVERY)
            running = process.claim_one()
            fleet.clock.forward(EVERY)
            process.claim()
            process.finish(running)
        outcomes = [(run.outcome, run.count) for run in process.store.runs()]
        assert outcomes == [(Outcome.SKIPPED, 1), (Outcome.SUCCEEDED, 1)] * 2

    def test_overlap_allow_runs_up_to_max_running_at_once(self, fleet: Fleet) -> None:
        """With `overlap = allow` further ticks do not run beside them."""
        process = fleet.join({"work": make_task(overlap="allow", max_running=2)})
        opened = []
        for _ in range(3):
            fleet.clock.forward(EVERY)
            opened.append(len(process.claim().claims))
        assert opened == [1, 1, 0]

    def test_applications_have_different_run_ids_for_one_tick(self, fleet: Fleet) -> None:
        """The name of the application is part of the run id."""
        ids = set()
        processes = [fleet.join({"work": make_task()}, space=space) for space in ("shop", "blog")]
        fleet.clock.forward(EVERY)
        for process in processes:
            ids.add(process.claim_one().run.id)
        assert len(ids) == 2

    def test_finish_with_another_attempt_or_holder_is_refused(self, fleet: Fleet) -> None:
        """Only the current claim can finish a run."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        older = msgspec.structs.replace(claim.run, attempt=0)
        foreign = msgspec.structs.replace(claim.run, holder="beta:1:nonce")
        taken = [
            process.finish(msgspec.structs.replace(claim, run=run)) for run in (older, foreign)
        ]
        assert taken == [False, False]
        assert process.finish(claim)
