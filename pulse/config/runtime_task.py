"""Validates a task that the application adds at run time, and reports all problems at the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.config.converters import EXPECTED_LABEL, is_label
from pulse.core.policies import Scope
from pulse.core.runtime_task import make_runtime_task
from pulse.core.task_settings import Task, explicit_values, read_task
from pulse.errors import ConfigError, shown
from pulse.guard.guard import Guard
from pulse.wsgi.environ import header_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.runtime_task import RuntimeTask, TaskDefaults


def validate_runtime_task(name: object, task: object, defaults: TaskDefaults) -> RuntimeTask:
    """Return the task as a store keeps it.

    Args:
        name: the name of the task.
        task: the task that the application declares.
        defaults: the defaults of tasks from the configuration.

    Raises:
        ConfigError: an argument or a setting is invalid; one sentence for each problem.

    """
    problems: list[str] = []
    if not isinstance(name, str) or not is_label(name):
        problems.append(f"name: expected {EXPECTED_LABEL}, got {shown(name)}")
    if not isinstance(task, Task):
        problems.append(f"task: expected a Task, got {shown(task)}")
    if problems or not isinstance(name, str) or not isinstance(task, Task):
        raise ConfigError(problems)
    runtime_task = make_runtime_task(name, task, defaults)
    if problems := [*_unsupported_settings(task), *_unguarded(runtime_task, defaults.guarded)]:
        raise ConfigError(f"task.{problem}" for problem in problems)
    return runtime_task


def _unsupported_settings(task: Task) -> Iterator[str]:
    values, _ = read_task(explicit_values(task))
    yield from header_problems(values.get("headers", ()))
    if values.get("scope", Scope.FLEET) is not Scope.FLEET:
        yield f"scope: expected fleet for a task added at run time, got {values['scope'].value}"
    if not values.get("enabled", True):
        yield "enabled: expected true for a task added at run time, got false; pause it instead"


def _unguarded(runtime_task: RuntimeTask, guarded: tuple[str, ...] | None) -> Iterator[str]:
    """Yield a problem if the guard is on and does not cover the task's path."""
    if guarded is None:
        return
    path = runtime_task.definition.path
    if not Guard(("", path_guarded) for path_guarded in guarded).refuses({"PATH_INFO": path}):
        yield (
            f"action: expected a path that the guard covers (guard = true), got {shown(path)};"
            " add this path, or a path above it, to pulse.config.guarded"
        )
