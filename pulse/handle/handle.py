"""The handle: what an application calls to change and to show tasks and runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse import events
from pulse.clock import moment_of
from pulse.config.handle_arguments import (
    checked_body,
    checked_by,
    checked_end,
    checked_name,
    checked_run,
    checked_text,
    checked_timeout,
)
from pulse.config.run_filters import run_query
from pulse.config.runtime_task import validate_runtime_task
from pulse.errors import ConfigError, shown
from pulse.handle.pruning import PRUNED_AT_ONCE, count_runs, delete_runs, prune_note
from pulse.handle.reads import HandleReads
from pulse.store.rules import keyed_run_id
from pulse.store.steering import EVERY_TASK, Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime, timedelta

    from pulse.core.run import Run
    from pulse.core.task import Task


class SchedulerHandle(HandleReads):
    """Adds, removes, pauses, triggers, stops and shows tasks and runs, from any process.

    Where the scheduler does not run, as with `start = off`, in a shell or in a command, the calls
    work on the store all the same, unless it is `memory:`.

    Each change is logged at level INFO by the process that makes it. The argument *by* of these
    methods is a text for this line and its event: who asked for the change, such as a user's name.

    A change applies to the whole fleet, because it is kept in the store. The handle works in the
    child processes of `mode = processing` too, unless the store is `memory:`.

    Args:
        defaults: the settings of the configuration that apply to tasks that are added.
        make_client: returns access to the store for a process without a scheduler; None if there
            is none.

    """

    __slots__ = ()

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
        who = checked_by(by)
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
        task, who = checked_name(name), checked_by(by)
        access = self._reached()
        access.store.remove(task, by=who)
        access.emit(events.TaskRemoved(task, who))

    def trigger(
        self,
        name: str,
        *,
        body: bytes | str | None = None,
        by: str | None = None,
        key: str | None = None,
    ) -> Run | None:
        """Run a task now, in addition to its schedule; *body* replaces the task's own body.

        With a *key*, a second call for the task with the same one makes no other run: it returns
        the first run as it is, as long as that is kept. So a client that got no answer may ask
        again.

        Returns:
            The run, which the first free process claims; None if `overlap` refuses it because the
            task is running.

        Raises:
            UnknownTaskError: no such task.
            UndeclaredTaskError: no live process declares the task, so none would run it.
            ConfigError: *body*, *by* or *key* is no text.
            NotServingError: the scheduler does not run in this process.
            StoreUnavailableError: the store does not answer.

        """
        task, who = checked_name(name), checked_by(by)
        content = None if body is None else checked_body(body)
        access = self._reached()
        ident = keyed_run_id(task, checked_text("key", key)) if key else None
        run = access.store.trigger(task, body=content, by=who, ident=ident)
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
        self._pause(checked_name(name), until=until, note=note, by=by)

    def pause_all(
        self,
        *,
        until: datetime | None = None,
        note: str | None = None,
        by: str | None = None,
    ) -> None:
        """Skip the fire times of all tasks, also of those that are added or deployed meanwhile.

        The arguments and errors are those of `pause`. `resume_all` ends this pause alone: a task
        that is paused by its own name stays so.
        """
        self._pause(None, until=until, note=note, by=by)

    def _pause(
        self, task: str | None, *, until: datetime | None, note: str | None, by: str | None
    ) -> None:
        who, why = checked_by(by), checked_text("note", note)
        end = None if until is None else checked_end(until)
        access = self._reached()
        passed = access.store.pause(task, Pause(until=end, by=who, note=why))
        access.emit(events.TaskPaused(task or EVERY_TASK, who, end, why), passed)

    def resume(self, name: str, *, by: str | None = None) -> None:
        """Resume a paused task from its next fire time; raises the same errors as `trigger`."""
        self._resume(checked_name(name), by=by)

    def resume_all(self, *, by: str | None = None) -> None:
        """End the pause of all tasks; raises the same errors as `resume`."""
        self._resume(None, by=by)

    def _resume(self, task: str | None, *, by: str | None) -> None:
        who = checked_by(by)
        access = self._reached()
        passed = access.store.pause(task, None, by=who)
        access.emit(events.TaskResumed(task or EVERY_TASK, who), passed)
        access.wake()

    def stop(self, run: Run | str, *, note: str | None = None, by: str | None = None) -> Run:
        """Stop a run, by itself or by its id; return it as it is.

        A pending run ends at once. The process of a run in progress interrupts it within about a
        second, if its mode can: `gevent` if the run waits, `processing` in any case. A run that has
        ended stays as it is. What is stopped is recorded as `interrupted`, with *by* and *note*,
        and is not retried.

        Raises:
            UnknownRunError: no such run, or it is not kept any more.
            RunNotStoppableError: the process of the run cannot stop runs.
            ConfigError: an argument has a wrong type.
            NotServingError: this process cannot reach the store.
            StoreUnavailableError: the store does not answer.

        """
        ident, why, who = checked_run(run), checked_text("note", note), checked_by(by)
        access = self._reached()
        found = access.store.stop(ident, by=who, note=why)
        access.emit(events.RunStopped(found, who, why))
        access.wake()
        return found

    def prune(
        self,
        *,
        older: float | str | timedelta,
        task: str | None = None,
        outcomes: Collection[str] | None = None,
        by: str | None = None,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete ended runs from the history, and count them in the tallies of `ledger`.

        The store deletes what is older than `keep_for` by itself; this deletes earlier. A step
        deletes at most 500 runs, so that no process waits long.

        Args:
            older: how old the fire times of the runs are at least: seconds, a duration such as
                `7d`, or a timedelta.
            task: the name of the only task of which runs are deleted.
            outcomes: the only outcomes of which runs are deleted, such as `succeeded`.
            by: who asked for it, for the audit trail.
            dry_run: whether the runs are only counted.
            progress: called after each step with the number of runs so far.

        Returns:
            How many runs were deleted, or would be.

        Raises:
            ConfigError: an argument has a wrong type or value.
            NotServingError: this process cannot reach the store.
            StoreUnavailableError: the store does not answer.

        """
        who, age = checked_by(by), checked_timeout(older, name="older") or 0
        access = self._reached()
        query = run_query(
            task=None if task is None else checked_name(task),
            outcomes=outcomes,
            until=moment_of(access.clock.wall() - age + 1),  # not included
            limit=PRUNED_AT_ONCE,
        )
        note = prune_note(query, age)
        if dry_run:
            return count_runs(access.store, query, progress)
        number = delete_runs(access.store, query, progress, by=who, note=note)
        access.emit(events.RunsDeleted(number, query.task or EVERY_TASK, who, note))
        return number
