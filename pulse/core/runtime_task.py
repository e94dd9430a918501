"""Tasks that are added at run time: the JSON that a store keeps, and the definition it describes.

The JSON is complete: the action is an absolute path, and timeout and time zone of the adding
process are included. So every process that shares the store builds the same definition from the
JSON, whatever its own configuration is, and builds it only when it is needed.
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
"""How many definitions a process caches; others are built again when they are needed."""


REMOVED_WHEN_DONE = '"remove_when_done": "true"'
"""What the JSON of a task contains that is removed after its last fire time."""


class TaskDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The defaults of the configuration for tasks that are added at run time.

    Attributes:
        context: the base path of relative actions.
        timeout_us: the timeout of tasks without a timeout.
        timezone: the time zone of tasks without a time zone.
        guarded: the paths that the guard covers (PEP 3333 text); None without a guard.

    """

    context: str = ""
    timeout_us: Span = DEFAULT_TIMEOUT
    timezone: str = UTC
    guarded: tuple[str, ...] | None = None


class RuntimeTask(msgspec.Struct, frozen=True):
    """A task to be added: its definition, and the JSON that a store keeps."""

    definition: TaskDefinition
    task_json: str


def make_runtime_task(name: str, task: Task, defaults: TaskDefaults) -> RuntimeTask:
    """Return *task* as a definition and complete JSON."""
    settings = to_settings(task)
    settings["action"] = target_of(settings["action"], defaults.context)
    settings.setdefault("timeout", duration_text(defaults.timeout_us))
    if "interval" not in settings or not settings.keys().isdisjoint({"start", "end"}):
        settings.setdefault("timezone", defaults.timezone)
    complete = Task(**settings)
    return RuntimeTask(build_definition(name, complete), json.dumps(settings, sort_keys=True))


def load_runtime_task(name: str, task_json: str) -> TaskDefinition:
    """Return the definition that the JSON of a store describes.

    Raises:
        ConfigError: this release of pulse cannot read the JSON; a newer release wrote it.

    """
    known = set(Task.__struct_fields__)
    given = json.loads(task_json)
    if unknown := sorted(given.keys() - known):
        raise ConfigError([_unknown_setting(name, ", ".join(unknown))])
    try:
        return build_definition(name, Task(**given))
    except ConfigError as error:
        raise ConfigError([_unknown_setting(name, str(error))]) from None


def _unknown_setting(name: str, what: str) -> str:
    return f"{name}: expected settings that this release of pulse knows, got others: {what}"


def cached_loader() -> Callable[[str, str], TaskDefinition]:
    """Return `load_runtime_task` with a bounded cache of its own."""
    return lru_cache(MAX_CACHED_DEFINITIONS)(load_runtime_task)
