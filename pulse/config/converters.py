"""Converters of the words that only the settings of pulse itself use.

As in `pulse.settings.converters`, each returns the value or raises `BadValueError`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from pulse.clock import SECOND
from pulse.core.task_settings import action
from pulse.engine.factory import GROUP, OWN_MODES
from pulse.errors import BadValueError, did_you_mean
from pulse.settings.converters import duration
from pulse.wsgi.environ import address

if TYPE_CHECKING:
    from pulse.clock import Span

EXPECTED_LABEL = "a task's name of 1 to 200 printable characters, without blanks around it"

_LONGEST_NAME = 200
_NO_SEGMENT = frozenset(" ?#")
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_SECTION = re.compile(r"[^\s:#/]+")


def is_label(word: str) -> bool:
    """Return whether *word* can stand in a header, a log line and a database key."""
    return word.isprintable() and word == word.strip() and 0 < len(word) <= _LONGEST_NAME


def context(value: object) -> str:
    """Return a path of one or more segments without the slashes around it; it may be empty."""
    expected = "a path such as sessions or a/b, without scheme, blanks, ?, # or dot segments"
    if not isinstance(value, str):
        raise BadValueError(expected, value)
    word = value.strip().strip("/")
    if "://" in value or not all(_is_segment(segment) for segment in word.split("/") if word):
        raise BadValueError(expected, value)
    return word


def _is_segment(segment: str) -> bool:
    usable = segment.isprintable() and segment not in {"", ".", ".."}
    return usable and _NO_SEGMENT.isdisjoint(segment)


def guarded(value: object) -> tuple[str, ...]:
    """Return paths, each as the action of a task has it, from text or from a sequence of texts."""
    expected = "paths with blanks between them, such as /reports /sessions/cleanup"
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list | tuple) or not value:
        raise BadValueError(expected, value)
    paths = tuple(action(each) for each in value)
    if any("?" in path for path in paths):
        raise BadValueError(f"{expected}, without queries", value)
    return paths


def mode(value: object) -> str:
    """Return a mode of pulse's own, in any case, or one that another package adds."""
    found = value.strip() if isinstance(value, str) else ""
    if found.lower() in OWN_MODES:
        return found.lower()
    from importlib.metadata import entry_points  # dear, and seldom needed

    added = entry_points(group=GROUP).names
    if found in added:
        return found
    known = (*OWN_MODES, *sorted(added))
    raise BadValueError(f"one of {', '.join(known)}", value, hint=did_you_mean(found, known))


def name(value: object) -> str:
    """Return a name that can be part of a file's name and of a database key."""
    expected = f"a name of at most {_LONGEST_NAME} printable characters, without slashes"
    found = value.strip() if isinstance(value, str) else ""
    if not is_label(found) or found.startswith(".") or "/" in found or "\\" in found:
        raise BadValueError(expected, value)
    return found


def lease(value: object) -> Span:
    """Return a span of at least a second: a shorter one would end while its holder still works."""
    span = duration(value)
    if span < SECOND:
        raise BadValueError("a duration of at least 1s", value)
    return span


def application(value: object) -> str:
    """Return `package.module:name`, or the name of a section of the ini file."""
    expected = "package.module:name, or the name of an app section of the ini file"
    found = value.strip() if isinstance(value, str) else ""
    if not (_OBJECT.fullmatch(found) or _SECTION.fullmatch(found)):
        raise BadValueError(expected, value)
    return found


def base_url(value: object) -> str:
    """Return a URL of scheme, host, and perhaps port and path, without a slash at its end."""
    expected = "a URL such as https://example.org or http://localhost:8080/prefix"
    found = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(found)
        usable = _is_base(parts) and parts.port != 0 and bool(address(found))
    except (ValueError, BadValueError):  # the latter where a host has no ASCII form
        usable = False
    if not usable or not is_label(found) or any(char.isspace() for char in found):
        raise BadValueError(expected, value)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _is_base(parts: SplitResult) -> bool:
    extra = parts.query or parts.fragment or parts.username is not None
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not extra
