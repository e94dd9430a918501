"""Tasks: what a user declares, and the definition that the rest of pulse works with.

`Task` holds the public keywords, the settings of `pulse.core.task_settings`, and refuses bad ones
by name. `build_definition` makes a `TaskDefinition` of a task, a name and a context: exact types,
the final path, and a digest that is equal in all processes with the same declaration.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

import msgspec

from pulse.clock import SECOND, Span, instant_of, rfc3339
from pulse.core.policies import Misfire, OnAbandoned, Overlap, Scope
from pulse.core.task_settings import TASK_SETTINGS
from pulse.errors import ConfigError
from pulse.schedule.converters import UTC
from pulse.schedule.factory import KINDS, schedule_of, schedule_problems
from pulse.schedule.interval import Interval
from pulse.settings import converters
from pulse.settings.setting import read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from pulse.schedule.base import Schedule

DEFAULT_TIMEOUT: Span = 180 * SECOND
DEFAULT_GRACE: Span = 60 * SECOND
"""How late a run may be under `misfire = skip` where no `grace` is given."""

DEFAULT_MIN_BACKOFF: Span = 5 * SECOND
DEFAULT_MAX_BACKOFF: Span = 3_600 * SECOND
DEFAULT_MAX_DOUBLINGS = 5
"""When a failed run is tried again: what Google Cloud Scheduler does by itself."""

LATE: Span = 60 * SECOND
"""A run that is later than this is a catch-up even when it passed over nothing."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A declared task: what to request, when, and how to behave when things do not go as planned.

    Every keyword takes what the ini setting of the same name takes, and the natural Python value:
    durations are seconds, text such as `"5m"` or a timedelta; dates are aware datetimes, or naive
    ones of the task's time zone. One of `interval`, `cron`, `every` and `at` is the schedule.

    Raises:
        ConfigError: a keyword has a bad value, or there is not exactly one schedule; all problems
            are named.

    """

    action: str
    interval: float | str | timedelta | None = None
    cron: str | None = None
    every: str | None = None
    at: datetime | str | None = None
    timezone: str | None = None
    start: datetime | str | None = None
    end: datetime | str | None = None
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
    retries: int | str = 0
    retry_min_backoff: float | str | timedelta | None = None
    retry_max_backoff: float | str | timedelta | None = None
    retry_max_doublings: int | str = DEFAULT_MAX_DOUBLINGS
    enabled: bool | str = True

    def __post_init__(self) -> None:
        """Refuse bad values at once, all of them together."""
        _, problems = read_task(explicit_values(self))
        if problems:
            raise ConfigError(problems)


class TaskDefinition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task ready to be planned and called: exact types, microseconds, the final path.

    Attributes:
        path: PATH_INFO as WSGI wants it (PEP 3333: bytes in latin-1 characters), unquoted.
        query: the query string, still quoted.
        jitter_us: how much later than its fire time a tick may be due.
        max_unfinished: how many runs may be open, held or not.
        grace_us: how late a run may start; None is without limit.
        retries: how many attempts may follow the first.
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
    max_unfinished: int = 1
    misfire: Misfire = Misfire.LATEST
    grace_us: Span | None = None
    scope: Scope = Scope.FLEET
    on_abandoned: OnAbandoned = OnAbandoned.RECORD
    retries: int = 0
    retry_min_backoff_us: Span = DEFAULT_MIN_BACKOFF
    retry_max_backoff_us: Span = DEFAULT_MAX_BACKOFF
    retry_max_doublings: int = DEFAULT_MAX_DOUBLINGS

    @property
    def max_concurrent(self) -> int:
        """How many of the open runs may be held."""
        return self.max_unfinished if self.overlap is Overlap.ALLOW else 1


_OPTIONAL = Task.__struct_fields__[1:]
_DEFAULTS: tuple[object, ...] = Task.__struct_defaults__
_PLAIN = _DEFAULTS[1:]
_SIMPLEST = {"action", "interval"}


def explicit_values(task: Task) -> dict[str, object]:
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
    if words.keys() != _SIMPLEST:
        problems += _missing(words, values, problems, prefix)
        problems += _inconsistent_backoff(values, prefix)
    return values, problems


def _inconsistent_backoff(values: Mapping[str, Any], prefix: str) -> list[str]:
    """Return a sentence where the shortest wait before a retry is longer than the longest."""
    shortest = values.get("retry_min_backoff", DEFAULT_MIN_BACKOFF)
    longest = values.get("retry_max_backoff", DEFAULT_MAX_BACKOFF)
    if shortest <= longest:
        return []
    least, got = converters.duration_text(shortest), converters.duration_text(longest)
    return [f"{prefix}retry_max_backoff: expected at least retry_min_backoff, {least}, got {got}"]


def _missing(
    words: Mapping[str, object], values: Mapping[str, Any], problems: list[str], prefix: str
) -> list[str]:
    """Return a sentence for what is not there, not even misspelt, and for what does not fit."""
    lacking = []
    if "action" not in words and not _meant_names(["action"], problems):
        lacking.append(f"{prefix}action: expected a path such as cleanup, got none")
    if KINDS.isdisjoint(words) and _meant_names(KINDS, problems):
        return lacking
    # A word that could not be read was given all the same.
    given_words = {name: values.get(name) for name in words}
    return lacking + schedule_problems(given_words, prefix=prefix)


def _meant_names(names: Iterable[str], problems: list[str]) -> bool:
    return any(f"did you mean {name!r}" in line for name in names for line in problems)


def build_definition(
    name: str,
    task: Task,
    *,
    context: str = "",
    timeout_us: Span = DEFAULT_TIMEOUT,
    timezone: str = UTC,
) -> TaskDefinition:
    """Return the definition of *task* under *name*, its action below *context*."""
    values, _ = read_task(explicit_values(task))
    return build_definition_from_values(
        name, values, context=context, timeout_us=timeout_us, timezone=timezone
    )


def build_definition_from_values(
    name: str,
    values: Mapping[str, Any],
    *,
    context: str = "",
    timeout_us: Span = DEFAULT_TIMEOUT,
    timezone: str = UTC,
) -> TaskDefinition:
    """Return the definition of a task whose exact values `read_task` has returned.

    Args:
        name: the task's name.
        values: its settings.
        context: the path that a relative action lies below.
        timeout_us: the timeout where the task sets none.
        timezone: the time zone where the task names none.

    """
    target = target_of(values["action"], context)
    path, _, query = target.partition("?")
    schedule = schedule_of(values, timezone=timezone)
    policy = _policy(values, timeout_us)
    return TaskDefinition(
        name=name,
        path=_wsgi_path(path),
        query=query,
        schedule=schedule,
        digest=_digest(target, schedule, policy),
        **policy,
    )


def to_settings(task: Task) -> dict[str, str]:
    """Return the settings that declare *task*, in canonical spelling, without the defaults.

    `Task(**spell(task))` is a task with the same definition: this is how a task is stored.
    """
    values, _ = read_task(explicit_values(task))
    return {name: _setting_value(name, value) for name, value in values.items()}


def target_of(action: str, context: str) -> str:
    """Return the path that *action* names below *context*, absolute, with its query."""
    if action.startswith("/"):
        return action
    prefix = context.strip("/")
    return f"/{prefix}/{action}" if prefix else f"/{action}"


def path_of(action: str, context: str) -> str:
    """Return the path that *action* names below *context* as PATH_INFO has it (PEP 3333)."""
    return _wsgi_path(target_of(action, context).partition("?")[0])


def _wsgi_path(path: str) -> str:
    if path.isascii() and "%" not in path:
        return path
    return unquote_to_bytes(path).decode("latin-1")


def _policy(values: Mapping[str, Any], timeout_us: Span) -> dict[str, Any]:
    """Return the fields of a definition that differ from their defaults, in a fixed order."""
    timeout = values.get("timeout", timeout_us)
    if len(values) == 2 and timeout == DEFAULT_TIMEOUT:  # noqa: PLR2004 - action and interval alone
        return {}
    fields = {name: values[name] for name in _SAME_NAME if name in values}
    fields["timeout_us"] = timeout
    fields["jitter_us"] = values.get("jitter", 0)
    fields["max_unfinished"] = _max_unfinished(values)
    late = DEFAULT_GRACE if values.get("misfire") is Misfire.SKIP else None
    fields["grace_us"] = values.get("grace", late)
    for name in _BACK_OFF:
        if name in values:
            fields[f"{name}_us"] = values[name]
    return {name: value for name, value in fields.items() if value != DEFINITION_DEFAULTS[name]}


def _max_unfinished(values: Mapping[str, Any]) -> int:
    match values.get("overlap"):
        case Overlap.ALLOW:
            return int(values.get("max_running", 10))
        case Overlap.WAIT:
            return 2  # one goes, one waits
    return 1


def _digest(target: str, schedule: Schedule, policy: dict[str, Any]) -> str:
    if isinstance(schedule, Interval):  # spelling it would be most of what a task costs
        grid: object = (schedule.every_us, schedule.start_us)
    else:
        grid = sorted(schedule.to_text().items())
    stored = {_DIGEST_KEYS.get(name, name): value for name, value in policy.items()}
    words = msgspec.json.encode((target, grid, stored))
    return hashlib.blake2b(words, digest_size=8).hexdigest()


def _setting_value(name: str, value: Any) -> str:  # noqa: ANN401 - a value of any setting
    match value:
        case bool():
            return str(value).lower()
        case bytes():
            return value.decode(errors="surrogateescape")
        case tuple():
            return "\n".join(f"{header}: {content}" for header, content in value)
        case Overlap() | Misfire() | Scope() | OnAbandoned():
            return str(value.value)
        case datetime():
            return value.isoformat() if value.tzinfo is None else rfc3339(instant_of(value))
        case int() if name in _SPANS:
            return converters.duration_text(value)
    return str(value)


_DIGEST_KEYS = {"max_unfinished": "room"}
"""Names of fields in the digest. Stores keep the digest, so a renamed field keeps its name here."""

_SAME_NAME = (
    "method",
    "headers",
    "body",
    "run_at_start",
    "overlap",
    "misfire",
    "scope",
    "on_abandoned",
    "retries",
    "retry_max_doublings",
)
_BACK_OFF = ("retry_min_backoff", "retry_max_backoff")
_SPANS = frozenset({"interval", "jitter", "timeout", "grace", *_BACK_OFF})
DEFINITION_DEFAULTS: dict[str, object] = dict(
    zip(
        TaskDefinition.__struct_fields__[-len(TaskDefinition.__struct_defaults__) :],
        TaskDefinition.__struct_defaults__,
        strict=True,
    )
)
"""What a definition holds where its declaration says nothing."""
