"""The tasks of a memory store: made, changed, paused, put away; its owner holds the lock."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.planner import BEFORE_TIME, first_cursor
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import abandon_run, not_run_record, pending_run
from pulse.store.base import SyncResult, TaskState
from pulse.store.memory.due_heap import DueHeap, MemoryTaskRow, change_row, row_of, state_of
from pulse.store.rules import (
    CONFIG,
    NOT_DECLARED,
    REMOVED,
    RUNTIME,
    check_addition,
    check_removal,
    new_run_id,
    partition_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.memory.runs import RunTable, StoredRun


class TaskTable:
    """Holds the rows by name, and by when they are due.

    Args:
        space: the space that run ids are made in.
        ledger: where their runs are.
        keep_floors: of how many tasks that are gone the floor is remembered.

    Attributes:
        rows: the rows of this process's tasks, and of those that were added at run time.
        due: the same by when they are due.
        withdrawn: tasks of the configuration that it declares no more.

    """

    __slots__ = (
        "_gone",
        "_keep_floors",
        "_order",
        "_paused",
        "_runs",
        "_space",
        "due",
        "rows",
        "withdrawn",
    )

    def __init__(self, space: str, runs: RunTable, keep_floors: int) -> None:
        self.rows: dict[str, MemoryTaskRow] = {}
        self.due: DueHeap = DueHeap()
        self.withdrawn: set[str] = set()
        self._space = space
        self._runs = runs
        self._keep_floors = keep_floors
        self._gone: dict[str, tuple[Instant, int]] = {}  # floor and order
        self._paused: set[str] = set()
        self._order = 0

    def sync(
        self, definitions: Mapping[str, TaskDefinition], member: Member, now: Instant
    ) -> SyncResult:
        """Make and change rows so that they say what the configuration declares."""
        added: list[tuple[TaskDefinition, str]] = []
        changed: list[str] = []
        taken: list[str] = []
        passed: list[Run] = []
        for name, definition in definitions.items():
            row = self.rows.get(name)
            partition = partition_of(definition.scope, member)
            if row is not None and row.source == RUNTIME:
                taken.append(name)
            if row is None or row.partition != partition:
                added.append((definition, partition))
            elif row.definition.digest != definition.digest or row.source == RUNTIME:
                changed.append(name)
                passed += self._change(row, definition, now, CONFIG)
        for definition, partition in sorted(added, key=self._is_new):
            self._make(definition, partition, now, CONFIG)
        self._withdraw(definitions)
        self.due.rebuild(self.rows.values())
        self._runs.reconsider_set_aside()
        names = tuple(definition.name for definition, _ in added)
        return SyncResult(names, tuple(changed), (), tuple(taken), passed)

    def _is_new(self, added: tuple[TaskDefinition, str]) -> bool:
        """Return whether the store knows nothing of a task: what comes back goes first."""
        return added[0].name not in self._gone

    def _make(
        self, definition: TaskDefinition, partition: str, now: Instant, source: str
    ) -> MemoryTaskRow:
        name = definition.name
        self._order += 1
        last_decided, order = self._gone.pop(name, (BEFORE_TIME, self._order))
        cursor = first_cursor(definition, now, last_decided=last_decided)
        row = MemoryTaskRow(definition, partition, cursor, order, source=source)
        row.paused = name in self._paused
        if self._runs.open:
            row.unfinished = self._runs.count_unfinished(name, partition)
        self.rows[name] = row
        if definition.run_at_start:
            self.open_pending(
                row,
                pending_run(
                    new_run_id(), name, partition=partition, trigger=Trigger.STARTUP, now=now
                ),
            )
        return row

    def _change(
        self, row: MemoryTaskRow, definition: TaskDefinition, now: Instant, source: str
    ) -> list[Run]:
        missed = change_row(row, definition, now, source=source)
        name, partition = definition.name, row.partition
        if row.unfinished and row.cursor.next_fire is not None:
            self._runs.advance_retries(name, partition, before=row.cursor.next_fire)
        if missed is None:
            return []
        row.skip = None
        run = not_run_record(
            self._space, name, partition=partition, passed=missed, outcome=Outcome.MISSED
        )
        return [self._runs.add(run).run]

    def _withdraw(self, definitions: Mapping[str, TaskDefinition]) -> None:
        declared = {name for name, row in self.rows.items() if row.source == CONFIG}
        self.withdrawn = declared - definitions.keys()
        for name, row in self.rows.items():
            row.withdrawn = name in self.withdrawn

    def add(self, definition: TaskDefinition, now: Instant, *, replace: bool) -> list[Run]:
        """Add a task at run time, or replace one; return the fire times that this misses."""
        name = definition.name
        row = self.rows.get(name)
        check_addition(name, None if row is None else row.source, replace=replace)
        if row is None:
            self.due.add(self._make(definition, "", now, RUNTIME))
            return []
        missed = self._change(row, definition, now, RUNTIME)
        self.due.push(row)
        self._runs.offer_again(name)
        return missed

    def remove(self, name: str) -> None:
        """Put a task away that was added at run time."""
        row = row_of(self.rows, name)
        check_removal(name, row.source)
        self._archive(name, REMOVED)
        self._paused.discard(name)
        row.withdrawn = True
        if self.due.has_stale_entries(len(self.rows)):
            self.due.rebuild(self.rows.values())

    def archive(self, names: Iterable[str]) -> None:
        """Put tasks of the configuration away that it has not declared for long."""
        for name in names:
            self.withdrawn.discard(name)
            self._archive(name, NOT_DECLARED)

    def _archive(self, name: str, reason: str) -> None:
        row = self.rows.pop(name)
        self._gone[name] = row.cursor.last_decided, row.order
        if len(self._gone) > self._keep_floors:
            del self._gone[next(iter(self._gone))]
        for stored in [*self._runs.open.values()]:
            if stored.run.task == name and not stored.run.holder:
                self.end(stored, abandon_run(stored.run, reason))

    def pause(self, name: str, now: Instant, *, paused: bool) -> None:
        """Pause or resume a task."""
        row = row_of(self.rows, name)
        if row.paused == paused:
            return
        row.paused = paused
        if paused:
            self._paused.add(name)
        else:
            self._paused.discard(name)
            row.resumed_at = now
            self.due.push(row)

    def states(self) -> list[TaskState]:
        """Return the rows as people are shown them, by name."""
        return sorted(map(state_of, self.rows.values()), key=attrgetter("name"))

    def open_pending(self, row: MemoryTaskRow, run: Run) -> None:
        """Open a run that nobody holds yet."""
        row.unfinished += 1
        row.skip = None
        self._runs.add_claimed(run, 0)

    def end(self, stored: StoredRun, run: Run) -> None:
        """Close an open run, which now reads *run*; what waited for its end is looked at again."""
        self._runs.end(stored, run)
        row = self.rows.get(run.task)
        if row is not None and row.partition == run.partition:
            row.unfinished -= 1
            if row.parked:
                self.due.push(row)
        if self._runs.aside:
            self._runs.offer_again(run.task)
