"""`pulse report` writes a page about what ran, and `pulse simulate --html` one about what would."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pulse.cli.account import total_line
from pulse.cli.answers import Answer
from pulse.cli.progress import tracked
from pulse.errors import missing_extra
from pulse.web.views import view_ledger, view_task

if TYPE_CHECKING:
    import argparse

    from pulse.cli.simulate import Simulations
    from pulse.handle.handle import SchedulerHandle


def report(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Make the report of the last time."""
    _require_templates("report")
    from pulse.web.build import shown_output
    from pulse.web.dashboard.offline import report_of, report_page

    settings = options.settings
    model = report_of(
        handle,
        options.length,
        output=shown_output(settings.output, settings.redact),
        total_of=total_line,
        tracked=partial(tracked, text="tasks"),
    )
    document = {
        "tasks": [view_task(one.row.task) for one in model.rows],
        "ledger": [view_ledger(one.ledger) for one in model.rows],
        "went_wrong": [
            {"runs": one.number, "since": one.since, "newest": one.newest} for one in model.wrong
        ],
    }
    page = report_page(model, utc=options.utc, name=options.name or options.target or "")
    return Answer(document, sentences=[model.total], page=page)


def simulation_page_of(file: str, result: Simulations) -> str:
    """Return the page of the forecasts of all sections of a configuration."""
    _require_templates("--html")
    from pulse.cli.simulate import peak_line
    from pulse.web.dashboard import offline

    sections = []
    for one in result.sections:
        took = {name: expected.took_us for name, expected in one.expected.items()}
        tasks = one.settings.tasks.values()
        zone = one.settings.timezone
        sections.append(
            offline.SimulatedLanes(
                section=one.section,
                ticks=one.forecast.ticks,
                peak=peak_line(one.forecast.peak, zone),
                note=one.note,
                zone=zone,
                busiest=one.forecast.busiest,
                lanes=offline.forecast_lanes(tasks, one.forecast, took=took),
            )
        )
    return offline.simulation_page(offline.SimulationModel(file=file, sections=sections))


def _require_templates(key: str) -> None:
    if find_spec("jinja2") is None:
        raise missing_extra(key, "Jinja2", "dashboard")
