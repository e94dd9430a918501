"""`pulse check FILE.ini` tells what an ini file declares, or what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.cli.findings import Findings, shown_at, zone_of
from pulse.cli.ini import load_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pulse.clock import Clock, Instant
    from pulse.config.settings import Settings
    from pulse.task import Definition

FIRE_TIMES = 3
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
    yield f"[{name}] mode = {settings.mode}, store = {store}, tasks: {len(tasks)}"
    for task in tasks:
        yield f"{task.name}: {_call(task)}, {_schedule(task)}:"
        zone = zone_of(task.schedule)
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


def _schedule(task: Definition) -> str:
    words = task.schedule.spell()
    told = ", ".join(f"{name} = {word}" for name, word in words.items())
    fixed = "start" in words or _ANCHORED.isdisjoint(words)
    return told if fixed else f"{told}; as if the store first saw it now"


def _next_fire_times(task: Definition, now: Instant) -> Iterator[Instant]:
    fire_time = task.schedule.first(now)
    for _ in range(FIRE_TIMES):
        if fire_time is None:
            return
        yield fire_time
        fire_time = task.schedule.next_after(fire_time, anchor=now)
