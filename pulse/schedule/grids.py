"""Wall times at one distance in the calendar: so many days, or so many months."""

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
