"""Adds, replaces and removes run-time tasks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.store.redis.changes import apply_rows, row_change
from pulse.store.redis.codec import task_key
from pulse.store.redis.orphans import change_with_pending
from pulse.store.redis.sync import changed_row, new_row, returned_row
from pulse.store.redis.tasks import (
    TRIES,
    change_rows,
    new_orders,
    read_named,
    read_task,
    too_busy,
)
from pulse.store.rules import REMOVED, check_addition, check_removal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.codec import RedisTaskRow
    from pulse.store.redis.due import RedisCaller
    from pulse.store.redis.tasks import TaskSnapshot


def add_task(
    server: RedisClient, caller: RedisCaller, runtime_task: RuntimeTask, *, replace: bool
) -> Sequence[Run]:
    """Add or replace a run-time task; return the records of the fire times that this misses."""
    name = runtime_task.definition.name
    for _ in range(TRIES):
        found = read_named(server, name)
        sources = {row.source for row in found.rows.values() if row.archived_at is None}
        check_addition(name, min(sources, default=None), replace=replace)
        row = found.rows.get(task_key(name, ""))
        if row is None or row.archived_at is not None:
            if all(apply_rows(server, [_added_row(server, row, runtime_task, found)])):
                return ()
            continue
        definition, task_json = runtime_task.definition, runtime_task.task_json
        changed = changed_row(
            row, definition, space=caller.space, now=found.now, task_json=task_json
        )
        if all(change_with_pending(server, [changed.change])):
            return changed.missed
    raise too_busy(server)


def _added_row(
    server: RedisClient, was: RedisTaskRow | None, runtime_task: RuntimeTask, found: TaskSnapshot
) -> RowChange:
    definition, task_json = runtime_task.definition, runtime_task.task_json
    paused = definition.name in found.paused
    if was is not None:
        return returned_row(was, definition, now=found.now, paused=paused, task_json=task_json)
    (order,) = new_orders(server, 1)
    return new_row(definition, "", order=order, now=found.now, paused=paused, task_json=task_json)


def remove_task(server: RedisClient, name: str) -> None:
    """Archive a run-time task, and end its pause."""
    for row in read_task(server, name).rows.values():
        check_removal(name, row.source)
    server.command("SREM", server.key("paused"), name)

    def change(row: RedisTaskRow, now: Instant) -> RowChange:
        check_removal(name, row.source)
        archived = row.changed(archived_at=now, paused=False, resumed_at=None)
        return row_change(archived, was=row)

    write = partial(change_with_pending, reason=REMOVED)
    change_rows(server, lambda: read_task(server, name), change, write=write)
