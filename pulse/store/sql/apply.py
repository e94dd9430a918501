"""Applies a change set to the tables, in the transaction of a session.

Rows and runs that the changes rest upon are locked and compared first; then everything is written
in batches whose results nobody waits for: on PostgreSQL a claim is two round trips.
"""

from __future__ import annotations

from collections import Counter
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pulse.store.shared.changes import Applied
from pulse.store.sql.codec import RUN_FIELDS, RowWriter, RunWriter, columns_of, run_reader
from pulse.store.sql.database import Insert, Update

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.store.shared.changes import ChangeSet, RunChange, TaskChange
    from pulse.store.shared.rows import TaskRow
    from pulse.store.sql.database import Cell, Connection

C = TypeVar("C")

_LOCK = "SELECT key, version, due_at FROM @tasks WHERE key IN (?*) ORDER BY key FOR UPDATE"
_LOCK_FREE = f"{_LOCK} SKIP LOCKED"
_LOCK_RUNS = (
    "SELECT id, holder, attempt, mark, (SELECT count(*) FROM @runs h"
    "  WHERE h.task = r.task AND h.place = r.place AND h.outcome IS NULL AND h.holder <> '')"
    " FROM @runs r WHERE outcome IS NULL AND id IN (?*) ORDER BY id FOR UPDATE"
)
_LOCK_FREE_RUNS = f"{_LOCK_RUNS} SKIP LOCKED"
_EXISTING = "SELECT id FROM @runs WHERE id IN (?*)"

_ROW = (
    "scope", "source", "task_json", "digest", "schedule", "max_unfinished", "rerun", "anchor",
    "next_fire", "due_at", "last_decided", "paused", "resumed_at", "archived_at",
)  # fmt: skip
_NEW_ROW = RowWriter("task", "partition", *_ROW)
_CHANGED_ROW = RowWriter(*_ROW, "order")
_MOVED_ROW = RowWriter("next_fire", "due_at", "last_decided", "order")
_read_moved = attrgetter("next_fire", "due_at", "last_decided", "order")
_ADD = Insert("@tasks", _NEW_ROW.columns)
_CHANGE = Update("@tasks", _CHANGED_ROW.columns[:-1], keys=("key",), also="version = version + 1")
_MOVE = Update(
    "@tasks",
    _MOVED_ROW.columns[:-1],
    keys=("key",),
    also="resumed_at = NULL, version = version + 1",
)
# The usual changes have statements of their own, without the columns that stay or become NULL: the
# `sqlite3` module binds None far slower than a number, and PostgreSQL gets fewer values.
_MOVE_ALONE = Update(
    "@tasks",
    columns_of(("next_fire", "due_at", "last_decided")),
    keys=("key",),
    also="skip_id = NULL, resumed_at = NULL, version = version + 1",
)
_RUN = RunWriter(*(name for name in RUN_FIELDS if name not in {"outcome", "attempts"}))
_ADD_RUNS = Insert("@runs", (*_RUN.columns, "opened_at", "lease_us", "mark"))
_OPENED = (
    "id", "task", "partition", "fire_time", "scheduled_for", "trigger", "attempt", "holder",
    "claimed_at", "message", "count",
)  # fmt: skip
_read_opened = run_reader(*_OPENED)
_OPEN_RUNS = Insert("@runs", (*columns_of(_OPENED), "opened_at", "lease_us", "mark"))
_FOLD = Update("@runs", sets=("count",), keys=("id",))
_CLAIMED_BY = ("id", "holder", "attempt")
UNFINISHED_RUN = "coalesce(outcome, '') = ''"
"""Written so that no planner uses the index of unfinished runs: that is full of finished ones,
which look like none in the table's statistics, where the ids lead to each run at once."""
_RUN_STATE = RunWriter(
    "started_at", "took_us", "status", "message", "holder", "claimed_at", "retry_at", "attempt"
)
_CHANGE_RUN = Update("@runs", _RUN_STATE.columns, keys=_CLAIMED_BY, only=UNFINISHED_RUN)
# Also a run that goes to another holder: the length of its lease and the mark are written.
_CLAIM_RUN = Update(
    "@runs", (*_RUN_STATE.columns, "lease_us", "mark"), keys=_CLAIMED_BY, only=UNFINISHED_RUN
)
_ENDED = ("outcome", "started_at", "took_us", "status", "message")
_read_ended = run_reader(*_ENDED)
_END_RUN = Update("@runs", _ENDED, keys=_CLAIMED_BY, only=UNFINISHED_RUN)
_STAYS = attrgetter("holder", "attempt", "claimed_at", "retry_at", "attempts")
"""What `_END_RUN` leaves as it is."""
_RENEW = Update("@runs", sets=("mark",), keys=_CLAIMED_BY, only=UNFINISHED_RUN)


class _LockedRun(NamedTuple):
    """An unfinished run whose row is locked; *claimed* counts the claimed runs of its task."""

    holder: str
    attempt: int
    mark: int
    claimed: int


def apply(connection: Connection, changes: ChangeSet, *, space: str) -> Applied:
    """Apply *changes* for the application *space*; return which of them were applied.

    Raises:
        DuplicateKeyError: a run exists that was to be added; at the commit at the latest.

    """
    if not (changes.closed or changes.tasks) and not any(map(_needs_lock, changes.runs)):
        return Applied((), (), _change_unlocked(connection, changes))
    return _Applying(connection, changes, space).apply()


def _needs_lock(change: RunChange) -> bool:
    return change.guarded or change.max_claimed is not None or change.mark is not None


def _change_unlocked(connection: Connection, changes: ChangeSet) -> Sequence[bool]:
    """Change runs by one statement for each kind of change: nothing has to be read first."""
    applied: list[bool] = [False] * len(changes.runs)
    for update, numbers in _by_update(changes.runs).items():
        cells = [_cells(update, changes.runs[number], changes) for number in numbers]
        done = connection.update_returning(update, cells)
        for number, was_done in zip(numbers, done, strict=True):
            applied[number] = was_done
    return applied


def _by_update(runs: Sequence[RunChange]) -> Mapping[Update, list[int]]:
    found: dict[Update, list[int]] = {}
    for number, change in enumerate(runs):
        found.setdefault(_update_of(change), []).append(number)
    return found


def _update_of(change: RunChange) -> Update:
    was, run = change.was, change.run
    if run is None:
        return _RENEW
    if run.outcome is not None:
        return _END_RUN if _STAYS(run) == _STAYS(was) else _CHANGE_RUN
    return _CLAIM_RUN if run.holder and run.holder != was.holder else _CHANGE_RUN


def _statement_of(change: TaskChange) -> Insert | Update:
    """Return the statement that writes the row of a change."""
    if change.was is None:
        return _ADD
    if not change.moves_only:
        return _CHANGE
    same_gaps = change.row.gaps == change.was.gaps
    return _MOVE_ALONE if same_gaps and change.row.skip is None else _MOVE


def _is_opened(run: Run) -> bool:
    """Return whether a run to add is claimed, and so holds only what `_OPENED` names."""
    return run.outcome is None and bool(run.holder) and run.body is None


def _cells(update: Update, change: RunChange, changes: ChangeSet) -> tuple[Cell, ...]:
    was, run = change.was, change.run
    keys: tuple[Cell, ...] = (was.id, was.holder, was.attempt)
    if run is None:
        return (changes.boot, *keys)
    if update is _END_RUN:
        return (*_read_ended(run), *keys)
    state = _RUN_STATE.cells(run)
    if update is _CLAIM_RUN:
        lease_us = changes.lease_us if change.lease_us is None else change.lease_us
        return (*state, lease_us, changes.boot, *keys)
    return (*state, *keys)


class _Applying:
    """Applies one change set: locks and compares, then writes in batches."""

    __slots__ = (
        "_changed",
        "_changes",
        "_claimed",
        "_connection",
        "_refused",
        "_rows",
        "_runs",
        "_space",
    )

    def __init__(self, connection: Connection, changes: ChangeSet, space: str) -> None:
        self._connection = connection
        self._changes = changes
        self._space = space
        self._claimed: Counter[tuple[str, str]] = Counter()
        self._refused: set[tuple[str, str]] = set()
        self._lock()

    def _lock(self) -> None:
        """Lock rows, then the runs of locked rows.

        A process that locked runs of a row that another process has locked would keep that process
        from claiming them, and could not claim them itself.
        """
        changes, select_in = self._changes, self._connection.select_in
        run_changes = [*changes.closed, *changes.runs]
        self._changed = {change.was.order for change in changes.tasks if change.was is not None}
        keys = self._changed | {
            change.row.order for change in run_changes if change.row is not None
        }
        rows = select_in(_LOCK_FREE if changes.skip_locked else _LOCK, sorted(keys))
        if changes.skip_locked and run_changes:
            rows = list(rows)
            free = {key for key, *_ in rows}
            run_changes = [
                change for change in run_changes if change.row is None or change.row.order in free
            ]
        # A write that waits gets all rows: both statements are one round trip.
        ids = sorted(change.was.id for change in run_changes)
        locks = _LOCK_FREE_RUNS if changes.skip_locked else _LOCK_RUNS
        runs = select_in(locks, ids) if ids else ()
        self._rows: dict[int, tuple[int, Instant | None]] = {
            key: (version, due_at) for key, version, due_at in rows
        }
        self._runs: dict[str, _LockedRun] = {ident: _LockedRun(*cells) for ident, *cells in runs}

    def apply(self) -> Applied:
        """Decide what is applied, and write it."""
        changes = self._changes
        closed = [self._may_change(change) for change in changes.closed]
        for change, done in zip(changes.closed, closed, strict=True):
            if not done:
                self._refused.add((change.was.task, change.was.partition))
        tasks = [self._may_change_row(change) for change in changes.tasks]
        due: list[Instant | None] = []
        for one, done in zip(changes.tasks, tasks, strict=True):
            if not done:
                self._refused.add((one.row.task, one.row.partition))
                if one.was is not None:
                    due.append(self._rows.get(one.was.order, (0, one.was.due_at))[1])
        runs = [self._may_change(change) for change in changes.runs]
        existing = self._write_tasks(_chosen(changes.tasks, tasks))
        self._write_runs(_chosen(changes.closed, closed))
        self._write_runs(_chosen(changes.runs, runs))
        for task in changes.trimmed:
            self._connection.trim(task, changes.keep_runs)
        return Applied(closed, tasks, runs, due, existing)

    def _may_change_row(self, change: TaskChange) -> bool:
        was = change.was
        if was is None:
            return True  # rows are added in sessions that run one at a time
        version, _ = self._rows.get(was.order, (None, None))
        return version == was.version and (was.task, was.partition) not in self._refused

    def _may_change(self, change: RunChange) -> bool:
        was, row = change.was, change.row
        found = self._runs.get(was.id)
        if found is None or (found.holder, found.attempt) != (was.holder, was.attempt):
            return False
        if change.mark is not None and found.mark != change.mark:
            return False
        key = (was.task, was.partition)
        if row is not None and not self._row_allows(row, change):
            return False
        if change.max_claimed is not None:
            if found.claimed + self._claimed[key] >= change.max_claimed:
                return False
            self._claimed[key] += 1
        del self._runs[was.id]  # so that a second change of the run is refused, as on Redis
        return True

    def _row_allows(self, row: TaskRow, change: RunChange) -> bool:
        if row.order not in self._rows:
            return False  # another process is changing the row, or it was deleted
        if not change.guarded:
            return True
        if (row.task, row.partition) in self._refused:
            return False
        # A run that follows the change of its row names the version that the change makes.
        return self._rows[row.order][0] == row.version - (row.order in self._changed)

    def _write_tasks(self, changes: Sequence[TaskChange]) -> frozenset[str]:
        groups: dict[Insert | Update, list[TaskRow]] = {}
        for change in changes:
            groups.setdefault(_statement_of(change), []).append(change.row)
        for statement, rows in groups.items():
            if isinstance(statement, Insert):
                self._connection.insert_many(statement, self._cells(_NEW_ROW, rows))
            else:
                self._connection.update_many(statement, self._update_cells(statement, rows))
        folded = [(one.folded.count, one.folded.id) for one in changes if one.folded is not None]
        if folded:
            self._connection.update_many(_FOLD, folded)
        runs = [run for change in changes for run in change.runs]
        return self._add_runs(runs) if runs else frozenset()

    def _update_cells(self, update: Update, rows: Sequence[TaskRow]) -> Iterable[Sequence[Cell]]:
        if update is _MOVE_ALONE:
            return map(_read_moved, rows)
        return self._cells(_MOVED_ROW if update is _MOVE else _CHANGED_ROW, rows)

    def _cells(self, writer: RowWriter, rows: Iterable[TaskRow]) -> list[list[Cell]]:
        return [writer.cells(row, space=self._space) for row in rows]

    def _add_runs(self, runs: Sequence[Run]) -> frozenset[str]:
        changes, existing = self._changes, frozenset[str]()
        if changes.check_existing or not changes.skip_locked:
            # The ids of other runs are random.
            known = [run.id for run in runs if run.scheduled_for is not None]
            existing = frozenset(ident for (ident,) in self._connection.select_in(_EXISTING, known))
        added = [run for run in runs if run.id not in existing] if existing else runs
        if not added:
            return existing
        last = (changes.now, changes.lease_us, changes.boot)
        if all(map(_is_opened, added)):
            opened = [(*_read_opened(run), *last) for run in added]
            self._connection.insert_many(_OPEN_RUNS, opened)
        else:  # in one batch: the order of the records is that of the history
            cells = [(*_RUN.cells(run), *last) for run in added]
            self._connection.insert_many(_ADD_RUNS, cells)
        return existing

    def _write_runs(self, runs: Sequence[RunChange]) -> None:
        for update, numbers in _by_update(runs).items():
            cells = [_cells(update, runs[number], self._changes) for number in numbers]
            self._connection.update_many(update, cells)


def _chosen(changes: Iterable[C], done: Iterable[bool]) -> list[C]:
    return [change for change, was_done in zip(changes, done, strict=True) if was_done]
