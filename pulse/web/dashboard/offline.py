"""Pages in a file of their own: the report of a time, and the forecast of a configuration.

They are made by the templates of the dashboard, hold their style sheet, and need no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.accounting.ledger import Ledger  # noqa: TC001 - likewise
from pulse.clock import Instant, moment_of
from pulse.core.access import Level
from pulse.core.run_query import WENT_WRONG
from pulse.simulation.forecast import BusyHour, Forecast  # noqa: TC001 - likewise
from pulse.web.dashboard.charts import PLOTTED, Percentiles
from pulse.web.dashboard.rendering import Frame, render
from pulse.web.dashboard.requests import TASK_ZONE, Common
from pulse.web.dashboard.tasks_page import TaskRow, conditions, task_row
from pulse.web.dashboard.texts import UTC, first_line, zone_of
from pulse.web.dashboard.timeline import (
    Lane,
    LaneBand,
    TimelineModel,
    Window,
    coming_marks,
    lane_of,
    note_due,
    pile_ups,
    shown_changes,
)
from pulse.web.views import RunView  # noqa: TC001 - msgspec reads the hints of its structs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pulse.clock import Span
    from pulse.core.task import TaskDefinition
    from pulse.handle.handle import SchedulerHandle
    from pulse.web.documents import ShownOutput

MOST_WRONG = 500
"""How many runs that went wrong a report counts, the newest ones."""


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a report: its row, and what became of its fire times."""

    row: TaskRow
    ledger: Ledger


class WrongRuns(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a task that went wrong in the same way: the newest, how many, and the oldest one."""

    newest: RunView
    number: int
    since: str


class ReportModel(msgspec.Struct, frozen=True, kw_only=True):
    """A report.

    Attributes:
        since: the earliest fire time.
        until: the instant before which all are.
        total: a sentence about all fire times.
        is_clean: whether no fire time is unexplained, and none ran twice.
        went_wrong: how many runs went wrong, and fire times were missed.
        rows: the tasks by name.
        wrong: these runs, those that are alike as one.
        more: whether there are older ones, which are not counted.
        zones: the time zone of each task.

    """

    since: Instant
    until: Instant
    total: str
    is_clean: bool
    went_wrong: int
    rows: Sequence[ReportRow]
    wrong: Sequence[WrongRuns]
    more: bool
    zones: Mapping[str, str]


def report_of(
    handle: SchedulerHandle,
    length: Span,
    *,
    total_of: Callable[[Sequence[Ledger]], str],
    output: ShownOutput,
    tracked: Callable[[Sequence[str]], Iterable[str]],
) -> ReportModel:
    """Return the report of the last *length* of time.

    Args:
        handle: reads the store.
        length: how far back the report goes.
        output: what is shown of responses and tracebacks.
        total_of: returns a sentence about the ledgers of all tasks.
        tracked: shows how far the report is, as the names of the tasks are taken from it.

    """
    overview = handle.overview()
    until = overview.health.at
    since = until - length
    states = {row.name: row for row in reversed(overview.tasks)}
    rows: list[ReportRow] = []
    condition_of = conditions(overview)
    for name in tracked(sorted(states)):
        (ledger,) = handle.ledger(name, since=moment_of(since), until=moment_of(until))
        runs = handle.runs(task=name, limit=PLOTTED)
        row = task_row(states[name], runs, condition=condition_of(states[name]))
        rows.append(ReportRow(row=row, ledger=ledger))
    found = handle.runs(outcomes=sorted(WENT_WRONG), since=moment_of(since), limit=MOST_WRONG)
    zones = {name: zone_of(state.schedule) for name, state in states.items()}
    return ReportModel(
        since=since,
        until=until,
        total=total_of([one.ledger for one in rows]),
        is_clean=all(one.ledger.is_clean for one in rows),
        went_wrong=sum(run.count for run in found),
        rows=rows,
        wrong=_grouped([output.view(run) for run in found]),
        more=found.cursor is not None,
        zones=zones | {run.task: zones.get(run.task, UTC) for run in found},
    )


def _grouped(runs: Sequence[RunView]) -> list[WrongRuns]:
    """Return runs, newest first, with those of a task that went wrong alike as one."""
    groups: dict[tuple[str, str, int | None, str], list[RunView]] = {}
    for run in runs:
        key = run.task, run.state, run.status, first_line(run.message)
        groups.setdefault(key, []).append(run)
    return [
        WrongRuns(newest=one[0], number=sum(run.count for run in one), since=one[-1].fire_time)
        for one in groups.values()
    ]


def report_page(model: ReportModel, *, utc: bool = False, name: str = "") -> str:
    """Return the page of a report."""
    frame = Frame(
        page="report",
        params=Common(zone=UTC if utc else TASK_ZONE),
        level=Level.READ,
        who="",
        now=model.until,
        read_at=None,
        headline=None,
        name=name,
    )
    return render("report.html", frame, model)


class SimulatedLanes(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of one section.

    Attributes:
        section: its name.
        ticks: the number of its fire times.
        peak: a sentence about the most runs at once.
        note: where the durations come from.
        zone: the time zone of the configuration.
        busiest: the hours with the most fire times.
        lanes: a lane for each task.

    """

    section: str
    ticks: int
    peak: str
    note: str
    zone: str
    busiest: Sequence[BusyHour]
    lanes: TimelineModel


class SimulationModel(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast of a configuration, section by section."""

    file: str
    sections: Sequence[SimulatedLanes]


def forecast_lanes(
    tasks: Iterable[TaskDefinition], forecast: Forecast, *, took: Mapping[str, Span]
) -> TimelineModel:
    """Return the lanes of a forecast, in which everything is to come."""
    window = Window(forecast.since, forecast.since, forecast.until)
    due: dict[int, set[str]] = {}
    lanes: list[Lane] = []
    zones: list[str] = []
    for task in tasks:
        bands: list[LaneBand] = []
        length = Percentiles(took[task.name], took[task.name])
        first = next(one.first for one in forecast.tasks if one.task == task.name)
        marks = coming_marks(task.schedule, first, window, length, bands, anchor=forecast.since)
        note_due(due, task.name, marks)
        zones.append(zone_of(task.schedule.to_text()))
        lanes.append(lane_of(task.name, zones[-1], marks, bands, paused=False))
    return TimelineModel(
        since=window.since,
        now=window.now,
        until=window.until,
        lanes=lanes,
        pile_ups=pile_ups(due, window),
        changes=shown_changes(zones, window),
        found=len(lanes),
        pages=1,
    )


def simulation_page(model: SimulationModel) -> str:
    """Return the page of a forecast."""
    now = model.sections[0].lanes.since if model.sections else 0
    frame = Frame("simulation", Common(), Level.READ, "", now, None, None)
    return render("simulation.html", frame, model)
