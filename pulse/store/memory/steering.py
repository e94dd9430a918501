"""The calls of the application and of people, for the memory store."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from pulse.core.records import ServedInterval, TaskRecords
from pulse.core.run import Claim, Run, Trigger
from pulse.core.run_query import RunQuery
from pulse.core.run_transitions import claim_run, interrupt_pending, pending_run
from pulse.errors import UnknownRunError, UnknownTaskError
from pulse.store.rules import RUNTIME, check_stoppable, new_run_id, partitions_of, undeclared
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
    import threading
    from collections import deque
    from collections.abc import Callable, Sequence

    from pulse.clock import Clock, Instant
    from pulse.core.run_query import RunPage
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.memory.runs import RunTable
    from pulse.store.memory.tasks import TaskTable
    from pulse.store.steering import MemberReport, Pause, TaskState


class MemorySteering:
    """What `pulse.store.steering.Steering` promises; `MemoryStore` adds the calls of the loop."""

    _audit: deque[AuditEntry]
    _clock: Clock
    _opened_at: Instant
    _recorded: int
    _report: Callable[[], MemberReport]
    _stops: dict[str, StopRequest]
    _runs: RunTable
    _tasks: TaskTable

    def _caller(self) -> Member:
        raise NotImplementedError

    def _open_lock(self) -> threading.Lock:
        raise NotImplementedError

    def _now(self) -> Instant:
        raise NotImplementedError

    def add(
        self, runtime_task: RuntimeTask, *, replace: bool = False, by: str = ""
    ) -> Sequence[Run]:
        """Add a run-time task until it is removed, or until the process ends."""
        with self._open_lock():
            missed = self._tasks.add(runtime_task.definition, self._now(), replace=replace)
            verb, name = "replace" if replace else "add", runtime_task.definition.name
            self._record(AuditEntry(at=self._now(), verb=verb, task=name, by=by))
            return missed

    def remove(self, name: str, *, by: str = "") -> None:
        """Archive a run-time task; its pending runs end, its claimed runs continue."""
        with self._open_lock():
            self._tasks.remove(name, self._now())
            self._record(AuditEntry(at=self._now(), verb="remove", task=name, by=by))

    def _record(self, entry: AuditEntry) -> None:
        """Add an entry to the audit trail."""
        self._recorded += 1
        self._audit.append(msgspec.structs.replace(entry, number=self._recorded))

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        with self._open_lock():
            found = (one for one in reversed(self._audit) if before is None or one.number < before)
            return [*islice(found, limit)]

    def pause(self, name: str | None, pause: Pause | None, *, by: str = "") -> Sequence[Run]:
        """Pause or resume a task, or all tasks; fire times during a pause are missed."""
        with self._open_lock():
            now = self._now()
            if name is None:
                missed = self._tasks.pause_all(now, pause)
            else:
                missed = self._tasks.pause(name, now, pause)
            self._record(pause_entry(name, pause, at=now, by=by))
            return missed

    def pause_of_all(self) -> Pause | None:
        """Return the pause of all tasks; None if there is none."""
        with self._open_lock():
            return self._tasks.pause_of_all

    def tasks(self, name: str | None = None) -> list[TaskState]:
        """Return the rows of all tasks, or of one, ordered by name."""
        with self._open_lock():
            return self._tasks.states(name)

    def stop(self, ident: str, *, by: str = "", note: str = "") -> Run:
        """Ask for a run to be stopped; return the run as it is."""
        with self._open_lock():
            stored, now = self._runs.open.get(ident), self._now()
            if stored is None:
                run = self._runs.find(ident)
                if run is None:
                    raise UnknownRunError(f"expected the id of a run that is kept, got {ident!r}")
            elif stored.run.holder:
                run, request = stored.run, StopRequest(now, by, note)
                check_stoppable(run, self._caller().mode, self._report())
                self._stops[ident] = request
            else:
                run = interrupt_pending(stored.run, StopRequest(now, by, note).reason())
                self._tasks.end(stored, run)
            self._record(
                AuditEntry(at=now, verb="stop", task=run.task, by=by, run=ident, note=note)
            )
            return run

    def trigger(
        self, name: str, *, body: bytes | None = None, by: str = "", ident: str | None = None
    ) -> Run | None:
        """Create a pending manual run of a task, due now; return None when overlap refuses it."""
        with self._open_lock():
            row = self._tasks.row_of(name)
            known = None if ident is None else self._runs.find(ident)
            if known is not None:
                return known
            if row.withdrawn:
                raise undeclared(name)
            now = self._now()
            asked = AuditEntry(at=now, verb="trigger", task=name, by=by)
            if row.unfinished >= row.definition.max_unfinished:
                self._record(msgspec.structs.replace(asked, note=REFUSED_BY_OVERLAP))
                return None
            run = pending_run(
                ident or new_run_id(),
                name,
                partition=row.partition,
                trigger=Trigger.MANUAL,
                now=now,
                body=body,
            )
            self._tasks.open_run(row, run)
            self._record(msgspec.structs.replace(asked, run=run.id))
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
        """Create a manual run that the caller has claimed; None when overlap refuses it."""
        boot = self._clock.boot()
        with self._open_lock():
            row, now, member = self._tasks.row_of(name), self._now(), self._caller()
            if definition is None and row.source != RUNTIME:
                raise UnknownTaskError(
                    f"expected the name of a task that was added at run time, got {name!r}"
                )
            known = definition or row.definition
            asked = AuditEntry(at=now, verb="run", task=name, by=by)
            if not at_once and row.unfinished >= known.max_concurrent:
                self._record(msgspec.structs.replace(asked, note=REFUSED_BY_OVERLAP))
                return None
            pending = pending_run(
                new_run_id(),
                name,
                partition=row.partition,
                trigger=Trigger.MANUAL,
                now=now,
                body=body,
            )
            run = claim_run(pending, member.holder, now)
            self._tasks.open_run(row, run, boot)
            self._record(msgspec.structs.replace(asked, run=run.id))
            return Claim(run, known, boot + member.lease_us)

    def stop_request(self, run: Run) -> StopRequest | None:
        """Return the request to stop a run; None if there is none."""
        with self._open_lock():
            return self._stops.get(run.id)

    def records(self, task: str) -> TaskRecords:
        """Return everything that is recorded about a task beside its runs."""
        with self._open_lock():
            now, accounts, member = self._now(), self._runs.accounts, self._caller()
            row = self._tasks.rows.get(task)
            paused = {} if row is None or row.pause is None else {task: row.pause}
            if self._tasks.pause_of_all is not None:
                paused[EVERY_TASK] = self._tasks.pause_of_all
            entries = [one for one in self._audit if one.task in {task, EVERY_TASK}]
            shared = partitions_of(member) - {member.holder}
            return TaskRecords(
                now=now,
                lease_us=member.lease_us,
                positions=self._tasks.positions(task),
                versions=accounts.versions(task),
                served=[ServedInterval(one, self._opened_at, now) for one in sorted(shared)],
                pauses=paused_intervals(entries, paused),
                tallies=accounts.tallies(task),
                refused=[one for one in accounts.refused if one.task == task],
            )

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return [*self.history(RunQuery(task=task, limit=limit))]

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first."""
        with self._open_lock():
            return self._runs.history(query)

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if it is not kept."""
        with self._open_lock():
            return self._runs.find(ident)

    def delete_runs(self, query: RunQuery, *, by: str = "", note: str = "") -> DeletedRuns:
        """Delete those runs of a page of the history that have ended, and count them."""
        with self._open_lock():
            page = self._runs.history(query)
            if query.before is None:
                task = query.task or EVERY_TASK
                self._record(AuditEntry(at=self._now(), verb="prune", task=task, by=by, note=note))
            skips = {row.skip.run.id for row in self._tasks.rows.values() if row.skip is not None}
            ended = {run.id for run in page if run.outcome is not None} - skips
            self._runs.delete(ended)
            return DeletedRuns(len(ended), page.cursor)

    def now(self) -> Instant:
        """Return the store's clock."""
        with self._open_lock():
            return self._now()

    def members(self) -> list[MemberState]:
        """Return this process alone."""
        member = self._caller()
        return [
            MemberState(
                holder=member.holder,
                host=member.host,
                pid=member.pid,
                mode=member.mode,
                digest=member.digest,
                lease_us=member.lease_us,
                seen_at=self._now(),
                report=self._report(),
            )
        ]
