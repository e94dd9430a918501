"""Rows of tasks: made, changed, paused, triggered, archived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.core.planner import BEFORE_TIME, Cursor, due_at, first_cursor
from pulse.core.policies import OnAbandoned
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import passed_run, unheld_run
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.store.base import Synced, TaskState
from pulse.store.reschedule import change_cursor, schedule_text
from pulse.store.rules import CONFIG, MOST_NAMES, RUNTIME, UNWANTED, new_run_id, place_of
from pulse.store.shared.manifests import mine, stands
from pulse.store.sql.database import Insert, Update
from pulse.store.sql.runs import insert_runs, lock_tasks, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.reschedule import Change
    from pulse.store.shared.manifests import Standing
    from pulse.store.sql.caller import Here
    from pulse.store.sql.database import Cell, Link

_ROWS = (
    "SELECT key, task, place, scope, source, digest, schedule, anchor, next_fire, floor,"
    " archived_at, paused FROM @tasks"
)
_KEYED = _ROWS + " WHERE key IN (?*)"
_NAMED = _ROWS + " WHERE task IN (?*)"
_DECLARED = f"{_ROWS} WHERE source = '{CONFIG}' AND archived_at IS NULL"
_DEFINED = ("scope", "source", "words", "digest", "schedule", "room", "rerun")
_CURSOR = ("anchor", "next_fire", "due_at", "floor")
_ADD = Insert("@tasks", ("task", "place", *_DEFINED, *_CURSOR, "paused"))
_CHANGE = Update(
    "@tasks",
    sets=(*_DEFINED, *_CURSOR),
    keys=("key",),
    also="archived_at = NULL, version = version + 1",
)
_STATES = (
    "SELECT task, place, source, digest, paused, anchor, next_fire, floor FROM @tasks"
    " WHERE archived_at IS NULL ORDER BY task, place"
)
_OPEN = "SELECT task, place, count(*) FROM @runs WHERE outcome IS NULL GROUP BY task, place"
_PAUSE = (
    "UPDATE @tasks SET paused = ?, resumed_at = ?, version = version + 1"
    " WHERE task = ? AND paused <> ?"
)
_PAUSED = "SELECT task FROM @paused WHERE task IN (?*)"
UNPAUSE = "DELETE FROM @paused WHERE task = ?"
_NAMES = f"SELECT task FROM @tasks WHERE archived_at IS NULL LIMIT {MOST_NAMES}"  # noqa: S608 - a constant
_PLACES = "SELECT key, place, room FROM @tasks WHERE task = ? AND archived_at IS NULL"
_LOCK_PLACES = _PLACES + " ORDER BY key FOR UPDATE"
_RUNNING = "SELECT count(*) FROM @runs WHERE task = ? AND place = ? AND outcome IS NULL"
_TOUCH = "UPDATE @tasks SET version = version + 1, skip_id = NULL WHERE key = ?"
_UNFOLD = "UPDATE @tasks SET skip_id = NULL WHERE key = ?"
_ARCHIVE = Update("@tasks", sets=("archived_at",), keys=("key",), also="version = version + 1")
_END_UNHELD = (
    f"UPDATE @runs SET outcome = '{Outcome.ABANDONED.value}', message = ?, retry_at = NULL"  # noqa: S608 - a constant
    " WHERE outcome IS NULL AND holder = ''"
)
_RETRIES = (
    "SELECT id, task, place, retry_at FROM @runs"
    " WHERE outcome IS NULL AND holder = '' AND slot IS NOT NULL AND tries IS NOT NULL"
)
_HASTEN = Update("@runs", sets=("retry_at",), keys=("id",), only="outcome IS NULL AND holder = ''")
_FORGET = "DELETE FROM @tasks WHERE archived_at < ?"


class Row(NamedTuple):
    """A task's row, as far as definitions concern it."""

    key: int
    task: str
    place: str
    scope: str
    source: str
    digest: str
    schedule: str
    anchor: Instant
    next_fire: Instant | None
    floor: Instant
    archived_at: Instant | None
    paused: int

    def cursor(self) -> Cursor:
        """Return its place in time."""
        return Cursor(self.anchor, self.next_fire, self.floor)


def read_declared(link: Link) -> list[Row]:
    """Return the rows that configurations declare; those put away are left out."""
    return list(map(Row._make, link.run(_DECLARED)))


def rows_named(link: Link, names: Iterable[str]) -> list[Row]:
    """Return the rows of tasks of these names, in all places, those put away too."""
    return list(map(Row._make, link.among(_NAMED, names)))


def sync_rows(link: Link, here: Here, standing: Standing, now: Instant) -> Synced:
    """Make and change rows so that they say what stands, where this process holds it."""
    rows = {(row.task, row.place): row for row in rows_named(link, here.definitions)}
    added: list[Definition] = []
    changed: list[tuple[Row, Definition]] = []
    returned: list[tuple[Row, Definition]] = []
    superseded: list[str] = []
    for name, definition in here.definitions.items():
        row = rows.get((name, place_of(definition.scope, here.member)))
        if row is None:
            added.append(definition)
        elif row.archived_at is not None:
            returned.append((row, definition))
        elif row.digest != definition.digest or row.source == RUNTIME:
            if stands(standing, row, definition):
                changed.append((row, definition))
            else:
                superseded.append(name)
    taken = [row for row in rows.values() if row.source == RUNTIME and row.archived_at is None]
    archive_rows(
        link, [row for row in taken if mine(row, here.member, here.definitions) is None], now
    )
    passed = change_rows(link, here, changed, now)
    return_rows(link, here, returned, now)
    add_rows(link, here, added, now)
    new = {one.name for one in added} | {one.name for _, one in returned}
    return Synced(
        added=tuple(name for name in here.definitions if name in new),
        changed=tuple(one.name for _, one in changed),
        superseded=tuple(superseded),
        taken=tuple(name for name in here.definitions if name in {row.task for row in taken}),
        passed=passed,
    )


def add_rows(
    link: Link, here: Here, added: Sequence[Definition], now: Instant, *, words: str | None = None
) -> None:
    """Add rows for tasks that are seen for the first time, with their start-up runs."""
    paused = {task for (task,) in link.among(_PAUSED, [one.name for one in added])}
    cells = [
        (
            one.name,
            place_of(one.scope, here.member),
            *_definition_cells(one, words),
            *_cursor_cells(first_cursor(one, now)),
            int(one.name in paused),
        )
        for one in added
    ]
    link.add(_ADD, cells)
    _add_startup_runs(link, here, added, now)


def _definition_cells(one: Definition, words: str | None) -> tuple[Cell, ...]:
    source = CONFIG if words is None else RUNTIME
    rerun = int(one.on_abandoned is OnAbandoned.RERUN)
    schedule = schedule_text(one.schedule)
    return (one.scope.value, source, words, one.digest, schedule, one.room, rerun)


def _add_startup_runs(link: Link, here: Here, added: Iterable[Definition], now: Instant) -> None:
    runs = [
        unheld_run(
            new_run_id(),
            one.name,
            place=place_of(one.scope, here.member),
            trigger=Trigger.STARTUP,
            now=now,
        )
        for one in added
        if one.run_at_start
    ]
    insert_runs(link, runs, now=now, lease_us=0, mark=0)


def change_rows(
    link: Link,
    here: Here,
    changed: Sequence[tuple[Row, Definition]],
    now: Instant,
    *,
    words: str | None = None,
) -> Sequence[Run]:
    """Give rows other definitions, and return what is missed by that.

    A cursor moves only where the schedule is another. Where the next tick has come nearer, a retry
    waits no longer than until then: the tick takes its place.
    """
    moved = [(row, one, _changed(row, one, now)) for row, one in _locked(link, changed)]
    cells = [
        (*_definition_cells(one, words), *_cursor_cells(change.cursor), row.key)
        for row, one, change in moved
    ]
    link.change(_CHANGE, cells)
    ticks = {(row.task, row.place): change.cursor.next_fire for row, _, change in moved}
    _hasten_retries(link, ticks)
    return _record_missed(link, here, [(row, change) for row, _, change in moved], now)


def _locked(
    link: Link, changed: Sequence[tuple[Row, Definition]]
) -> Iterator[tuple[Row, Definition]]:
    """Return the rows as they stand once nobody else can claim them."""
    keys = lock_tasks(link, [row.key for row, _ in changed])
    rows = {row.key: row for row in map(Row._make, link.among(_KEYED, keys))}
    return ((rows[row.key], one) for row, one in changed if row.key in rows)


def _changed(row: Row, one: Definition, now: Instant) -> Change:
    paused = bool(row.paused)
    return change_cursor(one, row.cursor(), before=row.schedule, paused=paused, now=now)


def _record_missed(
    link: Link, here: Here, changes: Iterable[tuple[Row, Change]], now: Instant
) -> Sequence[Run]:
    missed = {
        row.key: passed_run(
            here.space, row.task, place=row.place, passed=change.missed, outcome=Outcome.MISSED
        )
        for row, change in changes
        if change.missed is not None
    }
    # A tick that is on record already has run, as where the row came back from a backup.
    known = read_runs(link, [run.id for run in missed.values()])
    missed = {key: run for key, run in missed.items() if run.id not in known}
    insert_runs(link, missed.values(), now=now, lease_us=0, mark=0)
    for key in missed:
        link.run(_UNFOLD, (key,))
    return [*missed.values()]


def _hasten_retries(link: Link, ticks: Mapping[tuple[str, str], Instant | None]) -> None:
    if not ticks:
        return
    hasty = [
        (next_fire, run_id)
        for run_id, task, place, retry_at in link.run(_RETRIES)
        if (next_fire := ticks.get((task, place))) is not None and next_fire < retry_at
    ]
    link.change(_HASTEN, hasty)


def _cursor_cells(cursor: Cursor) -> tuple[Cell, ...]:
    return (cursor.anchor, cursor.next_fire, due_at(cursor), cursor.floor)


def return_rows(
    link: Link,
    here: Here,
    returned: Sequence[tuple[Row, Definition]],
    now: Instant,
    *,
    words: str | None = None,
) -> None:
    """Bring archived tasks back as new ones, but for the floor: no tick runs twice."""
    lock_tasks(link, [row.key for row, _ in returned])
    cursors = [first_cursor(one, now, floor=row.floor) for row, one in returned]
    cells = [
        (*_definition_cells(one, words), *_cursor_cells(cursor), row.key)
        for (row, one), cursor in zip(returned, cursors, strict=True)
    ]
    link.change(_CHANGE, cells)
    _add_startup_runs(link, here, [one for _, one in returned], now)


def pause_rows(link: Link, name: str, *, paused: bool, now: Instant) -> None:
    """Pause or resume a task in all places, and in those that are yet to come."""
    refuse_unknown(link, name)
    if paused:
        link.run("INSERT INTO @paused (task) VALUES (?) ON CONFLICT (task) DO NOTHING", (name,))
    else:
        link.run(UNPAUSE, (name,))
    list(link.run(_LOCK_PLACES, (name,)))
    flag = int(paused)
    link.run(_PAUSE, (flag, None if paused else now, name, flag))


def trigger_run(link: Link, here: Here, name: str, *, body: bytes | None) -> Run | None:
    """Open an unheld manual run, in a place of this process where there is one."""
    now = link.now()
    refuse_unknown(link, name)
    found = list(link.run(_LOCK_PLACES, (name,)))
    key, place, room = min(found, key=lambda row: (row[1] not in here.places, row[1]))
    ((running,),) = link.run(_RUNNING, (name, place))
    if running >= room:
        return None
    run = unheld_run(new_run_id(), name, place=place, trigger=Trigger.MANUAL, now=now, body=body)
    insert_runs(link, [run], now=now, lease_us=0, mark=0)
    link.run(_TOUCH, (key,))
    return run


def refuse_unknown(link: Link, name: str) -> None:
    """Raise UnknownTaskError where no task has that name."""
    if link.run(_PLACES, (name,)).fetchone() is None:
        near = did_you_mean(name, [task for (task,) in link.run(_NAMES)])
        raise UnknownTaskError(f"expected the name of a task, got {name!r}{near}")


def read_states(link: Link) -> list[TaskState]:
    """Return the rows as people are shown them."""
    running = {(task, place): count for task, place, count in link.run(_OPEN)}
    return [_state(cells, running) for cells in link.run(_STATES)]


def _state(cells: tuple[Any, ...], running: dict[tuple[str, str], int]) -> TaskState:
    task, place, source, digest, paused, anchor, next_fire, floor = cells
    return TaskState(
        name=task,
        place=place,
        source=source,
        digest=digest,
        paused=bool(paused),
        anchor=anchor,
        next_fire=next_fire,
        floor=None if floor == BEFORE_TIME else floor,
        running=running.get((task, place), 0),
    )


def archive_rows(link: Link, rows: Sequence[Row], now: Instant, *, reason: str = UNWANTED) -> None:
    """Put rows away; their floors stay, and their waiting runs end for that reason."""
    lock_tasks(link, [row.key for row in rows])
    link.change(_ARCHIVE, [(now, row.key) for row in rows])
    for row in rows:
        link.run(_END_UNHELD + " AND task = ? AND place = ?", (reason, row.task, row.place))


def clear_place(link: Link, place: str) -> None:
    """Delete the rows of a process that takes part no more; their waiting runs end."""
    link.run("DELETE FROM @tasks WHERE place = ? AND scope = 'process'", (place,))
    link.run(_END_UNHELD + " AND place = ?", (UNWANTED, place))


def forget_archived(link: Link, before: Instant) -> None:
    """Delete rows that were put away before that instant."""
    link.run(_FORGET, (before,))
