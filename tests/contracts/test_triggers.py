"""Manual runs: a process runs each of them, or the store refuses or reports it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.errors import PulseError
from tests.contracts.suite.store_harness import LEASE_S, make_task
from tests.support.setups import require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from pulse.core.run import Run
    from tests.contracts.suite.store_harness import Fleet, Process


def trigger(process: Process) -> Run | None:
    """Trigger the task; return the run, or None if the store refuses."""
    try:
        return process.store.trigger("work")
    except PulseError:
        return None


def is_refused_or_reported(fleet: Fleet, process: Process) -> bool:
    """Trigger the task; return whether that is refused, or a beat returns the run later."""
    opened = trigger(process)
    if opened is None:
        return True
    beats = fleet.wait(4 * LEASE_S, process)
    return opened.id in {run.id for beat in beats for run in (*beat.abandoned, *beat.missed)}


def test_trigger_of_a_disabled_task_is_refused_or_reported(fleet: Fleet) -> None:
    """A disabled task keeps its row for three leases, and no process runs it."""
    process = fleet.join({"work": make_task()})
    process.sync({})
    require([row.name for row in process.store.tasks()] == ["work"], "a row that is left")
    assert is_refused_or_reported(fleet, process)


def test_pending_run_of_a_task_that_is_disabled_is_reported(fleet: Fleet) -> None:
    """The run was opened before the task was disabled, and no process claims it."""
    process = fleet.join({"work": make_task()})
    opened = process.store.trigger("work")
    process.sync({})
    beats = fleet.wait(4 * LEASE_S, process)
    require([run.outcome for run in process.store.runs()] != [None], "a run that has ended")
    assert [run for beat in beats for run in beat.abandoned if opened and run.id == opened.id]


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_trigger_of_a_task_that_dead_processes_held_is_refused_or_reported(fleet: Fleet) -> None:
    """The only process that declared the task has ended."""
    old, new = fleet.join({"work": make_task()}), fleet.join({})
    old.store.close()
    require([row.name for row in new.store.tasks()] == ["work"], "a row that is left")
    assert is_refused_or_reported(fleet, new)


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_trigger_of_a_task_that_a_silent_process_held_is_refused_or_reported(fleet: Fleet) -> None:
    """The only process that declared the task has been silent for three leases."""
    _, new = fleet.join({"work": make_task()}), fleet.join({})
    fleet.wait(3 * LEASE_S, new)
    require([row.name for row in new.store.tasks()] == ["work"], "a row that is left")
    assert is_refused_or_reported(fleet, new)


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_trigger_of_a_task_of_a_host_without_processes_is_refused_or_reported(fleet: Fleet) -> None:
    """With `scope = host` only the host of the ended process has a row."""
    old = fleet.join({"work": make_task(scope="host")}, host="beta")
    new = fleet.join({})
    old.store.close()
    require([row.partition for row in new.store.tasks()] == ["beta"], "a row that is left")
    assert is_refused_or_reported(fleet, new)


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_trigger_of_a_task_of_another_live_process_is_run_there(fleet: Fleet) -> None:
    """The process that triggers the task need not declare it."""
    holder, other = fleet.join({"work": make_task()}), fleet.join({})
    opened = trigger(other)
    assert opened is not None
    assert holder.claim_one().run.id == opened.id


def test_trigger_of_a_runtime_task_is_run(fleet: Fleet) -> None:
    """Every process may run a run-time task."""
    process = fleet.join({})
    process.add("work", make_task())
    opened = trigger(process)
    assert opened is not None
    assert process.claim_one().run.id == opened.id
