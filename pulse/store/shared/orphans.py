"""Ends or moves the pending runs of rows that change, and of processes that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run import Outcome
from pulse.core.run_transitions import abandon_run, advance_retry
from pulse.store.rules import NOT_DECLARED
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.core.run import Run
    from pulse.store.shared.backend import Session
    from pulse.store.shared.changes import Applied, TaskChange
    from pulse.store.shared.rows import TaskRow


def end_pending(session: Session, runs: Iterable[Run], reason: str = NOT_DECLARED) -> None:
    """End pending runs that no process will claim."""
    changes = [RunChange(run, abandon_run(run, reason)) for run in runs]
    if changes:
        session.apply(ChangeSet(runs=changes))


def apply_with_pending(
    session: Session,
    changes: Sequence[TaskChange],
    reason: str = NOT_DECLARED,
    missed: list[Run] | None = None,
) -> Applied:
    """Change rows, and their pending runs in the same step.

    Records of missed fire times that are added are appended to *missed* once they are written.
    The pending runs of an archived row end, for *reason*. A retry of another row waits no longer
    than until the next tick of the row, which may have come nearer.
    """
    rows = [change.row for change in changes]
    applied = session.apply(
        ChangeSet(tasks=changes, runs=_changes_of_pending(session, rows, reason))
    )
    if missed is not None:
        missed += _missed_of(changes, applied)
    # A run may have become pending between the read and the change. Whatever becomes pending later
    # is made from the changed row.
    changed = [row for row, done in zip(rows, applied.tasks, strict=True) if done]
    late = _changes_of_pending(session, changed, reason)
    if late:
        session.apply(ChangeSet(runs=late))
    return applied


def _missed_of(changes: Sequence[TaskChange], applied: Applied) -> list[Run]:
    return [
        insert.run
        for change, done in zip(changes, applied.tasks, strict=True)
        for insert in change.runs
        if done and insert.run.outcome is Outcome.MISSED and insert.run.id not in applied.existing
    ]


def _changes_of_pending(session: Session, rows: Sequence[TaskRow], reason: str) -> list[RunChange]:
    by_key = {row.task_key: row for row in rows}
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.partition, []).append(row.task)
    changes: list[RunChange] = []
    for was in session.read_pending(tasks) if tasks else ():
        row = by_key[task_key(was.task, was.partition)]
        run = _followed(was, row, reason)
        if run is not was:
            changes.append(RunChange(was, run, row, guarded=True))
    return changes


def _followed(run: Run, row: TaskRow, reason: str) -> Run:
    if row.archived_at is not None:
        return abandon_run(run, reason)
    return run if row.next_fire is None else advance_retry(run, row.next_fire)
