"""Tasks that are added and removed at run time: the rows that no configuration declares."""

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
    """Add a task at run time, or replace one; return the fire times that this misses."""
    one, words, now = runtime_task.definition, runtime_task.task_json, connection.now()
    rows = rows_named(connection, [one.name])
    sources = {row.source for row in rows if row.archived_at is None}
    check_addition(one.name, min(sources, default=None), replace=replace)
    row = next((row for row in rows if not row.partition), None)
    if row is not None and row.archived_at is None:
        return change_rows(connection, caller, [(row, one)], now, words=words)
    if row is None:
        add_rows(connection, caller, [one], now, words=words)
    else:
        return_rows(connection, caller, [(row, one)], now, words=words)
    return ()


def remove_task(connection: Connection, name: str) -> None:
    """Put a task away that was added at run time; its pause goes with it."""
    refuse_unknown(connection, name)
    rows = [row for row in rows_named(connection, [name]) if row.archived_at is None]
    for row in rows:
        check_removal(name, row.source)
    archive_rows(connection, rows, connection.now(), reason=REMOVED)
    connection.execute(UNPAUSE, (name,))
    connection.execute(_RESUME, (name,))
