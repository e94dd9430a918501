"""Ends or moves pending and posted runs of rows that change, and of processes that are gone."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pulse.core.run import Outcome
from pulse.core.run_transitions import abandon_run, advance_retry, unclaim_run
from pulse.store.reschedule import order_of_ticks, superseded_tick
from pulse.store.rules import NOT_DECLARED
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.core.run import Run
    from pulse.store.shared.backend import Session, Written
    from pulse.store.shared.changes import Applied, TaskChange


def end_pending(session: Session, runs: Iterable[Run], reason: str = NOT_DECLARED) -> list[Run]:
    """End pending runs that no process will claim; return those that were still pending."""
    changes = [RunChange(run, abandon_run(run, reason)) for run in runs]
    return _ended(changes, session.apply(ChangeSet(runs=changes)).runs) if changes else []


def apply_with_pending(
    session: Session,
    changes: Sequence[TaskChange],
    written: Written,
    *,
    reason: str = NOT_DECLARED,
) -> Applied:
    """Change rows, and their pending runs in the same step; what ends is added to *written*.

    Ticks of a replaced schedule that wait are missed. The pending and posted runs of an archived
    row end, for *reason*. A retry of another row waits no longer than until the next tick of the
    row, which may have come nearer.
    """
    runs = _changes_of_pending(session, changes, reason)
    applied = session.apply(ChangeSet(tasks=changes, runs=runs))
    written.missed += _missed_of(changes, applied)
    # Collected before the next call: if that fails, what is written is reported all the same.
    _collect(_ended(runs, applied.runs), written)
    # A run may have become pending between the read and the change. Whatever becomes pending later
    # is made from the changed row.
    changed = [change for change, done in zip(changes, applied.tasks, strict=True) if done]
    late = _changes_of_pending(session, changed, reason)
    if late:
        _collect(_ended(late, session.apply(ChangeSet(runs=late)).runs), written)
    return applied


def _collect(ended: Iterable[Run], written: Written) -> None:
    for run in sorted(ended, key=order_of_ticks):
        runs = written.missed if run.outcome is Outcome.MISSED else written.abandoned
        runs.append(run)


def _ended(changes: Sequence[RunChange], applied: Sequence[bool]) -> list[Run]:
    """Return the runs that have ended by the changes that were applied."""
    return [
        change.run
        for change, done in zip(changes, applied, strict=True)
        if done and change.run is not None and change.run.outcome is not None
    ]


def _missed_of(changes: Sequence[TaskChange], applied: Applied) -> list[Run]:
    return [
        run
        for change, done in zip(changes, applied.tasks, strict=True)
        for run in change.runs
        if done and run.outcome is Outcome.MISSED and run.id not in applied.existing
    ]


def _changes_of_pending(
    session: Session, changes: Sequence[TaskChange], reason: str
) -> list[RunChange]:
    by_key = {change.row.task_key: change for change in changes}
    tasks: defaultdict[str, list[str]] = defaultdict(list)
    archived: defaultdict[str, list[str]] = defaultdict(list)
    for change in changes:
        tasks[change.row.partition].append(change.row.task)
        if change.row.archived_at is not None:
            archived[change.row.partition].append(change.row.task)
    pending = session.read_pending(tasks) if tasks else ()
    posted = session.read_posted(archived) if archived else ()
    found: list[RunChange] = []
    for was in (*pending, *posted):
        change = by_key[task_key(was.task, was.partition)]
        run = _run_after_change(was, change, reason)
        if run is not was:
            found.append(RunChange(was, run, change.row, guarded=True))
    return found


def _run_after_change(run: Run, change: TaskChange, reason: str) -> Run:
    row = change.row
    if row.archived_at is not None:
        return abandon_run(unclaim_run(run) if run.holder else run, reason)
    if change.reschedules:
        run = superseded_tick(run, row.next_fire)
    return run if row.next_fire is None else advance_retry(run, row.next_fire)
