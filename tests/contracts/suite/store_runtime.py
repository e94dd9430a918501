"""The contract of stores: tasks that are added and removed at run time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigTaskError, TaskExistsError, UnknownTaskError
from pulse.store.steering import Pause
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task
from tests.contracts.suite.store_part import ContractPart


class RuntimeContract(ContractPart):
    """Run-time tasks are kept, run, replaced and removed."""

    def test_runtime_task_fires_on_schedule(self, fleet: Fleet) -> None:
        """Its first fire time is one interval after it was added."""
        process = fleet.join({})
        process.add("work", make_task())
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], claimed.now + EVERY * SECOND)
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        assert (claim.run.trigger, claim.run.scheduled_for) == (
            Trigger.SCHEDULE,
            claimed.next_wakeup,
        )
        assert process.finish(claim)

    def test_runtime_task_is_called_with_its_settings(self, fleet: Fleet) -> None:
        """The definition is built from the stored settings."""
        process = fleet.join({})
        words = {"method": "POST", "body": b"\xff\0", "headers": {"X-User": "5"}, "timeout": 7}
        runtime_task = make_runtime_task(
            "work", make_task(run_at_start=True, **words), TaskDefaults()
        )
        process.store.add(runtime_task)
        assert process.claim_one().definition == runtime_task.definition

    def test_row_of_a_runtime_task_has_the_source_runtime(self, fleet: Fleet) -> None:
        """Users can distinguish it from a configured task."""
        process = fleet.join({"declared": make_task()})
        process.add("added", make_task())
        sources = {row.name: (row.source, row.partition) for row in process.store.tasks()}
        assert sources == {"added": ("runtime", ""), "declared": ("config", "")}

    def test_second_task_of_one_name_is_refused(self, fleet: Fleet) -> None:
        """The first task is unchanged."""
        process = fleet.join({})
        process.add("work", make_task())
        (before,) = process.store.tasks()
        with pytest.raises(TaskExistsError, match="got 'work'; replace=True"):
            process.add("work", make_task(interval=7))
        assert process.store.tasks() == [before]

    def test_replaced_task_with_the_same_schedule_keeps_its_cursor(self, fleet: Fleet) -> None:
        """Only the call changes."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY - 1)
        process.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(1)
        assert process.claim_one().definition.timeout_us == 7 * SECOND

    def test_replaced_task_with_another_schedule_moves_its_cursor(self, fleet: Fleet) -> None:
        """Nothing fires by itself, and the anchor stays."""
        process = fleet.join({})
        process.add("work", make_task())
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY + 2)
        process.add("work", make_task(interval=7, run_at_start=True), replace=True)
        assert not process.claim().claims
        fleet.clock.forward(2)
        assert process.claim_one().run.fire_time == seen + 14 * SECOND

    def test_due_ticks_of_a_replaced_schedule_are_missed(self, fleet: Fleet) -> None:
        """They are recorded, and `add` returns them."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        (missed,) = process.add("work", make_task(interval=7), replace=True)
        assert (missed.outcome, missed.count) == (Outcome.MISSED, 1)
        assert process.store.runs() == [missed]

    def test_replace_also_adds_a_new_task(self, fleet: Fleet) -> None:
        """`replace` allows an existing task and does not require one."""
        process = fleet.join({})
        process.add("work", make_task(), replace=True)
        assert [row.name for row in process.store.tasks()] == ["work"]

    @pytest.mark.parametrize("replace", [False, True])
    def test_configured_task_cannot_be_added_or_replaced(
        self, fleet: Fleet, *, replace: bool
    ) -> None:
        """Its definition can only be changed in the configuration."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(
            ConfigTaskError, match="got 'work'; change this task in the configuration"
        ):
            process.add("work", make_task(), replace=replace)

    def test_configured_task_cannot_be_removed(self, fleet: Fleet) -> None:
        """The error states what to do instead."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(ConfigTaskError, match=r"got 'work', which .* or pause it"):
            process.store.remove("work")

    def test_removal_of_an_unknown_task_suggests_a_name(self, fleet: Fleet) -> None:
        """A misspelt name is an error."""
        process = fleet.join({})
        process.add("cleanup", make_task())
        with pytest.raises(UnknownTaskError, match=r"got 'clenup'; did you mean 'cleanup'\?"):
            process.store.remove("clenup")

    def test_removed_task_fires_no_more(self, fleet: Fleet) -> None:
        """It has no row, and causes no wake-up."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        process.store.remove("work")
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)
        assert process.store.tasks() == []

    def test_removed_task_cannot_be_removed_again(self, fleet: Fleet) -> None:
        """The name is unknown from then on."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.remove("work")
        with pytest.raises(UnknownTaskError):
            process.store.remove("work")

    def test_pending_run_of_a_removed_task_is_abandoned(self, fleet: Fleet) -> None:
        """The record of a manual run that was not claimed states the reason."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.trigger("work")
        process.store.remove("work")
        ended = [(run.outcome, run.message) for run in process.store.runs()]
        assert ended == [(Outcome.ABANDONED, "the task was removed")]

    def test_claimed_run_of_a_removed_task_continues(self, fleet: Fleet) -> None:
        """It is renewed, and its result is recorded."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert (process.store.renew([claim]), process.finish(claim)) == ([True], True)
        assert [run.outcome for run in process.store.runs()] == [Outcome.SUCCEEDED]

    def test_run_of_a_removed_task_is_not_retried(self, fleet: Fleet) -> None:
        """Its failure is final."""
        process = fleet.join({})
        process.add("work", make_task(retries=3))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert process.fail(claim) is None
        assert [run.outcome for run in process.store.runs()] == [Outcome.FAILED]

    def test_abandoned_run_of_a_removed_task_is_not_rerun(self, fleet: Fleet) -> None:
        """No process would claim it."""
        process = fleet.join({})
        process.add("work", make_task(on_abandoned="rerun"))
        fleet.clock.forward(EVERY)
        process.claim_one()
        process.store.remove("work")
        fleet.wait(LEASE_S + 10, process)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_claim_that_its_holder_abandons_after_removal_is_not_rerun(self, fleet: Fleet) -> None:
        """The holder was too late for its own claim."""
        process = fleet.join({})
        process.add("work", make_task(on_abandoned="rerun"))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert process.finish(claim, outcome=Outcome.ABANDONED)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_task_that_is_added_again_repeats_no_tick(self, fleet: Fleet) -> None:
        """It starts like a new task, but keeps its last decided fire time."""
        task = make_task(interval=None, at=NOON + timedelta(seconds=EVERY))
        process = fleet.join({})
        process.add("work", task)
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        process.store.remove("work")
        process.add("work", task)
        assert not process.claim().claims

    def test_task_that_is_added_again_is_not_paused(self, fleet: Fleet) -> None:
        """The pause ended with the removal."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", Pause())
        process.store.remove("work")
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.task == "work"

    def test_replaced_task_stays_paused(self, fleet: Fleet) -> None:
        """Only `resume` ends a pause."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", Pause())
        process.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        assert [row.paused for row in process.store.tasks()] == [True]

    def test_runtime_task_can_be_triggered(self, fleet: Fleet) -> None:
        """A manual run works as for a configured task."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.trigger("work", body=b"now")
        assert process.claim_one().run.body == b"now"

    def test_runtime_task_with_run_at_start_runs_once(self, fleet: Fleet) -> None:
        """The start-up run is due at once."""
        process = fleet.join({})
        process.add("work", make_task(run_at_start=True))
        assert process.claim_one().run.trigger is Trigger.STARTUP

    def test_runtime_task_is_retried(self, fleet: Fleet) -> None:
        """A failed run is retried as for a configured task."""
        process = fleet.join({})
        process.add("work", make_task(interval=60, retries=1))
        fleet.clock.forward(60)
        at = process.fail(process.claim_one())
        assert at is not None
        fleet.clock.forward((at - fleet.clock.wall()) / SECOND)
        assert process.claim_one().run.attempt == 2

    def test_sync_does_not_change_runtime_tasks(self, fleet: Fleet) -> None:
        """A configuration does not affect tasks that it does not name."""
        process = fleet.join({"declared": make_task()})
        process.add("work", make_task())
        process.sync({})
        fleet.wait(4 * LEASE_S, process)
        assert [row.name for row in process.store.tasks()] == ["work"]
        assert [claim.run.task for claim in process.claim().claims] == ["work"]

    @pytest.mark.parametrize("scope", ["fleet", "process"])
    def test_configured_task_overrides_a_runtime_task(self, fleet: Fleet, scope: str) -> None:
        """`sync` returns the name of the overridden task."""
        process = fleet.join({})
        process.add("work", make_task())
        runtime_task = make_runtime_task("work", make_task(scope=scope, timeout=7), TaskDefaults())
        synced = process.store.sync({"work": runtime_task.definition})
        assert synced.overridden == ("work",)
        assert [row.source for row in process.store.tasks()] == ["config"]
        fleet.clock.forward(EVERY)
        assert process.claim_one().definition.timeout_us == 7 * SECOND

    def test_equal_configured_task_overrides_a_runtime_task(self, fleet: Fleet) -> None:
        """The task is archived when the configuration no longer declares it."""
        process = fleet.join({})
        process.add("work", make_task())
        process.sync({"work": make_task()})
        assert [row.source for row in process.store.tasks()] == ["config"]

    def test_name_of_an_archived_configured_task_can_be_added(self, fleet: Fleet) -> None:
        """The name is free once the row is archived."""
        process = fleet.join({"work": make_task()})
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        process.add("work", make_task())
        assert [row.source for row in process.store.tasks()] == ["runtime"]

    def test_only_the_remaining_of_many_runtime_tasks_fire(self, fleet: Fleet) -> None:
        """Many tasks are added and some are removed."""
        process = fleet.join({})
        for number in range(20):
            process.add(f"t{number}", make_task())
        for number in range(18):
            process.store.remove(f"t{number}")
        process.add("t3", make_task())
        fleet.clock.forward(EVERY)
        assert sorted(one.run.task for one in process.claim().claims) == ["t18", "t19", "t3"]
