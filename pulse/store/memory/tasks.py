"""The task rows of the memory store, and the heap that orders them by when they are due.

The caller holds the lock.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.core.cursor import BEFORE_TIME, Cursor, first_cursor, rewind
from pulse.core.planner import has_free_slot, plan
from pulse.core.records import TaskPosition
from pulse.core.run import Outcome, Trigger
from pulse.core.run_query import NO_RUNS
from pulse.core.run_transitions import abandon_run, not_run_record, pending_run
from pulse.core.schedule_text import schedule_text
from pulse.core.shown_settings import shown_settings
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.store.base import RewoundTask, SyncResult
from pulse.store.memory.pauses import PauseTable
from pulse.store.reschedule import change_cursor, is_schedule, order_of_ticks, superseded_tick
from pulse.store.rules import (
    CONFIG,
    MAX_NAMES_COMPARED,
    NOT_DECLARED,
    REMOVED,
    RUNTIME,
    check_addition,
    check_removal,
    new_run_id,
    partition_of,
    plan_resumed,
)
from pulse.store.steering import EVERY_TASK, TaskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.clock import Instant, Span
    from pulse.core.planner import Plan
    from pulse.core.run import Run
    from pulse.core.run_query import LastRuns
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.memory.runs import RunTable, StoredRun
    from pulse.store.steering import Pause


ORDER_BITS = 32
ORDER_MASK = (1 << ORDER_BITS) - 1
"""The low bits of a heap entry are the row's order; the bits above are when the row is due."""


class MemoryTaskRow(msgspec.Struct, gc=False):
    """A task row.

    Attributes:
        order: rises from row to row: of two rows that are due at once, the older one comes first.
        unfinished: the number of claimed and pending runs.
        parked: whether the row is out of the heap: it is due, but waits for one of its runs.
        withdrawn: whether the configuration no longer declares the task.
        resumed_at: when the last pause ended, until the next plan.
        skip: the record into which a next skip is folded; None after anything else.
        pause: since and until when, by whom and why the task is paused.
        source: `config` or `runtime`.

    """

    definition: TaskDefinition
    partition: str
    cursor: Cursor
    order: int
    unfinished: int = 0
    paused: bool = False
    pause: Pause | None = None
    parked: bool = False
    withdrawn: bool = False
    resumed_at: Instant | None = None
    skip: StoredRun | None = None
    source: str = CONFIG


class DueHeap:
    """A heap of rows by when they are due.

    When a row moves, its old entry stays in the heap as a stale entry until it comes first.

    An entry is one integer (see `ORDER_BITS`), because comparing tuples reads four objects on each
    of the dozen levels of a large heap, and most of these objects are in no CPU cache.
    """

    __slots__ = ("entries", "rows")

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.rows: dict[int, MemoryTaskRow] = {}

    def has_stale_entries(self, known: int) -> bool:
        """Return whether the heap holds more removed rows than the *known* current ones."""
        return len(self.rows) > 2 * known

    def push(self, row: MemoryTaskRow) -> None:
        """Add an entry for the next fire time of a row, known or new."""
        self.rows[row.order] = row
        row.parked = False
        if row.cursor.next_fire is not None:
            heappush(
                self.entries, row.cursor.next_fire + row.cursor.delay_us << ORDER_BITS | row.order
            )

    def rebuild(self, rows: Iterable[MemoryTaskRow]) -> None:
        """Replace the content of the heap by *rows*."""
        self.rows, self.entries = {}, []
        for row in rows:
            self.push(row)

    def first(self, now: Instant) -> Instant | None:
        """Return when the first row is due that can be decided; park due rows that have to wait."""
        entries = self.entries
        while entries:
            due_at, row = entries[0] >> ORDER_BITS, self.rows[entries[0] & ORDER_MASK]
            if not is_stale(row, due_at):
                if due_at > now or _has_work(row, now):
                    return due_at
                row.parked = True
            heappop(entries)
        return None


def is_stale(row: MemoryTaskRow, due_at: Instant) -> bool:
    """Return whether the row is not due at *due_at* any more, or is paused or withdrawn."""
    cursor = row.cursor
    moved = cursor.next_fire is None or cursor.next_fire + cursor.delay_us != due_at
    return moved or row.paused or row.withdrawn


def _has_work(row: MemoryTaskRow, now: Instant) -> bool:
    """Return whether a row that is due can be decided."""
    if has_free_slot(row.definition, row.unfinished):
        return True
    try:
        return decide_row(row, now) is not None
    # The next claim reports the error, and sets the row aside.
    except Exception:  # noqa: BLE001 - the reason is above
        return True


def decide_row(row: MemoryTaskRow, now: Instant) -> Plan | None:
    """Return the plan of a row; fire times during a pause are missed."""
    if row.resumed_at is None:
        return plan(row.definition, row.cursor, row.unfinished, now)
    return plan_resumed(
        row.definition, row.cursor, resumed_at=row.resumed_at, unfinished=row.unfinished, now=now
    )


class TaskTable(PauseTable):
    """The task rows, by name and by when they are due.

    Args:
        space: the value of `pulse.config.name`, from which run ids are derived.
        runs: the runs of the tasks.
        keep_archived: for how many archived tasks the cursor is kept.

    Attributes:
        rows: the rows of the configured tasks and of the run-time tasks, by name.
        due: the same rows by when they are due.
        withdrawn: names of configured tasks that the configuration no longer declares.
        pause_of_all: the pause of all tasks; None if there is none.

    """

    def __init__(self, space: str, runs: RunTable, keep_archived: int) -> None:
        self.rows: dict[str, MemoryTaskRow] = {}
        self.due: DueHeap = DueHeap()
        self.withdrawn: set[str] = set()
        self.pause_of_all: Pause | None = None
        self._space = space
        self._runs = runs
        self._keep_archived = keep_archived
        self._archived: dict[str, tuple[Cursor, int]] = {}  # with its order
        self._order = 0

    def row_of(self, name: str) -> MemoryTaskRow:
        """Return the row of a task; UnknownTaskError suggests a similar name."""
        row = self.rows.get(name)
        if row is None:
            near = did_you_mean(name, islice(self.rows, MAX_NAMES_COMPARED))
            raise UnknownTaskError(f"expected the name of a task, got {name!r}{near}")
        return row

    def row_of_run(self, run: Run) -> MemoryTaskRow | None:
        """Return the row of the task of a run, if there is one in its partition."""
        row = self.rows.get(run.task)
        return row if row is not None and row.partition == run.partition else None

    def sync(
        self, definitions: Mapping[str, TaskDefinition], member: Member, now: Instant
    ) -> SyncResult:
        """Create and update the rows of the configured tasks."""
        added: list[tuple[TaskDefinition, str]] = []
        changed: list[str] = []
        overridden: list[str] = []
        missed: list[Run] = []
        ticks: list[Run] = []
        for name, definition in definitions.items():
            row = self.rows.get(name)
            partition = partition_of(definition.scope, member)
            if row is not None and row.source == RUNTIME:
                overridden.append(name)
            if row is None or row.partition != partition:
                added.append((definition, partition))
            elif row.definition.digest != definition.digest or row.source == RUNTIME:
                changed.append(name)
                records, waiting = self._change(row, definition, now, CONFIG)
                missed += records
                ticks += waiting
        for definition, partition in sorted(added, key=self._is_new):
            self._make(definition, partition, now, CONFIG)
        self._withdraw(definitions)
        self.due.rebuild(self.rows.values())
        self._runs.reconsider_set_aside()
        names = tuple(definition.name for definition, _ in added)
        missed += sorted(ticks, key=order_of_ticks)
        every = (EVERY_TASK,) if self.pause_of_all is not None and definitions else ()
        paused = (*every, *(name for name in definitions if self.rows[name].paused))
        return SyncResult(names, tuple(changed), (), tuple(overridden), missed, paused)

    def _is_new(self, added: tuple[TaskDefinition, str]) -> bool:
        """Return whether a task was never stored: archived tasks are created first."""
        return added[0].name not in self._archived

    def _make(
        self, definition: TaskDefinition, partition: str, now: Instant, source: str
    ) -> MemoryTaskRow:
        name = definition.name
        self._order += 1
        before, order = self._archived.pop(name, (None, self._order))
        cursor = first_cursor(definition, now, partition=partition, before=before)
        row = MemoryTaskRow(definition, partition, cursor, order, source=source)
        if name in self.rows:  # in another partition
            row.paused, row.pause = self.rows[name].paused, self.rows[name].pause
        row.unfinished = len(self._runs.of_task(name, partition))
        self.rows[name] = row
        self._runs.accounts.note_schedule(definition, cursor, now=now)
        if definition.run_at_start:
            self.open_run(
                row,
                pending_run(
                    new_run_id(), name, partition=partition, trigger=Trigger.STARTUP, now=now
                ),
            )
        return row

    def _change(
        self, row: MemoryTaskRow, definition: TaskDefinition, now: Instant, source: str
    ) -> tuple[list[Run], list[Run]]:
        """Change a row; return the records of its missed fire times, and the ticks that waited."""
        before = schedule_text(row.definition.schedule)
        is_replaced = not is_schedule(before, definition.schedule)
        cursor, missed = change_cursor(
            definition, row.cursor, before=before, paused=row.paused, now=now
        )
        row.cursor, row.definition, row.source = cursor, definition, source
        self._runs.accounts.note_schedule(definition, cursor, now=now)
        name, partition = definition.name, row.partition
        ticks = self._miss_waiting(row) if is_replaced and row.unfinished else []
        if row.unfinished and row.cursor.next_fire is not None:
            self._runs.advance_retries(name, partition, before=row.cursor.next_fire)
        if missed is None:
            return [], ticks
        row.skip = None
        run = not_run_record(
            self._space, name, partition=partition, passed=missed, outcome=Outcome.MISSED
        )
        return [self._runs.add(run).run], ticks

    def _miss_waiting(self, row: MemoryTaskRow) -> list[Run]:
        """End the ticks of a replaced schedule that wait; return them."""
        missed: list[Run] = []
        for stored in self._runs.of_task(row.definition.name, row.partition):
            ended = superseded_tick(stored.run, row.cursor.next_fire)
            if ended is not stored.run:
                self.end(stored, ended)
                missed.append(ended)
        return missed

    def _withdraw(self, definitions: Mapping[str, TaskDefinition]) -> None:
        declared = {name for name, row in self.rows.items() if row.source == CONFIG}
        self.withdrawn = declared - definitions.keys()
        for name, row in self.rows.items():
            row.withdrawn = name in self.withdrawn

    def add(self, definition: TaskDefinition, now: Instant, *, replace: bool) -> list[Run]:
        """Add or replace a run-time task; return the records of the fire times that this misses."""
        name = definition.name
        row = self.rows.get(name)
        check_addition(name, None if row is None else row.source, replace=replace)
        if row is None:
            self.due.push(self._make(definition, "", now, RUNTIME))
            return []
        records, ticks = self._change(row, definition, now, RUNTIME)
        self.due.push(row)
        self._runs.offer_again(name)
        return [*records, *sorted(ticks, key=order_of_ticks)]

    def remove(self, name: str, now: Instant) -> None:
        """Archive a run-time task."""
        row = self.row_of(name)
        check_removal(name, row.source)
        self._archive(name, REMOVED, now)
        row.withdrawn = True
        if self.due.has_stale_entries(len(self.rows)):
            self.due.rebuild(self.rows.values())

    def remove_done(self, now: Instant) -> list[str]:
        """Archive run-time tasks that are to be removed and have nothing left to run."""
        done = [
            name
            for name, row in self.rows.items()
            if row.cursor.next_fire is None and row.definition.remove_when_done
            if not row.unfinished
        ]
        for name in done:
            self.remove(name, now)
        return done

    def archive(self, names: Iterable[str], now: Instant) -> list[Run]:
        """Archive configured tasks that no process has declared for three leases.

        Returns:
            The pending runs that end with them.

        """
        ended: list[Run] = []
        for name in names:
            self.withdrawn.discard(name)
            ended += self._archive(name, NOT_DECLARED, now)
        return ended

    def _archive(self, name: str, reason: str, now: Instant) -> list[Run]:
        row = self.rows.pop(name)
        self._runs.accounts.note_schedule(row.definition, row.cursor, now=now, ends=True)
        self._archived[name] = row.cursor, row.order
        if len(self._archived) > self._keep_archived:
            del self._archived[next(iter(self._archived))]
        ended: list[Run] = []
        for stored in [*self._runs.open.values()]:
            if stored.run.task == name and not stored.run.holder:
                self.end(stored, abandon_run(stored.run, reason))
                ended.append(stored.run)
        return ended

    def rewind(self, now: Instant) -> list[RewoundTask]:
        """Move back what a clock that was ahead of *now* has put into the future."""
        rewound: list[RewoundTask] = []
        for row in self.rows.values():
            if row.withdrawn:
                continue
            if row.resumed_at is not None and row.resumed_at > now:
                row.resumed_at = now
            name = row.definition.name
            try:
                moved, refused = rewind(row.definition, row.cursor, now)
            # The next claim reports a schedule that raises.
            except Exception:  # noqa: BLE001, S112 - the reason is above
                continue
            before = row.cursor
            is_moved = (moved.anchor, moved.next_fire) != (before.anchor, before.next_fire)
            if is_moved:
                row.cursor = moved
                self.due.push(row)
                self._runs.accounts.note_schedule(row.definition, moved, now=now)
                if moved.next_fire is not None:
                    self._runs.advance_retries(name, row.partition, before=moved.next_fire)
            if is_moved or refused is not None:
                rewound.append(RewoundTask(name, row.partition, refused, moved.next_fire))
        self._runs.advance_early(now)
        return sorted(rewound)

    def states(self, name: str | None = None) -> list[TaskState]:
        """Return the rows of all tasks, or of one, ordered by name."""
        last = self._runs.last_runs()
        states = (
            _state_of(row, last.get((row.definition.name, row.partition), NO_RUNS))
            for row in self.rows.values()
            if name in {None, row.definition.name}
        )
        return sorted(states, key=attrgetter("name"))

    def positions(self, name: str) -> list[TaskPosition]:
        """Return where a task is in its schedule, also if it is archived."""
        row, before = self.rows.get(name), self._archived.get(name)
        cursor = row.cursor if row is not None else before[0] if before else None
        if cursor is None:
            return []
        return [TaskPosition(cursor.partition, cursor.next_fire, cursor.last_decided)]

    def open_run(self, row: MemoryTaskRow, run: Run, mark: Span = 0) -> None:
        """Add an unfinished run that no claim has decided: a pending one, or one that has begun."""
        row.unfinished += 1
        row.skip = None
        self._runs.add_claimed(run, mark)

    def end(self, stored: StoredRun, run: Run) -> None:
        """Replace an unfinished run by *run*, which is finished; reconsider what waited for it."""
        self._runs.end(stored, run)
        row = self.rows.get(run.task)  # as in `row_of_run`, which would be one more call a run
        if row is not None and row.partition == run.partition:
            row.unfinished -= 1
            if row.parked:
                self.due.push(row)
        if self._runs.aside:
            self._runs.offer_again(run.task)


def _state_of(row: MemoryTaskRow, last: LastRuns) -> TaskState:
    return TaskState(
        name=row.definition.name,
        partition=row.partition,
        source=row.source,
        digest=row.definition.digest,
        paused=row.paused,
        anchor=row.cursor.anchor,
        next_fire=row.cursor.next_fire,
        last_decided=None if row.cursor.last_decided == BEFORE_TIME else row.cursor.last_decided,
        unfinished=row.unfinished,
        pause=row.pause,
        schedule=row.definition.schedule.to_text(),
        settings=shown_settings(row.definition),
        last_outcome=last.outcome,
        last_end=last.ended_at,
        last_success=last.succeeded_at,
        failures=last.failures,
    )
