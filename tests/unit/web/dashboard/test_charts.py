"""The geometry of charts and lanes stays within its bounds, whatever the runs are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse import PulseMiddleware, Task
from pulse.clock import SECOND
from pulse.core.run import Outcome, Run
from pulse.testing import travel
from pulse.web.dashboard.charts import (
    BARS,
    HEIGHT,
    PLOT_HEIGHT,
    PLOT_STEP,
    PLOTTED,
    STEP,
    bar_height,
    bars_of,
    percentiles,
    plot_of,
    summary_of,
)
from pulse.web.dashboard.requests import TimelineParams
from pulse.web.dashboard.timeline import MOST_FUTURE, MOST_PAST, UNITS, timeline_model
from tests.support.dashboard_site import START, site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.web.dashboard.timeline import Lane, TimelineModel

SPANS = st.integers(0, 10**12) | st.integers(0, 2**62)
RUNS = st.lists(
    st.builds(
        Run,
        id=st.uuids().map(lambda one: one.hex),
        task=st.just("work"),
        fire_time=st.integers(1, 10**15),
        started_at=st.none() | st.integers(1, 10**15),
        took_us=st.none() | SPANS,
        outcome=st.none() | st.sampled_from(Outcome),
        holder=st.sampled_from(["", "host:1:a"]),
    ),
    max_size=PLOTTED + 20,
)


def run(outcome: Outcome | None, **words: object) -> Run:
    """Return a run."""
    return msgspec.structs.replace(Run(id="r", task="work", fire_time=1, outcome=outcome), **words)


@given(RUNS, SPANS)
def test_bars_and_stubs_fill_the_chart(runs: list[Run], cap: int) -> None:
    """One for each place, each within the height."""
    paths = bars_of(runs, cap=cap)
    starts = [int(x) for bar in paths for x in re.findall(rf"M(\d+) {HEIGHT}", bar.path)]
    starts += [int(x) for bar in paths for x in re.findall(rf"M(\d+) {HEIGHT - 2}h", bar.path)]
    assert sorted(starts) == [place * STEP for place in range(BARS)]
    for bar in paths:
        heights = [int(height) for height in re.findall(r"v-(\d+)", bar.path)]
        assert all(0 < height <= HEIGHT for height in heights)


@given(SPANS, SPANS, st.integers(20, 200))
def test_longer_runs_have_no_lower_bars(one: int, other: int, highest: int) -> None:
    """Up to the highest, which a run of the timeout and longer has."""
    cap = 3 * 60 * SECOND
    low, high = sorted((one, other))
    first, second = (bar_height(took, cap=cap, highest=highest) for took in (low, high))
    assert first <= second <= highest
    assert bar_height(cap, cap=cap, highest=highest) == highest


@given(st.lists(st.none() | SPANS, max_size=200))
def test_percentiles_are_values_of_the_list_in_order(values: list[int | None]) -> None:
    """By the nearest rank."""
    known = sorted(value for value in values if value is not None)
    found = percentiles(values)
    if not known:
        assert found == (None, None)
        return
    assert found.p50 is not None
    assert found.p95 is not None
    assert sum(value <= found.p50 for value in known) >= len(known) / 2
    assert sum(value <= found.p95 for value in known) >= len(known) * 0.95
    assert {found.p50, found.p95} <= set(known)


@given(RUNS, st.just(0) | SPANS)
def test_points_of_a_chart_are_within_it(runs: list[Run], limit: int) -> None:
    """And so is the limit, if it is drawn at all."""
    chart = plot_of(runs, lambda one: one.took_us, limit=limit)
    assert len(chart.points) == sum(one.took_us is not None for one in runs[:PLOTTED])
    for point in chart.points:
        assert 0 <= point.x <= PLOTTED * PLOT_STEP
        assert 0 <= point.y <= PLOT_HEIGHT
    assert chart.limit_y is None or 0 <= chart.limit_y <= PLOT_HEIGHT


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "no runs yet"),
        ([run(Outcome.SUCCEEDED)] * 3, "3 of the last 3 succeeded"),
        (
            [run(Outcome.TIMED_OUT), run(Outcome.SUCCEEDED), run(None, holder="h:1:a")],
            "1 of the last 3 succeeded; 1 timed out, 1 running",
        ),
    ],
)
def test_chart_has_a_text_that_stands_for_it(runs: Sequence[Run], text: str) -> None:
    """For those who do not see it."""
    assert summary_of(runs) == text


def timeline(
    tasks: dict[str, Task], *, took: dict[str, str] | None = None, **words: object
) -> TimelineModel:
    """Return the timeline of tasks, two hours after their start."""
    with travel(PulseMiddleware(site, tasks=tasks), start=START, took=took or {}) as clock:
        clock.forward(hours=2)
        handle = clock.scheduler
        return timeline_model(
            handle.overview(),
            msgspec.convert(words, TimelineParams),
            runs_of=lambda name, limit: handle.runs(task=name, limit=limit),
        )


def marks_of(lane: Lane) -> list[tuple[str, int, int]]:
    """Return state, place and width of what a lane draws, without the faint parts."""
    return [
        (one.state, int(x), int(width))
        for one in lane.paths
        for x, width in re.findall(r"M(\d+) \d+h(\d+)V", one.path)
        if one.state != "faint"
    ]


def test_lane_has_the_past_on_the_left_and_the_future_on_the_right() -> None:
    """The future with the lengths that runs usually take."""
    model = timeline({"work": Task(action="/ok", interval="10m")}, took={"work": "2m"}, span="1h")
    (lane,) = model.lanes
    past = [(x, width) for state, x, width in marks_of(lane) if state != "due"]
    future = [(x, width) for state, x, width in marks_of(lane) if state == "due"]
    assert (len(past), len(future)) == (7, 5)  # at both edges of the past, at none of the future
    assert all(x <= UNITS // 2 for x, _ in past)
    assert all(UNITS // 2 <= x <= UNITS for x, _ in future)
    assert {width for _, width in future} == {2 * 60 * UNITS // 7_200}
    assert lane.summary == "7 runs; 5 fire times to come"


def test_run_in_progress_is_drawn_up_to_now() -> None:
    """Also one that began before the left edge, and one that began just now."""
    tasks = {
        "long": Task(action="/ok", interval="1h", timeout="5h"),
        "new": Task(action="/ok", interval="2h"),
    }
    model = timeline(tasks, took={"long": "3h", "new": "1m"}, span="1h")
    long, new = model.lanes
    ((state, x, width),) = marks_of(long)[:1]
    assert (state, x) == ("running", 0)
    assert UNITS // 2 - 1 <= width <= UNITS // 2 + 1
    assert [state for state, _, _ in marks_of(new)] == ["running"]


def test_what_is_too_much_to_draw_is_a_band_that_says_so() -> None:
    """On both sides."""
    model = timeline({"work": Task(action="/ok", interval="5s")}, span="24h")
    (lane,) = model.lanes
    assert len(marks_of(lane)) == MOST_PAST
    older, coming = (band.text for band in lane.bands)
    assert older == f"more runs than the newest {MOST_PAST} are not drawn"
    number, _, words = coming.partition(" ")
    assert words == "fire times to come"
    a_day = 24 * 3_600 // 5
    # The page begins at a step of a hundredth of a percent, so that it stays the same meanwhile.
    assert a_day - 2 * 24 * 3_600 // UNITS // 5 - 1 <= int(number.replace(",", "")) <= a_day
    assert a_day > MOST_FUTURE


def test_minute_in_which_many_tasks_are_due_is_marked() -> None:
    """With their number."""
    tasks = {f"t{n}": Task(action="/ok", cron="0 * * * *") for n in range(6)}
    model = timeline(tasks | {"other": Task(action="/ok", cron="7 * * * *")}, span="6h")
    assert {one.tasks for one in model.pile_ups} == {6}
    assert all(one.at % (3_600 * SECOND) == 0 for one in model.pile_ups)


def test_clock_changes_of_the_zones_on_the_page_are_marked() -> None:
    """With the number of tasks that they touch."""
    zone = {"timezone": "Europe/Berlin"}
    tasks = {f"t{n}": Task(action="/ok", cron=f"{n} 3 * * *", **zone) for n in range(3)}
    (change,) = timeline(tasks, span="24h").changes
    assert (change.tasks, change.change.zone) == (3, "Europe/Berlin")
    assert UNITS // 2 < change.x < UNITS


@given(st.sampled_from(["3s", "1m", "7m", "1h", "3h"]), st.sampled_from(["1h", "6h", "24h"]))
def test_marks_and_bands_are_within_the_lane(interval: str, span: str) -> None:
    """Whatever is due."""
    model = timeline({"work": Task(action="/ok", interval=interval)}, span=span)
    for lane in model.lanes:
        assert all(0 <= x <= UNITS and width > 0 for _, x, width in marks_of(lane))
        assert all(band.x >= 0 and band.x + band.width <= UNITS + 2 for band in lane.bands)


def test_paused_task_has_no_future() -> None:
    """Nor has any, while all are paused."""
    with travel(PulseMiddleware(site, tasks={"a": Task(action="/ok", interval="1m")})) as clock:
        clock.forward(minutes=3)
        clock.scheduler.pause_all()
        model = timeline_model(
            clock.scheduler.overview(),
            TimelineParams(),
            runs_of=lambda name, limit: clock.scheduler.runs(task=name, limit=limit),
        )
    (lane,) = model.lanes
    assert lane.paused
    assert "due" not in {state for state, _, _ in marks_of(lane)}
