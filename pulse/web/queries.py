"""The parameters and bodies of requests to the API, read into structs with errors by name."""

from __future__ import annotations

import re
from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from pulse.web.responses import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)

MAX_BODY = 65_536
MAX_FIELDS = 50
MAX_TEXT = 200

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Note = Annotated[str, Meta(max_length=MAX_TEXT)]
Number = Annotated[str, Meta(pattern=r"^\d{1,19}$")]
"""A large integer, as text."""

Moment = Annotated[datetime, Meta(tz=True)]
Limit = Annotated[int, Meta(ge=1, le=500)]
State = Literal[
    "succeeded",
    "failed",
    "timed_out",
    "abandoned",
    "interrupted",
    "missed",
    "skipped",
    "pending",
    "running",
]


class NoQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No parameters."""


class TasksQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks: those after a name, by name, whose names contain a text."""

    search: Annotated[str, Meta(max_length=100)] = ""
    after: Text = ""
    limit: Limit = 100


class RunsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which runs: what all parameters select, newest first; *before* is the cursor of a page."""

    task: Text | None = None
    outcome: list[State] | None = None
    trigger: Literal["schedule", "catch_up", "manual", "startup"] | None = None
    holder: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    before: Number | None = None
    limit: Limit = 100


class AuditQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which entries of the audit trail: those before a number."""

    before: Number | None = None
    limit: Limit = 100


class WhyQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to explain: a task, at a time, and so many seconds from then on."""

    task: Text
    at: Moment
    within: Annotated[float, Meta(gt=0, le=86_400)] = 1


class LedgerQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to account for: the fire times of a task, of at most 31 days."""

    task: Text
    since: Moment
    until: Moment | None = None


class TriggerBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What replaces the body of the task's request."""

    body: Annotated[str, Meta(max_length=MAX_BODY)] | None = None


class PauseBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the pause ends by itself, and why there is one."""

    until: Moment | None = None
    note: Note | None = None


class StopBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the run is stopped."""

    note: Note | None = None


class NoBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object without members."""


def read_query(environ: Mapping[str, Any], kind: type[T]) -> T:
    """Return the parameters of a request.

    Raises:
        HttpError: a parameter is unknown, missing, repeated or wrong.

    """
    text: str = environ.get("QUERY_STRING", "")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except (ValueError, UnicodeError) as error:
        raise HttpError(400, f"query: expected parameters in UTF-8, got {error}") from None
    several = _lists_of(kind)
    given: dict[str, object] = {}
    for name, value in pairs:
        if name in several:
            known = given.setdefault(name, [])
            known.append(value)  # type: ignore[attr-defined] # it is a list
        elif name in given:
            raise HttpError(400, f"{name[:MAX_TEXT]}: expected one value, got several")
        else:
            given[name] = value
    return converted(given, kind, strict=False)


def read_body(environ: Mapping[str, Any], kind: type[T]) -> T:
    """Return the JSON object of a request; an empty body is an empty object.

    Raises:
        HttpError: the body is too long, is no JSON, or has a wrong member.

    """
    data = read_bytes(environ)
    if not data:
        return converted({}, kind, strict=True)
    sent = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if sent != "application/json":
        raise HttpError(415, f"Content-Type: expected application/json, got {sent or 'none'}")
    try:
        decoded = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"body: expected a JSON object, got other bytes: {error}") from None
    return converted(decoded, kind, strict=True)


def read_bytes(environ: Mapping[str, Any], *, most: int = MAX_BODY) -> bytes:
    """Return the body of a request.

    Raises:
        HttpError: it is longer than *most* bytes, or its length is wrong or not known.

    """
    data: bytes = environ["wsgi.input"].read(_length(environ, most))
    if len(data) > most:
        raise HttpError(413, f"body: expected at most {most} bytes, got more")
    return data


def _length(environ: Mapping[str, Any], most: int) -> int:
    """Return how many bytes are read of the body of a request.

    Without a length, as with chunks, only a server that ends the input where the body ends (the
    flag `wsgi.input_terminated`) lets it be read.
    """
    length: str = environ.get("CONTENT_LENGTH") or ""
    if not length:
        if not environ.get("HTTP_TRANSFER_ENCODING"):
            return 0
        if environ.get("wsgi.input_terminated"):
            return most + 1
        raise HttpError(411, "Content-Length: expected the length of the body, got none")
    if not (length.isascii() and length.isdecimal()):
        raise HttpError(400, "Content-Length: expected a number")
    digits = length.lstrip("0")
    if len(digits) > len(str(most)) or int(digits or "0") > most:
        raise HttpError(413, f"body: expected at most {most} bytes, got {digits[:20]}")
    return int(digits or "0")


def _lists_of(kind: type[msgspec.Struct]) -> frozenset[str]:
    hints = get_type_hints(kind)
    return frozenset(name for name, hint in hints.items() if _is_list(hint))


def _is_list(hint: object) -> bool:
    return getattr(hint, "__origin__", None) is list or any(map(_is_list, get_args(hint)))


def _choices(hint: object) -> list[str]:
    """Return the values of a hint that has a `Literal` in it."""
    if get_origin(hint) is Literal:
        return [str(one) for one in get_args(hint)]
    return [value for one in get_args(hint) for value in _choices(one)]


_WHERE = re.compile(r"(.*?)(?: - at `\$(?:\.(\w+))?.*`)?", re.DOTALL)


def converted(given: object, kind: type[T], *, strict: bool) -> T:
    """Return given values as a struct.

    Raises:
        HttpError: a name is unknown, or a value is missing or wrong.

    """
    known = kind.__struct_fields__
    unknown = sorted(map(str, given.keys() - set(known))) if isinstance(given, dict) else []
    if unknown:
        expected = f"one of {', '.join(known)}" if known else "nothing"
        raise HttpError(400, f"{unknown[0][:MAX_TEXT]}: expected {expected}, got this name")
    try:
        return msgspec.convert(given, kind, strict=strict)
    except msgspec.ValidationError as error:
        found = _WHERE.fullmatch(str(error))
        text, name = (str(error), None) if found is None else found.groups()
        if text.startswith("Invalid enum value"):
            text = f"expected one of {', '.join(_choices(get_type_hints(kind).get(name or '')))}"
        value = given.get(name) if isinstance(given, dict) and name is not None else None
        got = "" if value is None else f", got {str(value)[:MAX_TEXT]!r}"
        where = "" if name is None else f"{name}: "
        raise HttpError(400, f"{where}{text[:1].lower()}{text[1:]}{got}") from None
