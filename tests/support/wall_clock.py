"""The slow and plain way to tell when a cron expression fires: look at the clock each minute.

It shares nothing with `pulse.schedule`: fields are drawn as text together with what they mean, and
a zone's clock is read by `zoneinfo`, one minute (or second) after another.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterable

MINUTE, HOUR, DAY = 60, 3_600, 86_400
SECOND_US = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Field(NamedTuple):
    """The text of a field, and the numbers that it means."""

    text: str
    numbers: frozenset[int]


class Fields(NamedTuple):
    """The six fields of an expression."""

    second: Field
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def text(self) -> str:
        """The expression, of five fields where the second is 0."""
        return " ".join(field.text for field in self[self.second.text == "0" :])

    @property
    def wildcard(self) -> bool:
        """Whether the expression fires whenever the clock shows a time that matches."""
        return self.minute.text.startswith("*") or self.hour.text.startswith("*")

    def match(self, wall: datetime) -> bool:
        """Return whether a time on the wall matches all fields."""
        return (
            wall.second in self.second.numbers
            and wall.minute in self.minute.numbers
            and wall.hour in self.hour.numbers
            and wall.month in self.month.numbers
            and self.match_day(wall)
        )

    def match_day(self, wall: datetime) -> bool:
        """Return whether the day matches: both fields where one begins with a star, else either."""
        of_month = wall.day in self.day.numbers
        of_week = wall.isoweekday() % 7 in self.weekday.numbers
        if self.day.text.startswith("*") or self.weekday.text.startswith("*"):
            return of_month and of_week
        return of_month or of_week


def field(low: int, high: int, *, last: int | None = None) -> st.SearchStrategy[Field]:
    """Draw a field of numbers from *low* to *high*; numbers above *last* start at *low* again."""
    top = high if last is None else last
    number = st.integers(low, high)

    def meaning(numbers: object) -> frozenset[int]:
        return frozenset(low + (n - low) % (top - low + 1) for n in numbers)  # type: ignore[attr-defined]

    one = number.map(lambda n: Field(str(n), meaning([n])))
    stars = st.integers(1, high).map(
        lambda step: Field(f"*/{step}", meaning(range(low, high + 1, step)))
    )
    spans = (
        st.tuples(number, number, st.integers(1, 9))
        .map(sorted_span)
        .map(lambda s: Field(f"{s[0]}-{s[1]}/{s[2]}", meaning(range(s[0], s[1] + 1, s[2]))))
    )
    several = st.lists(one | spans, min_size=2, max_size=4).map(joined)
    every = st.just(Field("*", meaning(range(low, high + 1))))
    return st.one_of(every, one, stars, spans, several)


def sorted_span(span: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return a span whose ends are in order; its step is the last of the three."""
    return min(span[:2]), max(span[:2]), span[2]


def joined(fields: list[Field]) -> Field:
    """Return a list of fields as one field."""
    numbers = frozenset[int]().union(*(one.numbers for one in fields))
    return Field(",".join(one.text for one in fields), numbers)


EVERY_DAY = Field("*", frozenset(range(1, 32)))
EVERY_MONTH = Field("*", frozenset(range(1, 13)))
EVERY_WEEKDAY = Field("*", frozenset(range(7)))
AT_ZERO = Field("0", frozenset({0}))

every_minute_fields = st.builds(
    Fields,
    st.just(AT_ZERO),
    field(0, 59),
    field(0, 23),
    st.just(EVERY_DAY) | field(1, 31),
    st.just(EVERY_MONTH),
    st.just(EVERY_WEEKDAY) | field(0, 7, last=6),
)
every_second_fields = st.builds(
    Fields,
    field(0, 59),
    field(0, 59),
    field(0, 23),
    st.just(EVERY_DAY),
    st.just(EVERY_MONTH),
    st.just(EVERY_WEEKDAY),
)


def wall_at(second: int, zone: ZoneInfo) -> datetime:
    """Return what the clock of a zone shows, as a naive datetime."""
    return (EPOCH + timedelta(seconds=second)).astimezone(zone).replace(tzinfo=None, fold=0)


class Shown(NamedTuple):
    """What a clock shows at an instant, and what it shows for the first time or has skipped."""

    second: int
    now: list[datetime]
    new: list[datetime]


def readings(zone: ZoneInfo, start: int, end: int, *, step: int = MINUTE) -> list[Shown]:
    """Return what the clock shows at the seconds from *start* to before *end*.

    It is read for a day before that as well, to know which times it has shown already.
    """
    tick = timedelta(seconds=step)
    latest = max(wall_at(second, zone) for second in range(start - 26 * HOUR, start, HOUR // 4))
    latest = max(latest, wall_at(start - step, zone))
    found = []
    for second in range(start, end, step):
        wall = wall_at(second, zone)
        new = []
        while latest < wall:
            latest += tick
            new.append(latest)
        found.append(Shown(second, [wall], new))
    return found


def fired(fields: Fields, shown: Iterable[Shown]) -> list[int]:
    """Return the instants, in microseconds, at which an expression fires, one reading a tick."""
    return [
        reading.second * SECOND_US
        for reading in shown
        if any(fields.match(wall) for wall in (reading.now if fields.wildcard else reading.new))
    ]


@cache
def changes(name: str, year: int) -> tuple[int, ...]:
    """Return the seconds at which a zone's offset changes in a year."""
    zone = ZoneInfo(name)
    first = calendar.timegm((year, 1, 1, 0, 0, 0))
    found = []
    before = (EPOCH + timedelta(seconds=first)).astimezone(zone).utcoffset()
    for second in range(first, first + 366 * DAY, DAY // 2):
        offset = (EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
        if offset != before:
            found.append(_to_the_minute(zone, second))
            before = offset
    return tuple(found)


def _to_the_minute(zone: ZoneInfo, second: int) -> int:
    offset = (EPOCH + timedelta(seconds=second)).astimezone(zone).utcoffset()
    while (EPOCH + timedelta(seconds=second - 60)).astimezone(zone).utcoffset() == offset:
        second -= 60
    return second
