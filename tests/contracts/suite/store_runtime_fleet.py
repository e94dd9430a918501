"""The contract of shared stores: what one process adds, all run, and any of them removes."""

from __future__ import annotations

import msgspec

from pulse.clock import SECOND
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigError
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task
from tests.contracts.suite.store_part import ContractPart


class FleetRuntimeContract(ContractPart):
    """Added tasks among processes: whoever is there runs them."""

    def test_any_process_runs_an_added_task(self, fleet: Fleet) -> None:
        """Whatever its own configuration is, and once in the fleet."""
        one, other = fleet.join({"a": make_task(interval=60)}), fleet.join({})
        one.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (other, one)] == [1, 0]

    def test_a_process_that_has_not_synced_runs_no_added_task(self, fleet: Fleet) -> None:
        """One that is just starting stands in nobody's way."""
        starting, other = fleet.join(None), fleet.join({})
        other.add("work", make_task())
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (starting, other)] == [0, 1]

    def test_an_added_task_outlives_every_process(self, fleet: Fleet) -> None:
        """After all have ended, the next one finds it, and its count has gone on."""
        first = fleet.join({})
        first.add("work", make_task())
        fleet.clock.forward(EVERY - 1)
        first.store.close()
        fleet.clock.forward(1)
        assert fleet.join({}).claim_one().run.task == "work"

    def test_an_added_task_outlives_long_silence(self, fleet: Fleet) -> None:
        """No process has to want it for it to stay."""
        first = fleet.join({})
        first.add("work", make_task(interval=3_600))
        first.store.close()
        fleet.clock.forward("2d")
        second = fleet.join({})
        fleet.wait(4 * LEASE_S, second)
        assert [row.source for row in second.store.tasks()] == ["runtime"]

    def test_another_process_removes_what_one_has_added(self, fleet: Fleet) -> None:
        """The store is what they share."""
        one, other = fleet.join({}), fleet.join({})
        one.add("work", make_task())
        other.store.remove("work")
        fleet.clock.forward(EVERY)
        assert not one.claim().claims

    def test_a_visitor_adds_and_removes(self, fleet: Fleet) -> None:
        """A child process speaks for its parent."""
        one = fleet.join({})
        client = fleet.visit(one)
        for name in ("kept", "gone"):
            client.add(make_runtime_task(name, make_task(), TaskDefaults()))
        client.remove("gone")
        fleet.clock.forward(EVERY)
        assert one.claim_one().run.task == "kept"

    def test_applications_do_not_see_each_others_additions(self, fleet: Fleet) -> None:
        """One storage, two names, two tasks of one name."""
        shop, blog = fleet.join({}, space="shop"), fleet.join({}, space="blog")
        shop.add("work", make_task())
        blog.add("work", make_task(timeout=7))
        fleet.clock.forward(EVERY)
        claims = [process.claim_one() for process in (shop, blog)]
        assert claims[0].definition.timeout_us != claims[1].definition.timeout_us

    def test_words_of_a_newer_release_are_left_to_it(self, fleet: Fleet) -> None:
        """The task is told of and set aside; what else is due is claimed."""
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

    def test_a_configuration_takes_a_name_for_all(self, fleet: Fleet) -> None:
        """Processes of the old configuration leave the task alone from then on."""
        old = fleet.join({})
        old.add("work", make_task())
        new = fleet.join({"work": make_task(timeout=7)})
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (old, new)] == [0, 1]

    def test_a_task_replaced_elsewhere_is_called_as_the_newest_says(self, fleet: Fleet) -> None:
        """Also by a process that has called it before."""
        one, other = fleet.join({}), fleet.join({})
        one.add("work", make_task())
        fleet.clock.forward(EVERY)
        one.finish(one.claim_one())
        other.add("work", make_task(timeout=7), replace=True)
        fleet.clock.forward(EVERY)
        assert one.claim_one().definition.timeout_us == 7 * SECOND
