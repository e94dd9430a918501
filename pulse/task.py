"""Tasks: what a user declares, and the definition that the rest of pulse works with.

`Task` holds the public keywords, the settings of `pulse.declaration`, and refuses bad ones by
name. `define` turns it, once it has a name and a context, into a `Definition`: exact types, the
final path, and a digest on which all processes that hold the same declaration agree.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from pulse import convert
from pulse.clock import SECOND, Span, rfc3339
from pulse.declaration import TASK_SETTINGS
from pulse.errors import ConfigError
from pulse.policy import Misfire, OnAbandoned, Overlap, Scope
from pulse.schedule.interval import Interval
from pulse.setting import read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from pulse.schedule.base import Schedule

DEFAULT_TIMEOUT: Span = 180 * SECOND
DEFAULT_GRACE: Span = 60 * SECOND
"""How late a run may be under `misfire = skip` where no `grace` is given."""

LATE: Span = 60 * SECOND
"""A run that is later than this is a catch-up even when it passed over nothing."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A declared task: what to request, when, and how to behave when things do not go as planned.

    Every keyword takes what the ini setting of the same name takes, and the natural Python value:
    durations are seconds, text such as `"5m"` or a timedelta; `start` is an aware datetime.

    Raises:
        ConfigError: a keyword has a bad value, or there is not exactly one schedule; all problems
            are named.

    """

    action: str
    interval: float | str | timedelta | None = None
    start: datetime | str | None = None
    jitter: float | str | timedelta = 0
    run_at_start: bool | str = False
    method: str = "GET"
    headers: Mapping[str, str] | Sequence[tuple[str, str]] | str = ()
    body: bytes | str = b""
    timeout: float | str | timedelta | None = None
    overlap: Overlap | str = Overlap.SKIP
    max_running: int | str = 10
    misfire: Misfire | str = Misfire.LATEST
    grace: float | str | timedelta | None = None
    scope: Scope | str = Scope.FLEET
    on_abandoned: OnAbandoned | str = OnAbandoned.RECORD
    enabled: bool | str = True

    def __post_init__(self) -> None:
        """Refuse bad values at once, all of them together."""
        _, problems = read_task(given(self))
        if problems:
            raise ConfigError(problems)


class Definition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task ready to be planned and called: exact types, microseconds, the final path.

    Attributes:
        path: PATH_INFO as WSGI wants it (PEP 3333: bytes in latin-1 characters), unquoted.
        query: the query string, still quoted.
        jitter_us: how much later than its fire time a tick may be due.
        room: how many runs may go at once.
        grace_us: how late a run may start; None is without limit.
        digest: the same for the same declaration in every process.

    """

    name: str
    path: str
    query: str
    schedule: Schedule
    digest: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    jitter_us: Span = 0
    run_at_start: bool = False
    timeout_us: Span = DEFAULT_TIMEOUT
    overlap: Overlap = Overlap.SKIP
    room: int = 1
    misfire: Misfire = Misfire.LATEST
    grace_us: Span | None = None
    scope: Scope = Scope.FLEET
    on_abandoned: OnAbandoned = OnAbandoned.RECORD


_OPTIONAL = Task.__struct_fields__[1:]
_DEFAULTS: tuple[object, ...] = Task.__struct_defaults__
_PLAIN = _DEFAULTS[1:]
_REQUIRED = {
    "action": "a path such as cleanup or /sessions/cleanup",
    "interval": "a schedule such as interval = 300",
}


def given(task: Task) -> dict[str, object]:
    """Return the keywords of *task* that differ from their defaults."""
    values = msgspec.structs.astuple(task)
    if values[2:] == _PLAIN and values[1] is not None:
        return {"action": values[0], "interval": values[1]}
    options = zip(_OPTIONAL, values[1:], _DEFAULTS, strict=True)
    changed = {name: value for name, value, default in options if value is not default}
    return {"action": values[0], **changed}


def read_task(words: Mapping[str, object], *, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the exact values of a task's settings, and one sentence for each that is wrong."""
    values, problems = read(TASK_SETTINGS, words, prefix=prefix)
    if not _REQUIRED.keys() <= words.keys():
        problems += _lacking(words, problems, prefix)
    return values, problems


def _lacking(words: Mapping[str, object], problems: list[str], prefix: str) -> list[str]:
    """Return a sentence for each setting that is not there, not even misspelt."""
    return [
        f"{prefix}{name}: expected {expected}, got none"
        for name, expected in _REQUIRED.items()
        if name not in words and not any(f"did you mean {name!r}" in line for line in problems)
    ]


def define(
    name: str, task: Task, *, context: str = "", timeout_us: Span = DEFAULT_TIMEOUT
) -> Definition:
    """Return the definition of *task* under *name*, its action below *context*."""
    values, _ = read_task(given(task))
    return define_values(name, values, context=context, timeout_us=timeout_us)


def define_values(
    name: str, values: Mapping[str, Any], *, context: str = "", timeout_us: Span = DEFAULT_TIMEOUT
) -> Definition:
    """Return the definition of a task whose exact values `read_task` has returned."""
    target = _target(values["action"], context)
    path, _, query = target.partition("?")
    schedule = Interval.of(values["interval"], values.get("start"))
    policy = _policy(values, timeout_us)
    return Definition(
        name=name,
        path=path if path.isascii() and "%" not in path else _wsgi_path(path),
        query=query,
        schedule=schedule,
        digest=_digest(target, values, policy),
        **policy,
    )


def spell(task: Task) -> dict[str, str]:
    """Return the settings that declare *task*, in canonical spelling, without the defaults.

    `Task(**spell(task))` is a task with the same definition: this is how a task is stored.
    """
    values, _ = read_task(given(task))
    return {name: _spell_value(name, value) for name, value in values.items()}


def _target(action: str, context: str) -> str:
    if action.startswith("/"):
        return action
    prefix = context.strip("/")
    return f"/{prefix}/{action}" if prefix else f"/{action}"


def _wsgi_path(path: str) -> str:
    return unquote_to_bytes(path).decode("latin-1")


def _policy(values: Mapping[str, Any], timeout_us: Span) -> dict[str, Any]:
    """Return the fields of a definition that differ from their defaults, in a fixed order."""
    timeout = values.get("timeout", timeout_us)
    if len(values) == 2 and timeout == DEFAULT_TIMEOUT:  # noqa: PLR2004 - action and interval alone
        return {}
    fields = {name: values[name] for name in _SAME_NAME if name in values}
    fields["timeout_us"] = timeout
    fields["jitter_us"] = values.get("jitter", 0)
    if values.get("overlap") is Overlap.ALLOW:
        fields["room"] = values.get("max_running", 10)
    late = DEFAULT_GRACE if values.get("misfire") is Misfire.SKIP else None
    fields["grace_us"] = values.get("grace", late)
    return {name: value for name, value in fields.items() if value != _USUAL[name]}


def _digest(target: str, values: Mapping[str, Any], policy: dict[str, Any]) -> str:
    schedule = (values["interval"], values.get("start"))
    words = msgspec.json.encode((target, schedule, policy))
    return hashlib.blake2b(words, digest_size=8).hexdigest()


def _spell_value(name: str, value: Any) -> str:  # noqa: ANN401 - a value of any setting
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode(errors="surrogateescape")
        case tuple():
            return "\n".join(f"{header}: {content}" for header, content in value)
        case Overlap() | Misfire() | Scope() | OnAbandoned():
            return str(value.value)
        case int() if name == "start":
            return rfc3339(value)
        case int() if name in {"interval", "jitter", "timeout", "grace"}:
            return convert.spell_span(value)
    return str(value)


_SAME_NAME = (
    "method",
    "headers",
    "body",
    "run_at_start",
    "overlap",
    "misfire",
    "scope",
    "on_abandoned",
)
_USUAL = dict(
    zip(
        Definition.__struct_fields__[-len(Definition.__struct_defaults__) :],
        Definition.__struct_defaults__,
        strict=True,
    )
)
