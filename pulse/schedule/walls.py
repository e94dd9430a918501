"""Sets of wall times in ascending order, before clock changes are taken into account."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final, Protocol, final

from pulse.clock import SECOND
from pulse.schedule.days import LAST_DAY
from pulse.schedule.zone import DAY, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Span
    from pulse.schedule.days import Days
    from pulse.schedule.zone import Wall

HOUR: Final = 3_600 * SECOND


class Walls(Protocol):
    """A set of wall times, unbounded or up to the year 9999."""

    def first_from(self, wall: Wall) -> Wall:
        """Return the first wall time of the set at or after *wall*; `NEVER` if there is none."""

    def last_before(self, wall: Wall) -> Wall:
        """Return the last wall time of the set before *wall*; such a wall time must exist."""

    def count(self, low: Wall, high: Wall) -> int:
        """Return the number of wall times of the set from *low* to before *high*."""


@final
class Times:
    """Times of day, numbered from 0: the same moments in each of several hours."""

    __slots__ = ("_before", "_hours", "_moments", "per_day")

    per_day: int

    def __init__(self, hours: Iterable[int], moments: Iterable[Span]) -> None:
        self._hours = tuple(sorted(hours))
        self._moments = tuple(sorted(moments))
        size = len(self._moments)
        self._before = tuple(bisect_left(self._hours, hour) * size for hour in range(25))
        self.per_day = self._before[24]

    def number(self, time: Span) -> int:
        """Return the number of times of day before *time*."""
        hour, moment = divmod(time, HOUR)
        before = self._before[hour]
        if before == self._before[hour + 1]:
            return before
        return before + bisect_left(self._moments, moment)

    def time(self, number: int) -> Span:
        """Return the time of day with this number, which is less than `per_day`."""
        hour, moment = divmod(number, len(self._moments))
        return self._hours[hour] * HOUR + self._moments[moment]


@final
class DayTimes:
    """The same times of day on each of several days."""

    __slots__ = ("_days", "_first", "_times")

    def __init__(self, days: Days, times: Times) -> None:
        self._days = days
        self._times = times
        self._first = times.time(0)

    def first_from(self, wall: Wall) -> Wall:
        """Return the first wall time of the set at or after *wall*; `NEVER` if there is none."""
        day, time = divmod(wall, DAY)
        matching_day = self._days.first_from(day)
        if matching_day == day:
            number = self._times.number(time)
            if number < self._times.per_day:
                return day * DAY + self._times.time(number)
            matching_day = self._days.first_from(day + 1)
        return matching_day * DAY + self._first if matching_day <= LAST_DAY else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last wall time of the set before *wall*; such a wall time must exist."""
        day, time = divmod(wall, DAY)
        number = self._times.number(time) if self._days.has(day) else 0
        if not number:
            day, number = self._days.last_before(day), self._times.per_day
        return day * DAY + self._times.time(number - 1)

    def count(self, low: Wall, high: Wall) -> int:
        """Return the number of wall times of the set from *low* to before *high*."""
        (first, low_time), (last, high_time) = divmod(low, DAY), divmod(high, DAY)
        after = self._times.number(high_time) if self._days.has(last) else 0
        before = self._times.number(low_time) if self._days.has(first) else 0
        return self._days.count(first, last) * self._times.per_day + after - before
