"""Words into values: each converter takes what an ini file or a keyword may hold.

A converter returns the value or raises `BadValueError`; the caller knows the key and adds it.
Every one accepts its own result, so that a value may pass twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND, Instant, Span, instant_of, span_of
from pulse.errors import BadValueError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

E = TypeVar("E", bound=Enum)

_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "f", "0"})
_UNITS: Mapping[str, int] = {
    "us": 1,
    "ms": 1_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3_600 * SECOND,
    "d": 86_400 * SECOND,
    "w": 7 * 86_400 * SECOND,
}
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(us|ms|[smhdw])", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}(?:\.\d+)?", re.ASCII)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_DURATION = "seconds as a number, or a duration such as 90s, 5m, 1h30m or 2d"
_LONGEST: Span = 100 * 366 * 86_400 * SECOND
_FIRST: Instant = instant_of(datetime.min.replace(tzinfo=UTC))
_LAST: Instant = instant_of(datetime.max.replace(tzinfo=UTC))
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


def boolean(value: object) -> bool:
    """Return a truth value from true/yes/on/1 and false/no/off/0, in any case."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadValueError("true or false (or yes, no, on, off, 1, 0)", value)


def duration(value: object) -> Span:
    """Return a positive span in microseconds from seconds, `1h30m` or a timedelta."""
    span = _span(value)
    if not 0 < span <= _LONGEST:
        raise BadValueError(f"{_DURATION}, above zero and at most 100 years", value)
    return span


def duration_or_zero(value: object) -> Span:
    """Return a span in microseconds that may be zero."""
    span = _span(value)
    if not 0 <= span <= _LONGEST:
        raise BadValueError(f"{_DURATION}, from zero to 100 years", value)
    return span


def _span(value: object) -> Span:
    match value:
        case timedelta():
            return span_of(value)
        case bool():
            raise BadValueError(_DURATION, value)
        case int():
            return value * SECOND
        case float() if value == value and abs(value) < _LONGEST:  # noqa: PLR0124 - NaN test
            return round(value * SECOND)
        case str():
            return _spelt_span(value)
    raise BadValueError(_DURATION, value)


def _spelt_span(text: str) -> Span:
    word = text.strip().lower()
    if _NUMBER.fullmatch(word):
        whole, _, fraction = word.partition(".")
        return int(whole) * SECOND + int(fraction[:6].ljust(6, "0"))
    parts = _PART.findall(word)
    if not parts or _PART.sub("", word).strip():
        raise BadValueError(_DURATION, text)
    return sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def spell_span(span: Span) -> str:
    """Return *span* as an ini file would say it: `5m`, `1h30m`, `250ms`."""
    words = []
    rest = span
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


def count(low: int, high: int) -> Callable[[object], int]:
    """Return a converter of whole numbers from *low* to *high*."""
    expected = f"a whole number from {low} to {high}"

    def convert(value: object) -> int:
        number = _spelt_count(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise BadValueError(expected, value)
        return number

    return convert


def _spelt_count(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text.strip()) else None


def choice(kind: type[E]) -> Callable[[object], E]:
    """Return a converter of the words of the enum *kind*."""
    words = [member.value for member in kind]
    expected = f"one of {', '.join(words)}"

    def convert(value: object) -> E:
        if isinstance(value, kind):
            return value
        word = str(value).strip().lower()
        if word in words:
            return kind(word)
        raise BadValueError(expected, value, hint=did_you_mean(word, words))

    return convert


def instant(value: object) -> Instant:
    """Return the instant of an aware datetime or of RFC 3339 text; text without offset is UTC."""
    if isinstance(value, str):
        value = _spelt_moment(value)
    if isinstance(value, datetime):
        found = instant_of(value)
        if _FIRST <= found <= _LAST:
            return found
    raise BadValueError("a date and time such as 2027-01-01T00:00:00+01:00", value)


def _spelt_moment(word: str) -> datetime:
    try:
        moment = datetime.fromisoformat(word.strip())
    except ValueError:
        raise BadValueError("a date and time such as 2027-01-01T00:00:00+01:00", word) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def method(value: object) -> str:
    """Return an HTTP method in upper case (RFC 9110, section 9.1: a token)."""
    if isinstance(value, str) and _TOKEN.fullmatch(value.strip()):
        return value.strip().upper()
    raise BadValueError("an HTTP method such as GET or POST", value)


def body(value: object) -> bytes:
    """Return a request body; text is encoded as UTF-8."""
    match value:
        case bytes():
            return value
        case str():
            return _encoded(value)
    raise BadValueError("text or bytes", value)


def _encoded(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise BadValueError("text or bytes", text) from None


def headers(value: object) -> tuple[tuple[str, str], ...]:
    """Return header pairs from a mapping, pairs, or lines of `Name: value`.

    Names are tokens and values hold no line ends (RFC 9110, section 5).
    """
    match value:
        case str():
            pairs: list[tuple[object, object]] = [
                _header_line(line) for line in value.splitlines() if line.strip()
            ]
        case Mapping():
            pairs = list(value.items())
        case tuple() | list():
            pairs = [_header_pair(pair) for pair in value]
        case _:
            raise BadValueError("headers as a mapping, or lines of 'Name: value'", value)
    return tuple(_header(name, content) for name, content in pairs)


def _header_line(line: str) -> tuple[object, object]:
    name, colon, content = line.partition(":")
    if not colon:
        raise BadValueError("a header line 'Name: value'", line)
    return name.strip(), content.strip()


def _header_pair(pair: object) -> tuple[object, object]:
    match pair:
        case (name, content):
            return name, content
    raise BadValueError("a pair of header name and value", pair)


def _header(name: object, content: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadValueError("a header name such as X-Token", name)
    if not isinstance(content, str) or _UNSENDABLE.search(content):
        raise BadValueError(f"text on one line for header {name}", content)
    return name, content
