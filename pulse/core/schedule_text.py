"""The stored form of a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.task import Task, build_definition
from pulse.errors import ConfigError

if TYPE_CHECKING:
    from pulse.schedule.base import Schedule


def schedule_text(schedule: Schedule) -> str:
    """Return the stored form of a schedule; equal schedules may have different texts."""
    return msgspec.json.encode(sorted(schedule.to_text().items())).decode()


def parsed_schedule(text: str) -> Schedule | None:
    """Return the schedule of a stored text; None if this release cannot read it."""
    try:
        return build_definition(
            "stored", Task(action="/", **dict(msgspec.json.decode(text)))
        ).schedule
    except (ConfigError, TypeError):
        return None
