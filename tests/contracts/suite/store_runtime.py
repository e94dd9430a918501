"""The contract of stores: tasks that are added and removed at run time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigTaskError, TaskExistsError, UnknownTaskError
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task
from tests.contracts.suite.store_part import ContractPart


class RuntimeContract(ContractPart):
    """Added tasks: kept, run, replaced and removed as those of the configuration are declared."""

    def test_an_added_task_fires_on_its_grid(self, fleet: Fleet) -> None:
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

    def test_an_added_task_is_called_as_it_says(self, fleet: Fleet) -> None:
        """The definition is that of the task, made from the words that are kept."""
        process = fleet.join({})
        words = {"method": "POST", "body": b"\xff\0", "headers": {"X-User": "5"}, "timeout": 7}
        runtime_task = make_runtime_task(
            "work", make_task(run_at_start=True, **words), TaskDefaults()
        )
        process.store.add(runtime_task)
        assert process.claim_one().definition == runtime_task.definition

    def test_a_row_says_that_it_was_added(self, fleet: Fleet) -> None:
        """People can tell it from those of the configuration."""
        process = fleet.join({"declared": make_task()})
        process.add("added", make_task())
        sources = {row.name: (row.source, row.partition) for row in process.store.tasks()}
        assert sources == {"added": ("runtime", ""), "declared": ("config", "")}

    def test_a_name_is_added_once(self, fleet: Fleet) -> None:
        """A second task of that name is refused, and the first stays as it is."""
        process = fleet.join({})
        process.add("work", make_task())
        (before,) = process.store.tasks()
        with pytest.raises(TaskExistsError, match="got 'work'; replace=True"):
            process.add("work", make_task(interval=7))
        assert process.store.tasks() == [before]

    def test_a_replaced_task_keeps_its_count_where_its_schedule_is_the_same(
        self, fleet: Fleet
    ) -> None:
        """What is called changes at once, and when it is called does not."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY - 1)
        process.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(1)
        assert process.claim_one().definition.timeout_us == 7 * SECOND

    def test_a_replaced_task_moves_to_the_grid_of_another_schedule(self, fleet: Fleet) -> None:
        """Nothing fires by itself, and the anchor stays."""
        process = fleet.join({})
        process.add("work", make_task())
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY + 2)
        process.add("work", make_task(interval=7, run_at_start=True), replace=True)
        assert not process.claim().claims
        fleet.clock.forward(2)
        assert process.claim_one().run.fire_time == seen + 14 * SECOND

    def test_what_was_due_of_a_replaced_task_is_missed(self, fleet: Fleet) -> None:
        """Where the schedule is another; it is on record, and told to who replaces it."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        (missed,) = process.add("work", make_task(interval=7), replace=True)
        assert (missed.outcome, missed.count) == (Outcome.MISSED, 1)
        assert process.store.runs() == [missed]

    def test_what_is_not_there_can_be_replaced(self, fleet: Fleet) -> None:
        """`replace` allows it and does not ask for it."""
        process = fleet.join({})
        process.add("work", make_task(), replace=True)
        assert [row.name for row in process.store.tasks()] == ["work"]

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_task_of_the_configuration_is_not_added(self, fleet: Fleet, *, replace: bool) -> None:
        """It is not replaced either: what is declared is changed where it is declared."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(
            ConfigTaskError, match="got 'work'; change this task in the configuration"
        ):
            process.add("work", make_task(), replace=replace)

    def test_a_task_of_the_configuration_is_not_removed(self, fleet: Fleet) -> None:
        """The error says what to do instead."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(ConfigTaskError, match=r"got 'work', which .* or pause it"):
            process.store.remove("work")

    def test_an_unknown_task_is_not_removed(self, fleet: Fleet) -> None:
        """A misspelt name is an error that says what was probably meant."""
        process = fleet.join({})
        process.add("cleanup", make_task())
        with pytest.raises(UnknownTaskError, match=r"got 'clenup'; did you mean 'cleanup'\?"):
            process.store.remove("clenup")

    def test_a_removed_task_fires_no_more(self, fleet: Fleet) -> None:
        """It has no row, and is no work."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        process.store.remove("work")
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)
        assert process.store.tasks() == []

    def test_a_removed_task_is_not_removed_twice(self, fleet: Fleet) -> None:
        """It is unknown from then on."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.remove("work")
        with pytest.raises(UnknownTaskError):
            process.store.remove("work")

    def test_a_waiting_run_ends_with_its_task(self, fleet: Fleet) -> None:
        """A manual run that nobody has taken is on record as abandoned, with the reason."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.trigger("work")
        process.store.remove("work")
        ended = [(run.outcome, run.message) for run in process.store.runs()]
        assert ended == [(Outcome.ABANDONED, "the task was removed")]

    def test_a_run_that_goes_on_outlives_its_task(self, fleet: Fleet) -> None:
        """It is renewed, and its end is recorded."""
        process = fleet.join({})
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert (process.store.renew([claim]), process.finish(claim)) == ([True], True)
        assert [run.outcome for run in process.store.runs()] == [Outcome.SUCCEEDED]

    def test_a_run_of_a_removed_task_is_not_retried(self, fleet: Fleet) -> None:
        """Its failure is the end of it."""
        process = fleet.join({})
        process.add("work", make_task(retries=3))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert process.fail(claim) is None
        assert [run.outcome for run in process.store.runs()] == [Outcome.FAILED]

    def test_an_abandoned_run_of_a_removed_task_is_not_rerun(self, fleet: Fleet) -> None:
        """Nobody would take it."""
        process = fleet.join({})
        process.add("work", make_task(on_abandoned="rerun"))
        fleet.clock.forward(EVERY)
        process.claim_one()
        process.store.remove("work")
        fleet.wait(LEASE_S + 10, process)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_a_claim_given_up_after_its_task_was_removed_is_not_rerun(self, fleet: Fleet) -> None:
        """A holder that comes too late to its own claim says so, and that is the end of it."""
        process = fleet.join({})
        process.add("work", make_task(on_abandoned="rerun"))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.store.remove("work")
        assert process.finish(claim, outcome=Outcome.ABANDONED)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_a_task_that_is_added_again_repeats_no_tick(self, fleet: Fleet) -> None:
        """It begins anew, but for the floor."""
        task = make_task(interval=None, at=NOON + timedelta(seconds=EVERY))
        process = fleet.join({})
        process.add("work", task)
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        process.store.remove("work")
        process.add("work", task)
        assert not process.claim().claims

    def test_a_task_that_is_added_again_is_not_paused(self, fleet: Fleet) -> None:
        """Whoever adds it wants it to run."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", paused=True)
        process.store.remove("work")
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.task == "work"

    def test_a_replaced_task_stays_paused(self, fleet: Fleet) -> None:
        """A pause is the person's, whatever the task becomes."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", paused=True)
        process.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(EVERY)
        assert not process.claim().claims
        assert [row.paused for row in process.store.tasks()] == [True]

    def test_an_added_task_is_run_by_hand(self, fleet: Fleet) -> None:
        """Triggering works as for any other."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.trigger("work", body=b"now")
        assert process.claim_one().run.body == b"now"

    def test_an_added_task_runs_once_at_its_start(self, fleet: Fleet) -> None:
        """The start-up run is due at once."""
        process = fleet.join({})
        process.add("work", make_task(run_at_start=True))
        assert process.claim_one().run.trigger is Trigger.STARTUP

    def test_an_added_task_is_retried(self, fleet: Fleet) -> None:
        """A failed run is tried again as one of the configuration is."""
        process = fleet.join({})
        process.add("work", make_task(interval=60, retries=1))
        fleet.clock.forward(60)
        at = process.fail(process.claim_one())
        assert at is not None
        fleet.clock.forward((at - fleet.clock.wall()) / SECOND)
        assert process.claim_one().run.attempt == 2

    def test_syncing_leaves_added_tasks_alone(self, fleet: Fleet) -> None:
        """A configuration says nothing of tasks that it does not name."""
        process = fleet.join({"declared": make_task()})
        process.add("work", make_task())
        process.sync({})
        fleet.wait(4 * LEASE_S, process)
        assert [row.name for row in process.store.tasks()] == ["work"]
        assert [claim.run.task for claim in process.claim().claims] == ["work"]

    @pytest.mark.parametrize("scope", ["fleet", "process"])
    def test_the_configuration_takes_a_name_that_was_added(self, fleet: Fleet, scope: str) -> None:
        """It stands from then on, and `sync` tells whose name it was."""
        process = fleet.join({})
        process.add("work", make_task())
        runtime_task = make_runtime_task("work", make_task(scope=scope, timeout=7), TaskDefaults())
        synced = process.store.sync({"work": runtime_task.definition})
        assert synced.overridden == ("work",)
        assert [row.source for row in process.store.tasks()] == ["config"]
        fleet.clock.forward(EVERY)
        assert process.claim_one().definition.timeout_us == 7 * SECOND

    def test_a_declared_task_that_is_the_same_takes_the_name(self, fleet: Fleet) -> None:
        """Whoever declares it owns it: it goes when the configuration declares it no more."""
        process = fleet.join({})
        process.add("work", make_task())
        process.sync({"work": make_task()})
        assert [row.source for row in process.store.tasks()] == ["config"]

    def test_a_name_that_is_declared_no_more_can_be_added(self, fleet: Fleet) -> None:
        """Once its row has been put away, it is free."""
        process = fleet.join({"work": make_task()})
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        process.add("work", make_task())
        assert [row.source for row in process.store.tasks()] == ["runtime"]

    def test_many_tasks_come_and_go(self, fleet: Fleet) -> None:
        """Those that are left fire, and only they."""
        process = fleet.join({})
        for number in range(20):
            process.add(f"t{number}", make_task())
        for number in range(18):
            process.store.remove(f"t{number}")
        process.add("t3", make_task())
        fleet.clock.forward(EVERY)
        assert sorted(one.run.task for one in process.claim().claims) == ["t18", "t19", "t3"]
