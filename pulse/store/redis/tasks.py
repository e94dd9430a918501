"""Reads, changes, pauses and triggers task rows.

Each operation reads rows, decides, and writes the rows that are unchanged since the read. It
repeats this for rows that other processes changed in between.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.planner import BEFORE_TIME
from pulse.core.run import Trigger
from pulse.core.run_transitions import pending_run
from pulse.errors import StoreUnavailableError, UnknownTaskError, did_you_mean
from pulse.store.base import TaskState
from pulse.store.redis.changes import CHUNK, apply_rows, create_run, row_change
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import RedisTaskRow, row_of
from pulse.store.rules import MAX_NAMES_COMPARED, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.due import RedisCaller

TRIES = 100
"""How often an operation is repeated because other processes changed its rows."""


class _TasksRequest(ScriptRequest, kw_only=True):
    row_keys: Sequence[str] = ()
    task: str | None = None


class _TasksReply(msgspec.Struct, frozen=True):
    now: Instant
    rows: Sequence[tuple[str, int]]
    paused: Sequence[str]


_TASKS_REPLY = msgspec.msgpack.Decoder(_TasksReply)


class TaskSnapshot(NamedTuple):
    """Task rows as they were read.

    Attributes:
        now: the server's clock at the read.
        rows: the rows, by row key.
        unfinished: the number of unfinished runs, by row key.
        paused: the names of all paused tasks.

    """

    now: Instant
    rows: dict[str, RedisTaskRow]
    unfinished: dict[str, int]
    paused: frozenset[str]


def read_keys(server: RedisClient, row_keys: Sequence[str]) -> TaskSnapshot:
    """Return the rows with the given keys."""
    found = TaskSnapshot(0, {}, {}, frozenset())
    for start in range(0, max(1, len(row_keys)), CHUNK):
        found = _joined(
            found, _read(server, _TasksRequest(row_keys=row_keys[start : start + CHUNK]))
        )
    return found


def read_named(server: RedisClient, task: str) -> TaskSnapshot:
    """Return the rows of a task in all partitions, including archived rows."""
    return _read(server, _TasksRequest(task=task))


def read_task(server: RedisClient, task: str) -> TaskSnapshot:
    """Return the rows of a task in all partitions, without archived rows.

    Raises:
        UnknownTaskError: there is no such row.

    """
    found = read_named(server, task)
    rows = {row_key: row for row_key, row in found.rows.items() if row.archived_at is None}
    if not rows:
        names = [row.task for row in read_all(server) if row.archived_at is None]
        hint = did_you_mean(task, names[:MAX_NAMES_COMPARED])
        raise UnknownTaskError(f"expected the name of a task, got {task!r}{hint}")
    return found._replace(rows=rows)


def _read(server: RedisClient, request: _TasksRequest) -> TaskSnapshot:
    reply = server.run("read_tasks", request, _TASKS_REPLY)
    rows = [(row_of(record), unfinished) for record, unfinished in reply.rows]
    return TaskSnapshot(
        reply.now,
        {row.task_key: row for row, _ in rows},
        {row.task_key: unfinished for row, unfinished in rows},
        frozenset(reply.paused),
    )


def _joined(one: TaskSnapshot, other: TaskSnapshot) -> TaskSnapshot:
    return TaskSnapshot(
        other.now, one.rows | other.rows, one.unfinished | other.unfinished, other.paused
    )


def read_all(server: RedisClient) -> list[RedisTaskRow]:
    """Return all rows, including archived ones."""
    return [row_of(record) for record in server.command("HVALS", server.key("rows"))]


def new_orders(server: RedisClient, number: int) -> range:
    """Return the order numbers of *number* new rows."""
    if not number:
        return range(0)
    newest = int(server.command("INCRBY", server.key("orders"), number))
    return range(newest - number + 1, newest + 1)


def change_rows(
    server: RedisClient,
    read: Callable[[], TaskSnapshot],
    change: Callable[[RedisTaskRow, Instant], RowChange | None],
    *,
    write: Callable[[RedisClient, Sequence[RowChange]], list[bool]] = apply_rows,
) -> list[RowChange]:
    """Read rows and write their changes, until none is refused.

    Args:
        server: the server.
        read: reads the rows.
        change: returns the change of a row, or None to leave it.
        write: writes the changes, and returns for each whether it was made.

    Returns:
        The changes that were made.

    """
    made: list[RowChange] = []
    for _ in range(TRIES):
        found = read()
        wanted = [change(row, found.now) for row in found.rows.values()]
        changes = [one for one in wanted if one is not None]
        done = write(server, changes)
        made += [one for one, was_done in zip(changes, done, strict=True) if was_done]
        if all(done):
            return made
    raise too_busy(server)


def pause_rows(server: RedisClient, name: str, *, paused: bool) -> None:
    """Pause or resume a task in all partitions, including future ones."""
    read_task(server, name)
    server.command("SADD" if paused else "SREM", server.key("paused"), name)

    def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
        if row.paused == paused:
            return None
        changed = row.changed(paused=paused, resumed_at=None if paused else now)
        return row_change(changed, was=row)

    change_rows(server, lambda: read_task(server, name), change)


def trigger_run(
    server: RedisClient, caller: RedisCaller, name: str, *, body: bytes | None
) -> Run | None:
    """Create a pending manual run, if possible in a partition of this process."""
    for _ in range(TRIES):
        found = read_task(server, name)
        row = min(
            found.rows.values(),
            key=lambda row: (row.partition not in caller.partitions, row.partition),
        )
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
        if all(
            apply_rows(
                server, [row_change(row.changed(skip=None), was=row, runs=[create_run(run)])]
            )
        ):
            return run
    raise too_busy(server)


def too_busy(server: RedisClient) -> StoreUnavailableError:
    """Return the error of an operation whose rows other processes changed too often."""
    return StoreUnavailableError(
        f"{server.name}: other processes changed the rows {TRIES} times in a row"
    )


def read_states(server: RedisClient) -> list[TaskState]:
    """Return the rows as `tasks()` returns them."""
    records, counts = server.commands(
        ("HVALS", server.key("rows")), ("HGETALL", server.key("open"))
    )
    if not isinstance(counts, dict):
        counts = dict(zip(counts[::2], counts[1::2], strict=True))
    rows = [row for record in records if (row := row_of(record)).archived_at is None]
    rows.sort(key=lambda row: (row.task, row.partition))
    return [_state(row, int(counts.get(row.task_key.encode(), 0))) for row in rows]


def _state(row: RedisTaskRow, unfinished: int) -> TaskState:
    return TaskState(
        name=row.task,
        partition=row.partition,
        source=row.source,
        digest=row.digest,
        paused=row.paused,
        anchor=row.anchor,
        next_fire=row.next_fire,
        last_decided=None if row.last_decided == BEFORE_TIME else row.last_decided,
        unfinished=unfinished,
    )
