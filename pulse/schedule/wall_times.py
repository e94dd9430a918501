"""Sets of wall times in ascending order, before clock changes are taken into account.

`DayTimes` has the same times on each of its days. `DayGrid` and `MonthGrid` have wall times at a
fixed distance of days or months.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from datetime import date
from typing import TYPE_CHECKING, Final, Protocol, final

import msgspec

from pulse.clock import DAY, SECOND
from pulse.schedule.cron_days import EPOCH_DAY, LAST_DAY
from pulse.schedule.timezone import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Span
    from pulse.schedule.cron_days import Days
    from pulse.schedule.timezone import Wall

HOUR: Final = 3_600 * SECOND

_LAST_MONTH: Final = 9999 * 12 + 11


class DayGrid(msgspec.Struct, frozen=True, gc=False):
    """The wall times that are 1, 2, 3, ... steps of *step* after *base*."""

    base: Wall
    step: Span

    def first_from(self, wall: Wall) -> Wall:
        """Return the first wall time of the grid at or after *wall*; `NEVER` if there is none."""
        wall_time = self.base + max(1, -((self.base - wall) // self.step)) * self.step
        return wall_time if wall_time < (LAST_DAY + 1) * DAY else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last wall time of the grid before *wall*; such a wall time must exist."""
        return self.base + (wall - 1 - self.base) // self.step * self.step

    def count(self, low: Wall, high: Wall) -> int:
        """Return the number of wall times of the grid from *low* to before *high*."""
        return self._before(high) - self._before(low)

    def _before(self, wall: Wall) -> int:
        return max(0, (wall - 1 - self.base) // self.step)


class MonthGrid(msgspec.Struct, frozen=True, gc=False):
    """The wall times 1, 2, 3, ... steps of *step* months after *day* and *time* in month *base*.

    Months are numbered from the year 0. A month without *day* has its wall time on its last day.
    """

    base: int
    day: int
    time: Span
    step: int

    @classmethod
    def anchored_at(cls, wall: Wall, step: int) -> MonthGrid:
        """Return the grid that is counted from *wall*."""
        days, time = divmod(wall, DAY)
        value = date.fromordinal(days + EPOCH_DAY)
        month = value.year * 12 + value.month - 1
        return cls(base=month, day=value.day, time=time, step=step)

    def first_from(self, wall: Wall) -> Wall:
        """Return the first wall time of the grid at or after *wall*; `NEVER` if there is none."""
        number = self._before(wall) + 1
        return self._wall(number) if self.base + number * self.step <= _LAST_MONTH else NEVER

    def last_before(self, wall: Wall) -> Wall:
        """Return the last wall time of the grid before *wall*; such a wall time must exist."""
        return self._wall(self._before(wall))

    def count(self, low: Wall, high: Wall) -> int:
        """Return the number of wall times of the grid from *low* to before *high*."""
        return self._before(high) - self._before(low)

    def _before(self, wall: Wall) -> int:
        """Return the number of wall times before *wall*, which is the number of the last one."""
        value = date.fromordinal(min(wall // DAY, LAST_DAY) + EPOCH_DAY)
        number = (value.year * 12 + value.month - 1 - self.base) // self.step
        if number > 0 and self._wall(number) >= wall:
            number -= 1
        return max(0, number)

    def _wall(self, number: int) -> Wall:
        year, month = divmod(self.base + number * self.step, 12)
        day = min(self.day, monthrange(year, month + 1)[1])
        return (date(year, month + 1, day).toordinal() - EPOCH_DAY) * DAY + self.time


class WallTimes(Protocol):
    """A set of wall times, unbounded or up to the year 9999."""

    def first_from(self, wall: Wall) -> Wall:
        """Return the first wall time of the set at or after *wall*; `NEVER` if there is none."""

    def last_before(self, wall: Wall) -> Wall:
        """Return the last wall time of the set before *wall*; such a wall time must exist."""

    def count(self, low: Wall, high: Wall) -> int:
        """Return the number of wall times of the set from *low* to before *high*."""


@final
class TimesOfDay:
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

    def __init__(self, days: Days, times: TimesOfDay) -> None:
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
