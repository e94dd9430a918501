"""Describes a cron expression in English: the words name the times at which it fires.

The words follow the terms as they are written, so that `8-18/2` is "every second hour from 8
through 18". A step over all values of a field is described by its distance only if the distance is
constant: `*/45` is minutes 0 and 45, because from minute 45 to the next minute 0 are 15 minutes. A
field that selects every value is left out, whatever its text.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from pulse.schedule.cron_fields import (
    DAY,
    HOUR,
    LAST,
    MINUTE,
    MONTH,
    SECOND,
    WEEKDAY,
    Special,
    Term,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.schedule.cron_fields import CronField, FieldKind

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth"),
)
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}
_MAX_TIMES: Final = 4
"""How many times of day are listed at most; more are described field by field."""

_MAX_DAYS: Final = 5
"""How many days of a month are listed at most if a step selects them."""


class _Every:
    """Every value of a field, at a constant distance of *step*."""

    def __init__(self, step: int) -> None:
        self.step = step


def explain(fields: Sequence[CronField], *, both_days: bool) -> str:
    """Return the meaning of six fields as one sentence without its full stop.

    Args:
        fields: the fields from second to day of week.
        both_days: whether a day must match both day fields; otherwise one is enough.

    """
    second, minute, hour, day, month, weekday = fields
    time = _time(second, minute, hour)
    date = _date(day, month, weekday, both=both_days)
    if not date and _times_of_day(second, minute, hour):
        date = "every day"
    text = f"{time} {date}".rstrip()
    return text[0].upper() + text[1:]


# Times ---------------------------------------------------------------------------------------


def _time(second: CronField, minute: CronField, hour: CronField) -> str:
    at_zero = second.values == {0}
    if hour.is_full:
        if minute.is_full:
            whole_minutes = "every minute" if at_zero else f"{_at(second)} of every minute"
            return "every second" if second.is_full else whole_minutes
        if at_zero:
            first = minute.values == {0}
            return "at the start of every hour" if first else f"{_at(minute)} of every hour"
    if times := _times_of_day(second, minute, hour):
        return f"at {join(times)}"
    if at_zero:
        return _span_of_day(minute, hour) or f"{_at(minute)} past {_words(hour)}"
    return f"{_at(second)} {_at(minute)} past {_words(hour)}"


def _times_of_day(second: CronField, minute: CronField, hour: CronField) -> list[str]:
    """Return the times of day, or an empty list if there are too many."""
    singles = [_singles(field) for field in (hour, minute, second)]
    times = list(product(*singles)) if all(singles) else []
    if len(times) > _MAX_TIMES:
        return []
    whole_minutes = second.values == {0}
    return [_clock(*time[: 2 if whole_minutes else 3]) for time in sorted(times)]


def _span_of_day(minute: CronField, hour: CronField) -> str:
    """Return the words for one range of minutes of an hour, or of whole hours."""
    match _items(hour), _items(minute):
        case [Term(low=low, high=high, step=1)], [_Every()]:
            return f"{_words(minute)} from {_clock(low, 0)} through {_clock(high, 59)}"
        case [Term(low=low, high=high)], [Term(step=1) as span] if low == high:
            return f"every minute from {_clock(low, span.low)} through {_clock(low, span.high)}"
    return ""


def _clock(*time: int) -> str:
    return ":".join(f"{part:02d}" for part in time)


def _singles(field: CronField) -> list[int]:
    """Return the values of a field if each is described by itself, else an empty list."""
    values = [_single(item) for item in _items(field)]
    return [] if None in values else [value for value in values if value is not None]


def _single(item: Term | Special | _Every) -> int | None:
    return item.low if isinstance(item, Term) and item.low == item.high else None


def _at(field: CronField) -> str:
    """Return the words for seconds or minutes; a single value is preceded by "at"."""
    single = any(_single(item) is not None for item in _items(field))
    return f"at {_words(field)}" if single else _words(field)


# Days ----------------------------------------------------------------------------------------


def _date(day: CronField, month: CronField, weekday: CronField, *, both: bool) -> str:
    """Return the words for the days, or an empty text for every day."""
    any_day = both or not (day.is_full or weekday.is_full)
    of_month = day if any_day and not day.is_full else None
    of_week = weekday if any_day and not weekday.is_full else None
    if of_month is not None and of_week is None:
        return _days_of_months(of_month, month)
    parts = []
    if of_month is not None:
        parts += [f"on {_words(of_month)}", "if it's" if both else "or"]
    if of_week is not None:
        parts.append(f"on {_words(of_week)}")
    if not month.is_full:
        parts.append(f"{'' if parts else 'every day '}in {_words(month)}")
    return " ".join(parts)


def _days_of_months(day: CronField, month: CronField) -> str:
    """Return the words for days of the month alone."""
    match day.terms, _singles(day), _singles(month):
        case [Special(text="l")], _, _:
            return f"on the last day of {_words(month)}"
        case [Special(text="lw")], _, _:
            return f"on the last weekday of {_words(month)}"
        case _, [number], [_]:
            return f"on {_words(month)} {number}"
        case _, [number], _:
            return f"on the {ordinal(number)} day of {_words(month)}"
    return f"on {_words(day)}" + ("" if month.is_full else f" in {_words(month)}")


# Fields --------------------------------------------------------------------------------------


def _items(field: CronField) -> list[Term | Special | _Every]:
    """Return the terms as they are described, each once."""
    if field.is_full:
        return [_Every(1)]
    found: dict[object, Term | Special | _Every] = {}
    for term in field.terms:
        for item in [term] if isinstance(term, Special) else _described(field.kind, term):
            key = item.step if isinstance(item, _Every) else item
            found.setdefault(key, item)
    return list(found.values())


def _described(kind: FieldKind, term: Term) -> Iterable[Term | _Every]:
    values = term.values
    whole = (term.low, term.high) == (kind.low, kind.high)
    size = kind.high - kind.low + 1
    if whole and kind not in {DAY, WEEKDAY} and size % term.step == 0 and len(values) > 1:
        return [_Every(term.step)]
    uneven = whole and (kind is not DAY or len(values) <= _MAX_DAYS)
    if uneven or len(values) <= 2:  # noqa: PLR2004 - two values need no range
        week = 7 if kind is WEEKDAY else size + kind.low
        return [Term(value % week, value % week) for value in values]
    return [term]


def _words(field: CronField) -> str:
    """Return the words for the values of a field."""
    kind, items = field.kind, _items(field)
    numbers = _singles(field)
    if len(numbers) > 1 and kind in {SECOND, MINUTE, HOUR}:
        return f"{kind.name}s {join([str(number) for number in numbers])}"
    if kind is DAY and len(items) > 1 and (days := _listed_days(items)):
        return f"{join(days)} day of month"
    return join([_item_words(kind, item) for item in items])


def _listed_days(items: list[Term | Special | _Every]) -> list[str]:
    """Return the ordinals of single days and of the last day; an empty list for other items."""
    days = []
    for item in items:
        if isinstance(item, Special) and item.text == "l":
            days.append("the last")
        elif (number := _single(item)) is not None:
            days.append(f"the {ordinal(number)}")
        else:
            return []
    return days


def _item_words(kind: FieldKind, item: Term | Special | _Every) -> str:
    if isinstance(item, Special):
        return _special_words(item)
    if isinstance(item, _Every):
        return f"every {kind.name}" if item.step == 1 else f"every {ordinal(item.step)} {kind.name}"
    if item.low == item.high:
        return _single_words(kind, item.low)
    span = f"{_label(kind, item.low)} through {_label(kind, item.high)}"
    if item.step == 1:
        return span if kind is WEEKDAY else f"every {kind.name} from {span}"
    return f"every {ordinal(item.step)} {kind.name} from {span}"


def _special_words(special: Special) -> str:
    match special:
        case Special(text="l"):
            return "the last day of the month"
        case Special(text="lw"):
            return "the last weekday of the month"
    which = "last" if special.nth == LAST else ordinal(special.nth)
    return f"the {which} {_WEEKDAYS[special.weekday]} of the month"


def _single_words(kind: FieldKind, value: int) -> str:
    if kind is DAY:
        return f"the {ordinal(value)} day of month"
    label = _label(kind, value)
    return label if kind in {MONTH, WEEKDAY} else f"{kind.name} {label}"


def _label(kind: FieldKind, value: int) -> str:
    if kind is MONTH:
        return _MONTHS[value - 1]
    return _WEEKDAYS[value % 7] if kind is WEEKDAY else str(value)


def ordinal(number: int) -> str:
    """Return `first` to `ninth`, then `10th`, `21st` and so on."""
    if number <= len(_ORDINALS):
        return _ORDINALS[number - 1]
    teen = number // 10 % 10 == 1
    return f"{number}{'th' if teen else _SUFFIXES.get(number % 10, 'th')}"


def join(texts: Sequence[str]) -> str:
    """Return texts as a list in English: `a`, `a and b`, `a, b, and c`."""
    match texts:
        case [one]:
            return one
        case [one, other]:
            return f"{one} and {other}"
    return f"{', '.join(texts[:-1])}, and {texts[-1]}"
