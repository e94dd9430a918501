"""Calendar periods: a fire time every N days, weeks, months or years, in wall time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from pulse.clock import DAY, instant_of, moment_of, rfc3339
from pulse.schedule import converters, local_time
from pulse.schedule.base import DueTimes
from pulse.schedule.converters import UTC
from pulse.schedule.timezone import zone_named
from pulse.schedule.wall_times import DayGrid, MonthGrid

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pulse.clock import Instant
    from pulse.schedule.timezone import Wall, Zone

_DAYS_OF: Final = {"day": 1, "week": 7}
_MONTHS_OF: Final = {"month": 1, "year": 12}


@final
class CalendarInterval:
    """A fire time every N days, weeks, months or years, at one time of day in a time zone.

    With *start*, the first fire time is *start* itself. Without *start*, periods are counted from
    the anchor: the instant at which the store first saw the task, or 1970-01-01T00:00 in the zone
    if there is no store. The first fire time is then one period after the anchor.

    The wall time stays the same when the clocks change. A wall time that occurs twice fires at its
    first occurrence; a wall time that is skipped fires at the end of the gap. A skipped *start* is
    such a wall time: later fire times have the wall time of *start*. Months are counted from the
    anchor and fire on the anchor's day of the month, or on the last day of a shorter month:
    31 January, 28 February, 31 March.

    Args:
        every: a count and one of day, week, month, year, such as `"1 month"` or `"2 weeks"`.
        start: an aware datetime, RFC 3339 text, or a datetime or text without offset, which is read
            in *timezone*.
        timezone: an IANA name such as `Europe/Berlin`.

    Raises:
        BadValueError: an argument is invalid. Use `Interval` for hours, minutes and seconds.

    """

    __slots__ = ("every", "skipped_start", "start_us", "timezone")

    every: str
    skipped_start: Wall | None
    """The wall time of *start* if the clocks skip it; `start_us` is then the end of the gap."""
    start_us: Instant | None
    timezone: str

    def __init__(
        self, every: str, *, start: datetime | str | None = None, timezone: str = UTC
    ) -> None:
        moment = None if start is None else converters.moment(start)
        _fill(self, converters.every(every), moment, converters.zone(timezone))

    @classmethod
    def of(cls, every: str, start: datetime | Instant | None, timezone: str) -> CalendarInterval:
        """Return the schedule of converted values; a naive *start* is a wall time in *timezone*."""
        schedule = cls.__new__(cls)
        _fill(schedule, every, start, timezone)
        return schedule

    def __setattr__(self, name: str, _: object) -> None:
        message = f"a CalendarInterval is frozen; {name} cannot be set"
        raise AttributeError(message)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CalendarInterval):
            return NotImplemented
        return _meaning(self) == _meaning(other)

    def __hash__(self) -> int:
        return hash(_meaning(self))

    def __reduce__(
        self,
    ) -> tuple[
        Callable[[str, datetime | Instant | None, str], CalendarInterval], tuple[object, ...]
    ]:
        skipped = self.skipped_start
        start = self.start_us if skipped is None else _naive(skipped)
        return CalendarInterval.of, (self.every, start, self.timezone)

    def __repr__(self) -> str:
        rest = "".join(
            f", {name}={text!r}" for name, text in self.to_text().items() if name != "every"
        )
        return f"CalendarInterval({self.every!r}{rest})"

    def next(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than the aware datetime *after*.

        The result is in the schedule's own time zone.

        Raises:
            BadValueError: *after* has no time zone.

        """
        fire_time = self.next_after(instant_of(after), anchor=self._zone.reach(0))
        return None if fire_time is None else moment_of(fire_time).astimezone(self._zone.info)

    def first(self, seen: Instant) -> Instant | None:
        """Return the first fire time from *seen* on, or one period after *seen* without a start."""
        return self.next_after(seen if self.start_us is None else seen - 1, anchor=seen)

    def next_after(self, after: Instant, *, anchor: Instant) -> Instant | None:
        """Return the first fire time strictly later than *after*."""
        if self.start_us is not None and after < self.start_us:
            return self.start_us
        base = anchor if self.start_us is None else self.start_us
        grid = self._grid(anchor)
        return local_time.first_from(grid, self._zone, max(after, base) + 1, once=True)

    def due(self, first: Instant, until: Instant, *, anchor: Instant) -> DueTimes:
        """Return the newest fire time in [first, until] and the number of fire times."""
        grid, zone = self._grid(anchor), self._zone
        if first != self.start_us:
            return local_time.due(grid, zone, first, until, once=True)
        later = local_time.due(grid, zone, first + 1, until, once=True)
        return DueTimes(later.newest if later.count else first, later.count + 1)

    def to_text(self) -> dict[str, str]:
        """Return the setting `every`, and `start` and `timezone` unless they are the defaults."""
        settings = {"every": self.every}
        if self.start_us is not None:
            skipped = self.skipped_start
            settings["start"] = (
                rfc3339(self.start_us) if skipped is None else _naive(skipped).isoformat()
            )
        if self.timezone != UTC:
            settings["timezone"] = self.timezone
        return settings

    @property
    def _zone(self) -> Zone:
        return zone_named(self.timezone)

    def _grid(self, anchor: Instant) -> DayGrid | MonthGrid:
        """Return the wall times after the start, or after the anchor if there is no start."""
        wall = self.skipped_start
        if wall is None:
            wall = self._zone.wall_at(anchor if self.start_us is None else self.start_us)
        count, unit = converters.period(self.every)
        if unit in _DAYS_OF:
            return DayGrid(base=wall, step=count * _DAYS_OF[unit] * DAY)
        return MonthGrid.anchored_at(wall, count * _MONTHS_OF[unit])


def _fill(
    schedule: CalendarInterval, every: str, start: datetime | Instant | None, timezone: str
) -> None:
    start_us = None if start is None else converters.instant_in(timezone, start)
    skipped = None if start is None else converters.skipped_wall(timezone, start)
    values = (every, skipped, start_us, timezone)
    for slot, value in zip(CalendarInterval.__slots__, values, strict=True):
        object.__setattr__(schedule, slot, value)


def _naive(wall: Wall) -> datetime:
    return moment_of(wall).replace(tzinfo=None)


def _meaning(schedule: CalendarInterval) -> tuple[object, ...]:
    """Return what equal schedules share: seven days are a week, twelve months a year."""
    count, unit = converters.period(schedule.every)
    in_days = unit in _DAYS_OF
    steps = count * (_DAYS_OF[unit] if in_days else _MONTHS_OF[unit])
    return steps, in_days, schedule.start_us, schedule.skipped_start, schedule.timezone
