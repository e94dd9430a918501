"""Reads task rows and changes them: pause, resume, trigger, remove.

Each rule reads rows, decides, and writes where the rows are as they were read. What other processes
have changed meanwhile is read and decided again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.core.cursor import BEFORE_TIME, due_at
from pulse.core.run import QUEUE_HOLDER, Outcome, Trigger, run_id
from pulse.core.run_transitions import (
    claim_run,
    interrupt_pending,
    not_run_record,
    pending_run,
    unclaim_run,
)
from pulse.core.runtime_task import REMOVED_WHEN_DONE
from pulse.errors import ConfigTaskError, UnknownRunError, UnknownTaskError, did_you_mean
from pulse.store.rules import (
    MAX_NAMES_COMPARED,
    REMOVED,
    check_end_of_pause,
    check_removal,
    check_stoppable,
    new_run_id,
    plans_before_pause,
    undeclared,
)
from pulse.store.shared.backend import MAX_ROUNDS, Written, too_busy
from pulse.store.shared.changes import ChangeSet, RunChange, TaskChange
from pulse.store.shared.manifests import UNKNOWN
from pulse.store.shared.members import read_active_definitions, read_live
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.records import record_versions
from pulse.store.shared.rows import TaskSnapshot
from pulse.store.steering import EVERY_TASK, PAUSE_ENDED, TASK_DONE, AuditEntry, Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Session
    from pulse.store.shared.changes import Applied
    from pulse.store.shared.rows import Caller, TaskRow
    from pulse.store.steering import StopRequest


def read_task(session: Session, name: str, *, lock: bool = False) -> TaskSnapshot:
    """Return the rows of a task in all partitions, without archived ones.

    Raises:
        UnknownTaskError: the task has no such row.

    """
    found = session.read_tasks_named(name, lock=lock).in_use()
    if not found.rows:
        hint = did_you_mean(name, session.read_task_names(MAX_NAMES_COMPARED))
        raise UnknownTaskError(f"expected the name of a task, got {name!r}{hint}")
    return found


def apply_tasks(session: Session, changes: Sequence[TaskChange]) -> Applied:
    """Change rows."""
    return session.apply(ChangeSet(tasks=changes))


def change_rows(
    session: Session,
    read: Callable[[], TaskSnapshot],
    change: Callable[[TaskRow, Instant], TaskChange | None],
    *,
    write: Callable[[Session, Sequence[TaskChange]], Applied] = apply_tasks,
) -> list[TaskChange]:
    """Change the rows that *read* returns, each as *change* says, until no change is refused.

    Returns:
        The changes that were applied.

    """
    made: list[TaskChange] = []
    for _ in range(MAX_ROUNDS):
        found = read()
        wanted = [change(row, found.now) for row in found.rows.values()]
        changes = [one for one in wanted if one is not None]
        if not changes:
            return made
        applied = write(session, changes).tasks
        made += [one for one, done in zip(changes, applied, strict=True) if done]
        if all(applied):
            return made
    raise too_busy(session.name)


def pause_rows(
    session: Session,
    written: Written,
    caller: Caller,
    name: str,
    pause: Pause | None,
    *,
    at: Instant | None = None,
    since: Instant | None = None,
) -> Instant:
    """Pause or resume a task in all partitions, and in those where rows are added later.

    Args:
        session: a session.
        written: takes the records of fire times that were overdue as the pause began.
        caller: the process that calls.
        name: the name of the task.
        pause: the pause, which begins now; None to resume the task.
        at: the instant up to which fire times were paused; now, if not given.
        since: when the pause that ends began, if its record is gone already.

    Returns:
        The store's clock.

    """
    found, paused = read_task(session, name), pause is not None
    if pause is None:
        pauses = session.read_pauses()
        since = _first_of(pauses.get(name), pauses.get(EVERY_TASK), since)
    if pause is not None:
        check_end_of_pause(pause.until, found.now)
        pause = msgspec.structs.replace(pause, since=found.now)

    def read() -> TaskSnapshot:
        # Recorded again in each round: another process may have recorded the opposite since.
        session.set_paused(name, pause)
        try:
            return read_task(session, name)
        except UnknownTaskError:
            session.set_paused(name, None)  # the task was removed, and its pause with it
            raise

    def change(row: TaskRow, now: Instant) -> TaskChange | None:
        if row.paused == paused:
            return None
        if paused:
            return TaskChange(row.changed(paused=True), row, follows_pause=True)
        settled, runs = _settled(caller, row, since)
        end = max(now if at is None else at, row.resumed_at or BEFORE_TIME)
        return TaskChange(
            settled.changed(paused=False, resumed_at=end), row, runs, follows_pause=True
        )

    _report_missed(change_rows(session, read, change), written)
    return found.now


def _settled(caller: Caller, row: TaskRow, since: Instant | None) -> tuple[TaskRow, Sequence[Run]]:
    """Return a row without the fire times that were undecided at *since*, and their records."""
    plans = plans_before_pause(row.schedule, row.cursor(), resumed_at=row.resumed_at, since=since)
    if not plans:
        return row, ()
    records = [
        not_run_record(
            caller.space,
            row.task,
            partition=row.partition,
            passed=decided.missed,
            outcome=Outcome.MISSED,
        )
        for decided in plans
        if decided.missed is not None
    ]
    cursor = plans[-1].cursor
    moved = row.changed(
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        last_decided=cursor.last_decided,
        gaps=cursor.gaps,
        skip=None,
    )
    return moved, records


def _first_of(own: Pause | None, every: Pause | None, since: Instant | None) -> Instant | None:
    """Return when the first of the pauses of a task began, one of which has begun at *since*."""
    known = [since, *(one.since for one in (own, every) if one is not None)]
    return min((one for one in known if one is not None), default=None)


def _report_missed(made: Sequence[TaskChange], written: Written) -> None:
    written.missed.extend(run for one in made for run in one.runs)


def pause_every_task(
    session: Session,
    written: Written,
    caller: Caller,
    pause: Pause | None,
    *,
    at: Instant | None = None,
) -> Instant:
    """Pause all tasks, or resume those that are not paused by their own names.

    Args:
        session: a session.
        written: takes the records of fire times that were overdue as the pause began.
        caller: the process that calls.
        pause: the pause, which begins now; None to resume.
        at: the instant up to which fire times were paused; now, if not given.

    Returns:
        The store's clock.

    """
    now = session.now()
    if pause is not None:
        check_end_of_pause(pause.until, now)
        session.set_paused(EVERY_TASK, msgspec.structs.replace(pause, since=now))
        return now
    pauses = session.read_pauses()
    if EVERY_TASK not in pauses:
        return now
    # The rows first: while the pause lasts, no process decides what was due during it.
    end = now if at is None else min(at, now)
    _report_missed(_resume_due_rows(session, caller, pauses, end=end), written)
    session.set_paused(EVERY_TASK, None)
    return now


def _resume_due_rows(
    session: Session, caller: Caller, pauses: Mapping[str, Pause], *, end: Instant
) -> Sequence[TaskChange]:
    """Let the fire times that were due up to *end* be missed, as those of a paused task."""

    def read() -> TaskSnapshot:
        # By name, as the records of one call are numbered in a known order.
        in_use = sorted((row for row, _ in session.read_in_use()), key=lambda row: row.task_key)
        rows = {row.task_key: row for row in in_use}
        return TaskSnapshot(end, rows, {}, frozenset())

    def change(row: TaskRow, end: Instant) -> TaskChange | None:
        is_due = row.due_at is not None and row.due_at <= end
        if not is_due or (row.resumed_at is not None and row.resumed_at >= end):
            return None
        own = pauses.get(row.task) if row.paused else None
        settled, runs = _settled(caller, row, _first_of(own, pauses[EVERY_TASK], None))
        return TaskChange(settled.changed(resumed_at=end), row, runs)

    return change_rows(session, read, change)


def end_pause(
    session: Session, written: Written, *, caller: Caller, name: str, until: Instant
) -> None:
    """Resume a task whose pause is over, unless the pause was changed meanwhile."""
    pause = session.read_pauses().get(name)
    if pause is None or pause.until != until:
        return
    if name == EVERY_TASK:
        now = pause_every_task(session, written, caller, None, at=until)
        session.add_audit(AuditEntry(at=now, verb="resume", task=name, note=PAUSE_ENDED))
        written.resumed.append(name)
        return
    if not session.end_pause(name, pause):
        return
    try:
        now = pause_rows(session, written, caller, name, None, at=until, since=pause.since)
    except UnknownTaskError:
        session.set_paused(name, None)
    else:
        session.add_audit(AuditEntry(at=now, verb="resume", task=name, note=PAUSE_ENDED))
        written.resumed.append(name)


def remove_task(session: Session, name: str, *, if_done: bool = False) -> bool:
    """Archive a run-time task, or only if it is done; its pause ends with it.

    Returns:
        Whether it was archived.

    """
    for row in read_task(session, name).rows.values():
        check_removal(name, row.source)

    def change(row: TaskRow, now: Instant) -> TaskChange | None:
        if if_done and not _is_done(row):
            return None  # it was replaced by another schedule meanwhile
        check_removal(name, row.source)
        archived = row.changed(archived_at=now, paused=False, resumed_at=None)
        return TaskChange(archived, row, follows_pause=True)

    def read() -> TaskSnapshot:
        found = session.read_tasks_named(name).in_use()
        if not if_done or all(map(_is_done, found.rows.values())):
            session.set_paused(name, None)
        return found

    write = partial(apply_with_pending, written=Written(), reason=REMOVED)
    made = change_rows(session, read, change, write=write)
    record_changes(session, made, now=session.now())
    return bool(made)


def remove_done(session: Session, written: Written) -> None:
    """Archive run-time tasks that are to be removed after their last fire time."""
    for name in session.read_done():
        try:
            if not remove_task(session, name, if_done=True):
                continue
        except (UnknownTaskError, ConfigTaskError):
            continue  # another process has removed or replaced it meanwhile
        now = session.now()
        session.add_audit(AuditEntry(at=now, verb="remove", task=name, note=TASK_DONE))
        written.removed.append(name)


def _is_done(row: TaskRow) -> bool:
    return row.next_fire is None and REMOVED_WHEN_DONE in (row.task_json or "")


def continued_skips(session: Session, caller: Caller, runs: Iterable[Run]) -> set[str]:
    """Return the ids of those of *runs* into which the next skip of their task is folded."""
    tasks = sorted({run.task for run in runs if run.outcome is Outcome.SKIPPED})
    return {
        run_id(caller.space, row.task, row.partition, row.skip.oldest)
        for task in tasks
        for row in session.read_tasks_named(task).rows.values()
        if row.skip is not None
    }


def record_changes(session: Session, made: Sequence[TaskChange], *, now: Instant) -> None:
    """Record the schedule versions of rows that were changed at *now*."""
    rows = [one.row for one in made]
    record_versions(session, rows, now=now, changed={row.task_key for row in rows})


def stop_run(session: Session, caller: Caller, ident: str, request: StopRequest) -> Run:
    """End a pending or posted run, or record that a run is to be stopped; return the run.

    Raises:
        UnknownRunError: no such run.
        RunNotStoppableError: the process that holds the run cannot stop runs.

    """
    for _ in range(MAX_ROUNDS):
        run = session.read_runs([ident]).get(ident)
        if run is None:
            raise UnknownRunError(f"expected the id of a run that is kept, got {ident!r}")
        if run.outcome is not None:
            return run
        if run.holder not in {"", QUEUE_HOLDER}:
            _refuse_unstoppable(session, caller, run)
            session.ask_stop(run, request)
            return run
        ended = interrupt_pending(unclaim_run(run) if run.holder else run, request.reason())
        if all(session.apply(ChangeSet(runs=[RunChange(run, ended)])).runs):
            return ended
    raise too_busy(session.name)


def _refuse_unstoppable(session: Session, caller: Caller, run: Run) -> None:
    rows = session.read_members(caller.member, boot=0)
    holder = next((row for row in rows if row.member.holder == run.holder), None)
    if holder is not None:
        check_stoppable(run, holder.member.mode, holder.report)


def trigger_run(
    session: Session,
    caller: Caller,
    name: str,
    *,
    body: bytes | None,
    boot: Span,
    ident: str | None = None,
) -> Run | None:
    """Add a pending manual run, in a partition of this process where the task has a row there.

    Raises:
        UnknownTaskError: the task has no row.
        UndeclaredTaskError: no live process declares the task.

    """
    for _ in range(MAX_ROUNDS):
        found = read_task(session, name, lock=True)
        row = min(
            _runnable_rows(session, caller, found, boot=boot),
            key=lambda row: (row.partition not in caller.partitions, row.partition),
            default=None,
        )
        if row is None:
            live = read_live(session, caller.member, boot=boot)
            raise undeclared(name, is_served=any(one.manifest != UNKNOWN.key for one in live))
        if found.unfinished[row.task_key] >= row.max_unfinished:
            return None
        run = pending_run(
            ident or new_run_id(),
            name,
            partition=row.partition,
            trigger=Trigger.MANUAL,
            now=found.now,
            body=body,
        )
        change = TaskChange(row.changed(skip=None), row, [run])
        applied = apply_tasks(session, [change])
        if run.id in applied.existing:  # made by another process since
            return session.read_runs([run.id])[run.id]
        if all(applied.tasks):
            return run
    raise too_busy(session.name)


def begin_run(
    session: Session,
    caller: Caller,
    name: str,
    definition: TaskDefinition | None,
    *,
    body: bytes | None,
    at_once: bool,
    boot: Span,
) -> tuple[Run, TaskDefinition] | None:
    """Add a manual run that *caller* has claimed; return it with its definition.

    Raises:
        UnknownTaskError: the task has no row for *caller*, or none of a run-time task.

    """
    for _ in range(MAX_ROUNDS):
        found = read_task(session, name, lock=True)
        row = next((one for one in found.rows.values() if one.partition in caller.partitions), None)
        if row is None or (definition is None and row.task_json is None):
            kind = "of this host" if row is None else "that was added at run time"
            raise UnknownTaskError(f"expected the name of a task {kind}, got {name!r}")
        known = definition or caller.define(row)
        if not at_once and found.unfinished[row.task_key] >= known.max_concurrent:
            return None
        pending = pending_run(
            new_run_id(),
            name,
            partition=row.partition,
            trigger=Trigger.MANUAL,
            now=found.now,
            body=body,
        )
        run = claim_run(pending, caller.member.holder, found.now)
        change = TaskChange(row.changed(skip=None), row, [run])
        changes = ChangeSet(
            now=found.now, lease_us=caller.member.lease_us, boot=boot, tasks=[change]
        )
        if all(session.apply(changes).tasks):
            return run, known
    raise too_busy(session.name)


def _runnable_rows(
    session: Session, caller: Caller, found: TaskSnapshot, *, boot: Span
) -> Sequence[TaskRow]:
    """Return the rows that a live process may run: this one, or another that declares the task."""
    rows = [*found.rows.values()]
    own = [row for row in rows if row.partition in caller.partitions and caller.may_run(row)]
    if own:
        return own
    live = read_live(session, caller.member, boot=boot)
    active, holders = read_active_definitions(session, live), {one.member.holder for one in live}
    return [
        row
        for row in rows
        if row.task_json is not None or row.partition in holders or row.task_key in active
    ]
