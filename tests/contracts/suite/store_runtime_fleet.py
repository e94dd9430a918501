"""The contract of shared stores: every process runs a run-time task, and any process removes it."""

from __future__ import annotations

import msgspec

from pulse.clock import SECOND
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigError
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task
from tests.contracts.suite.store_part import ContractPart


class FleetRuntimeContract(ContractPart):
    """Run-time tasks among several processes."""

    def test_any_process_runs_a_runtime_task(self, fleet: Fleet) -> None:
        """It runs once in the fleet, whatever the configuration of the process is."""
        one, other = fleet.join({"a": make_task(interval=60)}), fleet.join({})
        one.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (other, one)] == [1, 0]

    def test_process_that_has_not_synced_runs_no_runtime_task(self, fleet: Fleet) -> None:
        """A process that is just starting claims nothing."""
        starting, other = fleet.join(None), fleet.join({})
        other.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (starting, other)] == [0, 1]

    def test_runtime_task_outlives_every_process(self, fleet: Fleet) -> None:
        """The next process finds the task with its cursor."""
        first = fleet.join({})
        first.add("work", make_task())
        fleet.clock.forward(EVERY - 1)
        first.store.close()
        fleet.clock.forward(1)
        assert fleet.join({}).claim_one().run.task == "work"

    def test_runtime_task_is_not_archived_without_processes(self, fleet: Fleet) -> None:
        """No process has to declare it."""
        first = fleet.join({})
        first.add("work", make_task(interval=3_600))
        first.store.close()
        fleet.clock.forward("2d")
        second = fleet.join({})
        fleet.wait(4 * LEASE_S, second)
        assert [row.source for row in second.store.tasks()] == ["runtime"]

    def test_runtime_task_is_removed_by_another_process(self, fleet: Fleet) -> None:
        """The task is in the shared store."""
        one, other = fleet.join({}), fleet.join({})
        one.add("work", make_task())
        other.store.remove("work")
        fleet.clock.forward(EVERY)
        assert not one.claim().claims

    def test_client_adds_and_removes_runtime_tasks(self, fleet: Fleet) -> None:
        """A child process acts for its parent."""
        one = fleet.join({})
        client = fleet.visit(one)
        for name in ("kept", "gone"):
            client.add(make_runtime_task(name, make_task(), TaskDefaults()))
        client.remove("gone")
        fleet.clock.forward(EVERY)
        assert one.claim_one().run.task == "kept"

    def test_applications_have_separate_runtime_tasks(self, fleet: Fleet) -> None:
        """Two applications on one storage have two tasks of one name."""
        shop, blog = fleet.join({}, space="shop"), fleet.join({}, space="blog")
        shop.add("work", make_task())
        blog.add("work", make_task(timeout=7))
        fleet.clock.forward(EVERY)
        claims = [process.claim_one() for process in (shop, blog)]
        assert claims[0].definition.timeout_us != claims[1].definition.timeout_us

    def test_task_with_settings_of_a_newer_release_is_set_aside(self, fleet: Fleet) -> None:
        """The task is reported; all other due tasks are claimed."""
        process = fleet.join({})
        runtime_task = make_runtime_task("new", make_task(), TaskDefaults())
        words = runtime_task.task_json.replace('{"', '{"moon_phase": "full", "', 1)
        process.store.add(msgspec.structs.replace(runtime_task, task_json=words))
        process.store.trigger("new")
        process.add("work", make_task())
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert [claim.run.task for claim in claimed.claims] == ["work"]
        ((name, error),) = claimed.failed_tasks
        assert (name, type(error)) == ("new", ConfigError)
        assert "moon_phase" in str(error)

    def test_configured_task_overrides_a_runtime_task_for_all_processes(self, fleet: Fleet) -> None:
        """Processes of the old configuration do not claim the task any more."""
        old = fleet.join({})
        old.add("work", make_task())
        new = fleet.join({"work": make_task(timeout=7)})
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (old, new)] == [0, 1]

    def test_task_that_another_process_replaced_is_called_with_the_new_settings(
        self, fleet: Fleet
    ) -> None:
        """This holds for a process that has run the old task, too."""
        one, other = fleet.join({}), fleet.join({})
        one.add("work", make_task())
        fleet.clock.forward(EVERY)
        one.finish(one.claim_one())
        other.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(EVERY)
        assert one.claim_one().definition.timeout_us == 7 * SECOND
