"""The contract of shared stores: during a rolling deploy neither side waits for the other."""

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
    """Processes with two configurations, at the same time and one after the other."""

    def test_rolling_deploy_runs_each_tick_once(self, fleet: Fleet) -> None:
        """Three old processes are replaced one by one; all of them declare the observed task."""
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

    def test_roll_back_runs_each_tick_once(self, fleet: Fleet) -> None:
        """New processes start and end again before the last old process has ended."""
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

    def test_overlap_counts_runs_of_another_configuration(self, fleet: Fleet) -> None:
        """A run of an old process counts for the tasks of a new one."""
        old = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        old.claim()
        new = fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert "body" not in {claim.run.task for claim in new.claim().claims}

    def test_new_process_claims_pending_runs_of_an_old_one(self, fleet: Fleet) -> None:
        """A retry and a manual run are executed as the new definition says."""
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

    def test_due_ticks_of_a_withdrawn_schedule_are_missed(self, fleet: Fleet) -> None:
        """A roll-back reports the ticks that only the withdrawn schedule had."""
        old, new = fleet.join({"pace": make_task(interval=20)}), fleet.join({"pace": make_task()})
        new.store.close()
        fleet.clock.forward(2 * EVERY)
        beats = [old.store.heartbeat() for _ in range(2)]
        (missed,) = [run for beat in beats for run in beat.missed]
        assert (missed.outcome, missed.count) == (Outcome.MISSED, 2)
        assert old.store.runs() == [missed]

    def test_runtime_task_is_run_by_both_sides_of_a_deploy(self, fleet: Fleet) -> None:
        """A run-time task belongs to no configuration."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        old.add("added", make_task())
        ran = []
        for process in (old, new):
            fleet.clock.forward(EVERY)
            claims = [c for c in process.claim().claims if c.run.task == "added"]
            ran += [process.finish(claim) for claim in claims]
        assert ran == [True, True]

    def test_killed_new_process_does_not_block_the_old_ones(self, fleet: Fleet) -> None:
        """A new process is killed right after its start."""
        old, _ = fleet.join(OLD), fleet.join(NEW)
        fleet.wait(3 * LEASE_S + 10, old)
        claimed = {claim.run.task for claim in old.claim().claims}
        assert claimed == {"same", "body", "pace", "gone"}


def turn(live: list[Process]) -> Counter[Tick]:
    """Let every process run one turn of its loop; return the runs."""
    ran: Counter[Tick] = Counter()
    for process in live:
        process.store.heartbeat()
        for claim in process.claim().claims:
            ran[claim.run.task, claim.run.scheduled_for] += 1
            process.finish(claim)
    return ran
