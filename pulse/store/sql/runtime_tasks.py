"""Tasks that are added and removed at run time, which no configuration declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.rules import REMOVED, check_addition, check_removal
from pulse.store.sql.tasks import (
    UNPAUSE,
    add_rows,
    archive_rows,
    change_rows,
    refuse_unknown,
    return_rows,
    rows_named,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.core.run import Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Connection

_RESUME = "UPDATE @tasks SET paused = 0, resumed_at = NULL WHERE task = ?"


def add_task(
    connection: Connection, caller: SqlCaller, runtime_task: RuntimeTask, *, replace: bool
) -> Sequence[Run]:
    """Add a run-time task, or replace one; return the runs that record the ticks it misses."""
    one, task_json, now = runtime_task.definition, runtime_task.task_json, connection.now()
    rows = rows_named(connection, [one.name])
    sources = {row.source for row in rows if row.archived_at is None}
    check_addition(one.name, min(sources, default=None), replace=replace)
    row = next((row for row in rows if not row.partition), None)
    if row is not None and row.archived_at is None:
        return change_rows(connection, caller, [(row, one)], now, task_json=task_json)
    if row is None:
        add_rows(connection, caller, [one], now, task_json=task_json)
    else:
        return_rows(connection, caller, [(row, one)], now, task_json=task_json)
    return ()


def remove_task(connection: Connection, name: str) -> None:
    """Archive a run-time task, and forget that it is paused."""
    refuse_unknown(connection, name)
    rows = [row for row in rows_named(connection, [name]) if row.archived_at is None]
    for row in rows:
        check_removal(name, row.source)
    archive_rows(connection, rows, connection.now(), reason=REMOVED)
    connection.execute(UNPAUSE, (name,))
    connection.execute(_RESUME, (name,))
