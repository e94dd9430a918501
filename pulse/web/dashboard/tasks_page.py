"""The first page: one line that answers, and the table of tasks."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run import Run  # noqa: TC001 - likewise
from pulse.core.task import DEFAULT_TIMEOUT
from pulse.handle.health import HealthProblem, HealthStatus, Overview, overdue_by
from pulse.store.steering import Pause, TaskState  # noqa: TC001 - likewise
from pulse.web.dashboard.charts import (
    BARS,
    PLOTTED,
    BarPath,
    bars_of,
    first_lateness,
    percentiles,
    summary_of,
)
from pulse.web.dashboard.texts import raw_schedule, schedule_of, schedule_words, span_of, zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pulse.schedule.base import Schedule
    from pulse.web.dashboard.requests import TasksParams

ON_A_PAGE = 50
"""How many rows of tasks a page has."""

MOST_PROBLEMS = 10
"""How many problems the first lines list."""

_CONDITIONS = ("overdue", "failing", "running", "waiting", "paused", "")


class Headline(msgspec.Struct, frozen=True, kw_only=True):
    """The first lines of each page.

    Attributes:
        status: `pass`, `warn` or `fail`.
        tasks: how many tasks there are.
        processes: how many processes take part.
        problems: what is wrong, worst first.
        more: how many problems are not listed.
        troubled: how many tasks have problems.
        paused: how many tasks are paused by their own names.
        next_task: the task that is due next; empty for none.
        next_fire: when it is.
        pause: the pause of all tasks.
        is_private: whether the store is the memory of this process alone.

    """

    status: HealthStatus
    tasks: int
    processes: int
    problems: Sequence[HealthProblem]
    more: int
    troubled: int
    paused: int
    next_task: str
    next_fire: Instant | None
    pause: Pause | None
    is_private: bool


def headline_of(overview: Overview) -> Headline:
    """Return the first lines."""
    health = overview.health
    upcoming = [
        (row.next_fire, row.name)
        for row in overview.tasks
        if row.next_fire is not None and not row.paused
    ]
    at, name = min(upcoming) if upcoming and overview.pause is None else (None, "")
    return Headline(
        status=health.status,
        tasks=health.tasks,
        processes=health.processes,
        problems=health.problems[:MOST_PROBLEMS],
        more=max(len(health.problems) - MOST_PROBLEMS, 0),
        troubled=len({one.task for one in health.problems if one.task}),
        paused=len({row.name for row in overview.tasks if row.paused}),
        next_task=name,
        next_fire=at,
        pause=overview.pause,
        is_private=overview.is_private,
    )


class TaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table.

    Attributes:
        task: the row of the store.
        condition: one of `_CONDITIONS`.
        zone: the time zone of the schedule.
        words: the schedule in words.
        raw: the schedule as it is configured.
        bars: the bars of the newest runs.
        summary: the text that stands for the bars.
        last: the newest run or record; None for none.
        took: the median and the 95th percentile of durations.
        late: those of lateness.

    """

    task: TaskState
    condition: str
    zone: str
    words: str
    raw: str
    bars: Sequence[BarPath]
    summary: str
    last: Run | None
    took: tuple[Span | None, Span | None]
    late: tuple[Span | None, Span | None]


class TasksModel(msgspec.Struct, frozen=True, kw_only=True):
    """The page.

    Attributes:
        rows: the rows that are shown.
        found: how many tasks the filter selects.
        all: how many there are.
        page: the number of the page.
        pages: how many pages there are.

    """

    rows: Sequence[TaskRow]
    found: int
    all: int
    page: int
    pages: int


def tasks_model(
    overview: Overview, params: TasksParams, *, runs_of: Callable[[str], Sequence[Run]]
) -> TasksModel:
    """Return the page; *runs_of* returns the newest `PLOTTED` runs of a task."""
    found = selected(overview, params)
    pages = max(-(-len(found) // ON_A_PAGE), 1)
    page = min(params.page, pages)
    condition_of = conditions(overview)
    shown = found[(page - 1) * ON_A_PAGE : page * ON_A_PAGE]
    return TasksModel(
        rows=[task_row(row, runs_of(row.name), condition=condition_of(row)) for row in shown],
        found=len(names_of(found)),
        all=len(names_of(overview.tasks)),
        page=page,
        pages=pages,
    )


def selected(overview: Overview, params: TasksParams) -> list[TaskState]:
    """Return the rows that a filter selects, in its order."""
    wanted, condition_of = params.q.casefold(), conditions(overview)
    found = [
        row
        for row in overview.tasks
        if wanted in row.name.casefold() and params.state in {None, condition_of(row)}
    ]
    return sorted(found, key=_order_of(params.sort, condition_of))


def conditions(overview: Overview) -> Callable[[TaskState], str]:
    """Return what returns the condition of a row: the first of `_CONDITIONS` that it is in."""
    now, all_paused = overview.health.at, overview.pause is not None
    running = {(run.task, run.partition) for run in overview.running}

    def condition_of(row: TaskState) -> str:
        if row.paused or all_paused:
            return "paused"
        if overdue_by(row, now):
            return "overdue"
        if row.failures:
            return "failing"
        if (row.name, row.partition) in running:
            return "running"
        return "waiting" if row.unfinished else ""

    return condition_of


def task_row(task: TaskState, runs: Sequence[Run], *, condition: str) -> TaskRow:
    """Return a row of the table, with the newest runs of its task."""
    own = [run for run in runs if run.partition == task.partition]
    return TaskRow(
        task=task,
        condition=condition,
        zone=zone_of(task.schedule),
        words=schedule_words(task.schedule),
        raw=raw_schedule(task.schedule),
        bars=bars_of(own, cap=span_of(task.settings, "timeout") or DEFAULT_TIMEOUT),
        summary=summary_of(own[:BARS]),
        last=own[0] if own else None,
        took=percentiles(run.took_us for run in own[:PLOTTED]),
        late=percentiles(map(first_lateness, own[:PLOTTED])),
    )


def coming_fire(row: TaskState, now: Instant) -> tuple[Schedule, Instant] | None:
    """Return the schedule of a row, and its first fire time from *now* on; None for none."""
    schedule, at = schedule_of(row.schedule), row.next_fire
    if schedule is None or at is None:
        return None
    if at < now:
        at = schedule.next_after(now, anchor=row.anchor)
    return None if at is None else (schedule, at)


def names_of(rows: Iterable[TaskState]) -> list[str]:
    """Return the names of rows, each once: a task has a row for each host with `scope = host`."""
    return list(dict.fromkeys(row.name for row in rows))


def _order_of(
    sort: str, condition_of: Callable[[TaskState], str]
) -> Callable[[TaskState], tuple[int | str, ...]]:
    never = 2**63
    match sort:
        case "name":
            return lambda row: (row.name, row.partition)
        case "next":
            return lambda row: (never if row.next_fire is None else row.next_fire, row.name)
        case "last":
            return lambda row: (-(row.last_end or 0), row.name)
        case "failures":
            return lambda row: (-row.failures, row.name)

    def attention(row: TaskState) -> tuple[int | str, ...]:
        condition = condition_of(row)
        fire_time = never if row.next_fire is None else row.next_fire
        return _CONDITIONS.index(condition), -row.failures, fire_time, row.name

    return attention
