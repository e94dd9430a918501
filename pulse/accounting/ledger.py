"""The ledger of a task: what became of each fire time, walked along the schedules on record.

The walk knows nothing of what was claimed. It asks for each fire time which run, or which record of
fire times that did not run, has it. Where runs were deleted, their tallies are compared by number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.accounting.fire_times import valid_schedules
from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.records import HOUR, PAUSED_KIND, PAUSED_REASON
from pulse.core.run import Outcome
from pulse.core.run_query import KEPT_LONGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.accounting.fire_times import ValidSchedule
    from pulse.core.records import RefusedResult, TaskRecords
    from pulse.core.run import Run

RAN, SKIPPED, MISSED, PAUSED = "ran", "skipped", "missed", PAUSED_KIND
ABANDONED, STOPPED, OPEN = "abandoned", "stopped", "open"
UNKNOWN, UNEXPLAINED = "unknown", "unexplained"
KINDS = (RAN, ABANDONED, SKIPPED, MISSED, PAUSED, STOPPED, OPEN, UNKNOWN, UNEXPLAINED)
"""What may become of a fire time: see `Ledger`."""

MOST_LISTED = 1_000
"""How many fire times a ledger lists one by one."""


class Tick(msgspec.Struct, frozen=True, order=True):
    """A fire time of a task in one partition."""

    fire_time: Instant
    partition: str = ""


class Dispatch(msgspec.Struct, frozen=True):
    """A run that may have been dispatched twice: the attempt that was refused, and its process."""

    run: str
    fire_time: Instant | None
    attempt: int
    holder: str


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the fire times of a task.

    Attributes:
        task: the name of the task.
        since: the earliest fire time that is accounted for, at least of the records that are kept.
        until: the instant before which all are.
        exact_since: from when each fire time is known by itself; before it, by tallies of hours.
        fire_times: how many there are by the schedules on record.
        ran: how many were dispatched, whatever came of it.
        abandoned: how many a process had claimed that died or lost its lease: they may have run.
        skipped: how many the overlap policy has skipped.
        missed: how many passed without a run, for a reason on record.
        paused: how many passed while the task, or all tasks, were paused.
        stopped: how many ended on request before a process has begun them.
        open: how many wait for their run, or are not decided yet.
        unknown: how many cannot be known any more, such as those whose records were deleted.
        unexplained: how many are nowhere, although they should be.
        unexplained_ticks: the first of these.
        twice: attempts whose run was dispatched by another process as well.

    """

    task: str
    since: Instant
    until: Instant
    exact_since: Instant
    fire_times: int = 0
    ran: int = 0
    abandoned: int = 0
    skipped: int = 0
    missed: int = 0
    paused: int = 0
    stopped: int = 0
    open: int = 0
    unknown: int = 0
    unexplained: int = 0
    unexplained_ticks: tuple[Tick, ...] = ()
    twice: tuple[Dispatch, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether no fire time is unexplained, and none ran twice."""
        return not self.unexplained and not self.twice


def make_ledger(
    task: str,
    records: TaskRecords,
    runs: Sequence[Run],
    *,
    since: Instant | None = None,
    until: Instant | None = None,
) -> Ledger:
    """Return the ledger of a task.

    Args:
        task: the name of the task.
        records: what is recorded about it.
        runs: all runs of it that are kept, read after the clock and the positions of *records*, and
            before its tallies.
        since: the earliest fire time; by default that of the records.
        until: the instant before which all fire times are; by default the present.

    """
    planned = [run for run in runs if run.scheduled_for is not None]
    end = records.now + 1  # fire times of this very instant are due
    if until is not None:
        end = min(until, end)
    recorded = min((one.at for one in records.versions), default=end)
    exact = _exact_since(records, planned, recorded)
    start = recorded if since is None else max(since, recorded)
    if start < exact:
        start = start // HOUR * HOUR  # tallies are of whole hours
    walk = _Walk(records, planned, start, end, exact)
    counts = walk.count()
    return Ledger(
        task=task,
        since=start,
        until=end,
        exact_since=min(max(exact, start), end),
        fire_times=sum(counts.values()),
        unexplained_ticks=tuple(walk.unexplained[:MOST_LISTED]),
        twice=dispatched_twice(records.refused, runs, start, end),
        **{kind: counts[kind] for kind in KINDS},
    )


def _exact_since(records: TaskRecords, planned: Iterable[Run], recorded: Instant) -> Instant:
    """Return from when on no planned run was deleted, but for those that are kept longer.

    Of a deleted record of fire times that did not run, the tallies have the oldest one: the others
    end before the next run that is kept, or with the last fire time that was decided.
    """
    tallies = [one for one in records.tallies if one.is_planned]
    newest = max((one.newest for one in tallies), default=None)
    if newest is None:
        return recorded
    kept = [run for run in planned if run.fire_time > newest]
    later = [run.fire_time for run in kept if run.outcome is None or run.outcome not in KEPT_LONGER]
    begin = newest + 1
    if not later and any(one.newest == newest and one.kind in _SEVERAL for one in tallies):
        later = [run.fire_time for run in kept]
        begin = max((one.last_decided for one in records.positions), default=newest) + 1
    return max(min(later, default=max(begin, newest + 1)), recorded)


class _Fate(NamedTuple):
    """The runs by fire time, and the records of fire times that did not run."""

    runs: dict[tuple[str, Instant], Run]
    passed: dict[str, list[Run]]


class _Walk:
    """Walks along the fire times of a task."""

    def __init__(
        self,
        records: TaskRecords,
        planned: Sequence[Run],
        since: Instant,
        until: Instant,
        exact: Instant,
    ) -> None:
        self._records = records
        self._since, self._until, self._exact = since, until, exact
        self._fate = _fate_of(planned)
        self._positions = {one.partition: one for one in records.positions}
        self.unexplained: list[Tick] = []

    def count(self) -> Counter[str]:
        """Return how many fire times there are of each kind."""
        counts: Counter[str] = Counter()
        schedules = valid_schedules(self._records.versions)
        for partition in sorted({one.partition for one in schedules}):
            own = [one for one in schedules if one.partition == partition]
            counts += self._exact_counts(partition, own)
        counts += self._tallied_counts(schedules)
        return counts

    def _exact_counts(self, partition: str, schedules: Sequence[ValidSchedule]) -> Counter[str]:
        ticks: dict[Instant, ValidSchedule] = {}
        # A record of fire times that did not run may begin before what is asked for.
        begin = min((run.fire_time for run in self._fate.passed[partition]), default=self._exact)
        begin = max(min(begin, self._exact, self._since), self._records.versions[0].at)
        for one in schedules:
            ticks |= dict.fromkeys(one.fire_times(begin, self._until), one)
        ordered = sorted(ticks)
        covered = _covered(ordered, self._fate, partition)
        counts: Counter[str] = Counter()
        for fire_time in ordered:
            if fire_time < max(self._since, self._exact):
                continue
            run = self._fate.runs.get((partition, fire_time)) or covered.get(fire_time)
            kind = self._kind_of(partition, fire_time, run, ticks[fire_time])
            counts[kind] += 1
            if kind == UNEXPLAINED:
                self.unexplained.append(Tick(fire_time, partition))
        return counts

    def _kind_of(
        self, partition: str, fire_time: Instant, run: Run | None, by: ValidSchedule
    ) -> str:
        if run is not None:
            return kind_of_run(run)
        position = self._positions.get(partition)
        if position is not None and by.until is None and fire_time > position.last_decided:
            paused = any(one.covers(fire_time) for one in self._records.pauses)
            return PAUSED if paused else OPEN
        # The change of a schedule by an earlier release was found some time after it.
        return UNEXPLAINED if by.follows else UNKNOWN

    def _tallied_counts(self, schedules: Iterable[ValidSchedule]) -> Counter[str]:
        """Return the counts before the exact records begin, by number."""
        until = min(self._exact, self._until)
        if self._since >= until:
            return Counter()
        expected = sum(one.number(self._since, until) for one in schedules)
        counts: Counter[str] = Counter()
        for run in (*self._fate.runs.values(), *_flat(self._fate.passed.values())):
            if self._since <= run.fire_time < until:
                counts[kind_of_run(run)] += run.count
        for one in self._records.tallies:
            if one.is_planned and self._since <= one.hour < until:
                counts[_KIND_OF.get(one.kind, RAN)] += one.number
        return _fitted(counts, expected)


def _fitted(counts: Counter[str], expected: int) -> Counter[str]:
    """Return counts whose sum is *expected*: what is left is unknown.

    A run that is deleted while the ledger is made may be counted twice, and a record of fire times
    that did not run may reach into the exact part.
    """
    fitted: Counter[str] = Counter()
    left = expected
    for kind in KINDS:
        fitted[kind] = min(counts[kind], left)
        left -= fitted[kind]
    fitted[UNKNOWN] += left
    return +fitted


def _flat(lists: Iterable[Iterable[Run]]) -> Iterable[Run]:
    return (run for runs in lists for run in runs)


def _fate_of(planned: Iterable[Run]) -> _Fate:
    runs: dict[tuple[str, Instant], Run] = {}
    passed: defaultdict[str, list[Run]] = defaultdict(list)
    for run in sorted(planned, key=lambda run: run.fire_time):
        if run.attempt == 0 and run.outcome in {Outcome.MISSED, Outcome.SKIPPED}:
            passed[run.partition].append(run)
        else:
            runs[run.partition, run.fire_time] = run
    return _Fate(runs, passed)


def _covered(ordered: Sequence[Instant], fate: _Fate, partition: str) -> dict[Instant, Run]:
    """Return the record of each fire time that did not run.

    A record names its oldest fire time and their number; those between them that have runs of their
    own, as after the clock was set back, are none of them.
    """
    found: dict[Instant, Run] = {}
    for record in fate.passed[partition]:
        left, number = record.count, bisect_left(ordered, record.fire_time)
        while left and number < len(ordered):
            fire_time = ordered[number]
            if (partition, fire_time) not in fate.runs and fire_time not in found:
                found[fire_time] = record
                left -= 1
            number += 1
    return found


_SEVERAL = {"missed", "skipped", PAUSED_KIND}
"""The kinds of tallies of records that are of several fire times each."""

_KIND_OF = {"abandoned": ABANDONED, "missed": MISSED, "skipped": SKIPPED, PAUSED_KIND: PAUSED}


def kind_of_run(run: Run) -> str:
    """Return what became of the fire time, or the fire times, of a run."""
    match run.outcome:
        case Outcome.SKIPPED:
            return SKIPPED
        case Outcome.MISSED:
            return PAUSED if run.message == PAUSED_REASON else MISSED
        case None if not run.in_progress:
            return OPEN
        case Outcome.INTERRUPTED if run.attempt == 0:
            return STOPPED
        case Outcome.ABANDONED:
            return ABANDONED if run.attempt else MISSED
    return RAN


def dispatched_twice(
    refused: Iterable[RefusedResult], runs: Iterable[Run], since: Instant, until: Instant
) -> tuple[Dispatch, ...]:
    """Return the refused attempts of runs of which another dispatch is on record.

    A dispatch is an attempt that was begun. That of an earlier attempt, which failed before this
    one, is none: the run was retried.
    """
    known = {run.id: run for run in runs}
    seen: defaultdict[str, list[RefusedResult]] = defaultdict(list)
    found: list[Dispatch] = []
    for one in refused:
        seen[one.run].append(one)
        within = one.fire_time is None or since <= one.fire_time < until
        if within and (len(seen[one.run]) > 1 or _has_other_dispatch(one, known.get(one.run))):
            found.append(Dispatch(one.run, one.fire_time, one.attempt, one.holder))
    return tuple(found)


def _has_other_dispatch(refused: RefusedResult, run: Run | None) -> bool:
    if run is None:
        return False
    begun = [(one.attempt, one.started_at) for one in run.attempts]
    begun.append((run.attempt, run.started_at))
    mine = refused.attempt, refused.started_at
    return any(
        started_at is not None and attempt >= refused.attempt and (attempt, started_at) != mine
        for attempt, started_at in begun
    )
