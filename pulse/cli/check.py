"""`pulse check FILE.ini` lists the tasks that an ini file declares, or its errors."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pulse.carrier.base import CarrierSetup
from pulse.child.application_check import loading_problem
from pulse.cli.load import load_target
from pulse.cli.output import CommandOutput, shown_at, shown_schedule
from pulse.cli.routes import routing_problem
from pulse.clock import SystemClock
from pulse.core.policies import Overlap, StoreFallback
from pulse.core.task import DEFINITION_DEFAULTS
from pulse.core.task_warnings import task_warnings
from pulse.engine.factory import carrier_problem, missing_mode
from pulse.errors import shown_url
from pulse.runtime import child_setup_of
from pulse.settings.converters import duration_text
from pulse.simulation.hourly import is_missed_at_first_sight
from pulse.store.factory import default_store_problem, missing_driver

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pulse.cli.load import LoadedSection
    from pulse.clock import Clock, Instant
    from pulse.config.settings import Settings
    from pulse.core.task import TaskDefinition

FIRE_TIMES = 3
_OMITTED = frozenset({"method", "headers", "body"})
"""Settings of the call: the method is printed with the path; headers and body may be secret."""

_ANCHORED = frozenset({"interval", "every"})
"""The schedule settings whose fire times are counted from the first sight of the task."""


def check(
    file: Path | str,
    *,
    clock: Clock,
    section: str | None = None,
    global_conf: Mapping[str, str] | None = None,
) -> CommandOutput:
    """Check the sections of an ini file that use pulse, or the middlewares of an application.

    The applications of a file are not built here; if `mode = processing` names one, a child
    process loads it, as for a run.
    """
    loaded = load_target(str(file), section=section, global_conf=global_conf)
    output = CommandOutput([], loaded.problems)
    for found in loaded.sections:
        settings = found.settings
        output.lines.extend(_section_lines(found, clock.wall()))
        problems = (
            *_missing(settings),
            *_unloadable(settings),
            *_storeless(settings),
            *_unrouted(found),
        )
        output.problems.extend(f"[{found.name}] {problem}" for problem in problems)
    return output


def _missing(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each package that a server needs for these settings and lacks.

    A Celery application that the settings name has to be there as well.
    """
    broker = carrier_problem(settings.mode, CarrierSetup(broker=settings.broker))
    for problem in (missing_mode(settings.mode), broker, missing_driver(settings.store)):
        if problem:
            yield problem


def _unloadable(settings: Settings) -> Iterator[str]:
    """Return what keeps child processes from loading the application that the setting names."""
    setup = child_setup_of(settings) if settings.mode == "processing" else None
    if setup is not None and (setup.application or setup.chosen):
        problem = loading_problem(setup, SystemClock())
        if problem:
            yield problem


def _storeless(settings: Settings) -> Iterator[str]:
    """Return why this user can keep no default store, if then no scheduler starts."""
    if settings.store is None and settings.store_fallback is StoreFallback.REFUSE:
        problem = default_store_problem()
        if problem:
            yield problem


def _unrouted(found: LoadedSection) -> Iterator[str]:
    """Yield a sentence for each task that no view answers, as far as the framework knows."""
    for task in found.settings.tasks.values() if found.app is not None else ():
        if problem := routing_problem(found.app, task):
            yield problem


def _section_lines(section: LoadedSection, now: Instant) -> Iterator[str]:
    settings = section.settings
    tasks = settings.tasks.values()
    store = shown_url(settings.store) if settings.store else "an SQLite file of this host"
    own = f", name = {settings.name}" if settings.name else ""
    times = f", built {section.times} times" if section.times > 1 else ""
    source = f", from {section.source}" if section.source else ""
    yield (
        f"[{section.name}] mode = {settings.mode}, store = {store}{own}, tasks: {len(tasks)}"
        f"{times}{source}"
    )
    for task in tasks:
        zone = settings.zones[task.name]
        schedule = shown_schedule(task.schedule.to_text(), zone)
        description = ", ".join((_call(task), schedule, *_policies(task)))
        yield f"{task.name}: {description}{_counted_from(task)}:"
        fire_times = list(_next_fire_times(task, now))
        yield from (f"    {shown_at(at, zone)}{_past_note(task, at, now)}" for at in fire_times)
        if not fire_times:
            yield "    never: the end is earlier than the first fire time"
        yield from (f"    warning: {text}" for text in task_warnings(task))


def _past_note(task: TaskDefinition, at: Instant, now: Instant) -> str:
    if at >= now:
        return ""
    if is_missed_at_first_sight(task, now):
        return " (in the past, and later than its grace: it is missed)"
    return " (in the past: it runs at once when a store first sees the task)"


def _call(task: TaskDefinition) -> str:
    query = f"?{task.query}" if task.query else ""
    path = task.path.encode("latin-1").decode(errors="backslashreplace")
    return f"{task.method} {path}{query}"


def _policies(task: TaskDefinition) -> Iterator[str]:
    """Yield the policies of a task that differ from the defaults."""
    for name, default in DEFINITION_DEFAULTS.items():
        value = getattr(task, name)
        if value == default or name in _OMITTED:
            continue
        if name != "max_unfinished":
            yield f"{name.removesuffix('_us')} = {_setting_text(name, value)}"
        elif task.overlap is Overlap.ALLOW:
            yield f"max_running = {value}"


def _setting_text(name: str, value: object) -> str:
    match value:
        case Enum():
            return str(value.value)
        case bool():
            return str(value).lower()
        case int() if name.endswith("_us"):
            return duration_text(value)
    return str(value)


def _counted_from(task: TaskDefinition) -> str:
    settings = task.schedule.to_text()
    fixed = "start" in settings or _ANCHORED.isdisjoint(settings)
    return "" if fixed else "; as if the store first saw it now"


def _next_fire_times(task: TaskDefinition, now: Instant) -> Iterator[Instant]:
    fire_time = task.schedule.first(now)
    for _ in range(FIRE_TIMES):
        if fire_time is None:
            return
        yield fire_time
        fire_time = task.schedule.next_after(fire_time, anchor=now)
