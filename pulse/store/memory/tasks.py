"""The tasks of a memory store: made, changed, paused, put away; its owner holds the lock."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.planner import BEFORE_TIME, first_cursor
from pulse.core.run import Outcome, Trigger
from pulse.core.run_transitions import abandoned_run, passed_run, unheld_run
from pulse.store.base import Synced, TaskState
from pulse.store.memory.due_heap import DueHeap, Row, change_row, row_of, state_of
from pulse.store.rules import (
    CONFIG,
    REMOVED,
    RUNTIME,
    UNWANTED,
    check_addition,
    check_removal,
    new_run_id,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.base import Member
    from pulse.store.memory.runs import Kept, Ledger


class Roster:
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
        "_ledger",
        "_order",
        "_paused",
        "_space",
        "due",
        "rows",
        "withdrawn",
    )

    def __init__(self, space: str, ledger: Ledger, keep_floors: int) -> None:
        self.rows: dict[str, Row] = {}
        self.due: DueHeap = DueHeap()
        self.withdrawn: set[str] = set()
        self._space = space
        self._ledger = ledger
        self._keep_floors = keep_floors
        self._gone: dict[str, tuple[Instant, int]] = {}  # floor and order
        self._paused: set[str] = set()
        self._order = 0

    def sync(self, definitions: Mapping[str, Definition], member: Member, now: Instant) -> Synced:
        """Make and change rows so that they say what the configuration declares."""
        added: list[tuple[Definition, str]] = []
        changed: list[str] = []
        taken: list[str] = []
        passed: list[Run] = []
        for name, definition in definitions.items():
            row = self.rows.get(name)
            place = place_of(definition.scope, member)
            if row is not None and row.source == RUNTIME:
                taken.append(name)
            if row is None or row.place != place:
                added.append((definition, place))
            elif row.definition.digest != definition.digest or row.source == RUNTIME:
                changed.append(name)
                passed += self._change(row, definition, now, CONFIG)
        for definition, place in sorted(added, key=self._is_new):
            self._make(definition, place, now, CONFIG)
        self._withdraw(definitions)
        self.due.rebuild(self.rows.values())
        self._ledger.look_again()
        names = tuple(definition.name for definition, _ in added)
        return Synced(names, tuple(changed), (), tuple(taken), passed)

    def _is_new(self, added: tuple[Definition, str]) -> bool:
        """Return whether the store knows nothing of a task: what comes back goes first."""
        return added[0].name not in self._gone

    def _make(self, definition: Definition, place: str, now: Instant, source: str) -> Row:
        name = definition.name
        self._order += 1
        floor, order = self._gone.pop(name, (BEFORE_TIME, self._order))
        cursor = first_cursor(definition, now, floor=floor)
        row = Row(definition, place, cursor, order, source=source)
        row.paused = name in self._paused
        if self._ledger.open:
            row.running = self._ledger.count_open(name, place)
        self.rows[name] = row
        if definition.run_at_start:
            self.open_unheld(
                row, unheld_run(new_run_id(), name, place=place, trigger=Trigger.STARTUP, now=now)
            )
        return row

    def _change(self, row: Row, definition: Definition, now: Instant, source: str) -> list[Run]:
        missed = change_row(row, definition, now, source=source)
        name, place = definition.name, row.place
        if row.running and row.cursor.next_fire is not None:
            self._ledger.hasten_retries(name, place, before=row.cursor.next_fire)
        if missed is None:
            return []
        row.skip = None
        run = passed_run(self._space, name, place=place, passed=missed, outcome=Outcome.MISSED)
        return [self._ledger.keep(run).run]

    def _withdraw(self, definitions: Mapping[str, Definition]) -> None:
        declared = {name for name, row in self.rows.items() if row.source == CONFIG}
        self.withdrawn = declared - definitions.keys()
        for name, row in self.rows.items():
            row.withdrawn = name in self.withdrawn

    def add(self, definition: Definition, now: Instant, *, replace: bool) -> list[Run]:
        """Add a task at run time, or replace one; return the fire times that this misses."""
        name = definition.name
        row = self.rows.get(name)
        check_addition(name, None if row is None else row.source, replace=replace)
        if row is None:
            self.due.add(self._make(definition, "", now, RUNTIME))
            return []
        missed = self._change(row, definition, now, RUNTIME)
        self.due.push(row)
        self._ledger.offer_again(name)
        return missed

    def remove(self, name: str) -> None:
        """Put a task away that was added at run time."""
        row = row_of(self.rows, name)
        check_removal(name, row.source)
        self._put_away(name, REMOVED)
        self._paused.discard(name)
        row.withdrawn = True
        if self.due.has_litter(len(self.rows)):
            self.due.rebuild(self.rows.values())

    def archive(self, names: Iterable[str]) -> None:
        """Put tasks of the configuration away that it has not declared for long."""
        for name in names:
            self.withdrawn.discard(name)
            self._put_away(name, UNWANTED)

    def _put_away(self, name: str, reason: str) -> None:
        row = self.rows.pop(name)
        self._gone[name] = row.cursor.floor, row.order
        if len(self._gone) > self._keep_floors:
            del self._gone[next(iter(self._gone))]
        for kept in [*self._ledger.open.values()]:
            if kept.run.task == name and not kept.run.holder:
                self.end(kept, abandoned_run(kept.run, reason))

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

    def open_unheld(self, row: Row, run: Run) -> None:
        """Open a run that nobody holds yet."""
        row.running += 1
        row.skip = None
        self._ledger.hold(run, 0)

    def end(self, kept: Kept, run: Run) -> None:
        """Close an open run, which now reads *run*; what waited for its end is looked at again."""
        self._ledger.end(kept, run)
        row = self.rows.get(run.task)
        if row is not None and row.place == run.place:
            row.running -= 1
            if row.parked:
                self.due.push(row)
        if self._ledger.aside:
            self._ledger.offer_again(run.task)
