"""The contract of stores: history, and taking part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.run import Outcome
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: dict[str, Callable[[Process], object]] = {
    "sync": lambda process: process.store.sync({}),
    "claim_due": lambda process: process.store.claim_due(1),
    "beat": lambda process: process.store.heartbeat(),
    "trigger": lambda process: process.store.trigger("work"),
    "pause": lambda process: process.store.pause("work", paused=True),
    "tasks": lambda process: process.store.tasks(),
    "runs": lambda process: process.store.runs(),
    "members": lambda process: process.store.members(),
}


class HistoryContract(ContractPart):
    """What happened is kept, within bounds; a store that is not open answers nothing."""

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_copy_in_a_forked_child_answers_nothing(
        self, fleet: Fleet, call: Callable[[Process], object]
    ) -> None:
        """Every call that reaches for the storage raises, as if the store were not open."""
        process = fleet.join({"work": make_task()})
        process.store.forked()
        with pytest.raises(StoreUnavailableError):
            call(process)

    def test_forked_may_be_called_at_any_time(self) -> None:
        """Before `open`, and in a fork of a fork once more."""
        store = self.make(FakeClock())
        store.forked()
        store.forked()
        store.close()

    def test_the_newest_runs_come_first(self, fleet: Fleet) -> None:
        """At most as many as were asked for, in falling order."""
        process = fleet.join({"work": make_task()})
        ids = run_times(fleet, process, 5)
        found = [run.id for run in process.store.runs(limit=3)]
        assert found == ids[:-4:-1]

    def test_runs_of_one_task_can_be_asked_for(self, fleet: Fleet) -> None:
        """The others are left out."""
        process = fleet.join({"work": make_task(), "other": make_task()})
        run_times(fleet, process, 2)
        assert {run.task for run in process.store.runs(task="other")} == {"other"}

    def test_an_open_run_is_part_of_the_history(self, fleet: Fleet) -> None:
        """It has no outcome yet."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        assert [run.outcome for run in process.store.runs()] == [None]

    def test_history_is_bounded(self, fleet: Fleet) -> None:
        """Old runs are forgotten, about as many as were asked for are kept."""
        process = fleet.join({"work": make_task()}, keep_runs=10)
        ids = run_times(fleet, process, 60)
        found = [run.id for run in process.store.runs(limit=1_000)]
        assert 10 <= len(found) <= 20
        assert found == ids[: -len(found) - 1 : -1]

    def test_an_open_run_is_never_forgotten(self, fleet: Fleet) -> None:
        """However many others end meanwhile."""
        process = fleet.join({"work": make_task(overlap="allow", max_running=2)}, keep_runs=10)
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        run_times(fleet, process, 60)
        assert process.store.runs(limit=1_000)[-1].id == claim.run.id
        assert process.finish(claim)

    def test_a_process_is_a_member(self, fleet: Fleet) -> None:
        """Who takes part is told as it was given."""
        process = fleet.join({})
        assert process.store.members() == [process.member]

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_a_closed_store_answers_nothing(self, fleet: Fleet, call: object) -> None:
        """Every call says that the store is not open; closing it again is harmless."""
        process = fleet.join({"work": make_task()})
        process.store.close()
        process.store.close()
        with pytest.raises(StoreUnavailableError, match="not open"):
            call(process)  # type: ignore[operator] # one of CALLS

    def test_a_store_is_opened_once(self, fleet: Fleet) -> None:
        """Opening it again while it is open is an error."""
        process = fleet.join({})
        with pytest.raises(StoreInUseError):
            process.store.open(process.member)

    def test_a_closed_store_can_be_opened_again(self, fleet: Fleet) -> None:
        """It goes on where it was: the anchor is the first one."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        process.store.close()
        process.store.open(process.member)
        process.sync({"work": make_task()})
        fleet.clock.forward(1)
        assert process.claim_one().run.task == "work"


def run_times(fleet: Fleet, process: Process, times: int) -> list[str]:
    """Run whatever is due that often; return the ids, oldest first."""
    ids = []
    for _ in range(times):
        fleet.clock.forward(EVERY)
        for claim in process.claim().claims:
            process.finish(claim, outcome=Outcome.SUCCEEDED)
            ids.append(claim.run.id)
    return ids
