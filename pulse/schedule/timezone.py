"""Time zones as periods of constant offset, and the wall times of each period.

A *wall* time is the time that the clocks of a zone show, in microseconds since 1970-01-01T00:00:00
on these clocks. An `OffsetPeriod` is a span of time in which wall time and instant differ by a
constant *offset*. Its `seen` is the end of all wall times that the clocks showed before the period:
less than the first wall time of the period after a gap (clocks set forward), more if wall times are
repeated (clocks set back).

`zoneinfo` returns offsets of single instants only. `Zone` queries `zoneinfo` for every second day,
in blocks of half a year, and caches the result; bisection locates a change between two queries.
The shortest time between two changes of offset in the IANA database is four days (Africa/Freetown,
1939).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, final

import msgspec

from pulse.clock import DAY, SECOND, Instant, Span, instant_of, span_of
from pulse.errors import BadValueError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

Wall = int
"""Microseconds from 1970-01-01T00:00:00 on the clocks of a zone."""

FIRST: Instant = instant_of(datetime(1, 1, 3, tzinfo=UTC))
LAST: Instant = instant_of(datetime.max.replace(tzinfo=UTC))
NEVER: Wall = 1 << 62
"""A value later than every wall time and every instant."""

_ABBREVIATION = re.compile(r"[A-Z]{1,5}")
_OFFSET = re.compile(r"(?:UTC|GMT|Z)?\s*[+-]\s*[0-9:]+", re.IGNORECASE | re.ASCII)
_ZONES_WITH_ABBREVIATIONS = (
    *("Europe/London", "Europe/Lisbon", "Europe/Berlin", "Europe/Athens", "Europe/Moscow"),
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
    *("Asia/Kolkata", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland"),
)
_BLOCK = 44  # 2**44 microseconds are 204 days
_MAX_BLOCKS = 256
_STEP = 2 * 86_400
_MAX_QUERY = LAST // SECOND - 86_400  # the local time must be representable, too


class OffsetPeriod(msgspec.Struct, frozen=True, gc=False):
    """The instants from *start* to before *end*, at which wall time is instant plus *offset*."""

    start: Instant
    end: Instant
    offset: Span
    seen: Wall


@final
class Zone(dict[int, tuple[OffsetPeriod, ...]]):
    """A time zone: offset periods by block of time, computed on first access."""

    __slots__ = ("fixed_offset", "info")

    info: ZoneInfo
    fixed_offset: Span | None

    def __init__(self, info: ZoneInfo) -> None:
        super().__init__()
        self.info = info
        always = info.utcoffset(None)
        self.fixed_offset = None if always is None else span_of(always)

    def __missing__(self, block: int) -> tuple[OffsetPeriod, ...]:
        if len(self) >= _MAX_BLOCKS:
            self.clear()
        stretches = self[block] = tuple(self._stretches(block << _BLOCK, (block + 1) << _BLOCK))
        return stretches

    def at(self, instant: Instant) -> OffsetPeriod:
        """Return the period that contains *instant*."""
        for stretch in self[instant >> _BLOCK]:
            if instant < stretch.end:
                break
        return stretch

    def wall_at(self, instant: Instant) -> Wall:
        """Return the wall time at *instant*."""
        return instant + self.at(instant).offset

    def reach(self, wall: Wall) -> Instant:
        """Return the first instant at which the clocks show *wall* or a later wall time.

        For a repeated wall time, the instant is the first occurrence; for a skipped wall time, the
        end of the gap.
        """
        stretch = self.at(wall - DAY)
        while wall >= stretch.end + stretch.offset:
            stretch = self.at(stretch.end)
        return max(stretch.start, wall - stretch.offset)

    def _stretches(self, start: Instant, end: Instant) -> Iterator[OffsetPeriod]:
        """Yield the periods from *start* to *end*; `seen` is computed from the two days before."""
        changes = [*self._changes(start - 2 * DAY, end), (end, 0)]
        seen = -NEVER
        for (since, offset), (until, _) in pairwise(changes):
            if since < start:
                seen = max(seen, min(start, until) + offset)
            if until > start:
                yield OffsetPeriod(max(since, start), until, offset, seen)
            seen = max(seen, until + offset)

    def _changes(self, start: Instant, end: Instant) -> Iterator[tuple[Instant, Span]]:
        """Yield *start* and each change of offset before *end*, with the offset that follows."""
        if self.fixed_offset is not None:
            yield start, self.fixed_offset
            return
        low, last = start // SECOND, (end - 1) // SECOND
        offset = self._offset_at(low)
        yield start, offset
        while low < last:
            high = min(low + _STEP, last)
            if (after := self._offset_at(high)) != offset:
                yield self._change(low, high) * SECOND, after
                offset = after
            low = high

    def _change(self, low: int, high: int) -> int:
        """Return the second at which the offset changes, later than *low* and up to *high*."""
        before = self._offset_at(low)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset_at(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset_at(self, second: int) -> Span:
        query = min(max(second, FIRST // SECOND), _MAX_QUERY)
        offset = datetime.fromtimestamp(query, self.info).utcoffset()
        return 0 if offset is None else span_of(offset)


@cache
def zone_named(name: str) -> Zone:
    """Return the zone of an IANA name such as `Europe/Berlin`; all callers share the object.

    Raises:
        BadValueError: no zone has this name.

    """
    from zoneinfo import ZoneInfo

    try:
        return Zone(ZoneInfo(name))
    except (ValueError, OSError, LookupError):  # missing, a folder, no zone file, an invalid path
        raise BadValueError(
            "a time zone such as Europe/Berlin or UTC", name, hint=_nearest_zone(name)
        ) from None


@cache
def known_zone(name: str) -> str:
    """Return the name of a zone; UTC for one that this host does not have, as of a later release.

    For output: what is stored is shown although its times cannot be in its own zone.
    """
    try:
        zone_named(name)
    except BadValueError:
        return "UTC"
    return name


def _nearest_zone(name: str) -> str:
    """Return a hint at the probable zone, by its city, its abbreviation or a similar name."""
    import difflib
    from zoneinfo import available_timezones

    key = name.strip().replace(" ", "_").lower()
    zones = sorted(available_timezones())
    known = {zone.lower(): zone for zone in zones}
    cities = {zone.lower().rpartition("/")[2]: zone for zone in reversed(zones)} | known
    if key in cities and not _OFFSET.fullmatch(name):
        suggestion = cities[key]
    elif _ABBREVIATION.fullmatch(name) or _OFFSET.fullmatch(name):
        suggestion = _zone_with_abbreviation(name)
        if not suggestion:
            return "; a time zone has the name of a place, not an abbreviation or an offset"
    else:
        matches = difflib.get_close_matches(key, known, n=1)
        suggestion = known[matches[0]] if matches else ""
    return f"; did you mean {suggestion!r}?" if suggestion else ""


def _zone_with_abbreviation(abbreviation: str) -> str:
    """Return a zone that uses an abbreviation at some time of the year, or an empty text.

    The lookup uses a past year, whose rules no update of the database will change.
    """
    from zoneinfo import ZoneInfo

    for name in _ZONES_WITH_ABBREVIATIONS:
        zone = ZoneInfo(name)
        if abbreviation in {datetime(2025, month, 1, tzinfo=zone).tzname() for month in (1, 7)}:
            return name
    return ""
