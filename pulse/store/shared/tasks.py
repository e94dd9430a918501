"""Reads task rows and changes them: pause, resume, trigger, remove.

Each rule reads rows, decides, and writes where the rows are as they were read. What other processes
have changed meanwhile is read and decided again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Trigger
from pulse.core.run_transitions import pending_run
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.store.base import PAUSE_ENDED, AuditEntry, Pause
from pulse.store.rules import (
    MAX_NAMES_COMPARED,
    REMOVED,
    check_end_of_pause,
    check_removal,
    new_run_id,
    undeclared,
)
from pulse.store.shared.backend import MAX_ROUNDS, Written, too_busy
from pulse.store.shared.changes import ChangeSet, TaskChange
from pulse.store.shared.members import read_active_definitions, read_live
from pulse.store.shared.orphans import apply_with_pending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.shared.backend import Session
    from pulse.store.shared.changes import Applied
    from pulse.store.shared.rows import Caller, TaskRow, TaskSnapshot


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
    session: Session, name: str, pause: Pause | None, *, at: Instant | None = None
) -> Instant:
    """Pause or resume a task in all partitions, and in those where rows are added later.

    Args:
        session: a session.
        name: the name of the task.
        pause: the pause, which begins now; None to resume the task.
        at: the instant up to which fire times were paused; now, if not given.

    Returns:
        The store's clock.

    """
    found, paused = read_task(session, name), pause is not None
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
        resumed_at = None if paused else now if at is None else at
        changed = row.changed(paused=paused, resumed_at=resumed_at)
        return TaskChange(changed, row, follows_pause=True)

    change_rows(session, read, change)
    return found.now


def end_pause(session: Session, written: Written, *, name: str, until: Instant) -> None:
    """Resume a task whose pause is over, unless the pause was changed meanwhile."""
    pause = session.read_pauses().get(name)
    if pause is None or pause.until != until or not session.end_pause(name, pause):
        return
    try:
        now = pause_rows(session, name, None, at=until)
    except UnknownTaskError:
        session.set_paused(name, None)
    else:
        session.add_audit(AuditEntry(at=now, verb="resume", task=name, note=PAUSE_ENDED))
        written.resumed.append(name)


def remove_task(session: Session, name: str) -> None:
    """Archive a run-time task; its pause ends with it."""
    for row in read_task(session, name).rows.values():
        check_removal(name, row.source)

    def change(row: TaskRow, now: Instant) -> TaskChange:
        check_removal(name, row.source)
        archived = row.changed(archived_at=now, paused=False, resumed_at=None)
        return TaskChange(archived, row, follows_pause=True)

    def read() -> TaskSnapshot:
        session.set_paused(name, None)
        return session.read_tasks_named(name).in_use()

    write = partial(apply_with_pending, written=Written(), reason=REMOVED)
    change_rows(session, read, change, write=write)


def trigger_run(
    session: Session, caller: Caller, name: str, *, body: bytes | None, boot: Span
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
            raise undeclared(name)
        if found.unfinished[row.task_key] >= row.max_unfinished:
            return None
        run = pending_run(
            new_run_id(),
            name,
            partition=row.partition,
            trigger=Trigger.MANUAL,
            now=found.now,
            body=body,
        )
        change = TaskChange(row.changed(skip=None), row, [run])
        if all(apply_tasks(session, [change]).tasks):
            return run
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
