"""The contract of shared stores: claims among processes, deploys, partitions, members."""

from __future__ import annotations

import threading

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.core.task import build_definition
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, holders, make_task
from tests.contracts.suite.store_part import ContractPart

OLD = {"work": make_task()}
NEW = {"work": make_task(timeout=7)}
SEVEN = 7_000_000


class FleetContract(ContractPart):
    """Several processes on one storage agree on who runs a tick, and on the definitions."""

    def test_tick_is_claimed_by_one_process(self, fleet: Fleet) -> None:
        """A tick that the first process claimed is absent from the other's result."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (one, other)] == [1, 0]

    def test_racing_processes_claim_each_tick_once(self, fleet: Fleet) -> None:
        """No tick is claimed twice and none is lost, whatever calls run at the same time."""
        tasks = {f"t{number}": make_task() for number in range(60)}
        processes = [fleet.join(tasks) for _ in range(4)]
        fleet.clock.forward(EVERY)
        claimed = race(processes)
        assert sorted(claimed) == sorted(tasks)

    def test_overlap_counts_runs_of_other_processes(self, fleet: Fleet) -> None:
        """The limit holds in the whole fleet."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        fleet.clock.forward(EVERY)
        assert [run.outcome for run in other.claim().not_run] == [Outcome.SKIPPED]

    def test_process_that_has_just_joined_defers_a_skip(self, fleet: Fleet) -> None:
        """The store may have been down, so the earlier run may have finished unrecorded."""
        one = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.clock.forward(EVERY)
        other = fleet.join(OLD)
        claimed = other.claim()
        assert (list(claimed.claims), list(claimed.not_run)) == ([], [])
        assert claimed.next_wakeup is not None
        assert claimed.now < claimed.next_wakeup <= claimed.now + SECOND
        one.finish(claim)
        assert other.claim_one().run.fire_time == claim.run.fire_time + EVERY * SECOND

    def test_process_that_joined_a_second_ago_skips(self, fleet: Fleet) -> None:
        """By then each live process has recorded its results."""
        one = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        fleet.clock.forward(EVERY)
        other = fleet.join(OLD)
        fleet.clock.forward(1)
        assert [run.outcome for run in other.claim().not_run] == [Outcome.SKIPPED]

    def test_restart_keeps_the_anchor(self, fleet: Fleet) -> None:
        """The anchor is the instant at which the store first saw the task."""
        first = fleet.join(OLD)
        fleet.clock.forward(EVERY - 1)
        first.store.close()
        second = fleet.join(OLD)
        fleet.clock.forward(1)
        assert second.claim_one().run.task == "work"

    def test_start_up_run_happens_once_in_the_fleet(self, fleet: Fleet) -> None:
        """The second process finds the row and its claimed run."""
        tasks = {"work": make_task(run_at_start=True)}
        one, other = fleet.join(tasks), fleet.join(tasks)
        assert [len(process.claim().claims) for process in (one, other)] == [1, 0]

    def test_run_of_a_silent_process_is_abandoned_after_a_lease(self, fleet: Fleet) -> None:
        """A late result of the holder is refused."""
        silent, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        claim = silent.claim_one()
        beats = fleet.wait(LEASE_S + 10, other)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        assert not silent.finish(claim)

    def test_run_of_a_silent_process_is_rerun_by_another(self, fleet: Fleet) -> None:
        """With `on_abandoned = rerun` another process claims the next attempt."""
        tasks = {"work": make_task(on_abandoned="rerun")}
        silent, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(EVERY)
        claim = silent.claim_one()
        fleet.wait(LEASE_S + 10, other)
        again = other.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        assert (silent.finish(claim), other.finish(again)) == (False, True)

    def test_only_the_newest_definition_claims_the_task(self, fleet: Fleet) -> None:
        """In a rolling deploy only processes with the new definition claim the task."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert not old.claim().claims
        assert old.claim().next_wakeup is None
        assert new.claim_one().definition.timeout_us == SEVEN

    def test_process_that_has_not_synced_changes_no_definition(self, fleet: Fleet) -> None:
        """A process that is just starting declares no tasks."""
        starting = fleet.join(None)
        other = fleet.join(OLD)
        assert holders(starting.store) == [starting.member.holder, other.member.holder]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (starting, other)] == [0, 1]

    def test_heartbeat_of_an_old_process_names_superseded_tasks(self, fleet: Fleet) -> None:
        """Each heartbeat names the tasks for which a newer definition is active."""
        old, _ = fleet.join(OLD), fleet.join(NEW)
        assert old.store.heartbeat().superseded == ("work",)

    def test_restarted_old_process_restores_no_old_definition(self, fleet: Fleet) -> None:
        """While a process with the newer definition lives, an old process changes no row."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        old.store.close()
        synced = fleet.join({}).store.sync({"work": build_definition("work", OLD["work"])})
        assert (synced.changed, synced.superseded) == ((), ("work",))
        fleet.clock.forward(EVERY)
        assert new.claim_one().definition.timeout_us == SEVEN

    def test_restarted_new_process_makes_its_definition_active_again(self, fleet: Fleet) -> None:
        """The newest definition is active as soon as a process declares it."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        new.store.close()
        old.store.heartbeat()
        again = fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert not old.claim().claims
        assert again.claim_one().definition.timeout_us == SEVEN

    def test_roll_back_makes_the_older_definition_active(self, fleet: Fleet) -> None:
        """This happens when no live process declares the newer definition any more."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        new.store.close()
        assert old.store.heartbeat().superseded == ()
        fleet.clock.forward(EVERY)
        assert old.claim_one().definition.timeout_us != SEVEN

    def test_changed_interval_keeps_the_anchor(self, fleet: Fleet) -> None:
        """A deploy moves the row to the new fire times, and fires nothing by itself."""
        old = fleet.join(OLD)
        fleet.clock.forward(EVERY + 1)
        new = fleet.join({"work": make_task(interval=7)})
        assert not old.claim().claims
        assert not new.claim().claims
        fleet.clock.forward(3)
        assert len(new.claim().claims) == 1

    def test_task_that_only_old_processes_declare_still_runs(self, fleet: Fleet) -> None:
        """A row is in use as long as one live process declares the task."""
        old, new = fleet.join(OLD | {"gone": make_task()}), fleet.join(OLD)
        fleet.wait(4 * LEASE_S, old, new)
        assert "gone" in {claim.run.task for claim in old.claim().claims}

    def test_task_of_dead_processes_is_archived_after_three_leases(self, fleet: Fleet) -> None:
        """The row is archived three leases after the last process that declared the task."""
        old, new = fleet.join(OLD | {"gone": make_task()}), fleet.join(OLD)
        old.store.close()
        beats = fleet.wait(3 * LEASE_S + 10, new)
        assert [beat.archived for beat in beats if beat.archived] == [("gone",)]
        assert [row.name for row in new.store.tasks()] == ["work"]

    def test_scope_host_runs_a_tick_once_per_host(self, fleet: Fleet) -> None:
        """The first process of each host claims it."""
        tasks = {"work": make_task(scope="host")}
        processes = [fleet.join(tasks, host=host) for host in ("alpha", "alpha", "beta")]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 0, 1]

    def test_scope_process_runs_a_tick_in_each_process(self, fleet: Fleet) -> None:
        """Every process has a run of each tick."""
        tasks = {"work": make_task(scope="process")}
        processes = [fleet.join(tasks) for _ in range(3)]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 1, 1]

    def test_active_definition_is_decided_per_host_under_scope_host(self, fleet: Fleet) -> None:
        """A host with only old processes continues with their definition."""
        old, new = {"work": make_task(scope="host")}, {"work": make_task(scope="host", timeout=7)}
        processes = [fleet.join(old), fleet.join(old, host="beta"), fleet.join(new, host="beta")]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 0, 1]

    def test_process_changes_its_own_row_under_scope_process(self, fleet: Fleet) -> None:
        """The definitions of other processes have no effect."""
        process = fleet.join({"work": make_task(scope="process")})
        fleet.join({"work": make_task(scope="process")})
        process.sync({"work": make_task(scope="process", timeout=7)})
        fleet.clock.forward(EVERY)
        assert process.claim_one().definition.timeout_us == SEVEN

    def test_closed_process_leaves_no_rows_of_its_own(self, fleet: Fleet) -> None:
        """The rows of scope `process` are removed with the process."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.close()
        assert [row.partition for row in other.store.tasks()] == [other.member.holder]

    def test_silent_process_is_removed_with_its_rows(self, fleet: Fleet) -> None:
        """After three leases of silence a process is no member any more."""
        tasks = {"work": make_task(scope="process")}
        _, other = fleet.join(tasks), fleet.join(tasks)
        fleet.wait(3 * LEASE_S + 10, other)
        assert [row.partition for row in other.store.tasks()] == [other.member.holder]
        assert holders(other.store) == [other.member.holder]

    def test_silent_process_that_is_kept_alive_stays_a_member(self, fleet: Fleet) -> None:
        """Another process of its host sends its heartbeats; an unknown holder is left out."""
        tasks = {"work": make_task(scope="process")}
        silent, other = fleet.join(tasks), fleet.join(tasks)
        for _ in range(4):
            fleet.wait(LEASE_S, other)
            unknown = other.store.keep_alive({silent.member.holder: None, "host:1:unknown": None})
            assert unknown == ["host:1:unknown"]
        assert holders(other.store) == [silent.member.holder, other.member.holder]
        assert len(other.store.tasks()) == 2
        other.store.keep_alive({})
        fleet.wait(3 * LEASE_S + 10, other)
        assert holders(other.store) == [other.member.holder]

    def test_process_is_kept_alive_by_one_of_several_others(self, fleet: Fleet) -> None:
        """The row of a process that was seen lately is left alone."""
        silent, one, other = (fleet.join(OLD) for _ in range(3))
        fleet.wait(LEASE_S, one, other)
        asked = {silent.member.holder: None}
        assert one.store.keep_alive(asked) == []
        seen = one.store.members()
        assert other.store.keep_alive(asked) == []
        assert other.store.members() == seen

    def test_look_is_a_heartbeat_and_a_claim(self, fleet: Fleet) -> None:
        """In one read, as long as the heartbeat has nothing to write."""
        process = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        process.store.heartbeat()
        found = process.store.look(100)
        assert found.heartbeat.members == [process.member]
        assert found.claimed is not None
        assert [claim.run.task for claim in found.claimed.claims] == ["work"]

    def test_look_that_writes_what_the_heartbeat_found_leaves_the_claim(self, fleet: Fleet) -> None:
        """The runs that it abandons are reported before others are claimed."""
        dead, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        lost = dead.claim_one().run
        fleet.wait(LEASE_S, other)
        fleet.clock.forward(5)
        found = other.store.look(100)
        assert [run.id for run in found.heartbeat.abandoned] == [lost.id]
        assert found.claimed is None

    def test_look_continues_the_observation_of_leases_by_another_process(
        self, fleet: Fleet
    ) -> None:
        """The lease of a dead holder ends as early as if one process had observed it."""
        dead, first, other = (fleet.join(OLD) for _ in range(3))
        fleet.clock.forward(EVERY)
        lost = dead.claim_one().run
        for _ in range(LEASE_S // 5):
            observed = first.store.look(100).observed
            fleet.clock.forward(5)
        assert other.store.look(100, observed=observed).heartbeat.abandoned[0].id == lost.id

    def test_look_without_a_free_slot_claims_nothing(self, fleet: Fleet) -> None:
        """The heartbeat is sent all the same."""
        process = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        found = process.store.look(0)
        assert found.heartbeat.members == [process.member]
        assert found.claimed is None

    def test_look_names_the_next_work_of_partitions(self, fleet: Fleet) -> None:
        """The earliest row or pending run; rows that are paused have none."""
        tasks = {
            "often": make_task(scope="process"),
            "seldom": make_task(scope="process", interval=100),
        }
        one, other, idle = fleet.join(tasks), fleet.join(tasks), fleet.join(OLD)
        asked = [process.member.holder for process in (one, other, idle)]
        one.store.heartbeat()
        found = one.store.look(1, partitions=asked)
        assert found.claimed is not None
        due = found.claimed.now + EVERY * SECOND
        assert found.next_due == dict.fromkeys(asked[:2], due)
        other.store.trigger("seldom")
        assert one.store.look(1, partitions=asked).next_due[asked[1]] == found.claimed.now
        one.store.pause("often", Pause())
        left = one.store.look(1, partitions=asked).next_due
        assert left[asked[0]] == found.claimed.now + 100 * SECOND

    def test_removed_process_joins_again_at_its_next_heartbeat(self, fleet: Fleet) -> None:
        """A process that was only stopped for a while creates its rows again."""
        tasks = {"work": make_task(scope="process")}
        stopped, other = fleet.join(tasks), fleet.join(tasks)
        fleet.wait(3 * LEASE_S + 10, other)
        stopped.store.heartbeat()
        fleet.clock.forward(EVERY)
        assert stopped.claim_one().run.partition == stopped.member.holder

    def test_pending_run_of_a_removed_process_ends(self, fleet: Fleet) -> None:
        """Other processes cannot claim a manual run in the partition of a process."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.trigger("work")
        one.store.close()
        assert [run.outcome for run in other.store.runs()] == [Outcome.ABANDONED]

    def test_pause_holds_in_all_partitions_including_future_ones(self, fleet: Fleet) -> None:
        """A partition that is created while the task is paused is paused too."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.pause("work", Pause())
        later = fleet.join(tasks)
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (one, other, later)] == [0, 0, 0]

    def test_manual_run_may_be_claimed_by_another_process(self, fleet: Fleet) -> None:
        """Any process with the definition may claim it."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        opened = one.store.trigger("work")
        assert opened is not None
        assert other.claim_one().run.id == opened.id
        assert not one.claim().claims

    def test_process_without_the_task_can_trigger_it(self, fleet: Fleet) -> None:
        """The run is pending until a process with the definition claims it."""
        _, other = fleet.join(OLD), fleet.join({})
        assert other.store.trigger("work") is not None
        assert other.store.trigger("work") is None
        assert not other.claim().claims

    def test_heartbeat_returns_the_live_processes(self, fleet: Fleet) -> None:
        """A process that has left is not among them."""
        one, other, gone = (fleet.join({"work": make_task()}) for _ in range(3))
        gone.store.close()
        members = sorted([one.member, other.member], key=lambda member: member.holder)
        assert list(one.store.heartbeat().members) == members

    def test_members_are_the_live_processes(self, fleet: Fleet) -> None:
        """A closed process is removed at once, a silent one after three leases."""
        closed, silent, other = fleet.join(OLD), fleet.join(OLD), fleet.join(OLD)
        closed.store.close()
        assert holders(other.store) == [silent.member.holder, other.member.holder]
        fleet.wait(3 * LEASE_S, other)
        assert holders(other.store) == [other.member.holder]

    def test_close_of_a_forked_copy_keeps_the_member(self, fleet: Fleet) -> None:
        """The parent is still a member."""
        parent, other = fleet.join({"work": make_task()}), fleet.join({})
        parent.store.forked()
        parent.store.close()
        assert parent.member.holder in holders(other.store)

    def test_applications_with_different_names_are_separate(self, fleet: Fleet) -> None:
        """Two applications on one storage do not see each other's tasks, runs or processes."""
        shop, blog = fleet.join(OLD, space="shop"), fleet.join({}, space="blog")
        shop.store.trigger("work")
        assert (blog.store.tasks(), blog.store.runs()) == ([], [])
        assert holders(blog.store) == [blog.member.holder]

    def test_client_triggers_a_run_that_a_process_claims(self, fleet: Fleet) -> None:
        """The run belongs to the fleet."""
        one = fleet.join(OLD)
        run = fleet.visit(one).trigger("work", body=b"now")
        claim = one.claim_one()
        assert run is not None
        assert (claim.run.id, claim.run.body) == (run.id, b"now")

    def test_client_triggers_in_the_partition_of_its_parent(self, fleet: Fleet) -> None:
        """The parent process of the client runs a task of scope `process`."""
        tasks = {"work": make_task(scope="process")}
        processes = [fleet.join(tasks) for _ in range(3)]
        runs = [fleet.visit(process).trigger("work") for process in processes]
        assert [run.partition for run in runs if run] == [one.member.holder for one in processes]

    def test_pause_by_a_client_holds_for_the_fleet(self, fleet: Fleet) -> None:
        """All processes see the pause."""
        one = fleet.join(OLD)
        fleet.visit(one).pause("work", Pause())
        fleet.clock.forward(EVERY)
        assert not one.claim().claims

    def test_client_reads_the_same_as_its_parent(self, fleet: Fleet) -> None:
        """Tasks, runs and members are equal, and the client is not a member."""
        one = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        client, store = fleet.visit(one), one.store
        seen = (client.tasks(), client.runs(), client.members())
        assert seen == (store.tasks(), store.runs(), store.members())
        assert holders(store) == [one.member.holder]

    def test_closed_client_does_not_affect_its_parent(self, fleet: Fleet) -> None:
        """The parent is still a member, and its claims are valid."""
        one = fleet.join({"work": make_task(scope="process")})
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.visit(one).close()
        assert holders(one.store) == [one.member.holder]
        assert one.finish(claim)

    def test_client_does_not_keep_its_parent_alive(self, fleet: Fleet) -> None:
        """A silent parent is removed from the members while its client is open."""
        silent, other = fleet.join(OLD), fleet.join(NEW)
        client = fleet.visit(silent)
        fleet.wait(5 * LEASE_S, other)
        assert holders(client) == [other.member.holder]


def race(processes: list[Process]) -> list[str]:
    """Let all processes claim in batches of seven until nothing is left; return the claims."""
    claimed: list[str] = []
    gate = threading.Barrier(len(processes))

    def claim(process: Process) -> None:
        gate.wait()
        while (
            answer := process.claim(7)
        ).next_wakeup is not None and answer.next_wakeup <= answer.now:
            claimed.extend(claim.run.task for claim in answer.claims)
        claimed.extend(claim.run.task for claim in answer.claims)

    threads = [threading.Thread(target=claim, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return claimed
