"""The page of a task: its rows, settings, history, charts, and next fire times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.errors import UnknownTaskError, did_you_mean
from pulse.simulation.clock_changes import ClockChange, clock_changes
from pulse.store.steering import AuditEntry  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.web.dashboard.charts import PLOTTED, Plot, first_lateness, percentiles, plot_of
from pulse.web.dashboard.other_pages import number_of
from pulse.web.dashboard.tasks_page import TaskRow, coming_fire, conditions, task_row
from pulse.web.dashboard.texts import span_of, zone_of
from pulse.web.documents import ShownOutput  # noqa: TC001 - likewise
from pulse.web.views import RunView  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from pulse.core.run_query import RunPage
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Overview
    from pulse.store.steering import TaskState
    from pulse.web.dashboard.requests import TaskParams

UPCOMING = 10
"""How many of the next fire times a page lists."""

ON_A_PAGE = 50
"""How many runs a page lists."""

AUDITED = 500
"""How many entries of the audit trail are searched for those of a task."""

_LISTED_ENTRIES = 10
_HOSTS = 5
"""For how many hosts runs are read at once."""


class Upcoming(msgspec.Struct, frozen=True, kw_only=True):
    """A fire time to come.

    Attributes:
        at: the fire time.
        change: a clock change of the zone between the fire time before and this one.

    """

    at: Instant
    change: ClockChange | None = None


class TaskModel(msgspec.Struct, frozen=True, kw_only=True):
    """The page.

    Attributes:
        rows: the rows of the task: one for each host with `scope = host`.
        settings: what differs from the defaults.
        upcoming: the next fire times.
        took: the chart of durations, with the timeout.
        late: the chart of lateness, with the grace.
        took_of: the median and the 95th percentile of durations.
        late_of: those of lateness.
        runs: a page of its history.
        cursor: leads to the next page of it.
        audit: what was asked for, newest first.

    """

    rows: Sequence[TaskRow]
    settings: Mapping[str, str]
    upcoming: Sequence[Upcoming]
    took: Plot
    late: Plot
    took_of: tuple[Span | None, Span | None]
    late_of: tuple[Span | None, Span | None]
    runs: Sequence[RunView]
    cursor: int | None
    audit: Sequence[AuditEntry]

    @property
    def row(self) -> TaskRow:
        """The first row."""
        return self.rows[0]


def task_model(
    overview: Overview, handle: SchedulerHandle, params: TaskParams, output: ShownOutput
) -> TaskModel:
    """Return the page of a task.

    Raises:
        UnknownTaskError: no such task.

    """
    states = [row for row in overview.tasks if row.name == params.name]
    if not states:
        near = did_you_mean(params.name, {row.name for row in overview.tasks})
        raise UnknownTaskError(f"expected the name of a task, got {params.name!r}{near}")
    # The newest runs of several hosts: one of them may have run more often than another.
    newest = handle.runs(task=params.name, limit=PLOTTED * min(len(states), _HOSTS))
    page = _history(handle, params)
    settings, now, condition_of = states[0].settings, overview.health.at, conditions(overview)
    entries = [one for one in handle.audit(limit=AUDITED) if one.task == params.name]
    return TaskModel(
        rows=[task_row(row, newest, condition=condition_of(row)) for row in states],
        settings=settings,
        upcoming=upcoming_of(states[0], now),
        took=plot_of(newest, lambda run: run.took_us, limit=span_of(settings, "timeout")),
        late=plot_of(newest, first_lateness, limit=span_of(settings, "grace")),
        took_of=percentiles(run.took_us for run in newest),
        late_of=percentiles(map(first_lateness, newest)),
        runs=[output.view(run) for run in page],
        cursor=page.cursor,
        audit=entries[:_LISTED_ENTRIES],
    )


def upcoming_of(row: TaskState, now: Instant, number: int = UPCOMING) -> list[Upcoming]:
    """Return the next fire times of a row, with the clock changes of its zone between them."""
    coming = coming_fire(row, now)
    if coming is None:
        return []
    schedule, before = coming[0], now
    at: Instant | None = coming[1]
    found: list[Upcoming] = []
    while at is not None and len(found) < number:
        change = next(clock_changes(zone_of(row.schedule), before, at), None)
        found.append(Upcoming(at=at, change=change))
        before, at = at, schedule.next_after(at, anchor=row.anchor)
    return found


def _history(handle: SchedulerHandle, params: TaskParams) -> RunPage:
    return handle.runs(
        task=params.name,
        outcomes=None if params.outcome is None else [params.outcome],
        before=number_of(params.before),
        limit=ON_A_PAGE,
    )
