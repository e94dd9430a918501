"""Makes a test of a run: a pytest that repeats it in virtual time, at its fire time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND, rfc3339
from pulse.core.run_query import state_of
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.interval import Interval
from pulse.web.dashboard.texts import schedule_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.store.steering import TaskState


def repetition_of(run: Run, task: TaskState | None, *, body: str | None = None) -> str:
    """Return the text of a test that repeats a run.

    Args:
        run: the run.
        task: the row of its task, if there still is one.
        body: what may be shown of the body of a manual trigger; None for nothing.

    """
    return "\n".join(_lines(run, task, body)) + "\n"


def _lines(run: Run, task: TaskState | None, body: str | None) -> Iterator[str]:
    at = rfc3339(run.fire_time)
    settings = {} if task is None else task.settings
    yield f"# Repeats run {run.id} of the task {run.task!r}, which has {state_of(run)}."
    if settings:
        call = f"{settings.get('method', 'GET')} {settings.get('action', '')}"
        headers = settings.get("headers", "")
        yield f"# It requests {call!r}" + (f" with the headers {headers!r}." if headers else ".")
    yield "from pulse.testing import travel"
    yield ""
    yield "from my_site import app  # your PulseMiddleware, or an object that contains it"
    yield ""
    yield ""
    yield f"def test_run_{run.id[:8]}():"
    start = None if task is None else _start_of(run, task)
    if start is None:
        yield f"    with travel(app, start={at!r}) as clock:"
        if run.body is not None and body is None:
            yield "        # It had a body of its own, which is not shown here: body=..."
        sent = "" if body is None else f", body={body!r}"
        yield f"        clock.trigger({run.task!r}{sent})"
        yield f"        run = clock.runs({run.task!r})[-1]"
    else:
        yield f"    with travel(app, start={rfc3339(start)!r}) as clock:"
        yield f"        clock.travel_to({at!r})"
        yield f"        run = clock.runs({run.task!r})[-1]"
    yield '    assert run.outcome == "succeeded", run.message'


def _start_of(run: Run, task: TaskState) -> Instant | None:
    """Return when virtual time begins so that the schedule fires then; None for a manual run.

    A schedule that is counted from when the store first saw the task begins one period earlier.
    Where calendar periods are, the run is triggered at its fire time instead.
    """
    schedule = schedule_of(task.schedule)
    if run.scheduled_for is None or schedule is None or "jitter" in task.settings:
        return None
    if isinstance(schedule, Interval) and schedule.start_us is None:
        return run.fire_time - schedule.every_us
    if isinstance(schedule, CalendarInterval) and schedule.start_us is None:
        return None
    return run.fire_time - SECOND
