"""What the application holds of the scheduler: `environ["pulse.scheduler"]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pulse import events
from pulse.config.runtime_task import validate_runtime_task
from pulse.core.runtime_task import TaskDefaults
from pulse.errors import NotServingError
from pulse.forks import refusal
from pulse.settings.converters import body as convert_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.core.run import Run
    from pulse.core.task import Task
    from pulse.store.base import Member, Store, TaskState


class Access(Protocol):
    """What a handle speaks through: a process's scheduler, or a child's visitor."""

    @property
    def store(self) -> Store:
        """The store, open; a call stalls no other thread or greenlet."""

    def wake(self) -> None:
        """Let the store be looked at soon."""

    def emit(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Tell listeners of what was done, and of fire times that do not run for it."""


class SchedulerHandle:
    """Adds, removes, pauses, triggers and shows tasks, from any process that takes part.

    What a call changes holds for the whole fleet: it is kept in the store. It works in the child
    processes of `mode = processing` too, unless the store is `memory:`.

    Args:
        usual: what tasks that are added take from the configuration.

    """

    __slots__ = ("_access", "_defaults", "_pid")

    def __init__(self, defaults: TaskDefaults | None = None) -> None:
        self._defaults = defaults or TaskDefaults()
        self._access: Access | None = None
        self._pid = 0

    def attach(self, access: Access | None) -> None:
        """Speak through *access* from now on; None while there is none in this process."""
        self._access = access
        self._pid = os.getpid()

    def forked(self) -> None:
        """Speak through nothing any more: this is a copy, in a forked child."""
        self._access = None

    def add(self, name: str, task: Task, *, replace: bool = False) -> None:
        """Add a task to those of the configuration, for the whole fleet, until it is removed.

        It is kept in the store and survives restarts; every process that shares the store may
        run it, within a second. Its action lies below the configuration's context, and what it
        leaves open of timeout and time zone is what the configuration says now.

        Args:
            name: how it is called from now on.
            task: a `pulse.Task`, whose `scope` is `fleet`.
            replace: whether it may take the place of a task of that name that was added before.
                Where the schedule is the same, its count goes on; a pause stays. What was due of
                another schedule is missed.

        Raises:
            ConfigError: an argument is wrong, or the guard does not cover the task's path.
            TaskExistsError: a task of that name was added before, and *replace* is false.
            ConfigTaskError: the configuration declares a task of that name.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        runtime_task = validate_runtime_task(name, task, self._defaults)
        access = self._reached()
        passed = access.store.add(runtime_task, replace=replace)
        access.emit(events.TaskAdded(name, replace), passed)
        access.wake()

    def remove(self, name: str) -> None:
        """Remove a task that was added; what waits to be run ends, a run that goes on goes on.

        Should it be added again, no fire time that it has had runs a second time.

        Raises:
            ConfigTaskError: the configuration declares it.
            UnknownTaskError: no such task.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        access = self._reached()
        access.store.remove(name)
        access.emit(events.TaskRemoved(name))

    def trigger(self, name: str, *, body: bytes | str | None = None) -> Run | None:
        """Run a task now, beside its schedule, with *body* instead of its own if given.

        Returns:
            The run, which the first free process takes; None when overlap refuses it because the
            task is running.

        Raises:
            UnknownTaskError: no such task.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        access = self._reached()
        content = None if body is None else convert_body(body)
        run = access.store.trigger(name, body=content)
        access.wake()
        return run

    def pause(self, name: str) -> None:
        """Let a task's fire times pass until it is resumed; raises as `trigger` does."""
        access = self._reached()
        access.store.pause(name, paused=True)

    def resume(self, name: str) -> None:
        """Let a paused task fire again, from its next fire time on; raises as `trigger` does."""
        access = self._reached()
        access.store.pause(name, paused=False)
        access.wake()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task as it stands in the store."""
        access = self._reached()
        return access.store.tasks()

    def runs(self, *, task: str | None = None, limit: int = 100) -> Sequence[Run]:
        """Return the newest runs, of one task or of all, newest first."""
        access = self._reached()
        return access.store.runs(task=task, limit=limit)

    def members(self) -> Sequence[Member]:
        """Return the processes that take part."""
        access = self._reached()
        return access.store.members()

    def _reached(self) -> Access:
        here = os.getpid()
        if self._pid not in {0, here}:
            raise refusal(self._pid)
        if self._access is None:
            raise NotServingError(
                "pulse.scheduler: expected a process in which the scheduler has started, got"
                f" process {here}, in which it has not, or has ended; it starts with the server, or"
                " at the first request that is served: see the setting start"
            )
        return self._access
