"""Pauses of tasks that are archived and declared again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.support.setups import require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from tests.contracts.suite.store_harness import Fleet, Process

RETURNS = [
    pytest.param({}, id="the same"),
    pytest.param({"timeout": 7}, id="another definition"),
    pytest.param({"interval": 7}, id="another schedule"),
    pytest.param({"scope": "host"}, id="another place"),
]


def archive_paused(fleet: Fleet, *, scope: str = "fleet") -> Process:
    """Return a process whose paused task was archived because no process declares it."""
    process = fleet.join({"work": make_task(scope=scope)})
    process.store.pause("work", Pause())
    require([row.paused for row in process.store.tasks()] == [True], "a task that is paused")
    process.sync({})
    fleet.wait(3 * LEASE_S + 10, process)
    require(not process.store.tasks(), "a task that was archived")
    return process


def is_paused(process: Process) -> bool:
    """Return whether the only task is paused."""
    (row,) = process.store.tasks()
    return row.paused


@pytest.mark.parametrize("words", RETURNS)
def test_pause_of_a_task_ends_with_the_task(fleet: Fleet, words: dict[str, object]) -> None:
    """A task that is declared again after it was archived is new, and not paused."""
    process = archive_paused(fleet)
    process.sync({"work": make_task(**words)})
    assert not is_paused(process)


def test_pause_of_a_task_of_each_host_ends_with_the_task(fleet: Fleet) -> None:
    """The same holds for a task with one row per host."""
    process = archive_paused(fleet, scope="host")
    process.sync({"work": make_task(scope="host")})
    assert not is_paused(process)


def test_task_that_was_archived_while_paused_fires_when_declared_again(fleet: Fleet) -> None:
    """The task fires at its next fire time, like any new task."""
    process = archive_paused(fleet)
    process.sync({"work": make_task()})
    fleet.clock.forward(EVERY)
    assert [claim.run.task for claim in process.claim().claims] == ["work"]


def test_runtime_task_with_the_name_of_an_archived_paused_task_is_not_paused(fleet: Fleet) -> None:
    """The pause belonged to the archived task of the configuration."""
    process = archive_paused(fleet)
    process.add("work", make_task())
    assert not is_paused(process)


@pytest.mark.parametrize("scope", ["fleet", "host", "process"])
@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_pause_of_a_task_of_dead_processes_ends_with_the_task(fleet: Fleet, scope: str) -> None:
    """All processes that declared the task have ended before a new release declares it."""
    old, other = fleet.join({"work": make_task(scope=scope)}), fleet.join({})
    old.store.pause("work", Pause())
    old.store.close()
    fleet.wait(3 * LEASE_S + 10, other)
    require(not other.store.tasks(), "a task that was archived")
    new = fleet.join({"work": make_task(scope=scope)})
    assert not is_paused(new)


def test_pause_is_kept_across_a_restart(fleet: Fleet) -> None:
    """A task that is declared again before it is archived stays paused."""
    process = fleet.join({"work": make_task()})
    process.store.pause("work", Pause())
    process.sync({})
    fleet.wait(LEASE_S, process)
    process.sync({"work": make_task()})
    assert is_paused(process)


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_pause_is_kept_while_one_process_declares_the_task(fleet: Fleet) -> None:
    """In a long rolling deploy the task is not archived, so its pause stays."""
    old = fleet.join({"work": make_task()})
    new = fleet.join({})
    old.store.pause("work", Pause())
    fleet.wait(4 * LEASE_S, old, new)
    new.sync({"work": make_task()})
    assert is_paused(new)
