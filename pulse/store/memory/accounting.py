"""The records of the memory store beside its rows and runs."""

from __future__ import annotations

from collections import Counter, deque
from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.records import HOUR, PAUSED_KIND, PAUSED_REASON, ScheduleVersion, Tally
from pulse.core.run import Outcome
from pulse.core.schedule_text import schedule_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.core.cursor import Cursor
    from pulse.core.records import RefusedResult
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition

    Cells = dict[tuple[str, bool, str], tuple[int, Instant]]

_SUCCEEDED = Outcome.SUCCEEDED.value
_NEVER = 0, 0
_KEPT = 10_000
"""How many versions and refused results are kept, and about how many tallies."""


class RecordTable:
    """Schedule versions, tallies of runs that were dropped, and refused results.

    Attributes:
        refused: the results that were refused, oldest first.

    """

    def __init__(self) -> None:
        self._versions: deque[ScheduleVersion] = deque(maxlen=_KEPT)
        self._last: dict[tuple[str, str], ScheduleVersion] = {}
        self._hours: dict[int, Cells] = {}
        self._cells = 0
        self.refused: deque[RefusedResult] = deque(maxlen=_KEPT)

    def note_schedule(
        self, definition: TaskDefinition, cursor: Cursor, *, now: Instant, ends: bool = False
    ) -> None:
        """Append a version if the schedule, its anchor or its use is another than before."""
        key = definition.name, cursor.partition
        last = self._last.get(key)
        schedule = "" if ends else schedule_text(definition.schedule)
        same = last is not None and last.schedule == schedule
        if last is not None and same and (ends or last.anchor == cursor.anchor):
            return
        version = ScheduleVersion(
            task=definition.name,
            partition=cursor.partition,
            at=now,
            schedule=schedule,
            anchor=cursor.anchor,
            first=cursor.next_fire,
            decided=cursor.last_decided,
        )
        self._versions.append(version)
        self._last[key] = version

    def versions(self, task: str) -> list[ScheduleVersion]:
        """Return the versions of a task, oldest first."""
        return [one for one in self._versions if one.task == task]

    def count_succeeded(self, runs: Sequence[Run]) -> None:
        """Count runs that the history has dropped, all of which have succeeded.

        Those of one hour, in the order of their fire times, are counted together: a loop would
        cost a thirtieth of a tick.
        """
        times = [run.fire_time for run in runs]
        is_planned = None not in [run.scheduled_for for run in runs]
        if is_planned and times and times[0] // HOUR == times[-1] // HOUR and _is_sorted(times):
            tasks = [run.task for run in runs]
            cells = self._cells_of(times[0] // HOUR)
            newest = dict(zip(tasks, times, strict=True))
            # Where each task has one run, as with many tasks, nothing is counted. As `_add` does,
            # without a call for each task.
            numbers = Counter(tasks) if len(newest) < len(tasks) else dict.fromkeys(newest, 1)
            before = len(cells)
            for task, number in numbers.items():
                key = task, True, _SUCCEEDED
                known, last = cells.get(key, _NEVER)
                at = newest[task]
                cells[key] = known + number, at if at > last else last  # noqa: FURB136 - faster
            self._cells += len(cells) - before
        else:
            for run in runs:
                self.count(run, Outcome.SUCCEEDED)

    def count(self, run: Run, outcome: Outcome | None) -> None:
        """Count a run that the history has dropped, unless it has no outcome."""
        if outcome is not None:
            is_paused = outcome is Outcome.MISSED and run.message == PAUSED_REASON
            kind = PAUSED_KIND if is_paused else outcome.value
            key = run.task, run.scheduled_for is not None, kind
            self._add(self._cells_of(run.fire_time // HOUR), key, run.count, run.fire_time)

    def _cells_of(self, hour: int) -> Cells:
        cells = self._hours.get(hour)
        if cells is None:
            cells = self._hours[hour] = {}
            self._limit()
        return cells

    def _add(self, cells: Cells, key: tuple[str, bool, str], number: int, newest: Instant) -> None:
        before = cells.get(key)
        if before is None:
            self._cells += 1
            before = 0, 0
        cells[key] = before[0] + number, max(before[1], newest)

    def _limit(self) -> None:
        """Drop the oldest hours while too much is kept."""
        while self._cells > _KEPT and len(self._hours) > 1:
            self._cells -= len(self._hours.pop(min(self._hours)))

    def refuse(self, result: RefusedResult) -> None:
        """Keep a result that was refused, unless it is kept already."""
        same = attrgetter("run", "attempt", "holder", "started_at")
        if same(result) not in map(same, self.refused):
            self.refused.append(result)

    def tallies(self, task: str) -> list[Tally]:
        """Return the tallies of a task."""
        return sorted(
            Tally(hour * HOUR, planned, kind, number, newest)
            for hour, cells in self._hours.items()
            for (name, planned, kind), (number, newest) in cells.items()
            if name == task
        )


def _is_sorted(times: Sequence[Instant]) -> bool:
    return times == sorted(times)
