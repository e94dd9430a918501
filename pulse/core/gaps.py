"""Gaps: the spans of a task's schedule, before its last decided fire time, in which no tick ran.

A gap is a span of time and not a list of fire times, so ten years of missed seconds are one gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import Instant

if TYPE_CHECKING:
    from pulse.schedule.base import Schedule

Gap = tuple[Instant, Instant]
"""A span from its first instant to an end that is not part of it."""

MAX_GAPS = 8
"""How many gaps a cursor has at most: those that were used least recently are forgotten."""


def end_of_gap(gaps: tuple[Gap, ...], instant: Instant) -> Instant | None:
    """Return the end of the gap that contains *instant*; None if none does."""
    for start, end in gaps:
        if start <= instant < end:
            return end
    return None


def with_gap(gaps: tuple[Gap, ...], start: Instant, end: Instant) -> tuple[Gap, ...]:
    """Return the gaps with one more; gaps that touch become one."""
    if start >= end:
        return gaps
    touching = [gap for gap in gaps if gap[0] <= end and start <= gap[1]]
    apart = [gap for gap in gaps if gap not in touching]
    first = min((start, *(gap[0] for gap in touching)))
    last = max((end, *(gap[1] for gap in touching)))
    return (*apart, (first, last))[-MAX_GAPS:]


def without_tick(
    schedule: Schedule, gaps: tuple[Gap, ...], tick: Instant, *, anchor: Instant
) -> tuple[Gap, ...]:
    """Return the gaps without a fire time that was opened or skipped."""
    holding = [gap for gap in gaps if gap[0] <= tick < gap[1]]
    if not holding:
        return gaps
    apart = [gap for gap in gaps if gap not in holding]
    parts = [part for start, end in holding for part in ((start, tick), (tick + 1, end))]
    kept = [part for part in parts if _has_tick(schedule, part, anchor=anchor)]
    return (*apart, *kept)[-MAX_GAPS:]


def _has_tick(schedule: Schedule, gap: Gap, *, anchor: Instant) -> bool:
    start, end = gap
    if start >= end:
        return False
    first = schedule.next_after(start - 1, anchor=anchor)
    return first is not None and first < end
