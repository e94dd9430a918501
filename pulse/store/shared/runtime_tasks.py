"""Tasks that are added and removed at run time: rows that no configuration declares."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.store.rules import REMOVED, check_addition, check_removal
from pulse.store.shared.backend import MAX_ROUNDS, too_busy
from pulse.store.shared.changes import TaskChange
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.rows import task_key
from pulse.store.shared.sync import added_row, changed_row
from pulse.store.shared.tasks import apply_tasks, change_rows, read_task

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.store.shared.backend import Session
    from pulse.store.shared.rows import Caller, TaskRow, TaskSnapshot


def add_task(
    session: Session,
    caller: Caller,
    runtime_task: RuntimeTask,
    *,
    replace: bool,
    missed: list[Run],
) -> Instant:
    """Add a run-time task, or replace one; return the store's clock.

    The records of the fire times that are missed are appended to *missed* once they are written.
    """
    definition, task_json = runtime_task.definition, runtime_task.task_json
    name = definition.name
    for _ in range(MAX_ROUNDS):
        found = session.read_tasks_named(name)
        sources = {row.source for row in found.rows.values() if row.archived_at is None}
        check_addition(name, min(sources, default=None), replace=replace)
        row = found.rows.get(task_key(name, ""))
        if row is None or row.archived_at is not None:
            change = added_row(definition, "", row, found, task_json=task_json)
            applied = apply_tasks(session, [change])
        else:
            change = changed_row(
                row, definition, space=caller.space, now=found.now, task_json=task_json
            )
            applied = apply_with_pending(session, [change], missed=missed)
        if all(applied.tasks):
            return found.now
    raise too_busy(session.name)


def remove_task(session: Session, name: str) -> None:
    """Archive a run-time task; its pause ends with it."""
    for row in read_task(session, name).rows.values():
        check_removal(name, row.source)

    def change(row: TaskRow, now: Instant) -> TaskChange:
        check_removal(name, row.source)
        archived = row.changed(archived_at=now, paused=False, resumed_at=None)
        return TaskChange(archived, row, follows_pause=True)

    def read() -> TaskSnapshot:
        session.set_paused(name, paused=False)
        found = session.read_tasks_named(name)
        rows = {key: row for key, row in found.rows.items() if row.archived_at is None}
        return found._replace(rows=rows)

    change_rows(session, read, change, write=partial(apply_with_pending, reason=REMOVED))
