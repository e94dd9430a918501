"""A task that the application adds at run time: all that is wrong with it is told at the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.config.converters import EXPECTED_LABEL, is_label
from pulse.core.policies import Scope
from pulse.core.runtime_task import complete
from pulse.core.task import Task, given, read_task
from pulse.errors import ConfigError, shown
from pulse.guard.guard import Guard
from pulse.wsgi.environ import header_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.runtime_task import Addition, Usual


def addition_of(name: object, task: object, usual: Usual) -> Addition:
    """Return what a store is to keep.

    Args:
        name: the name that the task is to have.
        task: what the application declares.
        usual: what the configuration says of tasks that leave it open.

    Raises:
        ConfigError: with one sentence for each argument that is wrong.

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
    """Say so where outsiders could request the task's path although there is a guard."""
    if guarded is None:
        return
    path = addition.definition.path
    if not Guard(("", one) for one in guarded).refuses({"PATH_INFO": path}):
        yield (
            f"action: expected a path that is guarded already because guard = true, got"
            f" {shown(path)}; name it, or one above it, in pulse.config.guarded"
        )
