"""Rules that all stores share: resumed tasks, pending runs, retries, partitions, name checks."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.planner import NotRun, Plan, cursor_at, due_by, is_too_late, plan
from pulse.core.policies import OnAbandoned, Overlap, Scope
from pulse.core.retry import may_retry, retry_at, retry_expires_at
from pulse.core.run import Outcome
from pulse.errors import ConfigTaskError, TaskExistsError

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.planner import Cursor
    from pulse.core.run import Claim, Result, Run
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member


LEASE_OVER = "its holder did not renew the lease"
HOLDER_GONE = "its holder is gone"
NOT_DECLARED = "no process declares the task any more"
REMOVED = "the task was removed"
"""The recorded reasons of abandoned runs."""

CONFIG, RUNTIME = "config", "runtime"
"""The sources of task rows."""

PAUSED = "passed while the task was paused"
"""The recorded reason of fire times that were due during a pause."""


MAX_NAMES_COMPARED = 1_000
"""How many task names are compared to suggest a correct spelling."""


def partition_of(scope: Scope, member: Member) -> str:
    """Return the partition in which *member* runs tasks of *scope*."""
    if scope is Scope.FLEET:
        return ""
    return member.host if scope is Scope.HOST else member.holder


def plan_resumed(
    definition: TaskDefinition,
    cursor: Cursor,
    *,
    resumed_at: Instant | None,
    unfinished: int,
    now: Instant,
) -> Plan | None:
    """Return the plan of a row; fire times that were due up to *resumed_at* are missed.

    *resumed_at* is when a pause ended; None for no pause since the last plan.
    """
    first = cursor.next_fire
    until = None if resumed_at is None else min(resumed_at, now)
    if (
        until is None
        or first is None
        or first <= cursor.last_decided
        or first + cursor.delay_us > until
    ):
        return plan(definition, cursor, unfinished, now)
    due = due_by(definition, first, until, anchor=cursor.anchor)
    following = definition.schedule.next_after(due.newest, anchor=cursor.anchor)
    moved = cursor_at(definition, cursor.anchor, following, last_decided=due.newest)
    return Plan(moved, missed=NotRun(first, due.count, PAUSED))


def new_run_id() -> str:
    """Return a random id for a manual or a start-up run, which has no fire time."""
    return os.urandom(16).hex()


class PendingDecision(Enum):
    """What happens to a pending run that is due."""

    TAKE = "take"
    WAIT = "wait"
    EXPIRE = "expire"
    MISS = "miss"


def decide_pending(
    definition: TaskDefinition, run: Run, *, next_fire: Instant | None, claimed: int, now: Instant
) -> PendingDecision:
    """Return what happens to a pending run.

    Args:
        definition: the definition of its task.
        run: the run; its `retry_at` is not later than *now*.
        next_fire: the next fire time of the task.
        claimed: how many runs of the task are claimed in the partition.
        now: the store's clock.

    """
    if is_retry(run) and retry_expires_at(run, next_fire) <= now:
        return PendingDecision.EXPIRE
    if claimed >= definition.max_concurrent:
        return PendingDecision.WAIT
    waited = run.scheduled_for is not None and run.attempt == 0
    late = waited and is_too_late(definition, run.fire_time, now)
    return PendingDecision.MISS if late else PendingDecision.TAKE


def is_retry(run: Run) -> bool:
    """Return whether a pending run waits because its last attempt failed."""
    return bool(run.attempts) and run.attempts[-1].outcome is not Outcome.ABANDONED


class NextTick(NamedTuple):
    """The part of a task row that decides whether a run is retried.

    Attributes:
        next_fire: the next fire time of the task.
        unfinished: how many runs of the row are unfinished, including the run itself.

    """

    next_fire: Instant | None
    unfinished: int


def may_run_again(claim: Claim, result: Result) -> bool:
    """Return whether another attempt is possible at all; if so, `next_attempt_at` decides."""
    again = is_rerun(result.outcome, claim.definition)
    return again or may_retry(claim.definition, claim.run, result)


def next_attempt_at(
    claim: Claim, result: Result, *, row: NextTick | None, now: Instant
) -> Instant | None:
    """Return when the run of *claim* is dispatched again after *result*; None for never.

    Without a *row*, no process declares the task and the run is not retried. With overlap = wait,
    another unfinished run is a tick that is already due: it replaces the retry.
    """
    definition, run = claim.definition, claim.run
    if row is None:
        return None
    if is_rerun(result.outcome, definition):
        return now
    if definition.overlap is Overlap.WAIT and row.unfinished > 1:
        return None
    return retry_at(definition, run, result, now=now, next_fire=row.next_fire)


def is_rerun(outcome: Outcome, definition: TaskDefinition) -> bool:
    """Return whether a run that its own holder abandoned is dispatched again."""
    return outcome is Outcome.ABANDONED and definition.on_abandoned is OnAbandoned.RERUN


def check_addition(name: str, source: str | None, *, replace: bool) -> None:
    """Check that a run-time task may be added; *source* is that of the row of that name, or None.

    Raises:
        TaskExistsError: a run-time task of that name exists, and *replace* is false.
        ConfigTaskError: the configuration declares a task of that name.

    """
    if source == CONFIG:
        raise ConfigTaskError(
            f"name: expected a name that the configuration does not declare, got {name!r}; change"
            " this task in the configuration"
        )
    if source is not None and not replace:
        raise TaskExistsError(
            f"name: expected a name that no task has yet, got {name!r}; replace=True replaces the"
            " existing task"
        )


def check_removal(name: str, source: str) -> None:
    """Check that a task may be removed.

    Raises:
        ConfigTaskError: the configuration declares the task.

    """
    if source == CONFIG:
        raise ConfigTaskError(
            f"expected the name of a task that was added at run time, got {name!r}, which the"
            " configuration declares: remove the task there, or pause it"
        )
