"""Converters for the settings of pulse itself.

As in `pulse.settings.converters`, each converter returns the value or raises `BadValueError`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pulse.clock import DAY, SECOND
from pulse.core.action import read_action
from pulse.engine.factory import OWN_MODES, added_modes
from pulse.errors import BadValueError, Unshown, did_you_mean, shown_url
from pulse.settings.converters import duration
from pulse.wsgi.environ import server_environ

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Span

EXPECTED_LABEL = "a task's name of 1 to 200 printable characters, without surrounding blanks"

EXPECTED_BROKER = (
    "amqp:// or redis:// followed by a host, or package.module:name of a Celery application"
)

_BROKERS = frozenset({"amqp", "amqps", "pyamqp", "redis", "rediss"})
_CELERY_APPLICATION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_MAX_NAME_LENGTH = 200
_NO_SEGMENT = frozenset(" ?#")
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*(\(\))?")
_SECTION = re.compile(r"[^\s:#/]+")


def is_label(text: str) -> bool:
    """Return whether *text* is valid in a header, a log line and a database key."""
    return text.isprintable() and text == text.strip() and 0 < len(text) <= _MAX_NAME_LENGTH


def context(value: object) -> str:
    """Return a path of any number of segments, without leading and trailing slashes."""
    expected = "a path such as sessions or a/b, without scheme, blanks, ?, # or dot segments"
    if not isinstance(value, str):
        raise BadValueError(expected, value)
    path = value.strip().strip("/")
    if "://" in value or not all(_is_segment(segment) for segment in path.split("/") if path):
        raise BadValueError(expected, value)
    return path


def _is_segment(segment: str) -> bool:
    usable = segment.isprintable() and segment not in {"", ".", ".."}
    return usable and _NO_SEGMENT.isdisjoint(segment)


def mount(value: object) -> str:
    """Return the address below which something is served: a path of at least one segment."""
    expected = "an address such as /_pulse, without blanks, ?, # or dot segments"
    if not isinstance(value, str) or not value.strip().startswith("/"):
        raise BadValueError(expected, value)
    path = value.strip().strip("/")
    if not path or not all(_is_segment(segment) for segment in path.split("/")):
        raise BadValueError(expected, value)
    return f"/{path}"


def origins(value: object) -> tuple[str, ...]:
    """Return origins (RFC 6454), from text or from a sequence of texts."""
    expected = "origins separated by blanks, such as https://shop.example.org"
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not words:
        raise BadValueError(expected, value)
    for word in words:
        parts = urlsplit(word) if isinstance(word, str) else SplitResult("", "", "", "", "")
        rest = parts.path or parts.query or parts.fragment or "@" in parts.netloc
        if parts.scheme not in {"http", "https"} or not parts.netloc or rest:
            raise BadValueError(expected, word)
    return tuple(word.lower() for word in words)


def redact(value: object) -> str | Callable[[str, str], str]:
    """Return a function of a text and the name of its task, or where it is."""
    if callable(value):
        return value
    if not isinstance(value, str) or _OBJECT.fullmatch(value.strip()) is None:
        raise BadValueError("package.module:name of a function, or a function", value)
    return value.strip()


def guarded(value: object) -> tuple[str, ...]:
    """Return paths in the form of a task's action, from text or from a sequence of texts."""
    expected = "paths separated by blanks, such as /reports /sessions/cleanup"
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list | tuple) or not value:
        raise BadValueError(expected, value)
    paths = tuple(read_action(path) for path in value)
    if any("?" in path for path in paths):
        raise BadValueError(f"{expected}, without queries", value)
    return paths


def mode(value: object) -> str:
    """Return a built-in mode, in any case, or a mode that another package adds."""
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() in OWN_MODES:
        return text.lower()
    added = added_modes()
    if text in added:
        return text
    known = (*OWN_MODES, *sorted(added))
    raise BadValueError(f"one of {', '.join(known)}", value, hint=did_you_mean(text, known))


def broker(value: object) -> str:
    """Return the URL of a broker unchanged, or where a Celery application is."""
    text = value.strip() if isinstance(value, str) else ""
    if _CELERY_APPLICATION.fullmatch(text) or _is_broker(text):
        return text
    got = shown_url(value) if isinstance(value, str) else Unshown(value)
    raise BadValueError(EXPECTED_BROKER, got)


def _is_broker(text: str) -> bool:
    if " " in text or not text.isprintable():
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in _BROKERS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or a broken address
        return False


def name(value: object) -> str:
    """Return a name that is valid in a file name and in a database key."""
    expected = f"a name of at most {_MAX_NAME_LENGTH} printable characters, without slashes"
    text = value.strip() if isinstance(value, str) else ""
    if not is_label(text) or text.startswith(".") or "/" in text or "\\" in text:
        raise BadValueError(expected, value)
    return text


def lease(value: object) -> Span:
    """Return a span of at least a second; a shorter lease would end during normal work."""
    span = duration(value)
    if span < SECOND:
        raise BadValueError("a duration of at least 1s", value)
    return span


def wait(value: object) -> Span:
    """Return a span in which a worker can take a run; RabbitMQ keeps a message for 49 days."""
    span = duration(value)
    if not SECOND <= span <= 30 * DAY:
        raise BadValueError("a duration from 1s to 30d", value)
    return span


def application(value: object) -> str:
    """Return `package.module:name`, with `()` for a factory, or the name of a section."""
    expected = (
        "package.module:name, package.module:factory(), or the name of an app section of the"
        " ini file"
    )
    text = value.strip() if isinstance(value, str) else ""
    if not (_OBJECT.fullmatch(text) or _SECTION.fullmatch(text)):
        raise BadValueError(expected, value)
    return text


def base_url(value: object) -> str:
    """Return a URL of scheme, host, optional port and optional path, without a trailing slash."""
    expected = "a URL such as https://example.org or http://localhost:8080/prefix"
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = _is_base(parts) and parts.port != 0 and bool(server_environ(text))
    except (ValueError, BadValueError):  # BadValueError: the host has no ASCII form
        usable = False
    if not usable or not is_label(text) or any(char.isspace() for char in text):
        got = shown_url(value) if isinstance(value, str) else Unshown(value)
        hint = ", which has a user or a password" if "@" in text else ""
        raise BadValueError(expected, got, hint=hint)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_base(parts: SplitResult) -> bool:
    extra = parts.query or parts.fragment or parts.username is not None
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra
