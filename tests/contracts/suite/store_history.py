"""The contract of stores: history, opening and closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.run import Outcome
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.steering import Pause
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, Fleet, Process, holders, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: dict[str, Callable[[Process], object]] = {
    "sync": lambda process: process.store.sync({}),
    "claim_due": lambda process: process.store.claim_due(1),
    "beat": lambda process: process.store.heartbeat(),
    "trigger": lambda process: process.store.trigger("work"),
    "pause": lambda process: process.store.pause("work", Pause()),
    "tasks": lambda process: process.store.tasks(),
    "runs": lambda process: process.store.runs(),
    "members": lambda process: process.store.members(),
}


class HistoryContract(ContractPart):
    """The history is kept within bounds; a store that is not open answers no call."""

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_forked_copy_answers_no_call(
        self, fleet: Fleet, call: Callable[[Process], object]
    ) -> None:
        """Every call that needs the storage raises, as if the store were not open."""
        process = fleet.join({"work": make_task()})
        process.store.forked()
        with pytest.raises(StoreUnavailableError):
            call(process)

    def test_forked_may_be_called_at_any_time(self) -> None:
        """`forked` works before `open`, and again in the fork of a fork."""
        store = self.make(FakeClock())
        store.forked()
        store.forked()
        store.close()

    def test_newest_runs_come_first(self, fleet: Fleet) -> None:
        """At most `limit` runs are returned, newest first."""
        process = fleet.join({"work": make_task()})
        ids = run_times(fleet, process, 5)
        found = [run.id for run in process.store.runs(limit=3)]
        assert found == ids[:-4:-1]

    def test_runs_can_be_limited_to_one_task(self, fleet: Fleet) -> None:
        """Runs of other tasks are left out."""
        process = fleet.join({"work": make_task(), "other": make_task()})
        run_times(fleet, process, 2)
        assert {run.task for run in process.store.runs(task="other")} == {"other"}

    def test_history_contains_unfinished_runs(self, fleet: Fleet) -> None:
        """An unfinished run has no outcome yet."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        assert [run.outcome for run in process.store.runs()] == [None]

    def test_history_is_bounded(self, fleet: Fleet) -> None:
        """Old runs are deleted; about `keep_runs` are kept."""
        process = fleet.join({"work": make_task()}, keep_runs=10)
        ids = run_times(fleet, process, 60)
        found = [run.id for run in process.store.runs(limit=1_000)]
        assert 10 <= len(found) <= 20
        assert found == ids[: -len(found) - 1 : -1]

    def test_unfinished_run_is_never_deleted(self, fleet: Fleet) -> None:
        """It stays however many other runs finish meanwhile."""
        process = fleet.join({"work": make_task(overlap="allow", max_running=2)}, keep_runs=10)
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        run_times(fleet, process, 60)
        assert process.store.runs(limit=1_000)[-1].id == claim.run.id
        assert process.finish(claim)

    def test_open_process_is_a_member(self, fleet: Fleet) -> None:
        """The store returns the member that was passed to `open`."""
        process = fleet.join({})
        assert holders(process.store) == [process.member.holder]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_closed_store_answers_no_call(self, fleet: Fleet, call: object) -> None:
        """Every call raises that the store is not open; a second `close` has no effect."""
        process = fleet.join({"work": make_task()})
        process.store.close()
        process.store.close()
        with pytest.raises(StoreUnavailableError, match="not open"):
            call(process)  # type: ignore[operator] # one of CALLS

    def test_second_open_is_refused(self, fleet: Fleet) -> None:
        """Opening a store that is open is an error."""
        process = fleet.join({})
        with pytest.raises(StoreInUseError):
            process.store.open(process.member)

    def test_closed_store_can_be_opened_again(self, fleet: Fleet) -> None:
        """The anchor of a task is still the first one."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        process.store.close()
        process.store.open(process.member)
        process.sync({"work": make_task()})
        fleet.clock.forward(1)
        assert process.claim_one().run.task == "work"


def run_times(fleet: Fleet, process: Process, times: int) -> list[str]:
    """Run due ticks that many times; return the run ids, oldest first."""
    ids = []
    for _ in range(times):
        fleet.clock.forward(EVERY)
        for claim in process.claim().claims:
            process.finish(claim, outcome=Outcome.SUCCEEDED)
            ids.append(claim.run.id)
    return ids
