"""Converters of setting values: from the text of an ini file or a Python value to an exact value.

A converter returns the value or raises `BadValueError`; the caller adds the key to the error. Each
converter accepts its own result, so that a value may be converted twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import DAY, SECOND, Instant, Span, instant_of, rfc3339, span_of
from pulse.errors import BadValueError, Unshown, did_you_mean

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
    "d": DAY,
    "w": 7 * DAY,
}
_PART = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(us|ms|[smhdw])", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}(?:\.\d+)?", re.ASCII)
_WHOLE = re.compile(r"\d{1,18}", re.ASCII)
_DURATION = "seconds as a number, or a duration such as 90s, 5m, 1h30m or 2d"
_MAX_SPAN: Span = 100 * 366 * DAY
MIN_INTERVAL: Span = SECOND // 1_000
"""The shortest interval; no process can run requests at a higher rate for long."""

MIN_TIMEOUT: Span = SECOND // 1_000
"""The shortest timeout; every run takes longer than less."""

_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_APPLICATION = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*(\(\))?")
_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


def boolean(value: object) -> bool:
    """Return the boolean of true/yes/on/1 or false/no/off/0, in any case."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadValueError("true or false (or yes, no, on, off, 1, 0)", value)


def duration(value: object) -> Span:
    """Return the positive span in microseconds of seconds, text such as `1h30m` or a timedelta."""
    span = _span(value)
    if not 0 < span <= _MAX_SPAN:
        raise BadValueError(f"{_DURATION}, above zero and at most 100 years", value)
    return span


def interval(value: object) -> Span:
    """Return the span of a duration of at least `MIN_INTERVAL`."""
    return _at_least(MIN_INTERVAL, value)


def timeout(value: object) -> Span:
    """Return the span of a duration of at least `MIN_TIMEOUT`."""
    return _at_least(MIN_TIMEOUT, value)


def _at_least(least: Span, value: object) -> Span:
    span = duration(value)
    if span < least:
        raise BadValueError(f"{_DURATION}, of at least {duration_text(least)}", value)
    return span


def duration_or_zero(value: object) -> Span:
    """Return the span in microseconds, which may be zero."""
    span = _span(value)
    if not 0 <= span <= _MAX_SPAN:
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
        case float() if value == value and abs(value) < _MAX_SPAN:  # noqa: PLR0124 - NaN test
            return round(value * SECOND)
        case str():
            return _parse_span(value)
    raise BadValueError(_DURATION, value)


def _parse_span(text: str) -> Span:
    normalized = text.strip().lower()
    if _NUMBER.fullmatch(normalized):
        whole, _, fraction = normalized.partition(".")
        return int(whole) * SECOND + int(fraction[:6].ljust(6, "0"))
    parts = _PART.findall(normalized)
    if not parts or _PART.sub("", normalized).strip():
        raise BadValueError(_DURATION, text)
    if len({unit for _, unit in parts}) < len(parts):
        raise BadValueError(f"{_DURATION}, with each unit once", text)
    return sum(round(float(number) * _UNITS[unit]) for number, unit in parts)


def duration_text(span: Span) -> str:
    """Return *span* in the syntax of an ini file: `5m`, `1h30m`, `250ms`."""
    parts = []
    rest = span
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def value_text(value: object) -> str:
    """Return the exact value of any setting but a duration in the syntax of an ini file."""
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode(errors="surrogateescape")
        case tuple():
            return "\n".join(f"{header}: {content}" for header, content in value)
        case Enum():
            return str(value.value)
        case datetime():
            return value.isoformat() if value.tzinfo is None else rfc3339(instant_of(value))
    return str(value)


def count(low: int, high: int) -> Callable[[object], int]:
    """Return a converter of whole numbers from *low* to *high*."""
    expected = f"a whole number from {low} to {high}"

    def convert(value: object) -> int:
        number = _parse_count(value) if isinstance(value, str) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise BadValueError(expected, value)
        return number

    return convert


def _parse_count(text: str) -> int | None:
    return int(text) if _WHOLE.fullmatch(text.strip()) else None


def choice(kind: type[E]) -> Callable[[object], E]:
    """Return a converter of the values of the enum *kind*."""
    choices = [member.value for member in kind]
    expected = f"one of {', '.join(choices)}"

    def convert(value: object) -> E:
        if isinstance(value, kind):
            return value
        text = str(value).strip().lower()
        if text in choices:
            return kind(text)
        raise BadValueError(expected, value, hint=did_you_mean(text, choices))

    return convert


def instant(value: object) -> Instant:
    """Return the instant of an aware datetime or RFC 3339 text; text without offset is in UTC."""
    if isinstance(value, str):
        value = _parse_moment(value)
    if isinstance(value, datetime):
        return instant_of(value)
    raise BadValueError("a date and time such as 2027-01-01T00:00:00+01:00", value)


def _parse_moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadValueError("a date and time such as 2027-01-01T00:00:00+01:00", text) from None
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
            return _encode(value)
    raise BadValueError("text or bytes", Unshown(value))


def _encode(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        expected = "text or bytes, without lone surrogates"
        raise BadValueError(expected, Unshown(text)) from None


def is_application(word: str) -> bool:
    """Return whether a word has the form `package.module:name` or that of a factory, with `()`."""
    return _APPLICATION.fullmatch(word) is not None


def queue(value: object) -> str:
    """Return the name of a queue, which a broker and a command line take as it is."""
    text = value.strip() if isinstance(value, str) else ""
    if not _QUEUE.fullmatch(text) or text.startswith("amq."):
        raise BadValueError("a name of letters, digits, '.', '_' and '-', such as slow", value)
    return text


def headers(value: object) -> tuple[tuple[str, str], ...]:
    """Return header pairs from a mapping, pairs, or lines of `Name: value`.

    Names are tokens and values contain no line ends (RFC 9110, section 5).
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
            expected = "headers as a mapping, or lines of 'Name: value'"
            raise BadValueError(expected, Unshown(value))
    return tuple(_header(name, content) for name, content in pairs)


def _header_line(line: str) -> tuple[object, object]:
    name, colon, content = line.partition(":")
    if not colon:
        raise BadValueError("a header line 'Name: value'", Unshown(line), hint=", without a colon")
    return name.strip(), content.strip()


def _header_pair(pair: object) -> tuple[object, object]:
    match pair:
        case (name, content):
            return name, content
    raise BadValueError("a pair of header name and value", Unshown(pair))


def _header(name: object, content: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise BadValueError("a header name such as X-Token", Unshown(name))
    if not isinstance(content, str) or _UNSENDABLE.search(content):
        raise BadValueError(f"text on one line for header {name}", Unshown(content))
    return name, content
