"""Whether the schedule is kept, and how a process is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.run import Outcome, Run
from pulse.handle.health import HealthStatus, judge, overdue_by
from pulse.scheduler.condition import Condition, State, condition_of
from pulse.store.steering import MemberReport, MemberState, Pause, TaskState

NOW = 1_000_000 * SECOND
TASK = TaskState(
    name="work",
    partition="",
    source="config",
    digest="d",
    paused=False,
    anchor=0,
    next_fire=NOW + SECOND,
    last_decided=NOW,
    unfinished=0,
    schedule={"interval": "10s"},
    settings={"action": "/work", "interval": "10s", "timeout": "30s"},
)
MEMBER = MemberState(
    holder="web1:1:a", host="web1", pid=1, mode="gevent", digest="d", lease_us=SECOND, seen_at=NOW
)


def task(**words: object) -> TaskState:
    """Return the task with other fields."""
    return msgspec.structs.replace(TASK, **words)


def kinds(*tasks: TaskState, **words: object) -> list[tuple[str, str]]:
    """Return kind and status of the problems of a fleet."""
    given_ = {"members": [MEMBER], "running": [], "pause": None} | words
    found = judge(tasks, given_.pop("members"), given_.pop("running"), now=NOW, **given_)  # type: ignore[arg-type] # by name
    return [(one.kind, one.status.value) for one in found.problems]


def test_fleet_whose_tasks_are_on_time_is_fine() -> None:
    """Also one without tasks, with any processes."""
    assert kinds(TASK) == []
    found = judge([], [], [], pause=None, now=NOW)
    assert (found.status, found.tasks, found.processes) == (HealthStatus.PASS, 0, 0)


@given(
    st.integers(-100, 200),
    st.sampled_from(["", "10s", "90s"]),
    st.sampled_from(["", "5s"]),
    st.booleans(),
)
def test_overdue_is_what_is_later_than_its_grace_and_jitter(
    late: int,
    grace: str,
    jitter: str,
    paused: bool,  # noqa: FBT001 - drawn
) -> None:
    """At least a minute later; a paused task is never overdue."""
    settings = {"grace": grace} if grace else {}
    settings |= {"jitter": jitter} if jitter else {}
    one = task(next_fire=NOW - late * SECOND, settings=settings, paused=paused)
    allowed = max(int(grace.rstrip("s") or 0), 60) + int(jitter.rstrip("s") or 0)
    assert overdue_by(one, NOW) == (0 if paused or late <= allowed else late * SECOND)


def test_task_that_is_late_failing_or_stuck_is_named() -> None:
    """The worst comes first."""
    late = task(next_fire=NOW - 120 * SECOND)
    assert kinds(late) == [("overdue", "fail")]
    assert kinds(late, pause=Pause()) == []
    failing = task(failures=3, last_outcome=Outcome.FAILED)
    assert kinds(failing) == [("failing", "fail")]
    assert kinds(task(failures=1, last_outcome=Outcome.FAILED)) == [("failing", "warn")]
    run = Run(id="1" * 32, task="work", fire_time=NOW, holder="h", claimed_at=NOW - 61 * SECOND)
    assert kinds(TASK, running=[run]) == [("stuck", "fail")]
    young = msgspec.structs.replace(run, claimed_at=NOW - 59 * SECOND)
    assert kinds(TASK, running=[young]) == []
    assert task(next_fire=None) is not None
    assert kinds(task(next_fire=None)) == []


def test_fleet_that_nobody_serves_or_that_disagrees_is_named() -> None:
    """Processes that declare different tasks, and clocks that differ, are warned about."""
    assert kinds(TASK, members=[]) == [("unserved", "fail")]
    other = msgspec.structs.replace(MEMBER, digest="e")
    assert kinds(TASK, members=[MEMBER, other]) == [("disagreement", "warn")]
    fast = msgspec.structs.replace(MEMBER, report=MemberReport(offset_us=2 * SECOND))
    assert kinds(TASK, members=[fast]) == [("clock", "warn")]


def test_settings_of_a_later_release_are_ignored() -> None:
    """A grace that cannot be read counts as none."""
    one = task(next_fire=NOW - 61 * SECOND, settings={"grace": "a fortnight"})
    assert kinds(one) == [("overdue", "fail")]


@pytest.mark.parametrize(
    ("state", "words", "expected"),
    [
        (State.CLAIMING, {}, (True, True)),
        (State.NEW, {}, (True, False)),
        (State.OPEN, {}, (True, False)),
        (State.DRAINING, {}, (True, False)),
        (State.CLOSED, {"in_step_for": 900 * SECOND}, (True, False)),
        (State.CLAIMING, {"accepts": False}, (True, False)),
        (State.CLAIMING, {"lost_for": 2 * SECOND}, (True, True)),
        (State.CLAIMING, {"lost_for": 31 * SECOND}, (True, False)),
        (State.CLAIMING, {"lost_for": 900 * SECOND}, (True, False)),
        (State.CLAIMING, {"in_step_for": 89 * SECOND}, (True, True)),
        (State.CLAIMING, {"in_step_for": 91 * SECOND}, (False, False)),
        (State.DRAINING, {"in_step_for": 91 * SECOND}, (False, False)),
    ],
)
def test_process_is_live_unless_its_loop_is_stuck(
    state: State, words: dict[str, object], expected: tuple[bool, bool]
) -> None:
    """It is ready while it claims and its store answers."""
    given_ = {"accepts": True, "in_step_for": SECOND, "lost_for": None} | words
    found = condition_of(state, lease_us=30 * SECOND, **given_)  # type: ignore[arg-type] # by name
    assert found[:2] == expected
    assert (found.reason == "") == found.is_ready
    assert isinstance(found, Condition)


def test_fleet_that_posts_runs_and_has_no_worker_is_named() -> None:
    """Nothing runs then; one worker of any pool is enough."""
    web = msgspec.structs.replace(MEMBER, mode="celery")
    worker = msgspec.structs.replace(MEMBER, mode="celery prefork")
    assert kinds(TASK, members=[web]) == [("no_worker", "fail")]
    assert kinds(TASK, members=[MEMBER, web]) == [("no_worker", "fail")]
    assert kinds(TASK, members=[web, worker]) == []
    assert kinds(members=[web]) == []


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        pytest.param(["", ""], [], id="answers both"),
        pytest.param(["amqp://mq//", ""], [("broker", "warn")], id="answers one"),
        pytest.param(["amqp://mq//", "amqp://mq//"], [("broker", "fail")], id="answers none"),
    ],
)
def test_broker_that_does_not_answer_is_named(
    silent: list[str], expected: list[tuple[str, str]]
) -> None:
    """Before a tick is overdue: the next one of a daily task may be hours away."""
    worker = msgspec.structs.replace(MEMBER, mode="celery prefork", report=MemberReport())
    webs = [
        msgspec.structs.replace(MEMBER, mode="celery", report=MemberReport(silent_broker=name))
        for name in silent
    ]
    assert kinds(TASK, members=[worker, *webs]) == expected
    found = judge([TASK], [worker, *webs], [], pause=None, now=NOW)
    texts = [one.text for one in found.problems]
    number = sum(map(bool, silent))
    expected_text = f"the broker amqp://mq// does not answer {number} of 2 processes that post runs"
    assert texts == [expected_text] * bool(number)
