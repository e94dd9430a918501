"""What the handle shows: tasks, runs, processes, the audit trail, and explanations."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pulse.clock import SECOND, moment_of
from pulse.config.handle_arguments import (
    checked_moment,
    checked_name,
    checked_run,
    checked_timeout,
)
from pulse.config.run_filters import run_query
from pulse.core.policies import Scope
from pulse.core.run_query import PENDING, RUNNING, RunQuery
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.handle.access import HandleBase
from pulse.handle.health import Overview, judge
from pulse.scheduler.wait_for_run import wait_for_run

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime, timedelta

    from pulse.accounting.ledger import Ledger
    from pulse.accounting.why import Explanation
    from pulse.core.run import Run
    from pulse.core.run_query import RunPage
    from pulse.handle.health import Health
    from pulse.store.base import Store
    from pulse.store.steering import AuditEntry, MemberState, Pause, TaskState


_PAGE = 500
"""How many unfinished runs `health` reads at once."""


class HandleReads(HandleBase):
    """The calls that change nothing."""

    __slots__ = ()

    def tasks(self) -> Sequence[TaskState]:
        """Return every task in the store."""
        access = self._reached()
        return access.store.tasks()

    def now(self) -> datetime:
        """Return the store's clock, by which fire times are due."""
        return moment_of(self._reached().store.now())

    def task(self, name: str) -> TaskState:
        """Return one task; if it has several rows, as with `scope = host`, the first by host.

        Raises:
            UnknownTaskError: no such task.

        """
        return self.rows_of(name)[0]

    def rows_of(self, name: str) -> Sequence[TaskState]:
        """Return the rows of one task: one for each host with `scope = host`.

        Raises:
            UnknownTaskError: no such task.

        """
        task = checked_name(name)
        access = self._reached()
        found = access.store.tasks(task)
        if not found:
            near = did_you_mean(task, [one.name for one in access.store.tasks()])
            raise UnknownTaskError(f"expected the name of a task, got {task!r}{near}")
        return found

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
            task=None if task is None else checked_name(task),
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
        access = self._reached()
        return access.store.run(checked_run(ident))

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

    def pause_of_all(self) -> Pause | None:
        """Return the pause of all tasks; None if there is none."""
        access = self._reached()
        return access.store.pause_of_all()

    def ledger(
        self,
        task: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Sequence[Ledger]:
        """Account for the fire times of a task, or of all tasks, from what is on record.

        Args:
            task: the name of a task; None for all that are in use.
            since: the earliest fire time, an aware datetime; by default that of the records.
            until: the time before which all fire times are; by default the present.

        Raises:
            UnknownTaskError: *task* cannot be the name of a task.
            ConfigError: *since* or *until* is no aware datetime.

        """
        name = None if task is None else checked_name(task)
        begin = None if since is None else checked_moment("since", since)
        end = None if until is None else checked_moment("until", until)
        from pulse.store.accounts import account

        store = self._reached().store
        names = [name] if name is not None else sorted({one.name for one in store.tasks()})
        return [account(store, one, since=begin, until=end) for one in names]

    def why(
        self, task: str, moment: datetime, *, within: float | str | timedelta = 1
    ) -> Sequence[Explanation]:
        """Explain what a task did at a time, or why it did nothing, from what is on record.

        Args:
            task: the name of the task.
            moment: the time, an aware datetime.
            within: how much from *moment* on is asked for; several fire times have an explanation
                each, the first 500, and so has each host with `scope = host`.

        Raises:
            UnknownTaskError: *task* cannot be the name of a task.
            ConfigError: another argument has a wrong type or value.

        """
        name, at = checked_name(task), checked_moment("moment", moment)
        span = checked_timeout(within, name="within") or SECOND
        from pulse.store.accounts import why

        return why(self._reached().store, name, at, within=span)

    def members(self) -> Sequence[MemberState]:
        """Return the processes that take part, with what they say about themselves."""
        access = self._reached()
        return access.store.members()

    def wait(self, run: Run | str, *, timeout: float | str | timedelta | None = None) -> Run:
        """Wait until a run has ended; return it, or as it is after *timeout*.

        Do not wait in a view for a run that needs the same thread or process to run.

        Args:
            run: the run, or its id.
            timeout: how long to wait at most: seconds, a duration such as `5m`, or a timedelta;
                None for without limit.

        Raises:
            UnknownRunError: no such run, or it is not kept any more.
            ConfigError: an argument has a wrong type.
            NotServingError: this process cannot reach the store.
            StoreUnavailableError: the store does not answer.

        """
        ident, limit = checked_run(run), checked_timeout(timeout)
        access = self._reached()
        return wait_for_run(access.store, ident, limit, clock=access.clock)

    def health(self) -> Health:
        """Return whether the schedule is kept: what is overdue, failing or stuck, and who serves.

        For the application's own health check. It is about the fleet; the addresses below the
        setting `health` are also about this process.

        Raises:
            NotServingError: this process cannot reach the store.
            StoreUnavailableError: the store does not answer.

        """
        return self.overview().health

    def overview(self) -> Overview:
        """Return tasks, processes, runs in progress, and the health that follows from them.

        Raises:
            NotServingError: this process cannot reach the store.
            StoreUnavailableError: the store does not answer.

        """
        store = self._reached().store
        tasks, members, pause = store.tasks(), store.members(), store.pause_of_all()
        running = _running(store, tasks)
        health = judge(tasks, members, running, pause=pause, now=store.now())
        is_private = store.reach is Scope.PROCESS
        return Overview(tasks, members, pause, running, health, is_private)


def _running(store: Store, tasks: Sequence[TaskState]) -> list[Run]:
    """Return the runs in progress.

    A page examines a part of the history. An unfinished run that is older is looked for in the
    history of its task, which is shorter.
    """
    states = frozenset({RUNNING, PENDING})
    page = store.history(RunQuery(states=states, limit=_PAGE))
    found = list(page)
    if page.cursor is not None:
        missing = Counter[str]()
        for one in tasks:
            missing[one.name] += one.unfinished
        missing -= Counter(run.task for run in found)
        for name in sorted(missing):
            cursor: int | None = page.cursor
            while cursor is not None and missing[name] > 0:
                older = store.history(
                    RunQuery(task=name, states=states, before=cursor, limit=_PAGE)
                )
                found += older
                missing[name] -= len(older)
                cursor = older.cursor
    return [run for run in found if run.in_progress]
