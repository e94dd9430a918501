"""The contract of stores that are shared: once among processes, deploys, places, members."""

from __future__ import annotations

import threading

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.core.task import build_definition
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

OLD = {"work": make_task()}
NEW = {"work": make_task(timeout=7)}
SEVEN = 7_000_000


class FleetContract(ContractPart):
    """Several processes on one storage agree on who runs what, and on what is to be run."""

    def test_a_tick_is_claimed_by_one_process(self, fleet: Fleet) -> None:
        """What the first has won is absent from the other's answer."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (one, other)] == [1, 0]

    def test_processes_that_race_claim_each_tick_once(self, fleet: Fleet) -> None:
        """Whatever calls run at the same time, no tick is opened twice and none is lost."""
        tasks = {f"t{number}": make_task() for number in range(60)}
        processes = [fleet.join(tasks) for _ in range(4)]
        fleet.clock.forward(EVERY)
        claimed = race(processes)
        assert sorted(claimed) == sorted(tasks)

    def test_a_run_elsewhere_counts_for_overlap(self, fleet: Fleet) -> None:
        """Overlap is judged across the fleet."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        fleet.clock.forward(EVERY)
        assert [run.outcome for run in other.claim().not_run] == [Outcome.SKIPPED]

    def test_who_has_just_joined_waits_with_a_skip_for_an_end(self, fleet: Fleet) -> None:
        """The store may have been away: the end of the earlier run may be on its way to it."""
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

    def test_who_has_joined_a_second_ago_skips(self, fleet: Fleet) -> None:
        """By then a process that lives has told its ends."""
        one = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        fleet.clock.forward(EVERY)
        other = fleet.join(OLD)
        fleet.clock.forward(1)
        assert [run.outcome for run in other.claim().not_run] == [Outcome.SKIPPED]

    def test_a_restart_does_not_start_the_count_anew(self, fleet: Fleet) -> None:
        """The anchor is the instant at which the store first saw the task."""
        first = fleet.join(OLD)
        fleet.clock.forward(EVERY - 1)
        first.store.close()
        second = fleet.join(OLD)
        fleet.clock.forward(1)
        assert second.claim_one().run.task == "work"

    def test_a_start_up_run_happens_once_in_the_fleet(self, fleet: Fleet) -> None:
        """The second process finds the row made, and its run claimed."""
        tasks = {"work": make_task(run_at_start=True)}
        one, other = fleet.join(tasks), fleet.join(tasks)
        assert [len(process.claim().claims) for process in (one, other)] == [1, 0]

    def test_others_abandon_what_a_silent_process_held(self, fleet: Fleet) -> None:
        """They do so after a lease; the holder's late answer is refused."""
        silent, other = fleet.join(OLD), fleet.join(OLD)
        fleet.clock.forward(EVERY)
        claim = silent.claim_one()
        beats = fleet.wait(LEASE_S + 10, other)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        assert not silent.finish(claim)

    def test_others_rerun_what_a_silent_process_held(self, fleet: Fleet) -> None:
        """With `on_abandoned = rerun` the next attempt goes to whoever is free."""
        tasks = {"work": make_task(on_abandoned="rerun")}
        silent, other = fleet.join(tasks), fleet.join(tasks)
        fleet.clock.forward(EVERY)
        claim = silent.claim_one()
        fleet.wait(LEASE_S + 10, other)
        again = other.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        assert (silent.finish(claim), other.finish(again)) == (False, True)

    def test_the_newest_definition_stands(self, fleet: Fleet) -> None:
        """In a rolling deploy only processes that hold the new definition claim the task."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert not old.claim().claims
        assert old.claim().next_wakeup is None
        assert new.claim_one().definition.timeout_us == SEVEN

    def test_a_process_that_has_not_synced_wants_nothing(self, fleet: Fleet) -> None:
        """One that is just starting stands in nobody's way."""
        starting = fleet.join(None)
        other = fleet.join(OLD)
        assert starting.store.members() == [starting.member, other.member]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (starting, other)] == [0, 1]

    def test_an_old_process_learns_that_it_is_superseded(self, fleet: Fleet) -> None:
        """Its beats name the tasks whose newer definition stands instead."""
        old, _ = fleet.join(OLD), fleet.join(NEW)
        assert old.store.heartbeat().superseded == ("work",)

    def test_a_recycled_old_process_puts_nothing_back(self, fleet: Fleet) -> None:
        """While a process with the newer definition lives, an old one changes no row."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        old.store.close()
        synced = fleet.join({}).store.sync({"work": build_definition("work", OLD["work"])})
        assert (synced.changed, synced.superseded) == ((), ("work",))
        fleet.clock.forward(EVERY)
        assert new.claim_one().definition.timeout_us == SEVEN

    def test_a_recycled_new_process_stands_again(self, fleet: Fleet) -> None:
        """The newest definition comes back with the first process that holds it."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        new.store.close()
        old.store.heartbeat()
        again = fleet.join(NEW)
        fleet.clock.forward(EVERY)
        assert not old.claim().claims
        assert again.claim_one().definition.timeout_us == SEVEN

    def test_a_roll_back_is_taken_over(self, fleet: Fleet) -> None:
        """Once no live process holds the newer definition, the older one stands again."""
        old, new = fleet.join(OLD), fleet.join(NEW)
        new.store.close()
        assert old.store.heartbeat().superseded == ()
        fleet.clock.forward(EVERY)
        assert old.claim_one().definition.timeout_us != SEVEN

    def test_a_new_interval_keeps_the_anchor(self, fleet: Fleet) -> None:
        """A deploy moves the row to the new grid, and fires nothing by itself."""
        old = fleet.join(OLD)
        fleet.clock.forward(EVERY + 1)
        new = fleet.join({"work": make_task(interval=7)})
        assert not old.claim().claims
        assert not new.claim().claims
        fleet.clock.forward(3)
        assert len(new.claim().claims) == 1

    def test_a_task_that_only_old_processes_hold_goes_on(self, fleet: Fleet) -> None:
        """A row is wanted as long as a live process wants it."""
        old, new = fleet.join(OLD | {"gone": make_task()}), fleet.join(OLD)
        fleet.wait(4 * LEASE_S, old, new)
        assert "gone" in {claim.run.task for claim in old.claim().claims}

    def test_a_task_that_only_dead_processes_held_is_archived(self, fleet: Fleet) -> None:
        """Three leases after the last of them, its row is put away."""
        old, new = fleet.join(OLD | {"gone": make_task()}), fleet.join(OLD)
        old.store.close()
        beats = fleet.wait(3 * LEASE_S + 10, new)
        assert [beat.archived for beat in beats if beat.archived] == [("gone",)]
        assert [row.name for row in new.store.tasks()] == ["work"]

    def test_a_host_runs_its_own_tick_once(self, fleet: Fleet) -> None:
        """With `scope = host` each host has one run a tick, whichever process is first."""
        tasks = {"work": make_task(scope="host")}
        processes = [fleet.join(tasks, host=host) for host in ("alpha", "alpha", "beta")]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 0, 1]

    def test_each_process_runs_its_own_tick(self, fleet: Fleet) -> None:
        """With `scope = process` every process has a run a tick."""
        tasks = {"work": make_task(scope="process")}
        processes = [fleet.join(tasks) for _ in range(3)]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 1, 1]

    def test_the_newest_definition_stands_on_each_host(self, fleet: Fleet) -> None:
        """A host whose processes are all old goes on with what they hold."""
        old, new = {"work": make_task(scope="host")}, {"work": make_task(scope="host", timeout=7)}
        processes = [fleet.join(old), fleet.join(old, host="beta"), fleet.join(new, host="beta")]
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in processes] == [1, 0, 1]

    def test_a_process_changes_its_own_row(self, fleet: Fleet) -> None:
        """What others hold has no say in it."""
        process = fleet.join({"work": make_task(scope="process")})
        fleet.join({"work": make_task(scope="process")})
        process.sync({"work": make_task(scope="process", timeout=7)})
        fleet.clock.forward(EVERY)
        assert process.claim_one().definition.timeout_us == SEVEN

    def test_the_rows_of_a_process_go_with_it(self, fleet: Fleet) -> None:
        """A process that takes part no more leaves no rows of its own."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.close()
        assert [row.partition for row in other.store.tasks()] == [other.member.holder]

    def test_the_rows_of_a_silent_process_are_archived(self, fleet: Fleet) -> None:
        """After three leases of silence a process is no member, and its rows are gone."""
        tasks = {"work": make_task(scope="process")}
        _, other = fleet.join(tasks), fleet.join(tasks)
        fleet.wait(3 * LEASE_S + 10, other)
        assert [row.partition for row in other.store.tasks()] == [other.member.holder]
        assert other.store.members() == [other.member]

    def test_a_process_that_was_given_up_takes_part_again(self, fleet: Fleet) -> None:
        """One that was only stopped for a while makes its rows anew at its next beat."""
        tasks = {"work": make_task(scope="process")}
        stopped, other = fleet.join(tasks), fleet.join(tasks)
        fleet.wait(3 * LEASE_S + 10, other)
        stopped.store.heartbeat()
        fleet.clock.forward(EVERY)
        assert stopped.claim_one().run.partition == stopped.member.holder

    def test_a_waiting_run_of_a_gone_process_ends(self, fleet: Fleet) -> None:
        """A manual run in a process's own place cannot be taken by others."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.trigger("work")
        one.store.close()
        assert [run.outcome for run in other.store.runs()] == [Outcome.ABANDONED]

    def test_a_pause_holds_for_all_and_for_those_to_come(self, fleet: Fleet) -> None:
        """Also in places that do not exist yet when the task is paused."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.pause("work", paused=True)
        later = fleet.join(tasks)
        fleet.clock.forward(EVERY)
        assert [len(process.claim().claims) for process in (one, other, later)] == [0, 0, 0]

    def test_a_manual_run_may_be_claimed_elsewhere(self, fleet: Fleet) -> None:
        """Whoever is free takes it."""
        one, other = fleet.join(OLD), fleet.join(OLD)
        opened = one.store.trigger("work")
        assert opened is not None
        assert other.claim_one().run.id == opened.id
        assert not one.claim().claims

    def test_a_process_without_the_task_can_trigger_it(self, fleet: Fleet) -> None:
        """The row says enough; the run waits for a process that holds the definition."""
        _, other = fleet.join(OLD), fleet.join({})
        assert other.store.trigger("work") is not None
        assert other.store.trigger("work") is None
        assert not other.claim().claims

    def test_members_are_those_who_live(self, fleet: Fleet) -> None:
        """A closed process is gone at once, a silent one after three leases."""
        closed, silent, other = fleet.join(OLD), fleet.join(OLD), fleet.join(OLD)
        closed.store.close()
        assert other.store.members() == [silent.member, other.member]
        fleet.wait(3 * LEASE_S, other)
        assert other.store.members() == [other.member]

    def test_a_copy_in_a_forked_child_leaves_the_member_as_it_is(self, fleet: Fleet) -> None:
        """Its `close` takes nobody from the members: the parent takes part."""
        parent, other = fleet.join({"work": make_task()}), fleet.join({})
        parent.store.forked()
        parent.store.close()
        assert parent.member in other.store.members()

    def test_applications_of_other_names_are_not_seen(self, fleet: Fleet) -> None:
        """One storage, two names: neither's tasks, runs nor processes are the other's."""
        shop, blog = fleet.join(OLD, space="shop"), fleet.join({}, space="blog")
        shop.store.trigger("work")
        assert (blog.store.tasks(), blog.store.runs()) == ([], [])
        assert blog.store.members() == [blog.member]

    def test_a_visitor_triggers_a_run_that_a_process_takes(self, fleet: Fleet) -> None:
        """A child process speaks for its parent, and the run is the fleet's."""
        one = fleet.join(OLD)
        run = fleet.visit(one).trigger("work", body=b"now")
        claim = one.claim_one()
        assert run is not None
        assert (claim.run.id, claim.run.body) == (run.id, b"now")

    def test_a_visitor_triggers_in_the_place_of_its_parent(self, fleet: Fleet) -> None:
        """A task of each process is run by the visitor's own parent."""
        tasks = {"work": make_task(scope="process")}
        processes = [fleet.join(tasks) for _ in range(3)]
        runs = [fleet.visit(process).trigger("work") for process in processes]
        assert [run.partition for run in runs if run] == [one.member.holder for one in processes]

    def test_a_visitor_pauses_for_the_fleet(self, fleet: Fleet) -> None:
        """What it decides is decided for all."""
        one = fleet.join(OLD)
        fleet.visit(one).pause("work", paused=True)
        fleet.clock.forward(EVERY)
        assert not one.claim().claims

    def test_a_visitor_sees_what_its_parent_sees(self, fleet: Fleet) -> None:
        """Tasks, runs and members are the same, and the visitor is none of the members."""
        one = fleet.join(OLD)
        fleet.clock.forward(EVERY)
        one.claim_one()
        client, store = fleet.visit(one), one.store
        seen = (client.tasks(), client.runs(), client.members())
        assert seen == (store.tasks(), store.runs(), [one.member])

    def test_a_visitor_that_ends_leaves_its_parent_as_it_is(self, fleet: Fleet) -> None:
        """The parent stays a member, and goes on with what it holds."""
        one = fleet.join({"work": make_task(scope="process")})
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.visit(one).close()
        assert one.store.members() == [one.member]
        assert one.finish(claim)

    def test_a_visitor_does_not_keep_its_parent_alive(self, fleet: Fleet) -> None:
        """It wants no tasks: what its parent held is given up when the parent is silent."""
        silent, other = fleet.join(OLD), fleet.join(NEW)
        client = fleet.visit(silent)
        fleet.wait(5 * LEASE_S, other)
        assert client.members() == [other.member]


def race(processes: list[Process]) -> list[str]:
    """Let all claim in batches of seven until nothing is left; return what they won."""
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
