"""The calls of the application and of people, for the stores that several processes share."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from pulse.core.records import TaskPosition, TaskRecords
from pulse.core.run import Claim
from pulse.core.run_query import NO_RUNS, RunQuery
from pulse.core.shown_settings import shown_settings
from pulse.errors import ConfigError
from pulse.store.shared.backend import DuplicateKeyError, Transaction, Written
from pulse.store.shared.members import read_live
from pulse.store.shared.sync import add_task
from pulse.store.shared.tasks import (
    begin_run,
    continued_skips,
    pause_every_task,
    pause_rows,
    remove_task,
    stop_run,
    trigger_run,
)
from pulse.store.steering import (
    EVERY_TASK,
    REFUSED_BY_OVERLAP,
    AuditEntry,
    DeletedRuns,
    MemberState,
    StopRequest,
    pause_entry,
    paused_intervals,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.clock import Clock, Instant
    from pulse.core.run import Run
    from pulse.core.run_query import RunPage
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import MemberRow, Session
    from pulse.store.shared.calls import Calls
    from pulse.store.shared.rows import Caller, TaskRow
    from pulse.store.steering import Pause, TaskState

T = TypeVar("T")

_ALL = 2**31 - 1


class SharedSteering:
    """What `pulse.store.steering.Steering` promises; `SharedStore` adds the calls of the loop."""

    _calls: Calls
    _caller: Caller
    _clock: Clock

    def _note(self, now: Instant) -> None:
        """Record a reading of the store's clock."""
        raise NotImplementedError

    def _run_apart(self, how: Transaction, rule: Callable[[Session], T]) -> T:
        """Run a rule whose error does not reach the loop, as in a call of the application."""
        return self._calls.run(how, rule, reaches_loop=False)

    def add(
        self, runtime_task: RuntimeTask, *, replace: bool = False, by: str = ""
    ) -> Sequence[Run]:
        """Add a task that every process may run, until it is removed."""
        self._calls.refuse_closed()
        caller, verb = self._caller, "replace" if replace else "add"
        task = runtime_task.definition.name

        def rule(session: Session, written: Written) -> Instant:
            now = add_task(session, caller, runtime_task, replace=replace, written=written)
            session.add_audit(AuditEntry(at=now, verb=verb, task=task, by=by))
            return now

        now, written = self._calls.run_writing(Transaction.EXCLUSIVE, rule, reaches_loop=False)
        self._note(now)
        return written.missed

    def remove(self, name: str, *, by: str = "") -> None:
        """Archive a task that was added; its pending runs end, its claimed runs continue."""

        def rule(session: Session) -> None:
            remove_task(session, name)
            session.add_audit(AuditEntry(at=session.now(), verb="remove", task=name, by=by))

        self._run_apart(Transaction.EXCLUSIVE, rule)

    def pause(self, name: str | None, pause: Pause | None, *, by: str = "") -> Sequence[Run]:
        """Pause or resume a task in all partitions, or all tasks."""
        self._calls.refuse_closed()
        caller = self._caller

        def rule(session: Session, written: Written) -> Instant:
            if name is None:
                now = pause_every_task(session, written, caller, pause)
            else:
                now = pause_rows(session, written, caller, name, pause)
            session.add_audit(pause_entry(name, pause, at=now, by=by))
            return now

        now, written = self._calls.run_writing(Transaction.EXCLUSIVE, rule, reaches_loop=False)
        self._note(now)
        return written.missed

    def pause_of_all(self) -> Pause | None:
        """Return the pause of all tasks; None if there is none."""
        pauses = self._run_apart(Transaction.READ, lambda session: session.read_pauses())
        return pauses.get(EVERY_TASK)

    def stop(self, ident: str, *, by: str = "", note: str = "") -> Run:
        """Ask for a run to be stopped; return the run as it is."""
        self._calls.refuse_closed()
        caller = self._caller

        def rule(session: Session) -> Run:
            now = session.now()
            run = stop_run(session, caller, ident, StopRequest(now, by, note))
            session.add_audit(
                AuditEntry(at=now, verb="stop", task=run.task, by=by, run=ident, note=note)
            )
            return run

        return self._run_apart(Transaction.WRITE, rule)

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        return self._run_apart(
            Transaction.READ, lambda session: session.read_audit(before=before, limit=limit)
        )

    def tasks(self, name: str | None = None) -> list[TaskState]:
        """Return the rows of all tasks, or of one, by name and partition."""

        def rule(session: Session) -> list[TaskState]:
            rows, last = session.read_in_use(name), session.read_last_runs(name)
            pauses = session.read_pauses() if any(row.paused for row, _ in rows) else {}
            digests = {row.digest for row, _ in rows if row.task_json is None}
            settings = session.read_definitions(digests) if digests else {}
            return [
                row.state(
                    unfinished,
                    last.get(row.task_key, NO_RUNS),
                    pause=pauses.get(row.task),
                    settings=self._settings_of(row, settings),
                )
                for row, unfinished in rows
            ]

        states = self._run_apart(Transaction.READ, rule)
        return sorted(states, key=attrgetter("name", "partition"))

    def _settings_of(
        self, row: TaskRow, settings: Mapping[str, Mapping[str, str]]
    ) -> Mapping[str, str]:
        if row.task_json is None:
            return settings.get(row.digest, {})
        try:
            return shown_settings(self._caller.load_task(row.task, row.task_json))
        except ConfigError:  # a newer release wrote the task
            return {}

    def trigger(
        self, name: str, *, body: bytes | None = None, by: str = "", ident: str | None = None
    ) -> Run | None:
        """Add a pending manual run, due now; None when overlap refuses it."""
        self._calls.refuse_closed()
        caller, boot = self._caller, self._clock.boot()

        def rule(session: Session) -> Run | None:
            known = None if ident is None else session.read_runs([ident]).get(ident)
            if known is not None:
                return known
            run = trigger_run(session, caller, name, body=body, boot=boot, ident=ident)
            made, note = ("", REFUSED_BY_OVERLAP) if run is None else (run.id, "")
            now = session.now()
            session.add_audit(
                AuditEntry(at=now, verb="trigger", task=name, by=by, run=made, note=note)
            )
            return run

        try:
            run = self._run_apart(Transaction.WRITE, rule)
        except DuplicateKeyError:  # another process has made the run of this id at the same time
            run = self._run_apart(Transaction.WRITE, rule)
        if run is not None:
            self._note(run.fire_time)
        return run

    def begin(
        self,
        name: str,
        definition: TaskDefinition | None,
        *,
        body: bytes | None = None,
        by: str = "",
        at_once: bool = False,
    ) -> Claim | None:
        """Add a manual run that this process has claimed; None when overlap refuses it."""
        self._calls.refuse_closed()
        caller, boot = self._caller, self._clock.boot()

        def rule(session: Session) -> tuple[Run, TaskDefinition] | None:
            begun = begin_run(
                session, caller, name, definition, body=body, at_once=at_once, boot=boot
            )
            now = session.now()
            ident, note = ("", REFUSED_BY_OVERLAP) if begun is None else (begun[0].id, "")
            session.add_audit(
                AuditEntry(at=now, verb="run", task=name, by=by, run=ident, note=note)
            )
            return begun

        begun = self._run_apart(Transaction.WRITE, rule)
        return None if begun is None else Claim(*begun, boot + caller.member.lease_us)

    def stop_request(self, run: Run) -> StopRequest | None:
        """Return the request to stop a run that this process has claimed."""
        read = self._run_apart(Transaction.READ, lambda session: session.read_stops([run.id])())
        return read.get(run.id)

    def records(self, task: str) -> TaskRecords:
        """Return everything that is recorded about a task beside its runs."""
        self._calls.refuse_closed()
        lease_us = self._caller.member.lease_us

        def rule(session: Session) -> TaskRecords:
            found = session.read_tasks_named(task)
            pauses = {
                name: one
                for name, one in session.read_pauses().items()
                if name in {task, EVERY_TASK}
            }
            entries = session.read_audit(before=None, limit=_ALL, tasks=[task, EVERY_TASK])
            return TaskRecords(
                now=found.now,
                lease_us=lease_us,
                positions=[
                    TaskPosition(row.partition, row.next_fire, row.last_decided)
                    for row in found.rows.values()
                ],
                versions=session.read_versions(task),
                served=session.read_served(),
                pauses=paused_intervals(reversed(entries), pauses),
                tallies=session.read_tallies(task),
                refused=session.read_refused(task),
            )

        return self._run_apart(Transaction.READ, rule)

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return [*self.history(RunQuery(task=task, limit=limit))]

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first."""
        return self._run_apart(Transaction.READ, lambda session: session.read_history(query))

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if there is none, or it is not kept any more."""
        found = self._run_apart(Transaction.READ, lambda session: session.read_runs([ident]))
        return found.get(ident)

    def delete_runs(self, query: RunQuery, *, by: str = "", note: str = "") -> DeletedRuns:
        """Delete those runs of a page of the history that have ended, and count them."""
        self._calls.refuse_closed()
        caller = self._caller

        def rule(session: Session) -> DeletedRuns:
            page = session.read_history(query)
            continued = continued_skips(session, caller, page)
            ended = [run.id for run in page if run.outcome is not None and run.id not in continued]
            if query.before is None:
                task = query.task or EVERY_TASK
                entry = AuditEntry(at=session.now(), verb="prune", task=task, by=by, note=note)
                session.add_audit(entry)
            if ended:
                session.delete_runs(ended)
            return DeletedRuns(len(ended), page.cursor)

        return self._run_apart(Transaction.WRITE, rule)

    def now(self) -> Instant:
        """Return the store's clock."""
        return self._run_apart(Transaction.READ, lambda session: session.now())

    def members(self) -> list[MemberState]:
        """Return the processes seen within three of their leases."""
        self._calls.refuse_closed()
        find = partial(read_live, caller=self._caller.member, boot=self._clock.boot())

        def rule(session: Session) -> list[MemberState]:
            found = find(session)
            now = session.now()
            return [_state_of(one, now) for one in found]

        return self._run_apart(Transaction.READ, rule)


def _state_of(row: MemberRow, now: Instant) -> MemberState:
    member = row.member
    return MemberState(
        holder=member.holder,
        host=member.host,
        pid=member.pid,
        mode=member.mode,
        digest=member.digest,
        lease_us=member.lease_us,
        seen_at=now - max(row.silent_us, 0),
        report=row.report,
    )
