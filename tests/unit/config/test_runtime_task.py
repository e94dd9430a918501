"""What is wrong with a task that is added at run time is told at the call."""

from __future__ import annotations

import pytest

from pulse.config.runtime_task import addition_of
from pulse.core.runtime_task import Usual
from pulse.core.task import Task
from pulse.errors import ConfigError

TASK = Task(action="send", interval=60)


def problems_of(name: object, task: object, usual: Usual | None = None) -> tuple[str, ...]:
    """Return what an addition is refused for."""
    with pytest.raises(ConfigError) as raised:
        addition_of(name, task, usual or Usual())
    return raised.value.problems


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * 201, 5, None])
def test_a_bad_name_is_refused(name: object) -> None:
    """It has to stand in a header, a log line and a database key."""
    (problem,) = problems_of(name, TASK)
    assert problem.startswith("name: expected a task's name of 1 to 200 printable characters")


def test_a_task_is_a_task() -> None:
    """What else comes is shown."""
    assert problems_of("a", {"action": "send"}) == (
        "task: expected a Task, got {'action': 'send'}",
    )


def test_both_arguments_are_named_at_once() -> None:
    """Whoever calls it mends all in one go."""
    assert [one.partition(":")[0] for one in problems_of("", None)] == ["name", "task"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"scope": "host"}, "task.scope: expected fleet for a task added at run time, got host"),
        ({"enabled": False}, "task.enabled: expected true"),
        ({"headers": "X-Token: ${PULSE_TEST_NONE}"}, "task.headers: X-Token needs the environment"),
    ],
)
def test_what_a_run_time_task_cannot_have_is_named(words: dict[str, object], said: str) -> None:
    """The setting, what was expected, what came."""
    (problem,) = problems_of("a", Task(action="send", interval=60, **words))
    assert problem.startswith(said)


@pytest.mark.parametrize("action", ["/", "/other", "send", "/reports2"])
def test_a_path_that_the_guard_does_not_cover_is_refused(action: str) -> None:
    """Else outsiders could request it."""
    usual = Usual(guarded=("/reports",))
    (problem,) = problems_of("a", Task(action=action, interval=60), usual)
    assert problem.startswith("task.action: expected a path that is guarded already")
    assert "pulse.config.guarded" in problem


@pytest.mark.parametrize("action", ["/reports", "/reports/send?user=5", "/Reports//send"])
def test_a_path_at_or_below_a_guarded_one_is_taken(action: str) -> None:
    """However it is spelt: it is what the guard refuses to outsiders."""
    usual = Usual(guarded=("/reports",))
    assert addition_of("a", Task(action=action, interval=60), usual).words


def test_without_a_guard_any_path_is_taken() -> None:
    """The root too."""
    assert addition_of("a", Task(action="/", interval=60), Usual()).definition.path == "/"
