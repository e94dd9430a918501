"""Wall times at a fixed distance of days or months."""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from typing import TYPE_CHECKING, Final

import msgspec

from pulse.schedule.days import EPOCH_DAY, LAST_DAY
from pulse.schedule.zone import DAY, NEVER

if TYPE_CHECKING:
    from pulse.clock import Span
    from pulse.schedule.zone import Wall

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
