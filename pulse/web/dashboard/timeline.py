"""Lanes of tasks: what ran in a span of time, and what is to run in the span after it.

A lane is a strip of a thousand units for both spans. Runs are drawn one by one up to a number; a
task that has more in the span has the rest as a band. What is to come is drawn with the lengths
that runs of the task usually take: solid up to the median, faint up to the 95th percentile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.core.run_query import state_of
from pulse.simulation.clock_changes import ClockChange, clock_changes
from pulse.web.dashboard.charts import BarPath, Percentiles, percentiles
from pulse.web.dashboard.tasks_page import coming_fire, names_of
from pulse.web.dashboard.texts import zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pulse.core.run import Run
    from pulse.handle.health import Overview
    from pulse.schedule.base import Schedule
    from pulse.store.steering import TaskState
    from pulse.web.dashboard.requests import TimelineParams

SPANS: dict[str, Span] = {
    "1h": 3_600 * SECOND,
    "6h": 6 * 3_600 * SECOND,
    "24h": 24 * 3_600 * SECOND,
}
ON_A_PAGE = 30
"""How many lanes a page has."""

UNITS = 1_000
"""The width of a lane: half of it is past."""

MOST_PAST, MOST_FUTURE = 150, 300
"""How many runs of the past, and fire times to come, a lane draws one by one."""

DUE = "due"
"""The state of a fire time to come."""

_LEAST_WIDTH = 2
_MINUTE: Span = 60 * SECOND
_PILED, _MOST_PILES = 5, 20
"""From how many tasks on that are due in one minute it is marked, and how many minutes are."""


class LaneMark(NamedTuple):
    """A run, or one that is to come: where it is, how wide, and what it is.

    Attributes:
        x: the place, from 0 to `UNITS`.
        width: the width; for what is to come, that of the median.
        faint: the width of the 95th percentile; 0 for the past.
        state: the outcome, `running`, `pending`, or `due`.
        at: the fire time.

    """

    x: int
    width: int
    faint: int
    state: str
    at: Instant


class LaneBand(msgspec.Struct, frozen=True, array_like=True):
    """A stretch with more fire times than are drawn."""

    x: int
    width: int
    text: str


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """The lane of a task.

    Attributes:
        name: the name of the task.
        zone: the time zone of its schedule.
        paused: whether nothing is to come because of a pause.
        summary: the text that stands for the lane.
        paths: the marks of each state, as one path.
        bands: stretches that are not drawn one by one.

    """

    name: str
    zone: str
    paused: bool
    summary: str
    paths: Sequence[BarPath]
    bands: Sequence[LaneBand]


class PileUp(msgspec.Struct, frozen=True, kw_only=True):
    """A minute in which many of the tasks on the page are due."""

    x: int
    at: Instant
    tasks: int


class ShownChange(msgspec.Struct, frozen=True, kw_only=True):
    """A clock change in one of the zones, and how many of the tasks it concerns."""

    x: int
    change: ClockChange
    tasks: int


class TimelineModel(msgspec.Struct, frozen=True, kw_only=True):
    """The page.

    Attributes:
        since: the instant at its left edge.
        now: the instant in its middle, in steps of a hundredth of the page.
        until: the instant at its right edge.
        lanes: a lane for each task.
        pile_ups: the minutes in which most tasks are due, in their order.
        changes: the clock changes of the zones of these tasks.
        found: how many tasks the filter selects.
        pages: how many pages there are.
        span: the length of each half of a page.

    """

    since: Instant
    now: Instant
    until: Instant
    lanes: Sequence[Lane]
    pile_ups: Sequence[PileUp]
    changes: Sequence[ShownChange]
    found: int
    pages: int
    span: str = ""

    @property
    def now_x(self) -> int:
        """Where the present is; 0 if all is to come."""
        return (self.now - self.since) * UNITS // (self.until - self.since)


class Window:
    """A stretch of time that lanes show, and where an instant is drawn."""

    def __init__(self, since: Instant, now: Instant, until: Instant) -> None:
        self.since: Instant = since
        self.now: Instant = now
        self.until: Instant = until
        self._length: Span = until - since

    def x(self, at: Instant) -> int:
        """Return the place of an instant, from 0 to `UNITS`."""
        return max(0, min((at - self.since) * UNITS // self._length, UNITS))

    def width(self, length: Span) -> int:
        """Return the width of a length of time; it can be seen however short it is."""
        return max(_LEAST_WIDTH, min(length * UNITS // self._length, UNITS))


def _window_around(now: Instant, span: Span) -> Window:
    """Return the window of a page, in steps: a page stays the same while nothing happens."""
    step = max(2 * span // UNITS, 1)
    middle = now - now % step
    return Window(middle - span, middle, middle + span)


def _span_for(histories: Iterable[Sequence[Run]], now: Instant) -> str:
    """Return the shortest span that shows the runs that are read, or what they show of a day."""
    oldest = min((runs[-1].fire_time for runs in histories if runs), default=now)
    return next((name for name, span in SPANS.items() if now - oldest <= span), "24h")


def timeline_model(
    overview: Overview, params: TimelineParams, *, runs_of: Callable[[str, int], Sequence[Run]]
) -> TimelineModel:
    """Return the page; *runs_of* returns up to a number of the newest runs of a task."""
    wanted = params.q.casefold()
    rows = {row.name: row for row in reversed(overview.tasks) if wanted in row.name.casefold()}
    names = sorted(names_of(rows.values()))
    pages = max(-(-len(names) // ON_A_PAGE), 1)
    first = (min(params.page, pages) - 1) * ON_A_PAGE
    shown = [rows[name] for name in names[first : first + ON_A_PAGE]]
    every = overview.pause is not None
    due: dict[int, set[str]] = {}
    now = overview.health.at
    runs = {row.name: runs_of(row.name, MOST_PAST) for row in shown}
    span = params.span or _span_for(runs.values(), now)
    window = _window_around(now, SPANS[span])
    lanes = [_lane(row, runs[row.name], window, due, now=now, every=every) for row in shown]
    return TimelineModel(
        since=window.since,
        now=window.now,
        until=window.until,
        lanes=lanes,
        pile_ups=pile_ups(due, window),
        changes=shown_changes([zone_of(row.schedule) for row in shown], window),
        found=len(names),
        pages=pages,
        span=span,
    )


def _lane(
    row: TaskState,
    runs: Sequence[Run],
    window: Window,
    due: dict[int, set[str]],
    *,
    now: Instant,
    every: bool,
) -> Lane:
    marks, bands = _past(runs, window, now)
    took = percentiles(run.took_us for run in runs)
    paused = row.paused or every
    if not paused:
        marks += _coming(row, window, took, bands)
        note_due(due, row.name, marks)
    return lane_of(row.name, zone_of(row.schedule), marks, bands, paused=paused)


def lane_of(
    name: str, zone: str, marks: Sequence[LaneMark], bands: Sequence[LaneBand], *, paused: bool
) -> Lane:
    """Return a lane, with the marks of each state as one path, so that a page stays small."""
    paths: dict[str, list[str]] = {}
    for mark in marks:
        if mark.faint:
            paths.setdefault("faint", []).append(_box(mark.x, mark.faint, 9, 17))
        shape = _LANE_SHAPES.get(mark.state, _middle)
        paths.setdefault(mark.state, []).append(shape(mark.x, mark.width))
    coming = sum(mark.state == DUE for mark in marks)
    texts = [f"{len(marks) - coming} runs", f"{coming} fire times to come"]
    return Lane(
        name=name,
        zone=zone,
        paused=paused,
        summary="; ".join([*texts, *(band.text for band in bands)]),
        paths=[BarPath(state, "".join(parts)) for state, parts in paths.items()],
        bands=bands,
    )


def _box(x: int, width: int, top: int, bottom: int) -> str:
    return f"M{x} {top}h{width}V{bottom}h-{width}z"


def _middle(x: int, width: int) -> str:
    return _box(x, width, 6, 20)


def _tall(x: int, width: int) -> str:
    return _box(x, width, 2, 24)


def _with_gap(x: int, width: int) -> str:
    return _box(x, width, 2, 12) + _box(x, width, 15, 24)


def _ends(x: int, width: int) -> str:
    return _box(x, width, 2, 6) + _box(x, width, 20, 24)


def _low(x: int, width: int) -> str:
    return _box(x, width, 19, 24)


_LANE_SHAPES: dict[str, Callable[[int, int], str]] = {
    "failed": _tall,
    "timed_out": _with_gap,
    "abandoned": _ends,
    "interrupted": _ends,
    "missed": _low,
    "skipped": _low,
}
"""Each outcome has a shape beside its colour."""


def note_due(due: dict[int, set[str]], name: str, marks: Iterable[LaneMark]) -> None:
    """Add the minutes in which a task is due to those of all tasks."""
    for mark in marks:
        if mark.state == DUE:
            due.setdefault(mark.at // _MINUTE, set()).add(name)


def pile_ups(due: Mapping[int, set[str]], window: Window) -> list[PileUp]:
    """Return the minutes in which most tasks are due, in their order."""
    piled = sorted((-len(tasks), minute) for minute, tasks in due.items() if len(tasks) >= _PILED)
    return [
        PileUp(x=window.x(minute * _MINUTE), at=minute * _MINUTE, tasks=-number)
        for number, minute in sorted(piled[:_MOST_PILES], key=lambda one: one[1])
    ]


def _past(
    runs: Sequence[Run], window: Window, now: Instant
) -> tuple[list[LaneMark], list[LaneBand]]:
    """Return the runs that overlap the past of a window; those in progress last until *now*."""
    marks = []
    for run in reversed(runs):
        at = run.started_at if run.started_at is not None else run.claimed_at or run.fire_time
        took = run.took_us or 0
        if run.in_progress:
            took = max(now - at, 0)
        begin = max(at, window.since)
        if at + took < window.since:
            continue
        width = window.width(at + took - begin)
        marks.append(LaneMark(window.x(begin), width, 0, state_of(run), run.fire_time))
    bands = []
    if len(runs) >= MOST_PAST and runs[-1].fire_time > window.since:
        text = f"more runs than the newest {MOST_PAST} are not drawn"
        bands.append(LaneBand(0, window.x(runs[-1].fire_time), text))
    return marks, bands


def _coming(
    row: TaskState, window: Window, took: Percentiles, bands: list[LaneBand]
) -> list[LaneMark]:
    coming = coming_fire(row, window.now)
    if coming is None:
        return []
    schedule, at = coming
    return coming_marks(schedule, at, window, took, bands, anchor=row.anchor)


def coming_marks(
    schedule: Schedule,
    at: Instant | None,
    window: Window,
    took: Percentiles,
    bands: list[LaneBand],
    *,
    anchor: Instant,
) -> list[LaneMark]:
    """Return the fire times from *at* on; where there are too many, add a band instead."""
    if at is None or at >= window.until:
        return []
    due = schedule.due(at, window.until - 1, anchor=anchor)
    if due.count > MOST_FUTURE:
        width = max(window.x(due.newest) - window.x(at), _LEAST_WIDTH)
        bands.append(LaneBand(window.x(at), width, f"{due.count:,} fire times to come"))
        return []
    marks = []
    width = window.width(took.p50 or 0)
    faint = max(window.width(took.p95 or 0), width)
    while at is not None and at < window.until:
        marks.append(LaneMark(window.x(at), width, faint, DUE, at))
        at = schedule.next_after(at, anchor=anchor)
    return marks


def shown_changes(zones: Iterable[str], window: Window) -> list[ShownChange]:
    """Return the clock changes of the zones of tasks, one zone for each task."""
    counted = Counter(zones)
    return [
        ShownChange(x=window.x(change.at), change=change, tasks=tasks)
        for zone, tasks in sorted(counted.items())
        for change in clock_changes(zone, window.since, window.until)
    ]
