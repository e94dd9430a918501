"""The texts of pages: times in a zone, how long ago, lengths, and schedules in words."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import msgspec

from pulse.clock import DAY, SECOND, instant_of, moment_of, rfc3339
from pulse.core.error_text import summary_line
from pulse.core.schedule_text import parsed_schedule
from pulse.errors import BadValueError
from pulse.log.format import span_text
from pulse.schedule.bounded import BoundedSchedule
from pulse.schedule.calendar_interval import CalendarInterval
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval
from pulse.schedule.once import Once
from pulse.schedule.timezone import known_zone
from pulse.settings.converters import duration_or_zero

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.schedule.base import Schedule

UTC: Final = "UTC"
_UNITS: Final = (
    ("day", DAY),
    ("hour", 3_600 * SECOND),
    ("minute", 60 * SECOND),
    ("second", SECOND),
    ("millisecond", SECOND // 1_000),
)
_SHORT: Span = 50
_LONGEST_LINE, _LONGEST_MESSAGE = 120, 16_384
_VISIBLE: Final = (
    {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
    | {127: 0x2421}
    | {
        code: f"[U+{code:04X}]"
        for code in (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    }
)
_AGO_UNITS: Final = (("d", DAY), ("h", 3_600 * SECOND), ("min", 60 * SECOND), ("s", SECOND))


def shown_instant(at: Instant, zone: str) -> str:
    """Return an instant as `2026-11-28 03:00:00 CET`; the zone is always named."""
    try:
        moment = moment_of(at).astimezone(ZoneInfo(zone))
    except OverflowError:  # within the first or last hours that datetime can represent
        return rfc3339(at)
    name = moment.tzname() or ""
    if name[:1] in {"+", "-"} or not name:  # zones without letters, such as that of Brasília
        name = f"UTC{moment:%z}"
    return f"{moment:%Y-%m-%d %H:%M:%S} {name}"


def relative(at: Instant, now: Instant) -> str:
    """Return how far an instant is from *now*: `5 min ago`, `in 3 h`, `now`."""
    distance = (abs(now - at) + SECOND // 2) // SECOND * SECOND
    for unit, length in _AGO_UNITS:
        if distance >= length:
            text = f"{distance // length} {unit}"
            return f"in {text}" if at > now else f"{text} ago"
    return "now"


def shown_text(text: str, zone: str) -> str:
    """Return an instant of a view, which is a text, in a zone; as it is after the year 9999."""
    try:
        return shown_instant(instant_of_text(text), zone)
    except ValueError:
        return text


def relative_text(text: str, now: Instant) -> str:
    """Return how far an instant of a view is from *now*; nothing after the year 9999."""
    try:
        return relative(instant_of_text(text), now)
    except ValueError:
        return ""


def instant_of_text(text: str) -> Instant:
    """Return the instant of a view's text."""
    return instant_of(datetime.fromisoformat(text))


def first_line(message: str) -> str:
    """Return the line of a message that says most, short enough for a table."""
    line = visible(summary_line(message[:_LONGEST_MESSAGE]))
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"


def visible(text: str) -> str:
    """Return a text with its control characters shown: `␛` for the escape of a terminal.

    Line breaks stay. Characters that change the direction of what follows are shown by number.
    """
    return text.translate(_VISIBLE)


def length_text(span: Span | None) -> str:
    """Return a length as a table shows it: `12 ms`, `1.53 s`, `2m5s`; a dash for None."""
    if span is None:
        return "-"
    if 0 < span < _SHORT:
        return "< 0.1 ms"
    return span_text(span) if span > 0 else "0 ms"


def shown_briefly(at: Instant, zone: str, now: Instant) -> str:
    """Return an instant without its date, if that is the date of *now*: `03:00:00 CET`."""
    text, today = shown_instant(at, zone), shown_instant(now, zone)
    date = len("2026-11-28 ")
    return text[date:] if text[:date] == today[:date] else text


def every_words(span: Span) -> str:
    """Return a length as it follows `every`: `5 minutes`, `1 hour 30 minutes`, `second`."""
    words = span_words(span)
    return words.removeprefix("1 ") if words.count(" ") == 1 else words


def span_words(span: Span) -> str:
    """Return a length in words: `5 minutes`, `1 hour 30 minutes`, `1 second`."""
    parts, rest = [], span
    for unit, length in _UNITS:
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(parts) or f"{span} microseconds"


def schedule_of(settings: Mapping[str, str]) -> Schedule | None:
    """Return the schedule of a row's settings; None if this release cannot read it."""
    return _parsed(tuple(sorted(settings.items())))


@lru_cache(2_048)
def _parsed(items: tuple[tuple[str, str], ...]) -> Schedule | None:
    return parsed_schedule(msgspec.json.encode(items).decode())


def zone_of(settings: Mapping[str, str]) -> str:
    """Return the time zone of a schedule; UTC for one that this host does not know."""
    return known_zone(settings.get("timezone", UTC))


def span_of(settings: Mapping[str, str], name: str) -> Span:
    """Return a setting of a task; 0 if it has none, or one of a later release."""
    try:
        return duration_or_zero(settings.get(name, "0"))
    except BadValueError:
        return 0


def raw_schedule(settings: Mapping[str, str]) -> str:
    """Return a schedule as it is configured, without its zone: `cron = 0 7 * * *`."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items() if name != "timezone")


def schedule_words(settings: Mapping[str, str]) -> str:
    """Return a schedule in words: `At 07:00 every day`, `Every 5 minutes`."""
    return _words(tuple(sorted(settings.items())), zone_of(settings))


@lru_cache(2_048)
def _words(items: tuple[tuple[str, str], ...], zone: str) -> str:
    schedule = _parsed(items)
    bounds = ""
    if isinstance(schedule, BoundedSchedule):
        if schedule.start is not None:
            bounds += f", from {shown_instant(schedule.start, zone)}"
        if schedule.end is not None:
            bounds += f", until {shown_instant(schedule.end, zone)}"
        schedule = schedule.schedule
    match schedule:
        case Cron():
            return schedule.explain() + bounds
        case Interval():
            start = schedule.start_us
            since = "" if start is None else f", from {shown_instant(start, zone)}"
            return f"Every {every_words(schedule.every_us)}{since}{bounds}"
        case CalendarInterval():
            return f"Every {schedule.every.removeprefix('1 ')}{bounds}"
        case Once():
            return f"Once, at {shown_instant(schedule.at_us, zone)}"
    return "A schedule of another release of pulse"
