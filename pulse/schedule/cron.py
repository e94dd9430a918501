"""Cron expressions in a time zone, with exact rules for clock changes.

Theory of operation
-------------------
A cron expression selects wall times: the times that the clocks of the zone show, to the second. An
expression is parsed once, into the offsets within an hour, the hours of a day, and the days of a
month as bits (`cron_parser`, `cron_fields`,
`cron_days`, `wall_times`). Every query is then arithmetic; no query
tests one second after another. A time zone is a sequence of periods in which wall time and instant
differ by a constant offset (`timezone`). `local_time` maps wall times to instants.

When the clocks are set back, an hour of wall times occurs twice. When the clocks are set forward,
an hour of wall times is skipped. The rule for both is the rule of Debian's cron:

wildcard
    The minute field or the hour field begins with `*`: the expression describes a frequency. It
    fires at every instant whose wall time matches: in both passes through a repeated hour, and not
    in a skipped hour.
fixed
    Any other expression describes times of day. Each matching wall time fires once: a repeated wall
    time at its first occurrence, a skipped wall time at the end of the gap. Several wall times that
    map to one instant fire once.

In other words, a fixed wall time fires at the first instant at which the clocks show this wall time
or a later wall time. A seconds field does not change the classification: `* * 3 * * *` fires every
second of an hour and is a wildcard expression because of its minute field.

Guarantees: the next fire time is strictly later than the given instant. Fire times are strictly
ascending and none is skipped; `due` returns exactly the count that repeated `next_after` calls
would reach. `next_after` takes microseconds, and at most a few milliseconds in a zone whose offsets
are not cached yet, for every expression: the constructor rejects an expression that never matches,
and every other expression matches at least once in forty years. `due` takes a third of a
millisecond for a year of such a zone, for any number of fire times. Fire times end with the year
9999, after which `next_after` returns None. A `Cron` is a frozen value: it equals another `Cron`
with the same meaning and zone, and a pickle contains only its text.

The rules of a time zone come from the machine's time zone database, or from the package `tzdata` on
a machine without a database. The rules for future years are a forecast: a government may change
them, and an update of the database then moves future fire times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from pulse.clock import instant_of, moment_of
from pulse.schedule import cron_parser, local_time
from pulse.schedule.converters import UTC, cron, zone
from pulse.schedule.timezone import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.schedule.base import DueTimes
    from pulse.schedule.cron_parser import Expression
    from pulse.schedule.timezone import Zone
    from pulse.schedule.wall_times import DayTimes


@final
class Cron:
    """The fire times that a cron expression selects in a time zone.

    Args:
        expression: five fields, six with seconds first, or a nickname such as `@daily`.
        timezone: an IANA name such as `Europe/Berlin`.

    Raises:
        BadValueError: the expression or the zone is invalid, or no day ever matches.

    """

    __slots__ = ("_meaning", "_once", "_wall_times", "_zone", "expression", "timezone")

    _meaning: Expression
    _once: bool
    _wall_times: DayTimes
    _zone: Zone
    expression: str
    timezone: str

    def __init__(self, expression: str, *, timezone: str = UTC) -> None:
        text, name = cron(expression), zone(timezone)
        meaning, wall_times = cron_parser.parse(text)
        values = (meaning, not meaning.wildcard, wall_times, zone_named(name), text, name)
        for slot, value in zip(Cron.__slots__, values, strict=True):
            object.__setattr__(self, slot, value)

    @classmethod
    def of(cls, expression: str, timezone: str) -> Cron:
        """Return the cron of an expression and a zone by position."""
        return cls(expression, timezone=timezone)

    def __setattr__(self, name: str, _: object) -> None:
        message = f"a Cron is frozen; {name} cannot be set"
        raise AttributeError(message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cron):
            return NotImplemented
        return (self.timezone, self._meaning) == (other.timezone, other._meaning)

    def __hash__(self) -> int:
        return hash((self.timezone, self._meaning))

    def __reduce__(self) -> tuple[Callable[[str, str], Cron], tuple[str, str]]:
        return Cron.of, (self.expression, self.timezone)

    def __repr__(self) -> str:
        zone = "" if self.timezone == UTC else f", timezone={self.timezone!r}"
        return f"Cron({self.expression!r}{zone})"

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than the aware datetime *after*.

        The result is in the cron's own zone; its `fold` is 1 in the second pass through an hour.

        Raises:
            BadValueError: *after* has no time zone.

        """
        fire_time = self.next_after(instant_of(after), anchor=0)
        return None if fire_time is None else moment_of(fire_time).astimezone(self._zone.info)

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time at or after *seen*."""
        return self.next_after(seen - 1, anchor=seen)

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:  # noqa: ARG002 - cron has no anchor
        """Return the first fire time strictly later than *after*, or None after the year 9999."""
        return local_time.first_from(self._wall_times, self._zone, after + 1, once=self._once)

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:  # noqa: ARG002 - see next_after
        """Return the newest fire time in [first, until] and the number of fire times."""
        return local_time.due(self._wall_times, self._zone, first, until, once=self._once)

    def to_text(self) -> dict[str, str]:
        """Return the setting `cron`, and `timezone` unless the zone is UTC."""
        settings = {"cron": self.expression}
        if self.timezone != UTC:
            settings["timezone"] = self.timezone
        return settings

    def explain(self) -> str:
        """Return the meaning of the expression in English."""
        from pulse.schedule.cron_words import explain

        fields = cron_parser.fields_of(self.expression)
        return explain(fields, both_days=self._meaning.days.both)
