"""Rows of tasks: made, changed, paused, triggered.

Each verb reads rows, decides, and writes where the rows are as they were; what others have changed
meanwhile is read and decided anew.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.errors import StoreUnavailableError, UnknownTaskError, did_you_mean
from pulse.planner import BEFORE_TIME, due_at, first_cursor, kept_cursor, moved_cursor
from pulse.policy import Misfire, OnAbandoned
from pulse.run import Trigger
from pulse.store.base import Synced, TaskState
from pulse.store.decide import place_of, unheld_run
from pulse.store.deploys import stands
from pulse.store.redis.records import Row, row_of, spot_of
from pulse.store.redis.server import Work
from pulse.store.redis.writing import CHUNK, opened, row_change, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pulse.planner import Cursor
    from pulse.run import Run
    from pulse.store.configs import Standing
    from pulse.store.redis.reading import Here
    from pulse.store.redis.server import Server
    from pulse.store.redis.writing import RowChange
    from pulse.task import Definition

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


def read_task(server: Server, task: str) -> Found:
    """Return the rows of a task, in all places; those put away are left out.

    Raises:
        UnknownTaskError: there are none.

    """
    found = _ask(server, _Asking(task=task))
    rows = {spot: row for spot, row in found.rows.items() if row.archived_at is None}
    if not rows:
        names = {row.task for row in read_all(server) if row.archived_at is None}
        raise UnknownTaskError(
            f"expected the name of a task, got {task!r}{did_you_mean(task, names)}"
        )
    return found._replace(rows=rows)


def _ask(server: Server, asking: _Asking) -> Found:
    answer = server.run("rows", asking, _ROWS)
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


def sync_rows(server: Server, here: Here, standing: Standing) -> Synced:
    """Make and change rows so that they say what stands, where this process holds it."""
    told: dict[str, set[str]] = {"added": set(), "changed": set(), "superseded": set()}
    left = list(here.definitions.values())
    for _ in range(TRIES):
        found = read_spots(server, [_spot(here, one) for one in left])
        steps = list(_sync_steps(server, here, left, standing=standing, found=found))
        done = write_rows(server, [step.change for step in steps if step.change is not None])
        refused = []
        for step in steps:
            if step.change is None or done.pop(0):
                told[step.kind].add(step.definition.name)
            else:
                refused.append(step.definition)
        if not refused:
            return Synced(*(_in_order(here, told[kind]) for kind in told))
        left = refused
    raise _too_busy(server)


def _spot(here: Here, one: Definition) -> str:
    return spot_of(one.name, place_of(one.scope, here.member))


def _in_order(here: Here, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in here.definitions if name in names)


class _Step(NamedTuple):
    kind: str
    definition: Definition
    change: RowChange | None = None


def _sync_steps(
    server: Server, here: Here, left: Iterable[Definition], *, standing: Standing, found: Found
) -> Iterator[_Step]:
    added: list[Definition] = []
    for one in left:
        row = found.rows.get(_spot(here, one))
        if row is None:
            added.append(one)
        elif row.archived_at is not None:
            yield _Step("added", one, _returning(row, one, found.now))
        elif row.digest != one.digest and stands(standing, row, one):
            yield _Step("changed", one, change_of(row, one, found.now))
        elif row.digest != one.digest:
            yield _Step("superseded", one)
    if added:
        newest = int(server.command("INCRBY", server.key("orders"), len(added)))
        for order, one in enumerate(added, newest - len(added) + 1):
            yield _Step("added", one, _adding(here, one, order, found))


def _adding(here: Here, one: Definition, order: int, found: Found) -> RowChange:
    place = place_of(one.scope, here.member)
    row = _new_row(one, place, order=order, cursor=first_cursor(one, found.now), version=1)
    row = msgspec.structs.replace(row, paused=one.name in found.paused)
    return row_change(row, was=None, runs=map(opened, _startup(one, place, found.now)))


def _returning(was: Row, one: Definition, now: Instant) -> RowChange:
    """Bring a task back as a new one, but for the floor: no tick runs twice."""
    cursor = first_cursor(one, now, floor=was.floor)
    row = _new_row(one, was.place, order=was.order, cursor=cursor, version=was.version + 1)
    row = msgspec.structs.replace(row, paused=was.paused)
    startup = map(opened, _startup(one, was.place, now))
    return row_change(row, was=was, runs=startup, returned=True)


def _startup(one: Definition, place: str, now: Instant) -> list[Run]:
    if not one.run_at_start:
        return []
    return [unheld_run(one.name, place=place, trigger=Trigger.STARTUP, now=now)]


def change_of(was: Row, one: Definition, now: Instant) -> RowChange:
    """Return what gives a row another definition; its cursor moves only with its schedule."""
    same = _schedule(one) == was.schedule
    cursor = kept_cursor(one, was.cursor()) if same else moved_cursor(one, was.cursor(), now)
    row = _new_row(one, was.place, order=was.order, cursor=cursor, version=was.version + 1)
    row = msgspec.structs.replace(row, paused=was.paused, resumed_at=was.resumed_at, skip=was.skip)
    return row_change(row, was=was)


def _new_row(one: Definition, place: str, *, order: int, cursor: Cursor, version: int) -> Row:
    return Row(
        version=version,
        digest=one.digest,
        at_once=one.at_once,
        parks=one.misfire is Misfire.ALL and one.grace_us is None,
        task=one.name,
        place=place,
        scope=one.scope.value,
        source="config",
        schedule=_schedule(one),
        room=one.room,
        rerun=one.on_abandoned is OnAbandoned.RERUN,
        anchor=cursor.anchor,
        next_fire=cursor.next_fire,
        due_at=due_at(cursor),
        floor=cursor.floor,
        order=order,
    )


def _schedule(one: Definition) -> str:
    return msgspec.json.encode(sorted(one.schedule.spell().items())).decode()


def change_rows(
    server: Server, read: Callable[[], Found], change: Callable[[Row, Instant], RowChange | None]
) -> None:
    """Change the rows that *read* finds, each as *change* says, until none was refused."""
    for _ in range(TRIES):
        found = read()
        changes = [change(row, found.now) for row in found.rows.values()]
        if all(write_rows(server, [one for one in changes if one is not None])):
            return
    raise _too_busy(server)


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
        run = unheld_run(name, place=row.place, trigger=Trigger.MANUAL, now=found.now, body=body)
        if all(
            write_rows(server, [row_change(row.changed(skip=None), was=row, runs=[opened(run)])])
        ):
            return run
    raise _too_busy(server)


def _too_busy(server: Server) -> StoreUnavailableError:
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
