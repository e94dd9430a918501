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
from pulse.core.run_transitions import unheld_run
from pulse.errors import StoreUnavailableError, UnknownTaskError, did_you_mean
from pulse.store.base import TaskState
from pulse.store.redis.changes import CHUNK, opened, row_change, write_rows
from pulse.store.redis.client import Work
from pulse.store.redis.codec import Row, row_of
from pulse.store.rules import MOST_NAMES, new_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.due import Here

TRIES = 100
"""How often a verb begins anew because others were faster."""


class _Asking(Work, kw_only=True):
    spots: Sequence[str] = ()
    task: str | None = None


class _Rows(msgspec.Struct, frozen=True):
    now: Instant
    rows: Sequence[tuple[str, int]]
    paused: Sequence[str]


_ROWS = msgspec.msgpack.Decoder(_Rows)


class Found(NamedTuple):
    """Rows by spot, how many of their runs are open, which tasks are paused, and when that was."""

    now: Instant
    rows: dict[str, Row]
    open: dict[str, int]
    paused: frozenset[str]


def read_spots(server: Server, spots: Sequence[str]) -> Found:
    """Return the rows of some spots."""
    found = Found(0, {}, {}, frozenset())
    for start in range(0, max(1, len(spots)), CHUNK):
        found = _joined(found, _ask(server, _Asking(spots=spots[start : start + CHUNK])))
    return found


def read_named(server: Server, task: str) -> Found:
    """Return the rows of a task, in all places, those put away too."""
    return _ask(server, _Asking(task=task))


def read_task(server: Server, task: str) -> Found:
    """Return the rows of a task, in all places; those put away are left out.

    Raises:
        UnknownTaskError: there are none.

    """
    found = read_named(server, task)
    rows = {spot: row for spot, row in found.rows.items() if row.archived_at is None}
    if not rows:
        names = [row.task for row in read_all(server) if row.archived_at is None]
        raise UnknownTaskError(
            f"expected the name of a task, got {task!r}{did_you_mean(task, names[:MOST_NAMES])}"
        )
    return found._replace(rows=rows)


def _ask(server: Server, asking: _Asking) -> Found:
    answer = server.run("read_tasks", asking, _ROWS)
    rows = [(row_of(record), running) for record, running in answer.rows]
    return Found(
        answer.now,
        {row.spot: row for row, _ in rows},
        {row.spot: running for row, running in rows},
        frozenset(answer.paused),
    )


def _joined(one: Found, other: Found) -> Found:
    return Found(other.now, one.rows | other.rows, one.open | other.open, other.paused)


def read_all(server: Server) -> list[Row]:
    """Return every row."""
    return [row_of(record) for record in server.command("HVALS", server.key("rows"))]


def new_orders(server: Server, number: int) -> range:
    """Return the orders of so many new rows."""
    if not number:
        return range(0)
    newest = int(server.command("INCRBY", server.key("orders"), number))
    return range(newest - number + 1, newest + 1)


def change_rows(
    server: Server,
    read: Callable[[], Found],
    change: Callable[[Row, Instant], RowChange | None],
    *,
    write: Callable[[Server, Sequence[RowChange]], list[bool]] = write_rows,
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


def pause_rows(server: Server, name: str, *, paused: bool) -> None:
    """Pause or resume a task in all places, and in those that are yet to come."""
    read_task(server, name)
    server.command("SADD" if paused else "SREM", server.key("paused"), name)

    def change(row: Row, now: Instant) -> RowChange | None:
        if row.paused == paused:
            return None
        turned = row.changed(paused=paused, resumed_at=None if paused else now)
        return row_change(turned, was=row)

    change_rows(server, lambda: read_task(server, name), change)


def trigger_run(server: Server, here: Here, name: str, *, body: bytes | None) -> Run | None:
    """Open an unheld manual run, in a place of this process where there is one."""
    for _ in range(TRIES):
        found = read_task(server, name)
        row = min(found.rows.values(), key=lambda row: (row.place not in here.places, row.place))
        if found.open[row.spot] >= row.room:
            return None
        run = unheld_run(
            new_run_id(), name, place=row.place, trigger=Trigger.MANUAL, now=found.now, body=body
        )
        if all(
            write_rows(server, [row_change(row.changed(skip=None), was=row, runs=[opened(run)])])
        ):
            return run
    raise too_busy(server)


def too_busy(server: Server) -> StoreUnavailableError:
    """Return the error of a verb that has been overtaken too often."""
    return StoreUnavailableError(f"{server.name}: others have changed the rows {TRIES} times over")


def read_states(server: Server) -> list[TaskState]:
    """Return the rows as people are shown them."""
    records, counts = server.commands(
        ("HVALS", server.key("rows")), ("HGETALL", server.key("open"))
    )
    if not isinstance(counts, dict):
        counts = dict(zip(counts[::2], counts[1::2], strict=True))
    rows = [row for record in records if (row := row_of(record)).archived_at is None]
    rows.sort(key=lambda row: (row.task, row.place))
    return [_state(row, int(counts.get(row.spot.encode(), 0))) for row in rows]


def _state(row: Row, running: int) -> TaskState:
    return TaskState(
        name=row.task,
        place=row.place,
        source=row.source,
        digest=row.digest,
        paused=row.paused,
        anchor=row.anchor,
        next_fire=row.next_fire,
        floor=None if row.floor == BEFORE_TIME else row.floor,
        running=running,
    )
