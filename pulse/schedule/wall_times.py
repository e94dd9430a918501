"""Sets of wall times in rising order: what a schedule asks for, before any clock is changed.

`DayTimes` has the same times on each of some days. `DayGrid` and `MonthGrid` have wall times at one
distance in the calendar: a number of days, or a number of months.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from datetime import date
from typing import TYPE_CHECKING, Final, Protocol, final

import msgspec

from pulse.clock import SECOND
from pulse.schedule.cron_days import EPOCH_DAY, LAST_DAY
from pulse.schedule.timezone import DAY, NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Span
    from pulse.schedule.cron_days import Days
    from pulse.schedule.timezone import Wall

HOUR: Final = 3_600 * SECOND

_LAST_MONTH: Final = 9999 * 12 + 11


class Walls(Protocol):
    """A set of wall times, without end or until the year 9999."""

    def first_from(self, wall: Wall) -> Wall:
        """Return the first of them that is *wall* or later; `NEVER` when none is left."""

    def last_before(self, wall: Wall) -> Wall:
        """Return the last of them before *wall*; the caller knows that there is one."""

    def count(self, low: Wall, high: Wall) -> int:
        """Return how many there are from *low* to before *high*."""


@final
class Times:
    """Times of day: the same moments in each of some hours; they are numbered from 0."""

    __slots__ = ("_before", "_hours", "_moments", "per_day")

    per_day: int

    def __init__(self, hours: Iterable[int], moments: Iterable[Span]) -> None:
        self._hours = tuple(sorted(hours))
        self._moments = tuple(sorted(moments))
        size = len(self._moments)
        self._before = tuple(bisect_left(self._hours, hour) * size for hour in range(25))
        self.per_day = self._before[24]

    def number(self, time: Span) -> int:
        """Return how many of the times are before *time*."""
        hour, moment = divmod(time, HOUR)
        before = self._before[hour]
        if before == self._before[hour + 1]:
            return before
        return before + bisect_left(self._moments, moment)

    def time(self, number: int) -> Span:
        """Return the time with a number below `per_day`."""
        hour, place = divmod(number, len(self._moments))
        return self._hours[hour] * HOUR + self._moments[place]


@final
class DayTimes:
    """The same times on each of some days."""

    __slots__ = ("_days", "_first", "_times")

    def __init__(self, days: Days, times: Times) -> None:
        self._days = days
        self._times = times
        self._first = times.time(0)

    def first_from(self, wall: Wall) -> Wall:
        """Return the first of them that is *wall* or later; `NEVER` when none is left."""
        day, time = divmod(wall, DAY)
        found = self._days.first_from(day)
        if found == day:
            number = self._times.number(time)
            if number < self._times.per_day:
                return day * DAY + self._times.time(number)
            found = self._days.first_from(day + 1)
        return found * DAY + self._first if found <= LAST_DAY else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last of them before *wall*; the caller knows that there is one."""
        day, time = divmod(wall, DAY)
        number = self._times.number(time) if self._days.has(day) else 0
        if not number:
            day, number = self._days.last_before(day), self._times.per_day
        return day * DAY + self._times.time(number - 1)

    def count(self, low: Wall, high: Wall) -> int:
        """Return how many there are from *low* to before *high*."""
        (first, low_time), (last, high_time) = divmod(low, DAY), divmod(high, DAY)
        behind = self._times.number(high_time) if self._days.has(last) else 0
        before = self._times.number(low_time) if self._days.has(first) else 0
        return self._days.count(first, last) * self._times.per_day + behind - before


class DayGrid(msgspec.Struct, frozen=True, gc=False):
    """The wall times that are 1, 2, 3, ... times *step* after *base*."""

    base: Wall
    step: Span

    def first_from(self, wall: Wall) -> Wall:
        """Return the first of them that is *wall* or later; `NEVER` when none is left."""
        found = self.base + max(1, -((self.base - wall) // self.step)) * self.step
        return found if found < (LAST_DAY + 1) * DAY else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last of them before *wall*; the caller knows that there is one."""
        return self.base + (wall - 1 - self.base) // self.step * self.step

    def count(self, low: Wall, high: Wall) -> int:
        """Return how many there are from *low* to before *high*."""
        return self._before(high) - self._before(low)

    def _before(self, wall: Wall) -> int:
        return max(0, (wall - 1 - self.base) // self.step)


class MonthGrid(msgspec.Struct, frozen=True, gc=False):
    """The wall times 1, 2, 3, ... times *step* months after a day and a time, in month *base*.

    Months are numbered from the year 0. In one that is too short the last day stands for *day*.
    """

    base: int
    day: int
    time: Span
    step: int

    @classmethod
    def hung_on(cls, wall: Wall, step: int) -> MonthGrid:
        """Return the grid that hangs on *wall*."""
        days, time = divmod(wall, DAY)
        found = date.fromordinal(days + EPOCH_DAY)
        month = found.year * 12 + found.month - 1
        return cls(base=month, day=found.day, time=time, step=step)

    def first_from(self, wall: Wall) -> Wall:
        """Return the first of them that is *wall* or later; `NEVER` when none is left."""
        number = self._before(wall) + 1
        return self._wall(number) if self.base + number * self.step <= _LAST_MONTH else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last of them before *wall*; the caller knows that there is one."""
        return self._wall(self._before(wall))

    def count(self, low: Wall, high: Wall) -> int:
        """Return how many there are from *low* to before *high*."""
        return self._before(high) - self._before(low)

    def _before(self, wall: Wall) -> int:
        """Return the number of the last that is before *wall*, which is how many there are."""
        asked = date.fromordinal(min(wall // DAY, LAST_DAY) + EPOCH_DAY)
        number = (asked.year * 12 + asked.month - 1 - self.base) // self.step
        if number > 0 and self._wall(number) >= wall:
            number -= 1
        return max(0, number)

    def _wall(self, number: int) -> Wall:
        year, place = divmod(self.base + number * self.step, 12)
        day = min(self.day, monthrange(year, place + 1)[1])
        return (date(year, place + 1, day).toordinal() - EPOCH_DAY) * DAY + self.time
