"""What every keeper decides alike: plans of rows that were paused, unheld runs, places."""

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
NOT_DECLARED = "no process wants the task any more"
REMOVED = "the task was removed"
"""Why a run was abandoned, in the words of its row."""

CONFIG, RUNTIME = "config", "runtime"
"""Where a row comes from."""

PAUSED = "passed while the task was paused"
"""Why fire times were missed that the planner has not seen."""


MAX_NAMES_COMPARED = 1_000
"""Among how many names the one is looked for that was probably meant."""


def partition_of(scope: Scope, member: Member) -> str:
    """Return the place in which *member* takes part in tasks of that scope."""
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
    """Return the plan of a row; what was due up to *resumed_at* passed in a pause and is missed."""
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
    """Return the id of a manual or a start-up run, which has no fire time to make one from."""
    return os.urandom(16).hex()


class PendingDecision(Enum):
    """What becomes of an unheld run whose time has come."""

    TAKE = "take"
    WAIT = "wait"
    EXPIRE = "give up"
    MISS = "miss"


def decide_pending(
    definition: TaskDefinition, run: Run, *, next_fire: Instant | None, claimed: int, now: Instant
) -> PendingDecision:
    """Return what becomes of an unheld run.

    Args:
        definition: its task.
        run: the run, whose `retry_at` is not later than *now*.
        next_fire: the next fire time of the task.
        claimed: how many runs of the task are held in the place.
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
    """Return whether an unheld run waits because its last attempt failed."""
    return bool(run.attempts) and run.attempts[-1].outcome is not Outcome.ABANDONED


class NextTick(NamedTuple):
    """What a task's row says of the ticks that follow a run.

    Attributes:
        next_fire: the next fire time.
        unfinished: how many runs are open in the row's place, that run among them.

    """

    next_fire: Instant | None
    unfinished: int


def may_run_again(claim: Claim, result: Result) -> bool:
    """Return whether the run may get another attempt, so that `next_attempt_at` decides."""
    again = is_rerun(result.outcome, claim.definition)
    return again or may_retry(claim.definition, claim.run, result)


def next_attempt_at(
    claim: Claim, result: Result, *, row: NextTick | None, now: Instant
) -> Instant | None:
    """Return when a run that ended so is dispatched again; None when it is not.

    Without a *row* there is no process left that would retry it. A run that waits for this one is
    a tick that has come: it takes the place of a retry.
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
    """Return whether a run that its own holder gave up is dispatched again."""
    return outcome is Outcome.ABANDONED and definition.on_abandoned is OnAbandoned.RERUN


def check_addition(name: str, source: str | None, *, replace: bool) -> None:
    """Refuse to add a task where a row of that name is there, which comes from *source*.

    Raises:
        TaskExistsError: it was added before, and *replace* does not say that it may go.
        ConfigTaskError: the configuration declares it.

    """
    if source == CONFIG:
        raise ConfigTaskError(
            f"name: expected one that the configuration does not declare, got {name!r}; what it"
            " declares is changed there"
        )
    if source is not None and not replace:
        raise TaskExistsError(
            f"name: expected one that is not taken, got {name!r}; replace=True puts this task in"
            " the place of the other"
        )


def check_removal(name: str, source: str) -> None:
    """Refuse to remove a task of the configuration.

    Raises:
        ConfigTaskError: the configuration declares it.

    """
    if source == CONFIG:
        raise ConfigTaskError(
            f"expected the name of a task that was added at run time, got {name!r}, which the"
            " configuration declares: remove it there, or pause it"
        )
