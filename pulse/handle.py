"""The application's access to the scheduler: `environ["pulse.scheduler"]`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pulse import events
from pulse.clock import instant_of
from pulse.config.run_filters import is_encodable, run_query
from pulse.config.runtime_task import validate_runtime_task
from pulse.core.runtime_task import TaskDefaults
from pulse.errors import BadValueError, ConfigError, NotServingError, UnknownTaskError, shown
from pulse.forks import refusal
from pulse.settings.converters import body as convert_body

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.run_query import RunPage
    from pulse.core.task import Task
    from pulse.store.base import AuditEntry, Member, Store, TaskState


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

    Each change is logged at level INFO by the process that makes it. The argument *by* of these
    methods is a text for this line and its event: who asked for the change, such as a user's name.

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

    def add(self, name: str, task: Task, *, replace: bool = False, by: str | None = None) -> None:
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
            by: who asked for it, for the log.

        Raises:
            ConfigError: an argument is wrong, or the guard does not cover the task's path.
            TaskExistsError: a task of that name was added before, and *replace* is false.
            ConfigTaskError: the configuration declares a task of that name.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        runtime_task = validate_runtime_task(name, task, self._defaults)
        if not isinstance(replace, bool):
            raise ConfigError([f"replace: expected True or False, got {shown(replace)}"])
        who = _checked_by(by)
        access = self._reached()
        passed = access.store.add(runtime_task, replace=replace, by=who)
        access.emit(events.TaskAdded(name, replace, who), passed)
        access.wake()

    def remove(self, name: str, *, by: str | None = None) -> None:
        """Remove a task that was added; pending runs end, runs in progress continue.

        If the task is added again, no earlier fire time runs a second time.

        Raises:
            ConfigTaskError: the configuration declares it.
            UnknownTaskError: no such task.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        task, who = _checked_name(name), _checked_by(by)
        access = self._reached()
        access.store.remove(task, by=who)
        access.emit(events.TaskRemoved(task, who))

    def trigger(
        self, name: str, *, body: bytes | str | None = None, by: str | None = None
    ) -> Run | None:
        """Run a task now, in addition to its schedule; *body* replaces the task's own body.

        Returns:
            The run, which the first free process claims; None if `overlap` refuses it because the
            task is running.

        Raises:
            UnknownTaskError: no such task.
            UndeclaredTaskError: no live process declares the task, so none would run it.
            ConfigError: *body* or *by* is no text.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        task, who = _checked_name(name), _checked_by(by)
        content = None if body is None else _checked_body(body)
        access = self._reached()
        run = access.store.trigger(task, body=content, by=who)
        access.emit(events.TaskTriggered(task, run, who))
        access.wake()
        return run

    def pause(
        self,
        name: str,
        *,
        until: datetime | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> None:
        """Skip a task's fire times until it is resumed; raises the same errors as `trigger`.

        Args:
            name: the name of the task.
            until: when the pause ends by itself, an aware datetime; fire times after it run. None
                for a pause that only `resume` ends.
            note: why the task is paused, for `tasks()` and the log.
            by: who asked for it.

        Raises:
            ConfigError: *until* has passed, or an argument has a wrong type.

        """
        task, who, why = _checked_name(name), _checked_by(by), _checked_text("note", note)
        end = None if until is None else _checked_end(until)
        access = self._reached()
        access.store.pause(task, paused=True, until=end, by=who, note=why)
        access.emit(events.TaskPaused(task, who, end, why))

    def resume(self, name: str, *, by: str | None = None) -> None:
        """Resume a paused task from its next fire time; raises the same errors as `trigger`."""
        task, who = _checked_name(name), _checked_by(by)
        access = self._reached()
        access.store.pause(task, paused=False, by=who)
        access.emit(events.TaskResumed(task, who))
        access.wake()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task in the store."""
        access = self._reached()
        return access.store.tasks()

    def runs(
        self,
        *,
        task: str | None = None,
        outcomes: Collection[str] | None = None,
        trigger: str | None = None,
        holder: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> RunPage:
        """Return the newest runs that all filters select, newest first.

        A task without runs has none, whether it exists or not: the history outlives its task.

        Args:
            task: the name of a task.
            outcomes: outcomes such as `failed`, and `pending` and `running` for runs without one.
            trigger: why the run was created: `schedule`, `catch_up`, `manual` or `startup`.
            holder: the process that has run it.
            since: the earliest fire time, an aware datetime.
            until: the fire time before which all are, an aware datetime.
            before: the *cursor* of the page before: then the page continues there.
            limit: how many runs the page has at most.

        Returns:
            A sequence of runs with a *cursor*. A store examines at most 10,000 runs for a page, on
            Redis 1,000: a page may have fewer runs than *limit*, and a cursor to continue.

        Raises:
            UnknownTaskError: *task* cannot be the name of a task.
            ConfigError: another argument has a wrong type or value.

        """
        query = run_query(
            task=None if task is None else _checked_name(task),
            outcomes=outcomes,
            trigger=trigger,
            holder=holder,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )
        access = self._reached()
        return access.store.history(query)

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if there is none, or it is not kept any more."""
        if not isinstance(ident, str) or not is_encodable(ident):
            raise ConfigError([f"ident: expected the id of a run as text, got {shown(ident)}"])
        access = self._reached()
        return access.store.run(ident)

    def audit(self, *, before: int | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """Return what was asked for in the last 90 days, newest first.

        Pauses, resumptions, triggers, and tasks that were added, replaced or removed at run time,
        with *by*. With *before*, the entries whose number is lower: that of the last entry leads to
        the next page.

        Raises:
            ConfigError: *before* or *limit* is no whole number.

        """
        query = run_query(before=before, limit=limit)
        access = self._reached()
        return access.store.audit(before=query.before, limit=query.limit)

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
                " at the first request that is served: see the setting start, and the log if it"
                " could not start"
            )
        return self._access


def _checked_name(name: object) -> str:
    """Return *name* if a task can have it: a view may pass what it got in a request.

    Raises:
        UnknownTaskError: it is no text, or text that UTF-8 cannot encode.

    """
    if not isinstance(name, str):
        raise UnknownTaskError(f"name: expected the name of a task as text, got {shown(name)}")
    if not is_encodable(name):
        raise UnknownTaskError(
            f"name: expected the name of a task without lone surrogates, got {shown(name)}"
        )
    return name


_LONGEST_TEXT = 200


def _checked_by(by: object) -> str:
    return _checked_text("by", by, example=", such as the name of a user")


def _checked_text(argument: str, value: object, *, example: str = "") -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError([f"{argument}: expected text{example}, got {shown(value)}"])
    if len(value) > _LONGEST_TEXT:
        got = f"{len(value):,} characters"
        raise ConfigError([f"{argument}: expected at most {_LONGEST_TEXT} characters, got {got}"])
    if not is_encodable(value):
        raise ConfigError([f"{argument}: expected text without surrogates, got {shown(value)}"])
    return value


def _checked_end(until: datetime) -> Instant:
    try:
        return instant_of(until)
    except BadValueError as error:
        example = ", such as datetime.now(UTC) + timedelta(hours=1)"
        raise ConfigError([f"until: {error}{example}"]) from None


def _checked_body(body: object) -> bytes:
    try:
        return convert_body(body)
    except BadValueError as error:
        raise ConfigError([f"body: {error}"]) from None
