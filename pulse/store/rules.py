"""Rules that all stores share: resumed tasks, pending runs, retries, partitions, name checks."""

from __future__ import annotations

import hashlib
import os
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, rfc3339
from pulse.core.cursor import BEFORE_TIME, is_undecided
from pulse.core.planner import OLDER_THAN_NEWEST, is_too_late, plan, plan_missed
from pulse.core.policies import Overlap, Scope
from pulse.core.records import PAUSED_REASON
from pulse.core.retry import is_rerun, retry_at, retry_expires_at
from pulse.core.run import Outcome
from pulse.core.schedule_text import parsed_schedule
from pulse.core.task import TaskDefinition
from pulse.errors import (
    ConfigError,
    ConfigTaskError,
    RunNotStoppableError,
    TaskExistsError,
    UndeclaredTaskError,
)

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.cursor import Cursor
    from pulse.core.planner import Plan
    from pulse.core.run import Claim, Result, Run
    from pulse.store.base import Member
    from pulse.store.steering import MemberReport


LEASE_OVER = "its holder did not renew the lease"
HOLDER_GONE = "its holder is gone"
NOT_DECLARED = "no process declares the task any more"
REMOVED = "the task was removed"
"""The recorded reasons of abandoned runs."""

CONFIG, RUNTIME = "config", "runtime"
"""The sources of task rows."""


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
    resumed_at: Instant,
    unfinished: int,
    now: Instant,
) -> Plan | None:
    """Return the plan of a row after a pause; fire times due up to *resumed_at* are missed."""
    first, until = cursor.next_fire, min(resumed_at, now)
    is_due = first is not None and first + cursor.delay_us <= until
    if first is None or not is_due or not is_undecided(cursor, first):
        return plan(definition, cursor, unfinished, now)
    return plan_missed(definition, cursor, first, until, reason=PAUSED_REASON)


OVERDUE: Span = 2 * SECOND
"""A fire time that was due for longer than this when a pause began was not decided in time."""


def plans_before_pause(
    schedule: str, cursor: Cursor, *, resumed_at: Instant | None, since: Instant | None
) -> list[Plan]:
    """Return the plans of the fire times that were undecided as a pause began at *since*.

    The pause does not explain those fire times: an earlier one does up to *resumed_at*, and nobody
    ran those that came after it.

    Args:
        schedule: the stored text of the schedule.
        cursor: the position of the row.
        resumed_at: when an earlier pause ended after which no fire time was decided; None for none.
        since: when the first of the pauses began that now end or go on; None if that is not known.

    """
    parsed = parsed_schedule(schedule)
    if since is None or parsed is None or (resumed_at is not None and resumed_at >= since):
        return []
    bare = TaskDefinition(name="", path="", query="", schedule=parsed, digest="")
    plans: list[Plan] = []
    ends = [] if resumed_at is None else [(resumed_at, resumed_at, PAUSED_REASON)]
    for due_by, until, reason in (*ends, (since - OVERDUE, since - 1, OLDER_THAN_NEWEST)):
        first = cursor.next_fire
        if first is None or first + cursor.delay_us > due_by or not is_undecided(cursor, first):
            continue
        plans.append(plan_missed(bare, cursor, first, until, reason=reason))
        cursor = plans[-1].cursor
    return plans


def keyed_run_id(task: str, key: str) -> str:
    """Return the id of the manual run that a client asks for with a key of its own."""
    return hashlib.blake2b(
        f"{task}\0{key}".encode(), digest_size=16, person=b"pulse key"
    ).hexdigest()


def new_run_id() -> str:
    """Return a random id for a manual or a start-up run, which has no fire time."""
    return os.urandom(16).hex()


SET_BACK: Span = SECOND
"""By how much the clock must be set back to count: servers that take over differ by less."""


class ClockCheck(IntEnum):
    """Which rows a claim checks because the clock may have been ahead when they were written."""

    NONE = 0
    LIKELY = 1  # those with an instant in the future
    ALL = 2


class ClockWatch:
    """Notices that the store's clock was set back, from the instants that the store reads.

    A store assigns each reading to *newest* itself, and calls `fell_behind` for an earlier one: so
    a claim calls nothing here while the clock goes forward.

    Attributes:
        newest: the newest instant of the store's clock at which something was read or written.
        wanted: the check that the next claim makes; the store resets it.

    """

    __slots__ = ("newest", "wanted")

    def __init__(self) -> None:
        self.newest: Instant = BEFORE_TIME
        # The clock may have been ahead before this process joined.
        self.wanted: ClockCheck = ClockCheck.LIKELY

    def fell_behind(self, now: Instant) -> None:
        """Record a reading that is earlier than the newest one."""
        if now < self.newest - SET_BACK:
            self.newest = now
            self.want(ClockCheck.ALL)

    def want(self, check: ClockCheck) -> None:
        """Ask for a check, unless a more complete one is wanted already."""
        self.wanted = max(self.wanted, check)


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


def next_attempt_at(
    claim: Claim, result: Result, *, row: NextTick | None, now: Instant
) -> Instant | None:
    """Return when the run of *claim* is dispatched again after *result*; None for never.

    `pulse.core.retry.may_run_again` returns whether that is possible without a look at the *row*.
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


def check_stoppable(run: Run, mode: str, report: MemberReport | None) -> None:
    """Refuse to stop a run of a process that cannot stop runs.

    Raises:
        RunNotStoppableError: the message names the process and the reason.

    """
    if report is not None and report.stops_runs:
        return
    reason = f"mode {mode} cannot stop a run" if report else "its release of pulse stops no runs"
    raise RunNotStoppableError(
        f"expected a run that can be stopped, got {run.id} of {run.task}, which {run.holder} holds:"
        f" {reason}; the run goes on until it ends"
    )


def undeclared(name: str, *, is_served: bool = True) -> UndeclaredTaskError:
    """Return the error of a manual run that no process would claim."""
    if not is_served:
        return UndeclaredTaskError(
            f"expected a process that runs {name!r}, got none: no server runs, or none can reach"
            " the store; pulse run performs a run in the terminal"
        )
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


def check_end_of_pause(until: Instant | None, now: Instant) -> None:
    """Raise ConfigError if a pause would have ended before it begins."""
    if until is not None and until <= now:
        got = f"{rfc3339(until)}, which has passed"
        raise ConfigError([f"until: expected an instant after {rfc3339(now)}, got {got}"])


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
