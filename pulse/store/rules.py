"""Rules that all stores share: resumed tasks, pending runs, retries, partitions, name checks."""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND
from pulse.core.cursor import is_undecided
from pulse.core.planner import is_too_late, plan, plan_missed
from pulse.core.policies import OnAbandoned, Overlap, Scope
from pulse.core.retry import may_retry, retry_at, retry_expires_at
from pulse.core.run import Outcome
from pulse.errors import ConfigTaskError, TaskExistsError, UndeclaredTaskError

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.cursor import Cursor
    from pulse.core.planner import Plan
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


def partitions_of(member: Member) -> frozenset[str]:
    """Return the partitions in which *member* may run tasks, of whatever scope."""
    return frozenset(partition_of(scope, member) for scope in Scope)


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
    if until is None or first is None or first + cursor.delay_us > until:
        return plan(definition, cursor, unfinished, now)
    if not is_undecided(cursor, first):
        return plan(definition, cursor, unfinished, now)
    return plan_missed(definition, cursor, first, until, reason=PAUSED)


def new_run_id() -> str:
    """Return a random id for a manual or a start-up run, which has no fire time."""
    return os.urandom(16).hex()


SET_BACK: Span = SECOND
"""By how much the clock must be set back to count: servers that take over differ by less."""


class ClockCheck(Enum):
    """Which rows a claim checks because the clock may have been ahead when they were written."""

    NONE = "none"
    LIKELY = "those with an instant in the future"
    ALL = "all"


class ClockWatch:
    """Notices that the store's clock was set back, from the instants that the store reads."""

    __slots__ = ("_newest", "_wanted")

    def __init__(self) -> None:
        self._newest: Instant | None = None
        self._wanted = ClockCheck.NONE
        self.suspect()  # the clock may have been ahead before this process joined

    def note(self, now: Instant) -> None:
        """Record an instant of the store's clock at which something was read or written."""
        if self._newest is None or now > self._newest:
            self._newest = now
        elif now < self._newest - SET_BACK:
            self._newest, self._wanted = now, ClockCheck.ALL

    def suspect(self) -> None:
        """Ask for a check of the likely rows: another process may have seen a clock ahead."""
        if self._wanted is ClockCheck.NONE:
            self._wanted = ClockCheck.LIKELY

    def retry(self, wanted: ClockCheck) -> None:
        """Ask again for a check that has failed."""
        self._wanted = wanted

    def take(self, now: Instant) -> ClockCheck:
        """Return which rows are to be checked, now that the clock shows *now*."""
        self.note(now)
        wanted, self._wanted = self._wanted, ClockCheck.NONE
        return wanted


def advance_early(run: Run, now: Instant) -> Run:
    """Return a pending run that became pending while the clock was ahead of *now*, as due.

    It is due a microsecond after *now*: what became pending by the right clock comes first.
    """
    if run.retry_at is None or run.retry_at <= now + 1:
        return run
    if run.attempts and (run.attempts[-1].started_at or 0) <= now:
        return run
    return msgspec.structs.replace(run, retry_at=now + 1)


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
    late = waited and is_too_late(definition, run.fire_time, now, partition=run.partition)
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


def undeclared(name: str) -> UndeclaredTaskError:
    """Return the error of a manual run that no process would claim."""
    return UndeclaredTaskError(
        f"expected a task that a live process declares, got {name!r}: it is disabled, or no live"
        " process has it in its configuration, so no process would run it"
    )


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
