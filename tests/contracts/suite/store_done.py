"""The contract of stores: run-time tasks that are removed after their last fire time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.clock import moment_of
from pulse.core.run import Outcome
from pulse.store.redis.steering import RedisSteering
from pulse.store.sql.steering import SqlSteering
from pulse.store.steering import TASK_DONE, Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    import pytest

    from pulse.core.task import Task
    from pulse.store.base import HeartbeatResult
    from tests.contracts.suite.store_harness import Fleet


def once(fleet: Fleet, **keywords: object) -> Task:
    """Return a task with one fire time, ten seconds from now, that is then to be removed."""
    at = moment_of(fleet.clock.wall()) + timedelta(seconds=EVERY)
    return make_task(interval=None, at=at, remove_when_done=True, **keywords)


def removed(beats: list[HeartbeatResult]) -> list[str]:
    """Return the names of tasks that heartbeats report as removed."""
    return [name for beat in beats for name in beat.removed]


class DoneContract(ContractPart):
    """Nothing is left of the task but its runs."""

    def test_task_is_removed_after_its_last_run(self, fleet: Fleet) -> None:
        """One heartbeat reports it, and the audit trail has it."""
        process = fleet.join({})
        process.add("once", once(fleet))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert removed(fleet.wait(LEASE_S, process, renewing=[(process, claim)])) == []
        process.finish(claim)
        assert removed(fleet.wait(LEASE_S, process)) == ["once"]
        assert process.store.tasks() == []
        (run,) = process.store.runs()
        assert run.outcome is Outcome.SUCCEEDED
        entry = process.store.audit()[0]
        assert (entry.verb, entry.task, entry.by, entry.note) == ("remove", "once", "", TASK_DONE)

    def test_task_with_a_retry_is_not_done(self, fleet: Fleet) -> None:
        """The task stays until the retry has ended."""
        process = fleet.join({})
        process.add("once", once(fleet, retries=1, retry_min_backoff=60))
        fleet.clock.forward(EVERY)
        assert process.fail(process.claim_one()) is not None
        assert removed(fleet.wait(LEASE_S, process)) == []
        fleet.clock.forward(60)
        process.fail(process.claim_one())
        assert removed(fleet.wait(LEASE_S, process)) == ["once"]

    def test_other_tasks_stay(self, fleet: Fleet) -> None:
        """Those with fire times, and those that do not say so."""
        process = fleet.join({})
        process.add("stays", make_task(interval=None, at=once(fleet).at))
        process.add("goes on", make_task(interval=3_600, remove_when_done=True))
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        assert removed(fleet.wait(LEASE_S, process)) == []
        assert [one.name for one in process.store.tasks()] == ["goes on", "stays"]

    def test_settings_show_that_it_is_removed(self, fleet: Fleet) -> None:
        """As text, like other settings."""
        process = fleet.join({})
        process.add("once", once(fleet))
        (state,) = process.store.tasks()
        assert state.settings["remove_when_done"] == "true"

    def test_configured_task_whose_name_is_that_of_the_setting_stays(self, fleet: Fleet) -> None:
        """The row of a configured task has no text of its own."""
        at = moment_of(fleet.clock.wall()) + timedelta(seconds=EVERY)
        process = fleet.join({"remove_when_done": make_task(interval=None, at=at)})
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        assert removed(fleet.wait(LEASE_S, process)) == []
        assert [one.name for one in process.store.tasks()] == ["remove_when_done"]

    def test_task_that_was_replaced_meanwhile_stays_with_its_pause(
        self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between the look for tasks that are done and the removal; nothing reports a removal."""
        process = fleet.join({})
        process.add("again", make_task(interval=3_600, remove_when_done=True))
        process.store.pause("again", Pause(note="release"))
        for kind in (SqlSteering, RedisSteering):
            monkeypatch.setattr(kind, "read_done", lambda _: ["again"])
        assert removed(fleet.wait(LEASE_S, process)) == []
        (state,) = process.store.tasks()
        assert (state.paused, state.pause and state.pause.note) == (True, "release")
        assert "remove" not in [entry.verb for entry in process.store.audit()]
