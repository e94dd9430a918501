"""Cron expressions in a time zone, exact when its clocks are changed.

Theory of operation
-------------------
An expression says which wall times match: what the clocks of the zone show, to the second. It is
read once, into the moments of an hour, the hours of a day, and the days of a month as bits
(`dialect`, `days`, `walls`); every question is then arithmetic, and none is answered by trying
one second after another. A zone is a row of stretches in which wall and instant differ by a
constant (`zone`). The walk (`walk`) puts the one on the other.

When clocks are set back, an hour of wall times is shown twice; when they are set forward, an hour
is left out. The rule is that of Debian's cron:

wildcard
    The minute or the hour begins with `*`: something for every so often. It fires at each instant
    whose wall time matches: in both passes through a repeated hour, and not in an hour that is
    left out.
fixed
    Any other: something for a time of day. Each wall time that matches fires once: at its first
    occurrence when it is repeated, at the end of the gap when it is left out. What would so fire
    at one instant fires once.

The rule for fixed ones is the same as: a wall time fires at the first instant at which the clocks
show it or a later one. Whether seconds are given changes nothing; `* * 3 * * *` fires each second
of an hour and is wildcard by its minute.

Promises: the next fire time is strictly later than the instant asked about. Fire times come
strictly rising and none is passed over; `due` counts exactly what a walk would meet. Finding the
next one takes microseconds, and less than a few milliseconds in a zone of which nothing is
remembered yet, whatever the expression: what never matches is refused when it is made, and
everything else matches at least once in forty years. Counting takes a third of a millisecond for a
year of such a zone, however many fire times it holds. Fire times end with the year 9999, where
`next_after` answers None. A `Cron` is a value: frozen, equal to another that means the same in the
same zone, and its text is all that is pickled.

The zone's rules are those of the machine's database, or of the package `tzdata` where the machine
has none. The rules of years to come are a forecast: a government may change them, and an update
of the database then moves the fire times that follow.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, final

from pulse.clock import instant_of, moment_of
from pulse.schedule import cron_parser, local_time
from pulse.schedule.converters import UTC, cron, zone
from pulse.schedule.timezone import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.schedule.base import Due
    from pulse.schedule.cron_parser import Expression
    from pulse.schedule.timezone import Zone
    from pulse.schedule.wall_times import DayTimes


@final
class Cron:
    """A fire time at each time of day and date that a cron expression names, in a time zone.

    Args:
        expression: five fields, six with seconds first, or a nickname such as `@daily`.
        timezone: an IANA name such as `Europe/Berlin`.

    Raises:
        BadValueError: the expression or the zone is wrong, or no day ever matches.

    """

    __slots__ = ("_meaning", "_once", "_walls", "_zone", "expression", "timezone")

    _meaning: Expression
    _once: bool
    _walls: DayTimes
    _zone: Zone
    expression: str
    timezone: str

    def __init__(self, expression: str, *, timezone: str = UTC) -> None:
        text, name = cron(expression), zone(timezone)
        meaning, walls = cron_parser.parse(text)
        values = (meaning, not meaning.wildcard, walls, zone_named(name), text, name)
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

        It is in the cron's own zone, and its `fold` tells the second pass through an hour.

        Raises:
            BadValueError: *after* has no time zone.

        """
        found = self.next_after(instant_of(after), anchor=0)
        return None if found is None else moment_of(found).astimezone(self._zone.info)

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time that is *seen* or later."""
        return self.next_after(seen - 1, anchor=seen)

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:  # noqa: ARG002 - it has none
        """Return the first fire time strictly later than *after*, or None after the year 9999."""
        return local_time.first_from(self._walls, self._zone, after + 1, once=self._once)

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> Due:  # noqa: ARG002 - likewise
        """Return the newest fire time in [first, until] and how many there are, by arithmetic."""
        return local_time.due(self._walls, self._zone, first, until, once=self._once)

    def spell(self) -> dict[str, str]:
        """Return the settings `cron` and, where it is not UTC, `timezone`."""
        words = {"cron": self.expression}
        if self.timezone != UTC:
            words["timezone"] = self.timezone
        return words

    def explain(self) -> str:
        """Return what the expression says, in English words."""
        from cronsim.explain import explain

        words = explain(" ".join(_uneven_spelt_out(self.expression, self._meaning)))
        if not self._meaning.days.both:
            words = words.replace(" and on ", " or on ")
        return _ORDINAL.sub(_ordinal, words)


def _uneven_spelt_out(expression: str, meaning: Expression) -> list[str]:
    """Return the six fields; of a step that does not go evenly into its whole, all that it means.

    `*/45` is no 45 minutes apart where an hour ends.
    """
    words = cron_parser.fields_of(expression)
    held = (meaning.seconds, meaning.minutes, meaning.hours, (), meaning.days.months)
    for place, (whole, values) in enumerate(zip((60, 60, 24, 31, 12), held, strict=True)):
        step = _STEP.fullmatch(words[place])
        if step and values and whole % int(step[1]):
            words[place] = ",".join(map(str, sorted(values)))
    return words


_STEP = re.compile(r"\*/(\d+)", re.ASCII)
_ORDINAL = re.compile(r"\b(\d+)th\b")
_ENDINGS = {"1": "st", "2": "nd", "3": "rd"}


def _ordinal(found: re.Match[str]) -> str:
    """Return 21st for 21th."""
    number = found[1]
    return found[0] if number[-2:-1] == "1" else number + _ENDINGS.get(number[-1], "th")
