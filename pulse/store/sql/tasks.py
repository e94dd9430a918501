"""The rows of tasks: add, change, pause, trigger and archive them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pulse.core.planner import BEFORE_TIME, Cursor, due_at, first_cursor
from pulse.core.policies import OnAbandoned
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import not_run_record, pending_run
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.store.base import SyncResult, TaskState
from pulse.store.reschedule import change_cursor, schedule_text
from pulse.store.rules import (
    CONFIG,
    MAX_NAMES_COMPARED,
    NOT_DECLARED,
    RUNTIME,
    new_run_id,
    partition_of,
)
from pulse.store.shared.manifests import is_current, own_definition
from pulse.store.sql.database import Insert, Update
from pulse.store.sql.runs import insert_runs, lock_tasks, read_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.reschedule import ScheduleChange
    from pulse.store.shared.manifests import ActiveDefinitions
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Cell, Connection

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
_NAMES = f"SELECT task FROM @tasks WHERE archived_at IS NULL LIMIT {MAX_NAMES_COMPARED}"  # noqa: S608 - a constant
_PLACES = "SELECT key, place, room FROM @tasks WHERE task = ? AND archived_at IS NULL"
_LOCK_PLACES = _PLACES + " ORDER BY key FOR UPDATE"
_RUNNING = "SELECT count(*) FROM @runs WHERE task = ? AND place = ? AND outcome IS NULL"
_TOUCH = "UPDATE @tasks SET version = version + 1, skip_id = NULL WHERE key = ?"
_UNFOLD = "UPDATE @tasks SET skip_id = NULL WHERE key = ?"
_ARCHIVE = Update("@tasks", sets=("archived_at",), keys=("key",), also="version = version + 1")
_ABANDON_PENDING = (
    f"UPDATE @runs SET outcome = '{Outcome.ABANDONED.value}', message = ?, retry_at = NULL"  # noqa: S608 - a constant
    " WHERE outcome IS NULL AND holder = ''"
)
_RETRIES = (
    "SELECT id, task, place, retry_at FROM @runs"
    " WHERE outcome IS NULL AND holder = '' AND slot IS NOT NULL AND tries IS NOT NULL"
)
_ADVANCE = Update("@runs", sets=("retry_at",), keys=("id",), only="outcome IS NULL AND holder = ''")
_FORGET = "DELETE FROM @tasks WHERE archived_at < ?"


class SqlTaskRow(NamedTuple):
    """The row of a task, as far as its definition and its schedule concern it."""

    key: int
    task: str
    partition: str
    scope: str
    source: str
    digest: str
    schedule: str
    anchor: Instant
    next_fire: Instant | None
    last_decided: Instant
    archived_at: Instant | None
    paused: int

    def cursor(self) -> Cursor:
        """Return the task's position in its schedule."""
        return Cursor(self.anchor, self.next_fire, self.last_decided)


def read_declared(connection: Connection) -> list[SqlTaskRow]:
    """Return the rows of configured tasks, without archived ones."""
    return list(map(SqlTaskRow._make, connection.execute(_DECLARED)))


def rows_named(connection: Connection, names: Iterable[str]) -> list[SqlTaskRow]:
    """Return the rows of tasks of these names, in all partitions, with archived ones."""
    return list(map(SqlTaskRow._make, connection.select_in(_NAMED, names)))


def sync_rows(
    connection: Connection, caller: SqlCaller, active: ActiveDefinitions, now: Instant
) -> SyncResult:
    """Add and change rows, so that each holds its active definition if this process has it."""
    rows = {(row.task, row.partition): row for row in rows_named(connection, caller.definitions)}
    added: list[TaskDefinition] = []
    changed: list[tuple[SqlTaskRow, TaskDefinition]] = []
    returned: list[tuple[SqlTaskRow, TaskDefinition]] = []
    superseded: list[str] = []
    for name, definition in caller.definitions.items():
        row = rows.get((name, partition_of(definition.scope, caller.member)))
        if row is None:
            added.append(definition)
        elif row.archived_at is not None:
            returned.append((row, definition))
        elif row.digest != definition.digest or row.source == RUNTIME:
            if is_current(active, row, definition):
                changed.append((row, definition))
            else:
                superseded.append(name)
    overridden = [row for row in rows.values() if row.source == RUNTIME and row.archived_at is None]
    archive_rows(
        connection,
        [
            row
            for row in overridden
            if own_definition(row, caller.member, caller.definitions) is None
        ],
        now,
    )
    missed = change_rows(connection, caller, changed, now)
    return_rows(connection, caller, returned, now)
    add_rows(connection, caller, added, now)
    new = {one.name for one in added} | {one.name for _, one in returned}
    return SyncResult(
        added=tuple(name for name in caller.definitions if name in new),
        changed=tuple(one.name for _, one in changed),
        superseded=tuple(superseded),
        overridden=tuple(
            name for name in caller.definitions if name in {row.task for row in overridden}
        ),
        missed=missed,
    )


def add_rows(
    connection: Connection,
    caller: SqlCaller,
    added: Sequence[TaskDefinition],
    now: Instant,
    *,
    task_json: str | None = None,
) -> None:
    """Add rows for tasks that have none, and their start-up runs."""
    paused = {task for (task,) in connection.select_in(_PAUSED, [one.name for one in added])}
    cells = [
        (
            one.name,
            partition_of(one.scope, caller.member),
            *_definition_cells(one, task_json),
            *_cursor_cells(first_cursor(one, now)),
            int(one.name in paused),
        )
        for one in added
    ]
    connection.insert_many(_ADD, cells)
    _add_startup_runs(connection, caller, added, now)


def _definition_cells(one: TaskDefinition, task_json: str | None) -> tuple[Cell, ...]:
    source = CONFIG if task_json is None else RUNTIME
    rerun = int(one.on_abandoned is OnAbandoned.RERUN)
    schedule = schedule_text(one.schedule)
    return (one.scope.value, source, task_json, one.digest, schedule, one.max_unfinished, rerun)


def _add_startup_runs(
    connection: Connection, caller: SqlCaller, added: Iterable[TaskDefinition], now: Instant
) -> None:
    runs = [
        pending_run(
            new_run_id(),
            one.name,
            partition=partition_of(one.scope, caller.member),
            trigger=Trigger.STARTUP,
            now=now,
        )
        for one in added
        if one.run_at_start
    ]
    insert_runs(connection, runs, now=now, lease_us=0, mark=0)


def change_rows(
    connection: Connection,
    caller: SqlCaller,
    changed: Sequence[tuple[SqlTaskRow, TaskDefinition]],
    now: Instant,
    *,
    task_json: str | None = None,
) -> Sequence[Run]:
    """Write other definitions to rows; return the runs that record the ticks missed by that.

    A cursor moves only if the schedule changes. If the next tick comes earlier, a retry is advanced
    to it, because the tick takes the place of the retry.
    """
    moved = [(row, one, _changed(row, one, now)) for row, one in _locked(connection, changed)]
    cells = [
        (*_definition_cells(one, task_json), *_cursor_cells(change.cursor), row.key)
        for row, one, change in moved
    ]
    connection.update_many(_CHANGE, cells)
    ticks = {(row.task, row.partition): change.cursor.next_fire for row, _, change in moved}
    _advance_retries(connection, ticks)
    return _record_missed(connection, caller, [(row, change) for row, _, change in moved], now)


def _locked(
    connection: Connection, changed: Sequence[tuple[SqlTaskRow, TaskDefinition]]
) -> Iterator[tuple[SqlTaskRow, TaskDefinition]]:
    """Lock the rows; return them as they are now."""
    keys = lock_tasks(connection, [row.key for row, _ in changed])
    rows = {row.key: row for row in map(SqlTaskRow._make, connection.select_in(_KEYED, keys))}
    return ((rows[row.key], one) for row, one in changed if row.key in rows)


def _changed(row: SqlTaskRow, one: TaskDefinition, now: Instant) -> ScheduleChange:
    paused = bool(row.paused)
    return change_cursor(one, row.cursor(), before=row.schedule, paused=paused, now=now)


def _record_missed(
    connection: Connection,
    caller: SqlCaller,
    changes: Iterable[tuple[SqlTaskRow, ScheduleChange]],
    now: Instant,
) -> Sequence[Run]:
    missed = {
        row.key: not_run_record(
            caller.space,
            row.task,
            partition=row.partition,
            passed=change.missed,
            outcome=Outcome.MISSED,
        )
        for row, change in changes
        if change.missed is not None
    }
    # A tick with a run has run already: the row of the task may come from a backup.
    known = read_runs(connection, [run.id for run in missed.values()])
    missed = {key: run for key, run in missed.items() if run.id not in known}
    insert_runs(connection, missed.values(), now=now, lease_us=0, mark=0)
    for key in missed:
        connection.execute(_UNFOLD, (key,))
    return [*missed.values()]


def _advance_retries(
    connection: Connection, ticks: Mapping[tuple[str, str], Instant | None]
) -> None:
    if not ticks:
        return
    advanced = [
        (next_fire, run_id)
        for run_id, task, partition, retry_at in connection.execute(_RETRIES)
        if (next_fire := ticks.get((task, partition))) is not None and next_fire < retry_at
    ]
    connection.update_many(_ADVANCE, advanced)


def _cursor_cells(cursor: Cursor) -> tuple[Cell, ...]:
    return (cursor.anchor, cursor.next_fire, due_at(cursor), cursor.last_decided)


def return_rows(
    connection: Connection,
    caller: SqlCaller,
    returned: Sequence[tuple[SqlTaskRow, TaskDefinition]],
    now: Instant,
    *,
    task_json: str | None = None,
) -> None:
    """Restore archived tasks as new ones, but keep `last_decided`: no tick runs twice."""
    lock_tasks(connection, [row.key for row, _ in returned])
    cursors = [first_cursor(one, now, last_decided=row.last_decided) for row, one in returned]
    cells = [
        (*_definition_cells(one, task_json), *_cursor_cells(cursor), row.key)
        for (row, one), cursor in zip(returned, cursors, strict=True)
    ]
    connection.update_many(_CHANGE, cells)
    _add_startup_runs(connection, caller, [one for _, one in returned], now)


def pause_rows(connection: Connection, name: str, *, paused: bool, now: Instant) -> None:
    """Pause or resume a task in all partitions, and in those of later processes."""
    refuse_unknown(connection, name)
    if paused:
        connection.execute(
            "INSERT INTO @paused (task) VALUES (?) ON CONFLICT (task) DO NOTHING", (name,)
        )
    else:
        connection.execute(UNPAUSE, (name,))
    list(connection.execute(_LOCK_PLACES, (name,)))
    flag = int(paused)
    connection.execute(_PAUSE, (flag, None if paused else now, name, flag))


def trigger_run(
    connection: Connection, caller: SqlCaller, name: str, *, body: bytes | None
) -> Run | None:
    """Add a pending manual run, in a partition of this process if the task has one there.

    Returns:
        The run; None if the task has as many unfinished runs as `overlap` allows.

    """
    now = connection.now()
    refuse_unknown(connection, name)
    found = list(connection.execute(_LOCK_PLACES, (name,)))
    key, partition, room = min(found, key=lambda row: (row[1] not in caller.partitions, row[1]))
    ((unfinished,),) = connection.execute(_RUNNING, (name, partition))
    if unfinished >= room:
        return None
    run = pending_run(
        new_run_id(), name, partition=partition, trigger=Trigger.MANUAL, now=now, body=body
    )
    insert_runs(connection, [run], now=now, lease_us=0, mark=0)
    connection.execute(_TOUCH, (key,))
    return run


def refuse_unknown(connection: Connection, name: str) -> None:
    """Raise UnknownTaskError where no task has that name."""
    if connection.execute(_PLACES, (name,)).fetchone() is None:
        near = did_you_mean(name, [task for (task,) in connection.execute(_NAMES)])
        raise UnknownTaskError(f"expected the name of a task, got {name!r}{near}")


def read_states(connection: Connection) -> list[TaskState]:
    """Return the tasks as the API shows them, ordered by name and partition."""
    unfinished = {(task, partition): count for task, partition, count in connection.execute(_OPEN)}
    return [_state(cells, unfinished) for cells in connection.execute(_STATES)]


def _state(cells: tuple[Any, ...], unfinished: dict[tuple[str, str], int]) -> TaskState:
    task, partition, source, digest, paused, anchor, next_fire, last_decided = cells
    return TaskState(
        name=task,
        partition=partition,
        source=source,
        digest=digest,
        paused=bool(paused),
        anchor=anchor,
        next_fire=next_fire,
        last_decided=None if last_decided == BEFORE_TIME else last_decided,
        unfinished=unfinished.get((task, partition), 0),
    )


def archive_rows(
    connection: Connection, rows: Sequence[SqlTaskRow], now: Instant, *, reason: str = NOT_DECLARED
) -> None:
    """Archive rows; `last_decided` stays, and the pending runs are abandoned for *reason*."""
    lock_tasks(connection, [row.key for row in rows])
    connection.update_many(_ARCHIVE, [(now, row.key) for row in rows])
    for row in rows:
        connection.execute(
            _ABANDON_PENDING + " AND task = ? AND place = ?", (reason, row.task, row.partition)
        )


def clear_partition(connection: Connection, partition: str) -> None:
    """Delete the tasks of the partition of a process that has left, and abandon pending runs."""
    connection.execute("DELETE FROM @tasks WHERE place = ? AND scope = 'process'", (partition,))
    connection.execute(_ABANDON_PENDING + " AND place = ?", (NOT_DECLARED, partition))


def forget_archived(connection: Connection, before: Instant) -> None:
    """Delete tasks that were archived before that instant."""
    connection.execute(_FORGET, (before,))
