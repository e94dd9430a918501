"""Time zones as stretches of constant offset, and the wall times that each of them brings.

A *wall* is what the clocks of a zone show, as microseconds since their 1970-01-01T00:00:00. A
`Stretch` is a piece of time in which wall and instant differ by one *offset*. Its `seen` is how
far the wall had ever come before it: less than where it begins if the clocks were set forward
there (a gap), more if they were set back (times that come a second time).

`zoneinfo` answers for single instants. A zone is asked every other day, for half a year at a
time, and remembers; a change in between is found by halving. The shortest time between two
changes of offset in the IANA database is four days (Africa/Freetown, 1939).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, final

import msgspec

from pulse.clock import SECOND, Instant, Span, instant_of, span_of
from pulse.errors import BadValueError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

Wall = int
"""Microseconds from 1970-01-01T00:00:00 on the clocks of a zone."""

DAY: Span = 86_400 * SECOND
FIRST: Instant = instant_of(datetime(1, 1, 3, tzinfo=UTC))
LAST: Instant = instant_of(datetime.max.replace(tzinfo=UTC))
NEVER: Wall = 1 << 62
"""Later than every wall time and every instant."""

_ABBREVIATION = re.compile(r"[A-Z]{1,5}")
_OFFSET = re.compile(r"(?:UTC|GMT|Z)?\s*[+-]\s*[0-9:]+", re.IGNORECASE | re.ASCII)
_KNOWN_BY_ABBREVIATIONS = (
    *("Europe/London", "Europe/Lisbon", "Europe/Berlin", "Europe/Athens", "Europe/Moscow"),
    *("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
    *("Asia/Kolkata", "Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "Pacific/Auckland"),
)
_BLOCK = 44  # 2**44 microseconds are 204 days
_MOST_BLOCKS = 256
_STEP = 2 * 86_400
_LATEST_ASKED = LAST // SECOND - 86_400  # the local datetime must be one too


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """The instants from *start* to before *end*: a wall there is the instant plus *offset*."""

    start: Instant
    end: Instant
    offset: Span
    seen: Wall


@final
class Zone(dict[int, tuple[Stretch, ...]]):
    """A time zone: blocks of time by number, each with its stretches, made when asked for."""

    __slots__ = ("fixed_offset", "info")

    info: ZoneInfo
    fixed_offset: Span | None

    def __init__(self, info: ZoneInfo) -> None:
        super().__init__()
        self.info = info
        always = info.utcoffset(None)
        self.fixed_offset = None if always is None else span_of(always)

    def __missing__(self, block: int) -> tuple[Stretch, ...]:
        if len(self) >= _MOST_BLOCKS:
            self.clear()
        made = self[block] = tuple(self._stretches(block << _BLOCK, (block + 1) << _BLOCK))
        return made

    def at(self, instant: Instant) -> Stretch:
        """Return the stretch that holds *instant*."""
        for stretch in self[instant >> _BLOCK]:
            if instant < stretch.end:
                break
        return stretch

    def wall_at(self, instant: Instant) -> Wall:
        """Return what the clocks show at *instant*."""
        return instant + self.at(instant).offset

    def reach(self, wall: Wall) -> Instant:
        """Return the first instant at which the clocks show *wall* or later.

        That is the first of two where they show it twice, and the end of the gap where never.
        """
        stretch = self.at(wall - DAY)
        while wall >= stretch.end + stretch.offset:
            stretch = self.at(stretch.end)
        return max(stretch.start, wall - stretch.offset)

    def _stretches(self, start: Instant, end: Instant) -> Iterator[Stretch]:
        """Give the stretches from *start* to *end*; the two days before tell what was seen."""
        changes = [*self._changes(start - 2 * DAY, end), (end, 0)]
        seen = -NEVER
        for (since, offset), (until, _) in pairwise(changes):
            if since < start:
                seen = max(seen, min(start, until) + offset)
            if until > start:
                yield Stretch(max(since, start), until, offset, seen)
            seen = max(seen, until + offset)

    def _changes(self, start: Instant, end: Instant) -> Iterator[tuple[Instant, Span]]:
        """Give *start* and each change of the offset before *end*, with the offset from there."""
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
        asked = min(max(second, FIRST // SECOND), _LATEST_ASKED)
        offset = datetime.fromtimestamp(asked, self.info).utcoffset()
        return 0 if offset is None else span_of(offset)


@cache
def zone_named(name: str) -> Zone:
    """Return the zone of an IANA name such as `Europe/Berlin`; one object for all that ask.

    Raises:
        BadValueError: there is no such zone.

    """
    from zoneinfo import ZoneInfo

    try:
        return Zone(ZoneInfo(name))
    except (ValueError, OSError, LookupError):  # no file, a folder, no zone file, a path
        raise BadValueError(
            "a time zone such as Europe/Berlin or UTC", name, hint=_nearest_zone(name)
        ) from None


def _nearest_zone(name: str) -> str:
    """Return a hint at the zone that was probably meant: by its place, by what its clocks say."""
    import difflib
    from zoneinfo import available_timezones

    word = name.strip().replace(" ", "_").lower()
    zones = sorted(available_timezones())
    known = {zone.lower(): zone for zone in zones}
    places = {zone.lower().rpartition("/")[2]: zone for zone in reversed(zones)} | known
    if word in places and not _OFFSET.fullmatch(name):
        meant = places[word]
    elif _ABBREVIATION.fullmatch(name) or _OFFSET.fullmatch(name):
        meant = _known_by(name)
        if not meant:
            return "; a zone is named by a place, not by an abbreviation or an offset"
    else:
        near = difflib.get_close_matches(word, known, n=1)
        meant = known[near[0]] if near else ""
    return f"; did you mean {meant!r}?" if meant else ""


def _known_by(abbreviation: str) -> str:
    """Return a zone whose clocks go by an abbreviation at some time of the year, or nothing.

    It is looked up in a year that is over: no update of the database will change the answer.
    """
    from zoneinfo import ZoneInfo

    for name in _KNOWN_BY_ABBREVIATIONS:
        zone = ZoneInfo(name)
        if abbreviation in {datetime(2025, month, 1, tzinfo=zone).tzname() for month in (1, 7)}:
            return name
    return ""
