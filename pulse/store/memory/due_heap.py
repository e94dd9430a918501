"""The rows of a memory store, and the heap that gives the next one that is due."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from pulse.core.planner import BEFORE_TIME, Cursor, plan
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
"""How a heap's entry holds the order of its row, below the instant at which it is due."""


class MemoryTaskRow(msgspec.Struct, gc=False):
    """A task's row; *parked* while it is due but waits for one of its runs to end."""

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
    """Rows by when they are due; an entry that its row has left behind is stale and is dropped.

    An entry is one whole number, the instant above the row's order: comparing tuples touches
    four objects for each of the dozen levels of a large heap, and most are in no cache.
    """

    __slots__ = ("entries", "rows")

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.rows: dict[int, MemoryTaskRow] = {}

    def add(self, row: MemoryTaskRow) -> None:
        """Consider a row that is not known yet."""
        self.rows[row.order] = row
        self.push(row)

    def has_stale_entries(self, known: int) -> bool:
        """Return whether more rows are gone than the *known* ones that take part."""
        return len(self.rows) > 2 * known

    def push(self, row: MemoryTaskRow) -> None:
        """Consider a row that is known already from its next fire time on."""
        row.parked = False
        if row.cursor.next_fire is not None:
            heappush(self.entries, _entry(row.cursor.next_fire, row))

    def rebuild(self, rows: Iterable[MemoryTaskRow]) -> None:
        """Consider all of *rows*, and nothing else."""
        self.rows = {row.order: row for row in rows}
        self.entries = []
        for row in self.rows.values():
            row.parked = False
            if row.cursor.next_fire is not None:
                self.entries.append(_entry(row.cursor.next_fire, row))
        heapify(self.entries)

    def first(self, now: Instant) -> Instant | None:
        """Return when the next row is due that can be decided; what waits for room is set aside."""
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
    """Return whether the row is not due then, or no longer, or takes no part now."""
    cursor = row.cursor
    moved = cursor.next_fire is None or cursor.next_fire + cursor.delay_us != due_at
    return moved or row.paused or row.withdrawn


def _has_work(row: MemoryTaskRow, now: Instant) -> bool:
    try:
        return decide_row(row, now) is not None
    # The next claim tells of it, and sets the row aside.
    except Exception:  # noqa: BLE001 - the reason is above
        return True


def decide_row(row: MemoryTaskRow, now: Instant) -> Plan | None:
    """Return the planner's answer for a row; what passed in a pause is missed."""
    if row.resumed_at is None:
        return plan(row.definition, row.cursor, row.unfinished, now)
    return plan_resumed(
        row.definition, row.cursor, resumed_at=row.resumed_at, unfinished=row.unfinished, now=now
    )


def row_of(rows: Mapping[str, MemoryTaskRow], name: str) -> MemoryTaskRow:
    """Return the row of that name; UnknownTaskError says what was probably meant."""
    row = rows.get(name)
    if row is None:
        near = did_you_mean(name, islice(rows, MAX_NAMES_COMPARED))
        raise UnknownTaskError(f"expected the name of a task, got {name!r}{near}")
    return row


def change_row(
    row: MemoryTaskRow, definition: TaskDefinition, now: Instant, *, source: str
) -> NotRun | None:
    """Give a row another definition; return the fire times that it misses by that."""
    before = schedule_text(row.definition.schedule)
    changed = change_cursor(definition, row.cursor, before=before, paused=row.paused, now=now)
    row.cursor = changed.cursor
    row.definition = definition
    row.source = source
    return changed.missed


def state_of(row: MemoryTaskRow) -> TaskState:
    """Return a row as people are shown it."""
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
