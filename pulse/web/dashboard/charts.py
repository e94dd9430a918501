"""The geometry of charts: paths of bars by outcome, as attributes of SVG.

A chart has one path for each outcome, so that a page with 3,000 bars stays small. Each outcome has
a shape of its own beside its colour: a full bar has succeeded, a pointed one has failed, one with a
gap has timed out, a hollow one was abandoned or interrupted, a dot was skipped or missed.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run_query import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pulse.clock import Span
    from pulse.core.run import Run

BARS = 60
"""How many of the newest runs of a task the list of tasks shows."""

STEP, WIDTH, HEIGHT = 5, 4, 24
_STUB, _LEAST = 2, 5
_MILLISECOND = 1_000


class BarPath(NamedTuple):
    """The bars of one outcome: the name of their class, and the path that draws them."""

    state: str
    path: str


def bars_of(runs: Sequence[Run], *, cap: Span, bars: int = BARS) -> list[BarPath]:
    """Return the bars of runs, newest first, with stubs where there was no run.

    Args:
        runs: the newest runs.
        cap: the duration of the highest bar, such as the timeout.
        bars: how many bars and stubs there are.

    """
    shown = runs[:bars]
    paths: dict[str, list[str]] = {}
    for number in range(bars - len(shown)):
        paths.setdefault("none", []).append(_rect(number * STEP, _STUB))
    for place, run in enumerate(reversed(shown), start=bars - len(shown)):
        state = state_of(run)
        height = bar_height(run.took_us, cap=cap, highest=HEIGHT)
        paths.setdefault(state, []).append(_SHAPES.get(state, _rect)(place * STEP, height, HEIGHT))
    return [BarPath(state, "".join(parts)) for state, parts in sorted(paths.items())]


def bar_height(took: Span | None, *, cap: Span, highest: int) -> int:
    """Return the height of a bar, by the logarithm of its duration: a second is not a minute."""
    if took is None:
        return _LEAST
    share = log(1 + max(took, 0) / _MILLISECOND) / log(1 + max(cap, _MILLISECOND) / _MILLISECOND)
    return _LEAST + round((highest - _LEAST) * min(share, 1))


def summary_of(runs: Iterable[Run]) -> str:
    """Return the text that stands for a chart of runs: `58 of 60 runs succeeded`."""
    states = [state_of(run) for run in runs]
    if not states:
        return "no runs yet"
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    others = ", ".join(
        f"{number} {state.replace('_', ' ')}"
        for state, number in counts.items()
        if state != "succeeded"
    )
    text = f"{counts.get('succeeded', 0)} of the last {len(states)} succeeded"
    return f"{text}; {others}" if others else text


class PlotPoint(NamedTuple):
    """A run in a chart over time: its place, its state, its value, and the run."""

    x: int
    y: int
    state: str
    run: Run
    path: str


class Plot(NamedTuple):
    """A chart of a value of runs, oldest first.

    Attributes:
        points: the runs that have the value.
        limit_y: the height of the limit, such as the timeout; None if it is above the chart.
        highest: the value at the top.

    """

    points: list[PlotPoint]
    limit_y: int | None
    highest: Span


PLOT_STEP, PLOT_HEIGHT = 7, 90
PLOTTED = 100
"""How many runs a chart shows, and how many percentiles are of."""


def plot_of(runs: Sequence[Run], value: Callable[[Run], Span | None], *, limit: Span) -> Plot:
    """Return the chart of a value of runs, newest first, on a logarithmic scale."""
    found = [(run, shown) for run in runs[:PLOTTED] if (shown := value(run)) is not None]
    most = max((shown for _, shown in found), default=0)
    highest = max(most, _MILLISECOND)
    if limit and most * 4 >= limit:
        highest = max(highest, limit)
    points = []
    for place, (run, shown) in enumerate(reversed(found)):
        x, state = 4 + place * PLOT_STEP, state_of(run)
        height = bar_height(shown, cap=highest, highest=PLOT_HEIGHT - 6)
        shape = _SHAPES.get(state, _rect)
        path = shape(x, height, PLOT_HEIGHT)
        points.append(PlotPoint(x, PLOT_HEIGHT - height, state, run, path))
    limit_y = None
    if limit and highest >= limit:
        limit_y = PLOT_HEIGHT - bar_height(limit, cap=highest, highest=PLOT_HEIGHT - 6)
    return Plot(points, limit_y, highest)


def first_lateness(run: Run) -> Span | None:
    """Return how late the first attempt has started; a retry waits because it has to."""
    if run.attempts:
        first = run.attempts[0]
        if first.attempt != 1 or first.started_at is None:
            return None
        return first.started_at - run.fire_time
    return run.lateness_us if run.attempt <= 1 else None


class Percentiles(NamedTuple):
    """The median and the 95th percentile of a value; None where no run has it."""

    p50: Span | None
    p95: Span | None


def percentiles(values: Iterable[Span | None]) -> Percentiles:
    """Return percentiles by the nearest rank."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return Percentiles(None, None)
    return Percentiles(known[(len(known) - 1) // 2], known[-(-len(known) * 95 // 100) - 1])


def _rect(x: int, height: int, bottom: int = HEIGHT) -> str:
    return f"M{x} {bottom}v-{height}h{WIDTH}v{height}z"


def _pointed(x: int, height: int, bottom: int = HEIGHT) -> str:
    side = max(height - 3, 1)
    return f"M{x} {bottom}v-{side}l2-3 2 3v{side}z"


def _with_gap(x: int, height: int, bottom: int = HEIGHT) -> str:
    rest = max(height - 5, 1)
    return f"M{x} {bottom}v-{rest}h{WIDTH}v{rest}zM{x} {bottom - rest - 2}v-3h{WIDTH}v3z"


def _hollow(x: int, height: int, bottom: int = HEIGHT) -> str:
    inner = height - 2
    return f"M{x} {bottom}v-{height}h{WIDTH}v{height}zm1-1h2v-{inner}h-2z"


def _dot(x: int, _height: int, bottom: int = HEIGHT) -> str:
    return f"M{x} {bottom - 2}h{WIDTH}v-{WIDTH}h-{WIDTH}z"


_SHAPES: dict[str, Callable[[int, int, int], str]] = {
    "failed": _pointed,
    "timed_out": _with_gap,
    "abandoned": _hollow,
    "interrupted": _hollow,
    "missed": _dot,
    "skipped": _dot,
    "pending": _dot,
}
