"""The tasks of the memory store: created, changed, paused, archived; the caller holds the lock."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.cursor import first_cursor, rewind
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import abandon_run, not_run_record, pending_run
from pulse.store.base import RewoundTask, SyncResult, TaskState
from pulse.store.memory.due_heap import DueHeap, MemoryTaskRow, change_row, row_of, state_of
from pulse.store.reschedule import is_schedule, order_of_ticks, schedule_text, superseded_tick
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
    from pulse.core.cursor import Cursor
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.memory.runs import RunTable, StoredRun


class TaskTable:
    """The task rows, by name and by when they are due.

    Args:
        space: the value of `pulse.config.name`, from which run ids are derived.
        runs: the runs of the tasks.
        keep_archived: for how many archived tasks the cursor is kept.

    Attributes:
        rows: the rows of the configured tasks and of the run-time tasks, by name.
        due: the same rows by when they are due.
        withdrawn: names of configured tasks that the configuration no longer declares.

    """

    __slots__ = (
        "_archived",
        "_keep_archived",
        "_order",
        "_paused",
        "_runs",
        "_space",
        "due",
        "rows",
        "withdrawn",
    )

    def __init__(self, space: str, runs: RunTable, keep_archived: int) -> None:
        self.rows: dict[str, MemoryTaskRow] = {}
        self.due: DueHeap = DueHeap()
        self.withdrawn: set[str] = set()
        self._space = space
        self._runs = runs
        self._keep_archived = keep_archived
        self._archived: dict[str, tuple[Cursor, int]] = {}  # with its order
        self._paused: set[str] = set()
        self._order = 0

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
        return SyncResult(names, tuple(changed), (), tuple(overridden), missed)

    def _is_new(self, added: tuple[TaskDefinition, str]) -> bool:
        """Return whether a task was never stored: archived tasks are created first."""
        return added[0].name not in self._archived

    def _make(
        self, definition: TaskDefinition, partition: str, now: Instant, source: str
    ) -> MemoryTaskRow:
        name = definition.name
        self._order += 1
        before, order = self._archived.pop(name, (None, self._order))
        cursor = first_cursor(definition, now, before=before)
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
    ) -> tuple[list[Run], list[Run]]:
        """Change a row; return the records of its missed fire times, and the ticks that waited."""
        is_replaced = not is_schedule(schedule_text(row.definition.schedule), definition.schedule)
        missed = change_row(row, definition, now, source=source)
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
        for stored in [*self._runs.open.values()]:
            run = stored.run
            if (run.task, run.partition) == (row.definition.name, row.partition):
                ended = superseded_tick(run, row.cursor.next_fire)
                if ended is not run:
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
            self.due.add(self._make(definition, "", now, RUNTIME))
            return []
        records, ticks = self._change(row, definition, now, RUNTIME)
        self.due.push(row)
        self._runs.offer_again(name)
        return [*records, *sorted(ticks, key=order_of_ticks)]

    def remove(self, name: str) -> None:
        """Archive a run-time task."""
        row = row_of(self.rows, name)
        check_removal(name, row.source)
        self._archive(name, REMOVED)
        self._paused.discard(name)
        row.withdrawn = True
        if self.due.has_stale_entries(len(self.rows)):
            self.due.rebuild(self.rows.values())

    def archive(self, names: Iterable[str]) -> list[Run]:
        """Archive configured tasks that no process has declared for three leases.

        Returns:
            The pending runs that end with them.

        """
        ended: list[Run] = []
        for name in names:
            self.withdrawn.discard(name)
            ended += self._archive(name, NOT_DECLARED)
            self._paused.discard(name)
        return ended

    def _archive(self, name: str, reason: str) -> list[Run]:
        row = self.rows.pop(name)
        self._archived[name] = row.cursor, row.order
        if len(self._archived) > self._keep_archived:
            del self._archived[next(iter(self._archived))]
        ended: list[Run] = []
        for stored in [*self._runs.open.values()]:
            if stored.run.task == name and not stored.run.holder:
                self.end(stored, abandon_run(stored.run, reason))
                ended.append(stored.run)
        return ended

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
                if moved.next_fire is not None:
                    self._runs.advance_retries(name, row.partition, before=moved.next_fire)
            if is_moved or refused is not None:
                rewound.append(RewoundTask(name, row.partition, refused, moved.next_fire))
        self._runs.advance_early(now)
        return sorted(rewound)

    def states(self) -> list[TaskState]:
        """Return the rows as `tasks()` returns them, ordered by name."""
        return sorted(map(state_of, self.rows.values()), key=attrgetter("name"))

    def open_pending(self, row: MemoryTaskRow, run: Run) -> None:
        """Add a pending run."""
        row.unfinished += 1
        row.skip = None
        self._runs.add_claimed(run, 0)

    def end(self, stored: StoredRun, run: Run) -> None:
        """Replace an unfinished run by *run*, which is finished; reconsider what waited for it."""
        self._runs.end(stored, run)
        row = self.rows.get(run.task)
        if row is not None and row.partition == run.partition:
            row.unfinished -= 1
            if row.parked:
                self.due.push(row)
        if self._runs.aside:
            self._runs.offer_again(run.task)
