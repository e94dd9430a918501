"""The commands that account for fire times: `why` and `ledger`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pulse.accounting.ledger import KINDS, UNEXPLAINED
from pulse.accounting.why import TOO_OLD
from pulse.cli.answers import Answer, Listing
from pulse.cli.moments import moment_in, shown_second, zones_of
from pulse.cli.progress import tracked
from pulse.cli.target import name_hint
from pulse.clock import SECOND, SystemClock, moment_of
from pulse.errors import UnknownTaskError
from pulse.web.views import view_explanation, view_ledger

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from datetime import datetime

    from pulse.accounting.ledger import Ledger
    from pulse.handle.handle import SchedulerHandle

_TO_THE_MINUTE = len("2026-11-28T03:00")
_SHOWN = 20
"""How many fire times that are unexplained are printed."""


def why(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Explain what a task did at a time, or why it did nothing."""
    zone = zones_of(handle.tasks()).get(options.task, "UTC")
    shown_in = "UTC" if options.utc else zone
    at = moment_in(options.time, zone, now=SystemClock().wall())
    within = options.within
    if within is None:
        to_the_minute = len(options.time) <= _TO_THE_MINUTE and at % (60 * SECOND) == 0
        within = 60 * SECOND if to_the_minute else SECOND
    found = handle.why(options.task, moment_of(at), within=within / SECOND)
    if all(one.kind == TOO_OLD for one in found):
        _refuse_unknown(handle, options.task)
    lines: list[str] = []
    for one in found:
        where = f" on {one.partition}" if one.partition else ""
        lines.append(f"{one.task} {shown_second(one.instant, shown_in)}{where}: {one.kind}")
        lines += [f"    {line}" for line in one.text.splitlines()]
        if one.run is not None:
            lines.append(f"    run {one.run.id}")
    return Answer({"why": [view_explanation(one) for one in found]}, (), lines)


def ledger(handle: SchedulerHandle, options: argparse.Namespace) -> Answer:
    """Account for each fire time of a task, or of all; the status is 1 if one is not in order."""
    zones = zones_of(handle.tasks(), utc=options.utc)
    zone = zones.get(options.task, "UTC")
    now = SystemClock().wall()
    since = moment_of(now - options.length)
    if options.since is not None:
        since = moment_of(moment_in(options.since, zone, now=now))
    until: datetime | None = None
    if options.until is not None:
        until = moment_of(moment_in(options.until, zone, now=now))
    names = [options.task] if options.task else sorted({one.name for one in handle.tasks()})
    found = [
        one
        for name in tracked(names, "tasks")
        for one in handle.ledger(name, since=since, until=until)
    ]
    if not names:
        raise UnknownTaskError(f"expected tasks in this store, got none{name_hint(options)}")
    if options.task is not None and not any(one.fire_times for one in found):
        _refuse_unknown(handle, options.task)
    heads = ("task", "fire times", *KINDS, "twice", "exact since")
    rows = [_row(one, zones.get(one.task, "UTC")) for one in found]
    lines = [total_line(found)]
    for one in found:
        lines += _fault_lines(one, zones.get(one.task, "UTC"))
    status = 0 if all(one.is_clean for one in found) else 1
    document = {"ledger": [view_ledger(one) for one in found]}
    return Answer(document, [Listing(heads, rows)] if rows else (), lines, status)


def _refuse_unknown(handle: SchedulerHandle, task: str) -> None:
    """Raise an error if no task in use has a name about which nothing was found.

    The records of a task that is not in use any more are kept for 90 days.
    """
    handle.task(task)


def _row(one: Ledger, zone: str) -> tuple[str, ...]:
    numbers = (str(getattr(one, kind)) for kind in KINDS)
    return (
        one.task,
        str(one.fire_times),
        *numbers,
        str(len(one.twice)),
        shown_second(one.exact_since, zone),
    )


def total_line(ledgers: Sequence[Ledger]) -> str:
    """Return a sentence about the fire times of ledgers."""
    total: Counter[str] = Counter()
    for one in ledgers:
        for kind in KINDS:
            total[kind] += getattr(one, kind)
    always = {"ran", "skipped", "missed", UNEXPLAINED}
    parts = [f"{total[kind]:,} {kind}" for kind in KINDS if total[kind] or kind in always]
    twice = sum(len(one.twice) for one in ledgers)
    number = sum(one.fire_times for one in ledgers)
    return f"{number:,} fire times: {', '.join(parts)}, {twice:,} possibly twice"


def _fault_lines(one: Ledger, zone: str) -> list[str]:
    lines = [
        f"unexplained: {one.task} {shown_second(tick.fire_time, zone)} {tick.partition}".rstrip()
        for tick in one.unexplained_ticks[:_SHOWN]
    ]
    if one.unexplained > _SHOWN:
        lines.append(f"unexplained: {one.task} {one.unexplained - _SHOWN:,} more")
    lines += [
        f"possibly twice: {one.task} run {each.run}, attempt {each.attempt} by {each.holder}"
        for each in one.twice
    ]
    if one.exact_since > one.since:
        at = shown_second(one.exact_since, zone)
        lines.append(f"{one.task}: exact records begin at {at}; before it by numbers of each hour")
    return lines
