"""Time travel against the real scheduler, which is stepped by its own pauses and wakes up late."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from pulse import PulseMiddleware, Task
from pulse.clock import SECOND
from pulse.engine.inline import InlineEngine
from pulse.errors import ConfigError
from pulse.store.base import StoreOptions
from pulse.store.memory.store import MemoryStore
from pulse.testing import travel
from pulse.testing.clock import NOON, FakeClock
from pulse.testing.time_travel import TravelRun

if TYPE_CHECKING:
    from collections.abc import Callable

TAIL = 40 * SECOND
"""How much time passes after the outage; the newest ticks are not compared."""


class Decision(NamedTuple):
    """What became of fire times."""

    fire_time: datetime
    outcome: str | None
    trigger: str
    count: int

    @classmethod
    def of(cls, run: TravelRun) -> Decision:
        """Return the decision that a run or a record shows."""
        return cls(run.fire_time, run.outcome, run.trigger, run.count)


def view(_environ: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return []


def in_travel(app: PulseMiddleware, before: int, outage: int) -> list[Decision]:
    """Return the decisions of time travel: time passes, then an outage, then time passes."""
    with travel(app) as clock:
        clock.forward(timedelta(microseconds=before))
        clock.outage(timedelta(microseconds=outage))
        clock.forward(timedelta(microseconds=TAIL))
        return [Decision.of(run) for run in clock.runs()]


def in_reality(app: PulseMiddleware, before: int, outage: int, late: int) -> list[Decision]:
    """Return the decisions of a scheduler whose every sleep ends *late* microseconds late."""
    clock = FakeClock()
    store = MemoryStore(clock, StoreOptions(keep_runs=100_000))
    scheduler = app.runtime.start_for_test(clock=clock, engine=InlineEngine(clock), store=store)
    resumes_at = clock.boot() + before
    for end in (resumes_at, resumes_at + outage + TAIL):
        while clock.boot() < end:
            pause = scheduler.step()
            clock.forward(timedelta(microseconds=min(pause + late, max(end - clock.boot(), 1))))
        if end == resumes_at:
            scheduler.step()
            clock.forward(timedelta(microseconds=outage + late))
    runs = store.runs(limit=100_000)[::-1]  # in the order of the decisions
    runs.sort(key=lambda run: run.fire_time)
    app.runtime.shutdown(0)
    return [Decision.of(TravelRun.of(run)) for run in runs]


SECONDS = st.integers(2, 20)
GRACES = st.sampled_from([None, 0, "1us", "1s", "5s", "1m"])


@given(
    interval=SECONDS,
    grace=GRACES,
    misfire=st.sampled_from(["latest", "skip", "all"]),
    jitter=st.sampled_from([None, "1s", "10s"]),
    before=st.integers(1, 30 * SECOND),
    outage=st.integers(1, 100),
    late=st.integers(100, 900),
)
def test_time_travel_decides_as_a_real_scheduler(
    *,
    interval: int,
    grace: object,
    misfire: str,
    jitter: str | None,
    before: int,
    outage: int,
    late: int,
) -> None:
    """Grace, misfire and jitter mean the same: which fire times run, and which are missed."""
    wanted = {"grace": grace, "misfire": misfire, "jitter": jitter}
    words = {name: value for name, value in wanted.items() if value is not None}
    try:
        task = Task(action="/work", interval=interval, **words)
        app = PulseMiddleware(view, tasks={"work": task})
    except ConfigError:
        return  # a combination of settings that no task may have
    expected = in_reality(app, before, outage * SECOND, late)
    found = in_travel(app, before, outage * SECOND)
    end = NOON + timedelta(microseconds=before + TAIL // 2, seconds=outage)
    assert _until(found, end) == _until(expected, end)


def _until(decisions: list[Decision], end: datetime) -> list[Decision]:
    return [decision for decision in decisions if decision.fire_time < end]
