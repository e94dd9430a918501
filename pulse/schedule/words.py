"""Words into values for the settings of schedules; each converter accepts its own results."""

from __future__ import annotations

from pulse.errors import BadValueError
from pulse.schedule import dialect
from pulse.schedule.zone import zone_named


def cron(value: object) -> str:
    """Return a cron expression that is known to be good, with single blanks."""
    expression = dialect.tidy(value)
    dialect.parse(expression)
    return expression


def zone(value: object) -> str:
    """Return the IANA name of a time zone that is known here."""
    if not isinstance(value, str):
        raise BadValueError("a time zone such as Europe/Berlin or UTC", value)
    name = value.strip()
    zone_named(name)
    return name
