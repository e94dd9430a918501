"""Finds valid settings of a task that are probably not meant, for `pulse check` and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.task import DEFINITION_DEFAULTS
from pulse.schedule.bounded import BoundedSchedule
from pulse.schedule.interval import Interval
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.task import TaskDefinition

SHORT_GRACE: Span = SECOND // 10
"""A run begins some milliseconds after its fire time; less grace than this misses most ticks."""


def never_fires(definition: TaskDefinition, now: Instant) -> str:
    """Return a sentence if a task has no fire time from *now* on, else an empty text."""
    schedule = definition.schedule
    if not isinstance(schedule, BoundedSchedule) or schedule.end is None:
        return ""
    settings = schedule.to_text()
    # Without a start, the fire times depend on when the store first saw the task.
    known = "start" in settings or "cron" in settings
    if schedule.end >= now and not (known and schedule.first(now) is None):
        return ""
    return (
        f"{definition.name}: the task runs no more: its schedule has no fire time from now to its"
        f" end, {settings['end']}; set a later end, or enabled = false"
    )


def task_warnings(definition: TaskDefinition) -> list[str]:
    """Return one sentence for each setting that has an effect which is probably not meant.

    Each sentence begins with the name of the setting.
    """
    settings = definition.schedule.to_text()
    found = []
    if expression := settings.get("cron"):
        from pulse.schedule.cron_warnings import cron_warnings

        found += [f"cron: {text}" for text in cron_warnings(expression)]
    grace = definition.grace_us
    if grace is not None and grace < SHORT_GRACE:
        text = duration_text(grace)
        found.append(
            f"grace: a run begins some milliseconds after its fire time, so a grace of {text}"
            f" misses most ticks; expected at least {duration_text(SHORT_GRACE)}"
        )
    period = _period(definition)
    if definition.retries and period is not None and definition.retry_min_backoff_us >= period:
        wait = duration_text(definition.retry_min_backoff_us)
        found.append(
            f"retries: the first retry would wait {wait} (retry_min_backoff), and a retry is made"
            f" only before the next tick, {duration_text(period)} later: no tick is retried"
        )
    if period is not None and definition.jitter_us > period:
        found.append(
            f"jitter: a delay ends before the next fire time, {duration_text(period)} later; of"
            f" {duration_text(definition.jitter_us)} the rest has no effect"
        )
    found += [
        f"{name}: without retries no run is retried, and this setting has no effect; set retries"
        for name in _without_retries(definition)
    ]
    return found


def _without_retries(definition: TaskDefinition) -> list[str]:
    """Return the settings of retries that a task without retries changes."""
    if definition.retries:
        return []
    names = ("retry_min_backoff_us", "retry_max_backoff_us", "retry_max_doublings")
    return [
        name.removesuffix("_us")
        for name in names
        if getattr(definition, name) != DEFINITION_DEFAULTS[name]
    ]


def _period(definition: TaskDefinition) -> Span | None:
    """Return the distance of two fire times of an interval; None for other schedules."""
    schedule = definition.schedule
    inner = schedule.schedule if isinstance(schedule, BoundedSchedule) else schedule
    return inner.every_us if isinstance(inner, Interval) else None
