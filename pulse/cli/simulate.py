"""`pulse simulate FILE.ini` forecasts the ticks of an ini file, without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.cli.answers import Answer, Listing
from pulse.cli.load import load_target
from pulse.cli.next import change_as_dict
from pulse.cli.output import shown_at, shown_change, shown_schedule
from pulse.cli.progress import tracked
from pulse.clock import SECOND, rfc3339
from pulse.errors import ConfigError, StoreError, did_you_mean, shown
from pulse.log.format import span_text as duration_text
from pulse.simulation.forecast import simulate
from pulse.store.factory import find_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pulse.clock import Instant, Span
    from pulse.config.settings import Settings
    from pulse.simulation.forecast import Forecast, TaskForecast
    from pulse.simulation.peak import Peak

ASSUMED: Span = SECOND


class ExpectedDuration(NamedTuple):
    """The expected duration of a run, and its source: given, history or assumed."""

    took_us: Span
    source: str


class SimulatedSection(NamedTuple):
    """The forecast of one section, with its expected durations and a note on its history."""

    section: str
    settings: Settings
    forecast: Forecast
    expected: Mapping[str, ExpectedDuration]
    note: str


class Simulations(NamedTuple):
    """The forecast of each section."""

    sections: list[SimulatedSection]


def forecasts(
    file: Path | str,
    *,
    since: Instant,
    length_us: Span,
    took: Mapping[str, Span],
    section: str | None = None,
    global_conf: Mapping[str, str] | None = None,
) -> Simulations:
    """Return the forecast of each section of *file* that uses pulse.

    Args:
        file: an ini file, or `package.module:app`.
        since: the beginning of the window.
        length_us: the length of the window.
        took: the duration of runs, by task; other tasks use the history, or else a second.
        section: the only section to read; default: all sections that use pulse.
        global_conf: variables that the server adds to `[DEFAULT]`.

    Raises:
        ConfigError: the configuration cannot be loaded, or *took* names no task.

    """
    loaded = load_target(str(file), section=section, global_conf=global_conf)
    names = {name for found in loaded.sections for name in found.settings.tasks}
    problems = loaded.problems or [
        f"--took: expected the name of a task, got {shown(name)}{did_you_mean(name, names)}"
        for name in took
        if name not in names
    ]
    if problems:
        raise ConfigError(problems)
    sections = [
        _simulated(found.name, found.settings, since, length_us, took) for found in loaded.sections
    ]
    return Simulations(sections)


def _simulated(
    section: str, settings: Settings, since: Instant, length_us: Span, took: Mapping[str, Span]
) -> SimulatedSection:
    history, note = _history(settings)
    expected = {name: _expected(name, took, history) for name in settings.tasks}
    forecast = simulate(
        tracked([*settings.tasks.values()], "tasks"),
        since=since,
        until=since + length_us,
        took={name: each.took_us for name, each in expected.items()},
    )
    return SimulatedSection(section, settings, forecast, expected, note)


def _expected(name: str, took: Mapping[str, Span], history: Mapping[str, Span]) -> ExpectedDuration:
    if name in took:
        return ExpectedDuration(took[name], "given")
    if name in history:
        return ExpectedDuration(history[name], "history")
    return ExpectedDuration(ASSUMED, "assumed")


def _history(settings: Settings) -> tuple[Mapping[str, Span], str]:
    """Return the median durations of the store, if the store is an existing file, and a note."""
    path = find_file(settings.store, name=settings.name, origin=settings.origin)
    if path is None:
        return {}, "no history: the store has no SQLite file on this host"
    from pulse.store.sqlite.durations import median_durations

    try:
        return median_durations(path, settings.name or ""), f"history: {path}"
    except StoreError as error:
        return {}, f"cannot read the history: {error}"


def answer(result: Simulations) -> Answer:
    """Return the forecasts of all sections."""
    several = len(result.sections) > 1
    document = {"simulations": [_as_dict(item) for item in result.sections]}
    tasks: list[tuple[str, ...]] = []
    hours: list[tuple[str, ...]] = []
    lines: list[str] = []
    for one in result.sections:
        label = one.section if several else ""
        tasks += [(label, *_row(task, one)) for task in one.forecast.tasks]
        zone = one.settings.timezone
        hours += [
            (label, shown_at(hour.start, zone), f"{hour.ticks:,}") for hour in one.forecast.busiest
        ]
        lines += _section_lines(one)
    heads = ("section", "task", "schedule", "ticks", "first", "last", "a run takes", "overlaps")
    listings = [Listing(heads, tasks)] if tasks else []
    if hours:
        listings.append(Listing(("section", "busiest hours", "ticks"), hours))
    return Answer(document, listings, lines)


def _as_dict(simulated: SimulatedSection) -> dict[str, object]:
    forecast = simulated.forecast
    return {
        "section": simulated.section,
        "from": rfc3339(forecast.since),
        "until": rfc3339(forecast.until),
        "history": simulated.note,
        "ticks": forecast.ticks,
        "tasks": [_task_as_dict(task, simulated.expected[task.task]) for task in forecast.tasks],
        "busiest_hours": [
            {"start": rfc3339(hour.start), "ticks": hour.ticks} for hour in forecast.busiest
        ],
        "peak": _peak_as_dict(forecast.peak),
        "clock_changes": [change_as_dict(change) for change in forecast.changes],
    }


def _task_as_dict(task: TaskForecast, expected: ExpectedDuration) -> dict[str, object]:
    return {
        "task": task.task,
        "schedule": task.schedule,
        "ticks": task.count,
        "first": None if task.first is None else rfc3339(task.first),
        "last": None if task.last is None else rfc3339(task.last),
        "next": [rfc3339(fire_time) for fire_time in task.upcoming],
        "took_s": expected.took_us / SECOND,
        "took_from": expected.source,
        "overlaps": task.overlaps,
    }


def _peak_as_dict(peak: Peak) -> dict[str, object]:
    return {
        "at_least": peak.at_least,
        "at_most": peak.at_most,
        "at": None if peak.at is None else rfc3339(peak.at),
        "tasks": peak.tasks,
    }


def _section_lines(simulated: SimulatedSection) -> Iterator[str]:
    forecast, zone = simulated.forecast, simulated.settings.timezone
    window = f"{shown_at(forecast.since, zone)} to {shown_at(forecast.until, zone)}"
    ticks = f"as if the store first saw the tasks then; ticks: {forecast.ticks:,}"
    yield f"[{simulated.section}] {window}, {ticks}"
    yield simulated.note
    yield peak_line(forecast.peak, zone)
    for change in forecast.changes:
        yield f"{shown_at(change.at, change.zone)}: {shown_change(change)}"


def _row(task: TaskForecast, simulated: SimulatedSection) -> tuple[str, ...]:
    zone = simulated.settings.zones[task.task]
    length, source = simulated.expected[task.task]
    return (
        task.task,
        shown_schedule(task.schedule, zone),
        f"{task.count:,}",
        "" if task.first is None else shown_at(task.first, zone),
        "" if task.last is None else shown_at(task.last, zone),
        f"{duration_text(length)} ({source})",
        "overlaps the next tick" if task.overlaps else "",
    )


def peak_line(peak: Peak, zone: str) -> str:
    """Return a sentence about the most runs at once."""
    if peak.at is None:
        return "runs at once: none"
    number = f"{peak.at_least}"
    if peak.at_most > peak.at_least:
        number = f"at least {peak.at_least}, at most {peak.at_most}"
    at = shown_at(peak.at, zone)
    return f"most runs at once: {number}, first at {at}: {', '.join(peak.tasks)}"
