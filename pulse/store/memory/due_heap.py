"""The task rows of the memory store, and the heap that orders them by when they are due."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from pulse.core.cursor import BEFORE_TIME, Cursor
from pulse.core.planner import plan
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.store.base import TaskState
from pulse.store.reschedule import change_cursor, schedule_text
from pulse.store.rules import CONFIG, MAX_NAMES_COMPARED, plan_resumed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.clock import Instant
    from pulse.core.planner import NotRun, Plan
    from pulse.core.task import TaskDefinition
    from pulse.store.memory.runs import StoredRun


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
        source: `config` or `runtime`.

    """

    definition: TaskDefinition
    partition: str
    cursor: Cursor
    order: int
    unfinished: int = 0
    paused: bool = False
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

    def add(self, row: MemoryTaskRow) -> None:
        """Add a new row."""
        self.rows[row.order] = row
        self.push(row)

    def has_stale_entries(self, known: int) -> bool:
        """Return whether the heap holds more removed rows than the *known* current ones."""
        return len(self.rows) > 2 * known

    def push(self, row: MemoryTaskRow) -> None:
        """Add an entry for the next fire time of a row."""
        row.parked = False
        if row.cursor.next_fire is not None:
            heappush(self.entries, _entry(row.cursor.next_fire, row))

    def rebuild(self, rows: Iterable[MemoryTaskRow]) -> None:
        """Replace the content of the heap by *rows*."""
        self.rows = {row.order: row for row in rows}
        self.entries = []
        for row in self.rows.values():
            row.parked = False
            if row.cursor.next_fire is not None:
                self.entries.append(_entry(row.cursor.next_fire, row))
        heapify(self.entries)

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


def _entry(next_fire: Instant, row: MemoryTaskRow) -> int:
    return next_fire + row.cursor.delay_us << ORDER_BITS | row.order


def is_stale(row: MemoryTaskRow, due_at: Instant) -> bool:
    """Return whether the row is not due at *due_at* any more, or is paused or withdrawn."""
    cursor = row.cursor
    moved = cursor.next_fire is None or cursor.next_fire + cursor.delay_us != due_at
    return moved or row.paused or row.withdrawn


def _has_work(row: MemoryTaskRow, now: Instant) -> bool:
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


def row_of(rows: Mapping[str, MemoryTaskRow], name: str) -> MemoryTaskRow:
    """Return the row of a task; UnknownTaskError suggests a similar name."""
    row = rows.get(name)
    if row is None:
        near = did_you_mean(name, islice(rows, MAX_NAMES_COMPARED))
        raise UnknownTaskError(f"expected the name of a task, got {name!r}{near}")
    return row


def change_row(
    row: MemoryTaskRow, definition: TaskDefinition, now: Instant, *, source: str
) -> NotRun | None:
    """Give a row another definition; return the due fire times of the old schedule.

    The pending runs of the row are changed by the caller.
    """
    before = schedule_text(row.definition.schedule)
    changed = change_cursor(definition, row.cursor, before=before, paused=row.paused, now=now)
    row.cursor = changed.cursor
    row.definition = definition
    row.source = source
    return changed.missed


def state_of(row: MemoryTaskRow) -> TaskState:
    """Return a row as `tasks()` returns it."""
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
    )
