"""The contract of shared stores: while a deploy rolls on, neither side waits for the other."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import Outcome
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.clock import Instant

    Tick = tuple[str, Instant | None]

OLD = {
    "same": make_task(),
    "body": make_task(body="old"),
    "pace": make_task(interval=20),
    "gone": make_task(),
}
NEW = {
    "same": make_task(),
    "body": make_task(body="new"),
    "pace": make_task(),
    "fresh": make_task(),
}


class DeployContract(ContractPart):
    """Processes with two configurations, side by side and one after the other."""

    def test_a_rolling_deploy_doubles_and_loses_no_tick(self, fleet: Fleet) -> None:
        """Three old processes are replaced one by one, and each tick of what all hold runs once."""
        live = [fleet.join(OLD) for _ in range(3)]
        ran: Counter[Tick] = Counter()
        seen = fleet.clock.wall()
        for step in range(12):
            if step in {3, 5, 7}:
                live.pop(0).store.close()
                live.append(fleet.join(NEW))
            fleet.clock.forward(EVERY)
            ran += turn(live)
        grid = [seen + (number + 1) * EVERY * SECOND for number in range(12)]
        assert [tick for tick, count in ran.items() if count > 1] == []
        for name in ("same", "body"):
            assert [slot for slot in grid if (name, slot) not in ran] == []
        assert [slot for slot in grid[4:] if ("fresh", slot) not in ran] == []
        assert [slot for slot in grid[4:] if ("pace", slot) not in ran] == []
        assert [slot for slot in grid[:7] if ("gone", slot) not in ran] == []

    def test_a_roll_back_doubles_and_loses_no_tick(self, fleet: Fleet) -> None:
        """New processes come, and go again before the last old one has ended."""
        live = [fleet.join(OLD), fleet.join(OLD)]
        ran: Counter[Tick] = Counter()
        seen = fleet.clock.wall()
        for step in range(10):
            if step == 2:
                live.append(fleet.join(NEW))
            if step == 5:
                live.pop().store.close()
            fleet.clock.forward(EVERY)
            ran += turn(live)
        grid = [seen + (number + 1) * EVERY * SECOND for number in range(10)]
        assert [tick for tick, count in ran.items() if count > 1] == []
        assert [slot for slot in grid if ("same", slot) not in ran] == []
        # Between the end of the new process and the next beat of an old one a tick may be late.
        assert [slot for slot in grid if ("body", slot) not in ran] in ([], [grid[5]])

    def test_a_run_of_the_old_counts_for_the_new(self, fleet: Fleet) -> None:
        """Overlap is judged across configurations."""
        old = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        old.claim()
        new = fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert "body" not in {claim.run.task for claim in new.claim().claims}

    def test_what_the_old_has_left_open_is_taken_by_the_new(self, fleet: Fleet) -> None:
        """A retry and a manual run go on as the new definition says."""
        tasks = {"work": make_task(interval=60, retries=2, body="old"), "hand": make_task()}
        old = fleet.join(tasks)
        fleet.clock.forward(60)
        claims = {claim.run.task: claim for claim in old.claim().claims}
        at = old.fail(claims["work"])
        old.finish(claims["hand"])
        old.store.trigger("hand")
        new = fleet.join(
            {
                "work": make_task(interval=60, retries=2, body="new"),
                "hand": make_task(body="new"),
            }
        )
        assert at is not None
        fleet.clock.forward((at - fleet.clock.wall()) / SECOND)
        assert not old.claim().claims
        taken = {claim.run.task: claim for claim in new.claim().claims}
        assert taken["work"].run.attempt == 2
        assert {claim.definition.body for claim in taken.values()} == {b"new"}

    def test_what_was_due_when_a_side_takes_over_is_missed(self, fleet: Fleet) -> None:
        """A roll-back tells of the ticks that only the withdrawn schedule had."""
        old, new = fleet.join({"pace": make_task(interval=20)}), fleet.join({"pace": make_task()})
        new.store.close()
        fleet.clock.forward(2 * EVERY)
        beats = [old.store.heartbeat() for _ in range(2)]
        (missed,) = [run for beat in beats for run in beat.missed]
        assert (missed.outcome, missed.count) == (Outcome.MISSED, 2)
        assert old.store.runs() == [missed]

    def test_an_added_task_is_run_by_both_sides(self, fleet: Fleet) -> None:
        """It belongs to no configuration."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        old.add("added", make_task())
        ran = []
        for process in (old, new):
            fleet.clock.forward(EVERY)
            claims = [c for c in process.claim().claims if c.run.task == "added"]
            ran += [process.finish(claim) for claim in claims]
        assert ran == [True, True]

    def test_a_dead_side_does_not_hold_the_other_up(self, fleet: Fleet) -> None:
        """A new process that was killed right after its start leaves the old ones to go on."""
        old, _ = fleet.join(OLD), fleet.join(NEW)
        fleet.wait(3 * LEASE_S + 10, old)
        claimed = {claim.run.task for claim in old.claim().claims}
        assert claimed == {"same", "body", "pace", "gone"}


def turn(live: list[Process]) -> Counter[Tick]:
    """Let every process do a turn of its loop; return what was run."""
    ran: Counter[Tick] = Counter()
    for process in live:
        process.store.heartbeat()
        for claim in process.claim().claims:
            ran[claim.run.task, claim.run.scheduled_for] += 1
            process.finish(claim)
    return ran
