"""The dialect of cron expressions: cronsim reads them, and what it refuses is told in full."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from pulse.clock import SECOND
from pulse.errors import BadValueError, did_you_mean, shown
from pulse.schedule.cron_days import DayFields, Days
from pulse.schedule.wall_times import DayTimes, Times

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cronsim import CronSim

NICKNAMES: Mapping[str, str] = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EXPECTED = "a cron expression such as 0 7 * * mon-fri"
_THAT_MATCHES = f"{_EXPECTED} that matches some day"
_SHAPE = (
    "five fields (minute, hour, day of month, month, day of week), or six with seconds first,"
    " such as 0 7 * * mon-fri"
)
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_LONGEST = 1_000
_RANGE_OF_ONE = re.compile(r"\b(\w+)-\1/0*[1-9]\d*\b", re.ASCII)
_LAST_NAMED = re.compile(rf"({'|'.join(_DAY_NAMES)})[a-z]*l")
"""The last of a weekday in a month by its name, which other programs take."""


class _Field(NamedTuple):
    """What an error says of a field: its name, what it may hold, the names in it."""

    name: str
    phrase: str
    names: Sequence[str] = ()


_FIELDS: Final = (
    _Field("second", "a second from 0 to 59"),
    _Field("minute", "a minute from 0 to 59"),
    _Field("hour", "an hour from 0 to 23"),
    _Field("day of month", "a day of month from 1 to 31, L or LW"),
    _Field("month", "a month from 1 to 12 or jan to dec", _MONTH_NAMES),
    _Field("day of week", "a day of week from 0 to 7, sun to sat, 5#2 or 5L", _DAY_NAMES),
)


class Expression(msgspec.Struct, frozen=True):
    """What a cron expression means, apart from the zone.

    Attributes:
        wildcard: whether its minute or its hour begins with `*`; what is not, is fixed.

    """

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: DayFields
    wildcard: bool

    def walls(self) -> DayTimes:
        """Return the wall times that match."""
        moments = [(60 * m + s) * SECOND for m in self.minutes for s in self.seconds]
        return DayTimes(Days(self.days), Times(self.hours, moments))


def tidy(text: object) -> str:
    """Return a cron expression with single blanks, or raise if it cannot be one.

    Raises:
        BadValueError: it is no text, a form of other programs, or has another number of fields.

    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise BadValueError(_EXPECTED, text)
    words = text.split()
    _refuse_forms_of_others(text, words)
    if words[0].startswith("@"):
        return _nickname(text, words)
    if len(words) not in {5, 6}:
        raise BadValueError(_SHAPE, text)
    return " ".join(words)


def _refuse_forms_of_others(text: str, words: list[str]) -> None:
    word = words[0].lower() if words else ""
    if not word:
        raise BadValueError(_SHAPE, text)
    if word.startswith(("cron_tz=", "tz=")):
        raise BadValueError(f"{_EXPECTED} alone; the zone is set by `timezone`", text)
    if word == "@reboot":
        raise BadValueError(f"{_EXPECTED}; say `run_at_start = true` for a run at start", text)
    if word == "@every":
        raise BadValueError(f"{_EXPECTED}; say `interval` for a run each so often", text)
    if "?" in words:
        raise BadValueError(f"{_EXPECTED}; say `*` for `?`", text)


def _nickname(text: str, words: list[str]) -> str:
    word = words[0].lower()
    if len(words) == 1 and word in NICKNAMES:
        return word
    expected = f"{_SHAPE}, or one of {', '.join(NICKNAMES)}"
    raise BadValueError(expected, text, hint=did_you_mean(word, NICKNAMES))


@lru_cache(maxsize=1_024)
def parse(expression: str) -> tuple[Expression, DayTimes]:
    """Return what a tidy *expression* means, and the wall times that match it.

    Raises:
        BadValueError: a field is wrong, which is named, or the expression never matches.

    """
    words = fields_of(expression)
    meaning = _meaning(expression, words)
    if not meaning.days.can_match():
        raise BadValueError(_THAT_MATCHES, expression)
    return meaning, meaning.walls()


def fields_of(expression: str) -> list[str]:
    """Return the six fields of a tidy expression, in upper case."""
    words = NICKNAMES.get(expression, expression).upper().split()
    return words if len(words) == len(_FIELDS) else ["0", *words]


def _meaning(expression: str, words: list[str]) -> Expression:
    from cronsim import CronSim, CronSimError

    try:
        read = _read(words)
    except CronSimError as error:
        raise _refused(expression, words, str(error)) from None
    return Expression(
        seconds=frozenset(read.seconds),
        minutes=frozenset(read.minutes),
        hours=frozenset(read.hours),
        days=DayFields(
            months=frozenset(read.months),
            days=frozenset(day for day in read.days if day > 0),
            last=CronSim.LAST in read.days,
            last_working=CronSim.LAST_WEEKDAY in read.days,
            weekdays=frozenset(day % 7 for day in read.weekdays if isinstance(day, int)),
            nth_weekdays=frozenset(
                (pair[0] % 7, max(pair[1], -1)) for pair in read.weekdays if isinstance(pair, tuple)
            ),
            both=read.day_and,
        ),
        wildcard=words[1].startswith("*") or words[2].startswith("*"),
    )


def _read(words: list[str]) -> CronSim:
    """Let cronsim read six fields; it is asked for no time.

    It would read the range of one number with a step, `5-5/10`, as `5/10`.
    """
    from cronsim import CronSim

    text = _RANGE_OF_ONE.sub(r"\1", " ".join(words))
    return CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001 - it takes naive ones


def _refused(expression: str, words: list[str], reason: str) -> BadValueError:
    """Return the error for the field that cronsim names in its *reason*."""
    name = reason.removeprefix("Bad ").replace("-", " ")
    place = [field.name for field in _FIELDS].index(name)
    word = words[place].lower()
    if name == "day of month" and _is_good_alone(word):
        return BadValueError(_THAT_MATCHES, expression)
    field = _FIELDS[place]
    return BadValueError(f"{field.phrase} in {shown(expression)}", word, hint=_hint(word, field))


def _is_good_alone(day: str) -> bool:
    """Return whether a day of the month is good, so that only its months are too short."""
    from cronsim import CronSimError

    try:
        _read(["0", "0", "0", day, "*", "*"])
    except CronSimError:
        return False
    return True


def _hint(word: str, field: _Field) -> str:
    if last := _LAST_NAMED.fullmatch(word):
        return f"; did you mean '{_DAY_NAMES.index(last[1])}L'?"
    unknown = [name for name in re.findall(r"[a-z]{2,}", word) if name not in field.names]
    hints = (did_you_mean(name, field.names) for name in unknown)
    return next(filter(None, hints), "")
