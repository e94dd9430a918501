"""The definition of a task, with which the rest of pulse works.

`build_definition` makes a `TaskDefinition` from a `Task`, a name and a context: exact types, the
final path, and a digest that is equal in all processes with the same declaration. A field of a
definition has the name of its setting; the name of a span ends in `_us`.

A new setting is a field of `Task`, in `pulse.core.task_settings`. If runs depend on it, it is also
a field of `TaskDefinition`, which states the exact type and takes its default from the setting.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.clock import SECOND, Span
from pulse.core.action import target_of, wsgi_path
from pulse.core.policies import Misfire, OnAbandoned, Overlap, Scope
from pulse.core.task_settings import (
    DEFAULT_TIMEOUT,
    TASK_SETTINGS,
    Task,
    explicit_values,
    fallback_of,
    read_task,
)
from pulse.schedule.converters import UTC
from pulse.schedule.factory import schedule_of
from pulse.schedule.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.schedule.base import Schedule

__all__ = [
    "DEFAULT_TIMEOUT",
    "DEFINITION_DEFAULTS",
    "LATE",
    "Task",
    "TaskDefinition",
    "build_definition",
    "build_definition_from_values",
]

DEFAULT_GRACE: Span = 60 * SECOND
"""How late a run may start with `misfire = skip` and without `grace`."""

LATE: Span = 60 * SECOND
"""A run that is later than this is a catch-up, even if no earlier fire time was missed."""


class TaskDefinition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task with exact types, spans in microseconds, and the final path.

    Attributes:
        path: PATH_INFO: unquoted bytes as latin-1 characters (PEP 3333).
        query: the query string, quoted.
        jitter_us: the maximum delay of a tick after its fire time.
        max_unfinished: the maximum number of unfinished runs, claimed or pending.
        grace_us: how late a run may start; None means without limit.
        retries: the maximum number of attempts after the first.
        digest: a hash that is equal in every process with the same declaration.

    """

    name: str
    path: str
    query: str
    schedule: Schedule
    digest: str
    method: str = fallback_of("method")
    headers: tuple[tuple[str, str], ...] = fallback_of("headers")
    body: bytes = fallback_of("body")
    jitter_us: Span = fallback_of("jitter")
    run_at_start: bool = fallback_of("run_at_start")
    timeout_us: Span = fallback_of("timeout")
    overlap: Overlap = fallback_of("overlap")
    max_unfinished: int = 1
    misfire: Misfire = fallback_of("misfire")
    grace_us: Span | None = fallback_of("grace")
    scope: Scope = fallback_of("scope")
    on_abandoned: OnAbandoned = fallback_of("on_abandoned")
    retries: int = fallback_of("retries")
    retry_min_backoff_us: Span = fallback_of("retry_min_backoff")
    retry_max_backoff_us: Span = fallback_of("retry_max_backoff")
    retry_max_doublings: int = fallback_of("retry_max_doublings")
    remove_when_done: bool = fallback_of("remove_when_done")
    queue: str | None = fallback_of("queue")

    @property
    def max_concurrent(self) -> int:
        """The maximum number of claimed runs."""
        return self.max_unfinished if self.overlap is Overlap.ALLOW else 1


def build_definition(
    name: str,
    task: Task,
    *,
    context: str = "",
    timeout_us: Span = DEFAULT_TIMEOUT,
    timezone: str = UTC,
) -> TaskDefinition:
    """Return the definition of *task* with a name; a relative action is below *context*."""
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
    """Return the definition of a task from the exact values that `read_task` returned.

    Args:
        name: the name of the task.
        values: the exact values of its settings.
        context: the base path of a relative action.
        timeout_us: the timeout of a task without a timeout.
        timezone: the time zone of a task without a time zone.

    """
    target = target_of(values["action"], context)
    path, _, query = target.partition("?")
    schedule = schedule_of(values, timezone=timezone)
    policy = _policy(values, timeout_us)
    return TaskDefinition(
        name=name,
        path=wsgi_path(path),
        query=query,
        schedule=schedule,
        digest=_digest(target, schedule, policy),
        **policy,
    )


def _policy(values: Mapping[str, Any], timeout_us: Span) -> dict[str, Any]:
    """Return the fields of a definition that differ from their defaults, in a fixed order."""
    timeout = values.get("timeout", timeout_us)
    if len(values) == 2 and timeout == DEFAULT_TIMEOUT:  # noqa: PLR2004 - action and interval alone
        return {}
    fields = {_FIELD_OF[name]: values[name] for name in values if name in _FIELD_OF}
    fields["timeout_us"] = timeout
    fields["max_unfinished"] = _max_unfinished(values)
    if values.get("misfire") is Misfire.SKIP:
        fields.setdefault("grace_us", DEFAULT_GRACE)
    changed = [name for name, value in fields.items() if value != DEFINITION_DEFAULTS[name]]
    changed.sort(key=_DIGEST_ORDER.__getitem__)
    return {name: fields[name] for name in changed}


def _max_unfinished(values: Mapping[str, Any]) -> int:
    match values.get("overlap"):
        case Overlap.ALLOW:
            return int(values.get("max_running", fallback_of("max_running")))
        case Overlap.WAIT:
            return 2  # one is claimed, one waits
    return 1


def _digest(target: str, schedule: Schedule, policy: dict[str, Any]) -> str:
    if isinstance(schedule, Interval):  # its text would be most of the cost of a task
        grid: object = (schedule.every_us, schedule.start_us)
    else:
        grid = sorted(schedule.to_text().items())
    stored = {_DIGEST_KEYS.get(name, name): value for name, value in policy.items()}
    words = msgspec.json.encode((target, grid, stored))
    return hashlib.blake2b(words, digest_size=8).hexdigest()


DEFINITION_DEFAULTS: dict[str, object] = dict(
    zip(
        TaskDefinition.__struct_fields__[-len(TaskDefinition.__struct_defaults__) :],
        TaskDefinition.__struct_defaults__,
        strict=True,
    )
)
"""The values of a definition whose task sets nothing."""

_FIELD_OF = {
    name: field_name
    for name, field_name in (
        (name, f"{name}_us" if row.is_span else name) for name, row in TASK_SETTINGS.items()
    )
    if field_name in DEFINITION_DEFAULTS
}
"""The field of a definition that holds the value of a setting, by the name of the setting."""

_DIGEST_KEYS = {"max_unfinished": "room"}
"""Names of fields in the digest. Stores keep the digest, so a renamed field keeps its name here."""

# Stores keep digests, so the order of the fields in a digest does not change. It is older than the
# present order of the fields; a field that is not listed here follows the listed ones.
_FIRST_DIGESTED = (
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
    "timeout_us",
    "jitter_us",
    "max_unfinished",
    "grace_us",
)
_DIGEST_ORDER = {
    name: position
    for position, name in enumerate(dict.fromkeys((*_FIRST_DIGESTED, *DEFINITION_DEFAULTS)))
}
