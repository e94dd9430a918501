"""What the application holds of the scheduler: `environ["pulse.scheduler"]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pulse.convert import body as convert_body
from pulse.errors import PulseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.run import Run
    from pulse.scheduler import Scheduler
    from pulse.store.base import Member, TaskState


class NotServingError(PulseError):
    """The scheduler does not run in this process, or not yet."""


class Handle:
    """Pauses, resumes, triggers and shows tasks, from any process that takes part.

    What a call changes holds for the whole fleet: it is kept in the store.
    """

    __slots__ = ("_pid", "_scheduler")

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None
        self._pid = 0

    def attach(self, scheduler: Scheduler | None) -> None:
        """Speak for *scheduler* from now on; None while there is none in this process."""
        self._scheduler = scheduler
        self._pid = os.getpid()

    def trigger(self, name: str, *, body: bytes | str | None = None) -> Run | None:
        """Run a task now, beside its schedule, with *body* instead of its own if given.

        Returns:
            The run, which the first free process takes; None when overlap refuses it because the
            task is running.

        Raises:
            UnknownTaskError: no such task.
            NotServingError: the scheduler does not run in this process.

        """
        scheduler = self._running()
        content = None if body is None else convert_body(body)
        run = scheduler.call(scheduler.store.trigger, name, body=content)
        scheduler.wake()
        return run

    def pause(self, name: str) -> None:
        """Let a task's fire times pass until it is resumed; raises as `trigger` does."""
        scheduler = self._running()
        scheduler.call(scheduler.store.pause, name, paused=True)

    def resume(self, name: str) -> None:
        """Let a paused task fire again, from its next fire time on; raises as `trigger` does."""
        scheduler = self._running()
        scheduler.call(scheduler.store.pause, name, paused=False)
        scheduler.wake()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task as it stands in the store."""
        scheduler = self._running()
        return scheduler.call(scheduler.store.tasks)

    def runs(self, *, task: str | None = None, limit: int = 100) -> Sequence[Run]:
        """Return the newest runs, of one task or of all, newest first."""
        scheduler = self._running()
        return scheduler.call(scheduler.store.runs, task=task, limit=limit)

    def members(self) -> Sequence[Member]:
        """Return the processes that take part."""
        scheduler = self._running()
        return scheduler.call(scheduler.store.members)

    def _running(self) -> Scheduler:
        if self._scheduler is None or self._pid != os.getpid():
            raise NotServingError("expected a process in which the scheduler has started")
        return self._scheduler
