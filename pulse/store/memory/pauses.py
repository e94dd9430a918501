"""The pauses of the memory store's tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Outcome
from pulse.core.run_transitions import not_run_record
from pulse.core.schedule_text import schedule_text
from pulse.store.rules import check_end_of_pause, plans_before_pause
from pulse.store.steering import EVERY_TASK

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.store.memory.runs import RunTable
    from pulse.store.memory.tasks import DueHeap, MemoryTaskRow
    from pulse.store.steering import Pause


class PauseTable:
    """The pauses of tasks, and that of all; `TaskTable` has the rows."""

    _space: str
    _runs: RunTable
    rows: dict[str, MemoryTaskRow]
    due: DueHeap
    pause_of_all: Pause | None

    def row_of(self, name: str) -> MemoryTaskRow:
        """Return the row of a task."""
        raise NotImplementedError

    def pause(self, name: str, now: Instant, pause: Pause | None) -> list[Run]:
        """Pause a task, or resume it from *now* on; return what was overdue as the pause began."""
        row = self.row_of(name)
        if pause is not None:
            check_end_of_pause(pause.until, now)
        was, row.pause = row.pause, pause
        if pause is not None:
            row.pause = msgspec.structs.replace(pause, since=now if was is None else was.since)
            row.paused = True
        elif row.paused:
            missed = self._settle(row, was, self.pause_of_all)
            row.paused = False
            row.resumed_at = now if row.resumed_at is None else max(now, row.resumed_at)
            self.due.push(row)
            return missed
        return []

    def _settle(self, row: MemoryTaskRow, *pauses: Pause | None) -> list[Run]:
        """Record what was undecided as the first of the pauses of a task began."""
        begun = [one.since for one in pauses if one is not None and one.since is not None]
        plans = plans_before_pause(
            schedule_text(row.definition.schedule),
            row.cursor,
            resumed_at=row.resumed_at,
            since=min(begun, default=None),
        )
        records = [
            not_run_record(
                self._space,
                row.definition.name,
                partition=row.partition,
                passed=decided.missed,
                outcome=Outcome.MISSED,
            )
            for decided in plans
            if decided.missed is not None
        ]
        if plans:
            row.cursor, row.skip = plans[-1].cursor, None
        return [self._runs.add(record).run for record in records]

    def pause_all(self, now: Instant, pause: Pause | None) -> list[Run]:
        """Pause all tasks, or resume those that are not paused by their own names."""
        missed: list[Run] = []
        was = self.pause_of_all
        if pause is not None:
            check_end_of_pause(pause.until, now)
            since = now if was is None else was.since
            self.pause_of_all = msgspec.structs.replace(pause, since=since)
        elif was is not None:
            self.pause_of_all = None
            for _, row in sorted(self.rows.items()):
                first = row.cursor.next_fire
                is_due = first is not None and first + row.cursor.delay_us <= now
                is_resumed = row.resumed_at is not None and row.resumed_at >= now
                if is_due and not is_resumed:
                    missed += self._settle(row, was, row.pause if row.paused else None)
                    row.resumed_at = now
                    self.due.push(row)
        return missed

    def end_pauses(self, now: Instant) -> tuple[list[str], list[Run]]:
        """Resume the tasks whose pauses are over; return their names, and what `pause` returns."""
        ended: list[str] = []
        missed: list[Run] = []
        every = self.pause_of_all
        if every is not None and every.until is not None and every.until <= now:
            missed += self.pause_all(every.until, None)
            ended.append(EVERY_TASK)
        over = [
            (name, row.pause.until)
            for name, row in self.rows.items()
            if row.pause is not None and row.pause.until is not None and row.pause.until <= now
        ]
        for name, until in sorted(over):  # each heartbeat comes here: all rows are not sorted
            missed += self.pause(name, until, None)
            ended.append(name)
        return ended, missed
