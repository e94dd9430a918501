"""Validates a task that the application adds at run time, and reports all problems at the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.addition import complete
from pulse.config.words import EXPECTED_LABEL, is_label
from pulse.environ import header_problems
from pulse.errors import ConfigError, shown
from pulse.guard import Guard
from pulse.policy import Scope
from pulse.task import Task, given, read_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.addition import Addition, Usual


def addition_of(name: object, task: object, usual: Usual) -> Addition:
    """Return the task as a store keeps it.

    Args:
        name: the name of the task.
        task: the task that the application declares.
        usual: the defaults of tasks from the configuration.

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
    addition = complete(name, task, usual)
    if problems := [*_unfit(task), *_unguarded(addition, usual.guarded)]:
        raise ConfigError(f"task.{problem}" for problem in problems)
    return addition


def _unfit(task: Task) -> Iterator[str]:
    values, _ = read_task(given(task))
    yield from header_problems(values.get("headers", ()))
    if values.get("scope", Scope.FLEET) is not Scope.FLEET:
        yield f"scope: expected fleet for a task added at run time, got {values['scope'].value}"
    if not values.get("enabled", True):
        yield "enabled: expected true for a task added at run time, got false; pause it instead"


def _unguarded(addition: Addition, guarded: tuple[str, ...] | None) -> Iterator[str]:
    """Yield a problem if the guard is on and does not cover the task's path."""
    if guarded is None:
        return
    path = addition.definition.path
    if not Guard(("", path_guarded) for path_guarded in guarded).refuses({"PATH_INFO": path}):
        yield (
            f"action: expected a path that the guard covers (guard = true), got {shown(path)};"
            " add this path, or a path above it, to pulse.config.guarded"
        )
