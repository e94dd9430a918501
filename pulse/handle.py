"""What the application holds of the scheduler: `environ["pulse.scheduler"]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from pulse.convert import body as convert_body
from pulse.errors import NotServingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.run import Run
    from pulse.store.base import Member, Store, TaskState

P = ParamSpec("P")
T = TypeVar("T")


class Access(Protocol):
    """What a handle speaks through: a process's scheduler, or a child's visitor."""

    @property
    def store(self) -> Store:
        """The store, open."""

    def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a method of the store returns, without stalling others."""

    def wake(self) -> None:
        """Let the store be looked at soon."""


class Handle:
    """Pauses, resumes, triggers and shows tasks, from any process that takes part.

    What a call changes holds for the whole fleet: it is kept in the store. It works in the child
    processes of `mode = processing` too, unless the store is `memory:`.
    """

    __slots__ = ("_access", "_pid")

    def __init__(self) -> None:
        self._access: Access | None = None
        self._pid = 0

    def attach(self, access: Access | None) -> None:
        """Speak through *access* from now on; None while there is none in this process."""
        self._access = access
        self._pid = os.getpid()

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
        run = access.call(access.store.trigger, name, body=content)
        access.wake()
        return run

    def pause(self, name: str) -> None:
        """Let a task's fire times pass until it is resumed; raises as `trigger` does."""
        access = self._reached()
        access.call(access.store.pause, name, paused=True)

    def resume(self, name: str) -> None:
        """Let a paused task fire again, from its next fire time on; raises as `trigger` does."""
        access = self._reached()
        access.call(access.store.pause, name, paused=False)
        access.wake()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task as it stands in the store."""
        access = self._reached()
        return access.call(access.store.tasks)

    def runs(self, *, task: str | None = None, limit: int = 100) -> Sequence[Run]:
        """Return the newest runs, of one task or of all, newest first."""
        access = self._reached()
        return access.call(access.store.runs, task=task, limit=limit)

    def members(self) -> Sequence[Member]:
        """Return the processes that take part."""
        access = self._reached()
        return access.call(access.store.members)

    def _reached(self) -> Access:
        if self._access is None or self._pid != os.getpid():
            raise NotServingError("expected a process in which the scheduler has started")
        return self._access
