"""Rows of tasks: read, changed, paused, triggered.

Each verb reads rows, decides, and writes where the rows are as they were; what others have changed
meanwhile is read and decided anew.
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
from pulse.store.redis.changes import CHUNK, apply_rows, opened, row_change
from pulse.store.redis.client import ServerCall
from pulse.store.redis.codec import RedisTaskRow, row_of
from pulse.store.rules import MAX_NAMES_COMPARED, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.due import RedisCaller

TRIES = 100
"""How often a verb begins anew because others were faster."""


class _TasksRequest(ServerCall, kw_only=True):
    row_keys: Sequence[str] = ()
    task: str | None = None


class _TasksReply(msgspec.Struct, frozen=True):
    now: Instant
    rows: Sequence[tuple[str, int]]
    paused: Sequence[str]


_ROWS = msgspec.msgpack.Decoder(_TasksReply)


class TaskSnapshot(NamedTuple):
    """Rows by spot, how many of their runs are open, which tasks are paused, and when that was."""

    now: Instant
    rows: dict[str, RedisTaskRow]
    unfinished: dict[str, int]
    paused: frozenset[str]


def read_keys(server: RedisClient, row_keys: Sequence[str]) -> TaskSnapshot:
    """Return the rows of some spots."""
    found = TaskSnapshot(0, {}, {}, frozenset())
    for start in range(0, max(1, len(row_keys)), CHUNK):
        found = _joined(
            found, _ask(server, _TasksRequest(row_keys=row_keys[start : start + CHUNK]))
        )
    return found


def read_named(server: RedisClient, task: str) -> TaskSnapshot:
    """Return the rows of a task, in all places, those put away too."""
    return _ask(server, _TasksRequest(task=task))


def read_task(server: RedisClient, task: str) -> TaskSnapshot:
    """Return the rows of a task, in all places; those put away are left out.

    Raises:
        UnknownTaskError: there are none.

    """
    found = read_named(server, task)
    rows = {row_key: row for row_key, row in found.rows.items() if row.archived_at is None}
    if not rows:
        names = [row.task for row in read_all(server) if row.archived_at is None]
        hint = did_you_mean(task, names[:MAX_NAMES_COMPARED])
        raise UnknownTaskError(f"expected the name of a task, got {task!r}{hint}")
    return found._replace(rows=rows)


def _ask(server: RedisClient, asking: _TasksRequest) -> TaskSnapshot:
    answer = server.run("read_tasks", asking, _ROWS)
    rows = [(row_of(record), unfinished) for record, unfinished in answer.rows]
    return TaskSnapshot(
        answer.now,
        {row.task_key: row for row, _ in rows},
        {row.task_key: unfinished for row, unfinished in rows},
        frozenset(answer.paused),
    )


def _joined(one: TaskSnapshot, other: TaskSnapshot) -> TaskSnapshot:
    return TaskSnapshot(
        other.now, one.rows | other.rows, one.unfinished | other.unfinished, other.paused
    )


def read_all(server: RedisClient) -> list[RedisTaskRow]:
    """Return every row."""
    return [row_of(record) for record in server.command("HVALS", server.key("rows"))]


def new_orders(server: RedisClient, number: int) -> range:
    """Return the orders of so many new rows."""
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
    """Change the rows that *read* finds, each as *change* says, until none was refused.

    Returns:
        The changes that were made.

    """
    made: list[RowChange] = []
    for _ in range(TRIES):
        found = read()
        wanted = [change(row, found.now) for row in found.rows.values()]
        changes = [one for one in wanted if one is not None]
        stood = write(server, changes)
        made += [one for one, as_expected in zip(changes, stood, strict=True) if as_expected]
        if all(stood):
            return made
    raise too_busy(server)


def pause_rows(server: RedisClient, name: str, *, paused: bool) -> None:
    """Pause or resume a task in all places, and in those that are yet to come."""
    read_task(server, name)
    server.command("SADD" if paused else "SREM", server.key("paused"), name)

    def change(row: RedisTaskRow, now: Instant) -> RowChange | None:
        if row.paused == paused:
            return None
        turned = row.changed(paused=paused, resumed_at=None if paused else now)
        return row_change(turned, was=row)

    change_rows(server, lambda: read_task(server, name), change)


def trigger_run(
    server: RedisClient, caller: RedisCaller, name: str, *, body: bytes | None
) -> Run | None:
    """Open an unheld manual run, in a place of this process where there is one."""
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
            apply_rows(server, [row_change(row.changed(skip=None), was=row, runs=[opened(run)])])
        ):
            return run
    raise too_busy(server)


def too_busy(server: RedisClient) -> StoreUnavailableError:
    """Return the error of a verb that has been overtaken too often."""
    return StoreUnavailableError(f"{server.name}: others have changed the rows {TRIES} times over")


def read_states(server: RedisClient) -> list[TaskState]:
    """Return the rows as people are shown them."""
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
