"""`pulse check FILE.ini` lists the tasks that an ini file declares, or its errors."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pulse.cli.findings import Findings, shown_at, shown_schedule
from pulse.cli.ini import load_file
from pulse.convert import spell_span
from pulse.policy import Overlap
from pulse.task import USUAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pulse.clock import Clock, Instant
    from pulse.config.settings import Settings
    from pulse.task import Definition

FIRE_TIMES = 3
_OMITTED = frozenset({"method", "headers", "body"})
"""Settings of the call: the method is printed with the path; headers and body may be secret."""

_ANCHORED = frozenset({"interval", "every"})
"""The schedule settings whose fire times are counted from the first sight of the task."""


def check(
    file: Path,
    *,
    clock: Clock,
    section: str | None = None,
    global_conf: Mapping[str, str] | None = None,
) -> Findings:
    """Check the sections of an ini file that use pulse, without building the application."""
    loaded = load_file(file, section=section, global_conf=global_conf)
    output = Findings([], loaded.problems)
    for name, settings in loaded.sections:
        output.lines.extend(_section_lines(name, settings, clock.wall()))
    return output


def _section_lines(name: str, settings: Settings, now: Instant) -> Iterator[str]:
    tasks = settings.tasks.values()
    store = settings.store or "an SQLite file of this host"
    own = f", name = {settings.name}" if settings.name else ""
    yield f"[{name}] mode = {settings.mode}, store = {store}{own}, tasks: {len(tasks)}"
    for task in tasks:
        zone = settings.zones[task.name]
        schedule = shown_schedule(task.schedule.spell(), zone)
        description = ", ".join((_call(task), schedule, *_policies(task)))
        yield f"{task.name}: {description}{_counted_from(task)}:"
        fire_times = list(_next_fire_times(task, now))
        yield from (f"    {shown_at(at, zone)}{_past_note(at, now)}" for at in fire_times)
        if not fire_times:
            yield "    never: the end is earlier than the first fire time"


def _past_note(at: Instant, now: Instant) -> str:
    note = " (in the past: it runs at once when a store first sees the task)"
    return note if at < now else ""


def _call(task: Definition) -> str:
    query = f"?{task.query}" if task.query else ""
    path = task.path.encode("latin-1").decode(errors="backslashreplace")
    return f"{task.method} {path}{query}"


def _policies(task: Definition) -> Iterator[str]:
    """Yield the policies of a task that differ from the defaults."""
    for name, default in USUAL.items():
        value = getattr(task, name)
        if value == default or name in _OMITTED:
            continue
        if name != "room":
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
            return spell_span(value)
    return str(value)


def _counted_from(task: Definition) -> str:
    settings = task.schedule.spell()
    fixed = "start" in settings or _ANCHORED.isdisjoint(settings)
    return "" if fixed else "; as if the store first saw it now"


def _next_fire_times(task: Definition, now: Instant) -> Iterator[Instant]:
    fire_time = task.schedule.first(now)
    for _ in range(FIRE_TIMES):
        if fire_time is None:
            return
        yield fire_time
        fire_time = task.schedule.next_after(fire_time, anchor=now)
