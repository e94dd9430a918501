"""The application's access to the scheduler: `environ["pulse.scheduler"]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pulse import events
from pulse.config.runtime_task import validate_runtime_task
from pulse.core.runtime_task import TaskDefaults
from pulse.errors import NotServingError, UnknownTaskError, shown
from pulse.forks import refusal
from pulse.settings.converters import body as convert_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.core.run import Run
    from pulse.core.task import Task
    from pulse.store.base import Member, Store, TaskState


class Access(Protocol):
    """What a handle calls: the scheduler of the process, or the store access of a child process."""

    @property
    def store(self) -> Store:
        """The store, open; a call stalls no other thread or greenlet."""

    def wake(self) -> None:
        """Let the scheduler claim soon."""

    def emit(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Emit an event of the handle, and those of the fire times that the call missed."""


class SchedulerHandle:
    """Adds, removes, pauses, triggers and shows tasks, from any process that takes part.

    A change applies to the whole fleet, because it is kept in the store. The handle works in the
    child processes of `mode = processing` too, unless the store is `memory:`.

    Args:
        defaults: the settings of the configuration that apply to tasks that are added.

    """

    __slots__ = ("_access", "_defaults", "_pid")

    def __init__(self, defaults: TaskDefaults | None = None) -> None:
        self._defaults = defaults or TaskDefaults()
        self._access: Access | None = None
        self._pid = 0

    def attach(self, access: Access | None) -> None:
        """Use *access* for calls after this one; None means that this process has none."""
        self._access = access
        self._pid = os.getpid()

    def forked(self) -> None:
        """Refuse all calls: this is a copy, in a forked child."""
        self._access = None

    def add(self, name: str, task: Task, *, replace: bool = False) -> None:
        """Add a task to those of the configuration, for the whole fleet, until it is removed.

        The task is kept in the store and survives restarts; after at most a second every process
        that shares the store may run it. Its action is relative to the configuration's context. If
        it sets no timeout or time zone, the present ones of the configuration apply.

        Args:
            name: the name of the task.
            task: a `pulse.Task`, whose `scope` is `fleet`.
            replace: whether it may replace a task of that name that was added before. If the
                schedule is the same, its fire times continue; a pause stays. Fire times of another
                schedule that are due are missed.

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
        """Remove a task that was added; pending runs end, runs in progress continue.

        If the task is added again, no earlier fire time runs a second time.

        Raises:
            ConfigTaskError: the configuration declares it.
            UnknownTaskError: no such task.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        access = self._reached()
        access.store.remove(_possible(name))
        access.emit(events.TaskRemoved(name))

    def trigger(self, name: str, *, body: bytes | str | None = None) -> Run | None:
        """Run a task now, in addition to its schedule; *body* replaces the task's own body.

        Returns:
            The run, which the first free process claims; None if `overlap` refuses it because the
            task is running.

        Raises:
            UnknownTaskError: no such task.
            UndeclaredTaskError: no live process declares the task, so none would run it.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        access = self._reached()
        content = None if body is None else convert_body(body)
        run = access.store.trigger(_possible(name), body=content)
        access.wake()
        return run

    def pause(self, name: str) -> None:
        """Skip a task's fire times until it is resumed; raises the same errors as `trigger`."""
        access = self._reached()
        access.store.pause(_possible(name), paused=True)

    def resume(self, name: str) -> None:
        """Resume a paused task from its next fire time; raises the same errors as `trigger`."""
        access = self._reached()
        access.store.pause(_possible(name), paused=False)
        access.wake()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task in the store."""
        access = self._reached()
        return access.store.tasks()

    def runs(self, *, task: str | None = None, limit: int = 100) -> Sequence[Run]:
        """Return the newest runs, of one task or of all, newest first."""
        access = self._reached()
        return access.store.runs(task=None if task is None else _possible(task), limit=limit)

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


def _possible(name: object) -> str:
    """Return *name* if a task can have it: a view may pass what it got in a request.

    Raises:
        UnknownTaskError: it is no text, or text that UTF-8 cannot encode.

    """
    if not isinstance(name, str):
        raise UnknownTaskError(f"name: expected the name of a task as text, got {shown(name)}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UnknownTaskError(
            f"name: expected the name of a task without lone surrogates, got {shown(name)}"
        ) from None
    return name
