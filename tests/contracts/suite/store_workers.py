"""The contract of shared stores: workers take part, and change nothing of the tasks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import UndeclaredTaskError
from pulse.store.process_identity import start_time_of, this_machine
from pulse.store.rules import HOLDER_GONE
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import (
    EVERY,
    LEASE_S,
    STOPS_RUNS,
    Fleet,
    Process,
    holders,
    make_task,
)
from tests.contracts.suite.store_part import ContractPart

BOUND_S = 30
HERE: dict[str, object] = {"machine": this_machine(), "pid": os.getpid()}


class WorkerContract(ContractPart):
    """A worker is listed as a member, whose heartbeats look after the others."""

    def test_worker_is_listed_until_it_leaves(self, fleet: Fleet) -> None:
        """With what it says about itself."""
        worker = fleet.join_as_worker()
        (state,) = worker.store.members()
        assert (state.holder, state.report) == (worker.member.holder, STOPS_RUNS)
        process = fleet.join({})
        assert holders(process.store) == [worker.member.holder, process.member.holder]
        worker.store.close()
        assert holders(process.store) == [process.member.holder]

    def test_several_workers_of_one_process_use_the_same_storage(self, fleet: Fleet) -> None:
        """Beside a store that is open: neither is refused."""
        process, one, other = fleet.join({}), fleet.join_as_worker(), fleet.join_as_worker()
        one.store.close()
        assert holders(other.store) == [process.member.holder, other.member.holder]

    def test_worker_alone_archives_no_task(self, fleet: Fleet) -> None:
        """No live process declares them; a web process that comes back goes on with them."""
        process = fleet.join({"work": make_task()})
        process.add("added", make_task())
        worker = fleet.join_as_worker()
        process.store.close()
        beats = fleet.wait(10 * LEASE_S, worker)
        assert not [name for beat in beats for name in beat.archived]
        assert [state.name for state in worker.store.tasks()] == ["added", "work"]
        again = fleet.join(None)
        assert again.sync({"work": make_task()}).added == ()

    def test_worker_supersedes_no_definition(self, fleet: Fleet) -> None:
        """Of the tasks of others; nor is any of its own superseded."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        for beat in fleet.wait(4 * LEASE_S, process, worker):
            assert (beat.superseded, beat.archived) == ((), ())
        fleet.clock.forward(EVERY)
        assert process.claim().claims

    def test_worker_serves_no_partition(self, fleet: Fleet) -> None:
        """While only workers live, no process decides fire times."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        fleet.wait(LEASE_S, process, worker)
        process.store.close()
        until = fleet.clock.wall()
        fleet.wait(4 * LEASE_S, worker)
        worker.store.close()
        served = fleet.visit(process).records("work").served
        assert {one.until for one in served} == {until}

    def test_trigger_is_refused_while_only_workers_live(self, fleet: Fleet) -> None:
        """No process would claim the run."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        process.store.close()
        with pytest.raises(UndeclaredTaskError, match="expected a process that runs 'work', got"):
            worker.store.trigger("work")

    def test_heartbeat_of_a_worker_abandons_lost_runs(self, fleet: Fleet) -> None:
        """And removes the process that has held them."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        beats = fleet.wait(5 * LEASE_S, worker)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        assert [one.holder for one in beats[-1].members] == [worker.member.holder]

    def test_heartbeat_of_a_worker_requeues_a_run(self, fleet: Fleet) -> None:
        """With `on_abandoned = rerun`; a process that declares the task claims it."""
        tasks = {"work": make_task(interval=3_600, on_abandoned="rerun")}
        process, worker = fleet.join(tasks), fleet.join_as_worker()
        fleet.clock.forward(3_600)
        process.claim_one()
        fleet.wait(LEASE_S + 10, worker)
        assert process.claim_one().run.attempt == 2

    def test_heartbeat_of_a_worker_ends_a_pause(self, fleet: Fleet) -> None:
        """That is over."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        until = fleet.clock.wall() + 20 * SECOND
        process.store.pause("work", Pause(until=until))
        fleet.clock.forward(25)
        assert list(worker.store.heartbeat().resumed) == ["work"]
        assert [state.paused for state in worker.store.tasks()] == [False]

    def test_heartbeat_of_a_worker_names_its_own_requests_and_expiries(self, fleet: Fleet) -> None:
        """As that of every member."""
        process, worker = fleet.join({"work": make_task()}), fleet.join_as_worker()
        assert worker.store.heartbeat().next_expiry is None
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        worker.take(claim)
        worker.store.stop(claim.run.id)
        beat = worker.store.heartbeat()
        assert list(beat.stops) == [claim.run.id]
        assert beat.next_expiry == fleet.clock.boot() + LEASE_S * SECOND

    def test_worker_that_was_removed_is_listed_again(self, fleet: Fleet) -> None:
        """It was silent for too long; what it holds is abandoned, and it takes what comes next."""
        process, worker = fleet.join({"work": make_task()}), fleet.join_as_worker()
        fleet.wait(5 * LEASE_S, process)
        assert holders(process.store) == [process.member.holder]
        worker.store.heartbeat()
        assert holders(process.store) == [process.member.holder, worker.member.holder]
        claim = process.claim().claims[-1]
        process.post(claim)
        assert worker.take(claim) is not None

    def test_worker_leaves_what_is_done_and_old_to_others(self, fleet: Fleet) -> None:
        """It declares no task, and may keep other numbers of runs."""
        process = fleet.join({})
        when = {"at": "2026-01-05T12:00:10+00:00", "interval": None, "remove_when_done": True}
        process.add("once", make_task(**when))
        worker = fleet.join_as_worker()
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        beats = fleet.wait(LEASE_S, worker)
        assert not [name for beat in beats for name in beat.removed]
        beats = fleet.wait(LEASE_S, process)
        assert [name for beat in beats for name in beat.removed] == ["once"]

    @pytest.mark.parametrize("on_abandoned", ["record", "rerun"])
    def test_run_of_a_worker_that_is_gone_is_abandoned_at_once(
        self, fleet: Fleet, on_abandoned: str
    ) -> None:
        """On the same machine; other processes find out after a lease."""
        tasks = {"work": make_task(interval=3_600, on_abandoned=on_abandoned)}
        poster = fleet.join(tasks, identity=HERE)
        worker = _worker_that_is_gone(fleet)
        fleet.clock.forward(3_600)
        claim = poster.claim_one()
        poster.post(claim)
        worker.take(claim)
        (run,) = poster.store.heartbeat().abandoned
        assert run.id == claim.run.id
        if on_abandoned == "record":
            assert (run.outcome, run.message) == (Outcome.ABANDONED, HOLDER_GONE)
            return
        again = poster.claim_one()
        assert (again.run.id, again.run.attempt) == (claim.run.id, 2)
        assert fleet.join_as_worker().take(claim) is None

    def test_definition_of_a_run_time_task_is_in_the_store(self, fleet: Fleet) -> None:
        """A worker has no other home for it; that of a configured task it has itself."""
        process = fleet.join({"work": make_task()})
        worker = fleet.join_as_worker()
        process.add("added", make_task(timeout=7))
        expected = make_runtime_task("added", make_task(timeout=7), TaskDefaults()).definition
        assert worker.store.runtime_definition("added") == expected
        assert worker.store.runtime_definition("work") is None
        assert worker.store.runtime_definition("unknown") is None
        process.store.remove("added")
        assert worker.store.runtime_definition("added") is None


def _worker_that_is_gone(fleet: Fleet) -> Process:
    """Return a worker whose process has ended; its identity is that of a child that ran."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time_of(child.pid)
    child.communicate(b"\n", timeout=BOUND_S)
    return fleet.join_as_worker(
        identity={"machine": this_machine(), "pid": child.pid, "pid_started": started}
    )
