"""`pulse check FILE.ini` tells what an ini file declares, or what is wrong."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pulse.cli.load import load_file
from pulse.cli.output import Findings, shown_at, shown_schedule
from pulse.core.policies import Overlap
from pulse.core.task import USUAL
from pulse.settings.converters import spell_span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pulse.clock import Clock, Instant
    from pulse.config.settings import Settings
    from pulse.core.task import Definition

FIRE_TIMES = 3
_UNTOLD = frozenset({"method", "headers", "body"})
"""What a call consists of: its method is told with it, the others may be long, and secret."""

_ANCHORED = frozenset({"interval", "every"})
"""The settings of schedules that are counted from the instant at which the store first saw them."""


def check(
    file: Path,
    *,
    clock: Clock,
    section: str | None = None,
    global_conf: Mapping[str, str] | None = None,
) -> Findings:
    """Read the sections of an ini file that use pulse, without building the app."""
    loaded = load_file(file, section=section, global_conf=global_conf)
    findings = Findings([], loaded.problems)
    for name, settings in loaded.sections:
        findings.lines.extend(_described(name, settings, clock.wall()))
    return findings


def _described(name: str, settings: Settings, now: Instant) -> Iterator[str]:
    tasks = settings.tasks.values()
    store = settings.store or "an SQLite file of this host"
    own = f", name = {settings.name}" if settings.name else ""
    yield f"[{name}] mode = {settings.mode}, store = {store}{own}, tasks: {len(tasks)}"
    for task in tasks:
        zone = settings.zones[task.name]
        schedule = shown_schedule(task.schedule.spell(), zone)
        told = ", ".join((_call(task), schedule, *_policies(task)))
        yield f"{task.name}: {told}{_counted_from(task)}:"
        fire_times = list(_next_fire_times(task, now))
        yield from (f"    {shown_at(at, zone)}{_passed(at, now)}" for at in fire_times)
        if not fire_times:
            yield "    never: its end comes before the first"


def _passed(at: Instant, now: Instant) -> str:
    late = " (has passed: it runs at once where a store sees the task for the first time)"
    return late if at < now else ""


def _call(task: Definition) -> str:
    query = f"?{task.query}" if task.query else ""
    path = task.path.encode("latin-1").decode(errors="backslashreplace")
    return f"{task.method} {path}{query}"


def _policies(task: Definition) -> Iterator[str]:
    """Return the settings that say how the task behaves, as far as they are not the usual ones."""
    for name, usual in USUAL.items():
        value = getattr(task, name)
        if value == usual or name in _UNTOLD:
            continue
        if name != "room":
            yield f"{name.removesuffix('_us')} = {_spelt(name, value)}"
        elif task.overlap is Overlap.ALLOW:
            yield f"max_running = {value}"


def _spelt(name: str, value: object) -> str:
    match value:
        case Enum():
            return str(value.value)
        case bool():
            return str(value).lower()
        case int() if name.endswith("_us"):
            return spell_span(value)
    return str(value)


def _counted_from(task: Definition) -> str:
    words = task.schedule.spell()
    fixed = "start" in words or _ANCHORED.isdisjoint(words)
    return "" if fixed else "; as if the store first saw it now"


def _next_fire_times(task: Definition, now: Instant) -> Iterator[Instant]:
    fire_time = task.schedule.first(now)
    for _ in range(FIRE_TIMES):
        if fire_time is None:
            return
        yield fire_time
        fire_time = task.schedule.next_after(fire_time, anchor=now)
