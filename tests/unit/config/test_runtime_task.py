"""Validation of tasks that are added at run time."""

from __future__ import annotations

import pytest

from pulse.config.runtime_task import validate_runtime_task
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import Task
from pulse.errors import ConfigError

TASK = Task(action="send", interval=60)


def problems_of(
    name: object, task: object, defaults: TaskDefaults | None = None
) -> tuple[str, ...]:
    """Return the problems for which a run-time task is rejected."""
    with pytest.raises(ConfigError) as raised:
        validate_runtime_task(name, task, defaults or TaskDefaults())
    return raised.value.problems


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 201, 5, None])
def test_invalid_name_is_rejected(name: object) -> None:
    """A name must be valid in a header, a log line and a database key."""
    (problem,) = problems_of(name, TASK)
    assert problem.startswith("name: expected a task's name of 1 to 200 printable characters")


def test_other_object_than_a_task_is_rejected() -> None:
    """The error shows the given value."""
    assert problems_of("a", {"action": "send"}) == (
        "task: expected a Task, got a value of type dict, not shown here",
    )


def test_problems_of_both_arguments_are_reported_together() -> None:
    """One error lists all problems."""
    assert [problem.partition(":")[0] for problem in problems_of("", None)] == ["name", "task"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scope": "host"}, "task.scope: expected fleet for a task added at run time, got host"),
        ({"enabled": False}, "task.enabled: expected true"),
        ({"headers": "X-Token: ${PULSE_TEST_NONE}"}, "task.headers: X-Token needs the environment"),
    ],
)
def test_unsupported_setting_of_a_run_time_task_is_reported(
    settings: dict[str, object], message: str
) -> None:
    """The problem names the setting, the expectation and the given value."""
    (problem,) = problems_of("a", Task(action="send", interval=60, **settings))
    assert problem.startswith(message)


@pytest.mark.parametrize("action", ["/", "/other", "send", "/reports2"])
def test_path_outside_the_guarded_paths_is_rejected(action: str) -> None:
    """Outsiders could request an unguarded path."""
    defaults = TaskDefaults(guarded=("/reports",))
    (problem,) = problems_of("a", Task(action=action, interval=60), defaults)
    assert problem.startswith("task.action: expected a path that the guard covers")
    assert "pulse.config.guarded" in problem


@pytest.mark.parametrize("action", ["/reports", "/reports/send?user=5", "/Reports//send"])
def test_path_at_or_below_a_guarded_path_is_accepted(action: str) -> None:
    """The path is compared in its canonical form."""
    defaults = TaskDefaults(guarded=("/reports",))
    assert validate_runtime_task("a", Task(action=action, interval=60), defaults).task_json


def test_any_path_is_accepted_without_a_guard() -> None:
    """Without a guard, the root is accepted, too."""
    assert (
        validate_runtime_task("a", Task(action="/", interval=60), TaskDefaults()).definition.path
        == "/"
    )
