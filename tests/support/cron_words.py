"""Reads the English description of a cron expression; shares nothing with `pulse.schedule`."""

from __future__ import annotations

import re
from calendar import monthrange
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import date

ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"]
WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
UNITS = {"second": (0, 59), "minute": (0, 59), "hour": (0, 23), "month": (1, 12)}
UNITS |= {"day of month": (1, 31), "day of week": (0, 6)}
NTH = rf"(?:{'|'.join(ORDINALS)}|\d+(?:st|nd|rd|th)|last)"
UNIT = f"(?:{'|'.join(UNITS)})"
ITEM = re.compile(
    rf"every (?:(?P<step>{NTH}) )?(?P<unit>{UNIT})(?: from (?P<low>\w+) through (?P<high>\w+))?"
    r"|(?P<several>second|minute|hour)s (?P<numbers>\d+(?:, \d+)*,? and \d+)"
    r"|(?P<single>second|minute|hour) (?P<number>\d+)"
    rf"|(?P<days>(?:the {NTH}(?:,? and |, ))*the {NTH}) day of month"
    r"|the last (?P<last>day|weekday) of the month"
    rf"|the (?P<nth>{NTH}) (?P<nth_weekday>{'|'.join(WEEKDAYS)}) of the month"
    rf"|(?P<first>{'|'.join(WEEKDAYS)})(?: through (?P<end>{'|'.join(WEEKDAYS)}))?"
    rf"|(?P<month>{'|'.join(MONTHS)})"
)
LAST = 99


class MisreadError(ValueError):
    """A description that is not understood to its end."""


class Reading(NamedTuple):
    """The meaning of a description: the times of day as seconds, and a test of days."""

    times: frozenset[int]
    days: frozenset[date]


def read(text: str, days: list[date]) -> Reading:
    """Return the meaning of a description, for some days."""
    text = text[0].lower() + text[1:]
    match = re.fullmatch(r"(.*?)(?: (every day(?: in .*)?|on .*|in .*))?", text)
    assert match is not None
    matching = [day for day in days if is_described(match[2] or "every day", day)]
    return Reading(read_times(match[1]), frozenset(matching))


# Times -----------------------------------------------------------------------------------------


def read_times(text: str) -> frozenset[int]:
    """Return the seconds of a day that a description of times names."""
    if text == "at the start of every hour":
        return frozenset(range(0, 86_400, 3_600))
    if re.fullmatch(r"at (\d\d(:\d\d)+(,? and |, )?)+", text):
        return frozenset(map(clock, re.findall(r"[\d:]+", text)))
    if match := re.fullmatch(r"(every .*) from (\d\d:\d\d) through (\d\d:\d\d)", text):
        low, high = clock(match[2]), clock(match[3])
        minutes = items(match[1])["minute"]
        return frozenset(t for t in range(low, high + 1, 60) if t // 60 % 60 in minutes)
    named = items(text)
    seconds = named.get("second", {0})
    every_minute = set(range(60)) if "second" in named else {0}
    minutes = named.get("minute", every_minute)
    hours = named.get("hour", set(range(24)))
    times = product(hours, minutes, seconds)
    return frozenset(hour * 3_600 + minute * 60 + second for hour, minute, second in times)


def clock(text: str) -> int:
    """Return the seconds of a time of day."""
    hour, minute, second = [*map(int, text.split(":")), 0][:3]
    return hour * 3_600 + minute * 60 + second


# Days ------------------------------------------------------------------------------------------


def is_described(text: str, day: date) -> bool:
    """Return whether a description of days names *day*."""
    if text == "every day":
        return True
    if match := re.fullmatch(r"every day in (.*)", text):
        return day.month in items(match[1])["month"]
    if match := re.fullmatch(rf"on ({'|'.join(MONTHS)}) (\d+)", text):
        return (day.month, day.day) == (number(match[1]), int(match[2]))
    if match := re.fullmatch(
        rf"on the ({NTH}|last) (day|weekday) of (?!the month|month)(.*)", text
    ):
        whole = {"weekday": "the last weekday of the month"}
        date_words = whole.get(match[2], f"the {match[1]} day of month")
        return day.month in items(match[3])["month"] and on_date(date_words, day)
    match = re.fullmatch(r"(.*?)(?: in (.*))?", text)
    assert match is not None
    if match[2] and day.month not in items(match[2])["month"]:
        return False
    return on_days(match[1], day)


def on_days(text: str, day: date) -> bool:
    """Return whether *day* is one of "on ... or on ..." or "on ... if it's on ..."."""
    if " if it's " in text:
        return all(on_date(part, day) for part in text.split(" if it's "))
    return any(on_date(part, day) for part in text.split(" or "))


def on_date(text: str, day: date) -> bool:
    """Return whether *day* is one of the days of the month or of the week of a list."""
    named = items(text.removeprefix("on "))
    length = monthrange(day.year, day.month)[1]
    weekday = day.isoweekday() % 7
    nth_from_end = {(weekday, LAST)} if day.day > length - 7 else set()
    return (
        day.day in named.get("day of month", ())
        or (day.day == length and LAST in named.get("day of month", ()))
        or (day.day == last_weekday(day) and bool(named.get("weekday")))
        or weekday in named.get("day of week", ())
        or not named.get("nth", set()).isdisjoint({(weekday, (day.day + 6) // 7)} | nth_from_end)
    )


def last_weekday(day: date) -> int:
    """Return the last day from Monday to Friday of a month."""
    length = monthrange(day.year, day.month)[1]
    return max(
        number for number in range(1, length + 1) if day.replace(day=number).isoweekday() <= 5
    )


# Lists -----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def items(text: str) -> dict[str, set]:
    """Return the values that a list names, by unit."""
    found: dict[str, set] = {}
    end = 0
    for match in ITEM.finditer(text):
        if text[end : match.start()].strip() not in {"", ",", "and", ", and", "past", "of", "at"}:
            raise MisreadError(text)
        unit, values = item(match)
        found.setdefault(unit, set()).update(values)
        end = match.end()
    if text[end:].strip():
        raise MisreadError(text)
    return found


def item(match: re.Match[str]) -> tuple[str, set]:
    """Return the unit and the values of an item."""
    if unit := match["unit"]:
        low, high = UNITS[unit]
        low, high = number(match["low"] or str(low)), number(match["high"] or str(high))
        high += 7 * (unit == "day of week" and high < low)
        values = set(range(low, high + 1, number(match["step"] or "1")))
        return unit, {value % 7 for value in values} if unit == "day of week" else values
    if unit := match["several"]:
        return unit, set(map(int, re.findall(r"\d+", match["numbers"])))
    if unit := match["single"]:
        return unit, {int(match["number"])}
    if match["days"]:
        return "day of month", {number(word) for word in re.findall(NTH, match["days"])}
    if match["last"]:
        return ("day of month", {LAST}) if match["last"] == "day" else ("weekday", {LAST})
    if match["nth"]:
        return "nth", {(number(match["nth_weekday"]), number(match["nth"]))}
    if match["month"]:
        return "month", {number(match["month"])}
    low, high = number(match["first"]), number(match["end"] or match["first"])
    return "day of week", {value % 7 for value in range(low, high + 7 * (high < low) + 1)}


def number(word: str) -> int:
    """Return the number of an ordinal, a name or digits."""
    if word == "last":
        return LAST
    for words, first in ((ORDINALS, 1), (WEEKDAYS, 0), (MONTHS, 1)):
        if word in words:
            return words.index(word) + first
    return int(re.sub(r"\D", "", word))
