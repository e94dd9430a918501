"""The days that a cron expression selects, as bit sets: one integer for each month."""

from __future__ import annotations

from calendar import monthrange
from datetime import date
from typing import Final, final

import msgspec

Day = int
"""Days since 1970-01-01."""

EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
LAST_DAY: Final = date.max.toordinal() - EPOCH_DAY
NO_DAY: Final = LAST_DAY + 1
"""The day after the last day that `date` can represent."""

_CYCLE = 4_800  # months after which the Gregorian calendar repeats: 400 years are whole weeks
_LAST_MONTH = 9999 * 12 + 11
_WEEKS = 0b100000010000001000000100000010  # the days 1, 8, 15, 22 and 29 of a month


class DayFields(msgspec.Struct, frozen=True, kw_only=True):
    """The three day fields of an expression; weekdays are numbered from Sunday, 0.

    Attributes:
        days: the days of the month.
        last: whether the last day of the month is included.
        last_working: whether the last day from Monday to Friday of the month is included.
        weekdays: the days of the week.
        nth_weekdays: pairs of a weekday and its ordinal in the month; -1 is the last.
        both: whether day of month and day of week must both match; otherwise one is enough.

    """

    months: frozenset[int]
    days: frozenset[int]
    last: bool = False
    last_working: bool = False
    weekdays: frozenset[int]
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()
    both: bool

    def bits(self, first_weekday: int, length: int) -> int:
        """Return as bits the days of a month of *length* days that begins on *first_weekday*."""
        month = (2 << length) - 2
        of_month = self._by_date(first_weekday, length) & month
        of_week = self._by_weekday(first_weekday, month)
        return of_month & of_week if self.both else of_month | of_week

    def _by_date(self, first_weekday: int, length: int) -> int:
        bits = sum(1 << day for day in self.days)
        if self.last:
            bits |= 1 << length
        if self.last_working:
            weekday = (first_weekday + length - 1) % 7
            bits |= 1 << (length - {0: 2, 6: 1}.get(weekday, 0))
        return bits

    def _by_weekday(self, first_weekday: int, month: int) -> int:
        bits = 0
        for weekday in self.weekdays:
            bits |= _WEEKS << (weekday - first_weekday) % 7
        for weekday, nth in self.nth_weekdays:
            occurrences = _WEEKS << (weekday - first_weekday) % 7 & month
            if nth > 0:
                bits |= occurrences & 0b11111110 << 7 * (nth - 1)
            else:
                bits |= 1 << occurrences.bit_length() - 1
        return bits & month

    def can_match(self) -> bool:
        """Return whether any day of any year matches."""
        lengths = {monthrange(year, month)[1] for year in (2023, 2024) for month in self.months}
        return any(self.bits(first, length) for length in lengths for first in range(7))

    def match_always(self) -> bool:
        """Return whether every day matches."""
        all_dates, all_weekdays = len(self.days) == 31, len(self.weekdays) == 7  # noqa: PLR2004 - days
        either = all_dates and all_weekdays if self.both else all_dates or all_weekdays
        return either and len(self.months) == 12  # noqa: PLR2004 - months


@final
class Days(dict[int, int]):
    """The matching days: the bits of each month, keyed by its number in the calendar's cycle."""

    __slots__ = ("always", "fields")

    fields: DayFields
    always: bool

    def __init__(self, fields: DayFields) -> None:
        super().__init__()
        self.fields = fields
        self.always = fields.match_always()

    def __missing__(self, number: int) -> int:
        year, month = number // 12 or 400, number % 12 + 1
        bits = 0
        if month in self.fields.months:
            monday_is_0, length = monthrange(year, month)
            bits = self.fields.bits((monday_is_0 + 1) % 7, length)
        self[number] = bits
        return bits

    def has(self, day: Day) -> bool:
        """Return whether *day* matches."""
        if self.always:
            return True
        month, day_of_month = _month_of(day)
        return bool(self[month % _CYCLE] >> day_of_month & 1)

    def first_from(self, day: Day) -> Day:
        """Return the first matching day at or after *day*; `NO_DAY` if there is none."""
        if self.always or day >= NO_DAY:
            return min(day, NO_DAY)
        month, day_of_month = _month_of(day)
        bits = self[month % _CYCLE] >> day_of_month
        if bits & 1:
            return day
        if bits:
            return day + (bits & -bits).bit_length() - 1
        while month < _LAST_MONTH:
            month += 1
            bits = self[month % _CYCLE]
            if bits:
                return _first_day_of(month) + (bits & -bits).bit_length() - 2
        return NO_DAY

    def last_before(self, day: Day) -> Day:
        """Return the last matching day before *day*; such a day must exist."""
        if self.always:
            return day - 1
        month, day_of_month = _month_of(day - 1)
        bits = self[month % _CYCLE] & (2 << day_of_month) - 1
        while not bits:
            month -= 1
            bits = self[month % _CYCLE]
        return _first_day_of(month) + bits.bit_length() - 2

    def count(self, low: Day, high: Day) -> int:
        """Return the number of matching days from *low* to before *high*."""
        if self.always or high <= low:
            return max(0, high - low)
        month, first_day = _month_of(low)
        last, last_day = _month_of(high - 1)
        between = sum(self[number % _CYCLE].bit_count() for number in range(month, last + 1))
        before = self[month % _CYCLE] & (1 << first_day) - 1
        after = self[last % _CYCLE] >> last_day + 1
        return between - before.bit_count() - after.bit_count()


def _month_of(day: Day) -> tuple[int, int]:
    """Return the month of *day*, numbered from year 0, and the day of the month."""
    value = date.fromordinal(day + EPOCH_DAY)
    return value.year * 12 + value.month - 1, value.day


def _first_day_of(month: int) -> Day:
    return date(month // 12, month % 12 + 1, 1).toordinal() - EPOCH_DAY
