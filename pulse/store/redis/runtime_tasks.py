"""Tasks that are added and removed at run time: the rows that no configuration declares."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.store.redis.changes import apply_rows, row_change
from pulse.store.redis.codec import task_key
from pulse.store.redis.orphans import change_with_waiting
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
    """Add a task at run time, or replace one; return the fire times that this misses."""
    name = runtime_task.definition.name
    for _ in range(TRIES):
        found = read_named(server, name)
        sources = {row.source for row in found.rows.values() if row.archived_at is None}
        check_addition(name, min(sources, default=None), replace=replace)
        row = found.rows.get(task_key(name, ""))
        if row is None or row.archived_at is not None:
            if all(apply_rows(server, [_appearing(server, row, runtime_task, found)])):
                return ()
            continue
        one, words = runtime_task.definition, runtime_task.task_json
        changed = changed_row(row, one, space=caller.space, now=found.now, words=words)
        if all(change_with_waiting(server, [changed.change])):
            return changed.missed
    raise too_busy(server)


def _appearing(
    server: RedisClient, was: RedisTaskRow | None, runtime_task: RuntimeTask, found: TaskSnapshot
) -> RowChange:
    one, words = runtime_task.definition, runtime_task.task_json
    paused = one.name in found.paused
    if was is not None:
        return returned_row(was, one, now=found.now, paused=paused, words=words)
    (order,) = new_orders(server, 1)
    return new_row(one, "", order=order, now=found.now, paused=paused, words=words)


def remove_task(server: RedisClient, name: str) -> None:
    """Put a task away that was added at run time; its pause goes with it."""
    for row in read_task(server, name).rows.values():
        check_removal(name, row.source)
    server.command("SREM", server.key("paused"), name)

    def change(row: RedisTaskRow, now: Instant) -> RowChange:
        check_removal(name, row.source)
        away = row.changed(archived_at=now, paused=False, resumed_at=None)
        return row_change(away, was=row)

    write = partial(change_with_waiting, reason=REMOVED)
    change_rows(server, lambda: read_task(server, name), change, write=write)
