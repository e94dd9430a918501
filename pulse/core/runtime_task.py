"""Tasks that are added at run time: the words in which a store keeps one, and what they define.

The words are complete: the action is an absolute path, and what the configuration of the adding
process says of timeout and time zone stands in them. So every process that shares the store makes
the same definition of them, whatever its own configuration says, and makes it only when it is
needed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.action import target_of
from pulse.core.task import (
    DEFAULT_TIMEOUT,
    Task,
    TaskDefinition,
    build_definition,
)
from pulse.core.task_settings import to_settings
from pulse.errors import ConfigError
from pulse.schedule.converters import UTC
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CACHED_DEFINITIONS = 4_096
"""How many definitions a process keeps made; the others are made anew when they are needed."""


class TaskDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of tasks that leave it open.

    Attributes:
        context: the path that a relative action lies below.
        timeout_us: the timeout of tasks that set none.
        timezone: the time zone of tasks that name none.
        guarded: the paths that the guard covers (PEP 3333 text); None where there is no guard.

    """

    context: str = ""
    timeout_us: Span = DEFAULT_TIMEOUT
    timezone: str = UTC
    guarded: tuple[str, ...] | None = None


class RuntimeTask(msgspec.Struct, frozen=True):
    """A task to be added: what it comes to, and the words that a store keeps."""

    definition: TaskDefinition
    task_json: str


def make_runtime_task(name: str, task: Task, defaults: TaskDefaults) -> RuntimeTask:
    """Return *task* in words that leave nothing open."""
    words = to_settings(task)
    words["action"] = target_of(words["action"], defaults.context)
    words.setdefault("timeout", duration_text(defaults.timeout_us))
    if "interval" not in words or not words.keys().isdisjoint({"start", "end"}):
        words.setdefault("timezone", defaults.timezone)
    whole = Task(**words)
    return RuntimeTask(build_definition(name, whole), json.dumps(words, sort_keys=True))


def load_runtime_task(name: str, words: str) -> TaskDefinition:
    """Return the definition that a store's words make.

    Raises:
        ConfigError: this release of pulse does not understand them; a newer one wrote them.

    """
    known = set(Task.__struct_fields__)
    given = json.loads(words)
    if strange := sorted(given.keys() - known):
        raise ConfigError([_unknown_setting(name, ", ".join(strange))])
    try:
        return build_definition(name, Task(**given))
    except ConfigError as error:
        raise ConfigError([_unknown_setting(name, str(error))]) from None


def _unknown_setting(name: str, what: str) -> str:
    return f"{name}: expected words that this release of pulse knows, got others: {what}"


def cached_loader() -> Callable[[str, str], TaskDefinition]:
    """Return `load_runtime_task` with a bounded memory of its own."""
    return lru_cache(MAX_CACHED_DEFINITIONS)(load_runtime_task)
