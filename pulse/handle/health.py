"""Judges whether the schedule is kept, from the rows of tasks and the processes that take part."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.carrier.base import POSTING_MODES, lacks_workers
from pulse.clock import SECOND, Instant, Span, rfc3339
from pulse.errors import BadValueError
from pulse.settings.converters import duration_or_zero, duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pulse.core.run import Run
    from pulse.store.steering import MemberState, Pause, TaskState

LATE: Span = 60 * SECOND
"""A fire time that is not decided for longer than this, or than its grace, is overdue."""

FAILING = 3
"""A task that has failed so often in a row is failing; after fewer failures it is warned about."""

STUCK = 2
"""A run that has taken more than this many timeouts is stuck."""

MOST_OFFSET: Span = SECOND


class HealthStatus(StrEnum):
    """How well something is: fine, worth a look, or broken."""

    PASS = "pass"  # noqa: S105 - a word, not a password
    WARN = "warn"
    FAIL = "fail"


class HealthProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is not fine.

    Attributes:
        kind: `overdue`, `failing`, `stuck`, `unserved`, `no_worker`, `broker`, `disagreement` or
            `clock`.
        status: `warn` or `fail`.
        text: a sentence about it.
        task: the name of the task, if it is about one.

    """

    kind: str
    status: HealthStatus
    text: str
    task: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the schedule is kept.

    Attributes:
        status: the worst of the problems; `pass` without any.
        at: the store's clock.
        tasks: how many tasks there are.
        processes: how many processes take part.
        problems: the worst first, then by task.

    """

    status: HealthStatus
    at: Instant
    tasks: int
    processes: int
    problems: tuple[HealthProblem, ...] = ()


class Overview(NamedTuple):
    """Everything that is about now, read at one moment.

    Attributes:
        tasks: the rows of all tasks.
        members: the processes that take part.
        pause: the pause of all tasks; None if there is none.
        running: the runs in progress.
        health: what follows from these.
        is_private: whether the store is the memory of this process, which no other one shares.

    """

    tasks: Sequence[TaskState]
    members: Sequence[MemberState]
    pause: Pause | None
    running: Sequence[Run]
    health: Health
    is_private: bool = False


def judge(
    tasks: Sequence[TaskState],
    members: Sequence[MemberState],
    running: Sequence[Run],
    *,
    pause: Pause | None,
    now: Instant,
) -> Health:
    """Return the health of a fleet.

    Args:
        tasks: the rows of all tasks.
        members: the processes that take part.
        running: runs in progress.
        pause: the pause of all tasks, if there is one.
        now: the store's clock.

    """
    problems = [
        *_of_tasks(tasks, paused=pause is not None, now=now),
        *_of_runs(running, tasks, now),
        *_of_fleet(members, has_tasks=bool(tasks)),
    ]
    worst_first = sorted(problems, key=lambda one: (one.status, one.kind, one.task))
    status = worst_first[0].status if worst_first else HealthStatus.PASS
    return Health(
        status=status,
        at=now,
        tasks=len({one.name for one in tasks}),
        processes=len(members),
        problems=tuple(worst_first),
    )


def overdue_by(task: TaskState, now: Instant) -> Span:
    """Return for how long the oldest undecided fire time should have been decided; 0 if not.

    The cursor of the row decides: so a long run, a pause, a task that was just added and any kind
    of schedule are judged alike.
    """
    if task.next_fire is None or task.paused:
        return 0
    late = now - task.next_fire
    if late <= LATE:  # nearly always
        return 0
    allowed = max(_span(task, "grace"), LATE) + _span(task, "jitter")
    return late if late > allowed else 0


def _of_tasks(tasks: Sequence[TaskState], *, paused: bool, now: Instant) -> Iterator[HealthProblem]:
    for task in tasks:
        late = 0 if paused else overdue_by(task, now)
        where = f" on {task.partition}" if task.partition else ""
        if late:
            due = f"due at {rfc3339(task.next_fire or 0)}"
            text = f"{task.name} is overdue{where}: {due}, {_rounded(late)} ago"
            yield _problem("overdue", HealthStatus.FAIL, text, task.name)
        if task.failures:
            times = "once" if task.failures == 1 else f"{task.failures:,} times in a row"
            outcome = "failed" if task.last_outcome is None else task.last_outcome.value
            text = f"{task.name} has not succeeded{where}: {times}, last {outcome}"
            is_failing = task.failures >= FAILING
            status = HealthStatus.FAIL if is_failing else HealthStatus.WARN
            yield _problem("failing", status, text, task.name)


def _of_runs(
    running: Sequence[Run], tasks: Sequence[TaskState], now: Instant
) -> Iterator[HealthProblem]:
    timeouts = {task.name: _span(task, "timeout") for task in tasks}
    for run in running:
        timeout = timeouts.get(run.task, 0)
        took = now - (run.claimed_at or now)
        if timeout and took > STUCK * timeout:
            text = (
                f"{run.task} is stuck: run {run.id} is in progress for {_rounded(took)}, with a"
                f" timeout of {duration_text(timeout)}"
            )
            yield _problem("stuck", HealthStatus.FAIL, text, run.task)


def _of_fleet(members: Sequence[MemberState], *, has_tasks: bool) -> Iterator[HealthProblem]:
    if not members and has_tasks:
        text = "nobody serves: no process has taken part lately"
        yield _problem("unserved", HealthStatus.FAIL, text)
    if has_tasks and lacks_workers(one.mode for one in members):
        text = "no worker: runs are posted to a queue, and no worker takes part (pulse worker)"
        yield _problem("no_worker", HealthStatus.FAIL, text)
    if (silent := _silent_broker(members)) is not None:
        yield silent
    if len({one.digest for one in members}) > 1:
        text = "processes declare different tasks, as during a deploy"
        yield _problem("disagreement", HealthStatus.WARN, text)
    for one in members:
        offset = 0 if one.report is None else one.report.offset_us
        if abs(offset) > MOST_OFFSET:
            text = f"the clock of {one.host} differs from the store's by {_rounded(abs(offset))}"
            yield _problem("clock", HealthStatus.WARN, text)
            return


def _silent_broker(members: Sequence[MemberState]) -> HealthProblem | None:
    """Return which broker does not answer; no run is posted if it answers no process at all."""
    posting = [one for one in members if one.mode in POSTING_MODES]
    names = sorted({one.report.silent_broker for one in posting if one.report is not None} - {""})
    if not names:
        return None
    silent = sum(one.report is not None and bool(one.report.silent_broker) for one in posting)
    text = f"the broker {', '.join(names)} does not answer {silent:,} of {len(posting):,} processes"
    status = HealthStatus.FAIL if silent == len(posting) else HealthStatus.WARN
    return _problem("broker", status, f"{text} that post runs")


def _problem(kind: str, status: HealthStatus, text: str, task: str = "") -> HealthProblem:
    return HealthProblem(kind=kind, status=status, text=text, task=task)


def _span(task: TaskState, name: str) -> Span:
    """Return a setting of a task; 0 if it has none, or one of a later release."""
    try:
        return duration_or_zero(task.settings.get(name, "0"))
    except BadValueError:
        return 0


def _rounded(span: Span) -> str:
    return duration_text(max(span - span % SECOND, SECOND))
