"""Runs: trigger, outcome, the claim that permits an execution, and its result."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs

if TYPE_CHECKING:
    from pulse.core.task import TaskDefinition


class Trigger(StrEnum):
    """Why a run started."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    MANUAL = "manual"
    STARTUP = "startup"


class Outcome(StrEnum):
    """How a run ended, or why its tick did not run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"
    INTERRUPTED = "interrupted"
    MISSED = "missed"
    SKIPPED = "skipped"


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt at a run that was followed by another attempt.

    Attributes:
        attempt: the number of the attempt, from 1.
        started_at: the start of the call; None if it is unknown.
        took_us: the duration of the call; None if it is unknown.
        outcome: the outcome of the attempt.
        status: the HTTP status of the response.
        message: a part of the message of the run after the attempt.

    """

    attempt: int
    started_at: Instant | None
    took_us: Span | None
    outcome: Outcome
    status: int | None = None
    message: str = ""


QUEUE_HOLDER = "@queue"
"""The holder of a posted run, which waits until a worker takes it. No process has this name."""

_NO_PROCESS = frozenset({"", QUEUE_HOLDER})


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution of a claimed tick, or the record of ticks that did not run.

    Instants are whole microseconds since the Unix epoch, UTC; spans are whole microseconds.

    Attributes:
        id: 32 hex digits; for a planned tick the same in every process.
        task: the name of the task.
        partition: empty for the fleet, else the host or the holder to which the tick belongs.
        fire_time: the planned instant; for manual and start-up runs the instant of the request.
        scheduled_for: the fire time of a planned tick; None for manual and start-up runs.
        trigger: why the run was created.
        attempt: the number of the attempt, from 1; 0 before the first claim.
        holder: the process that claimed the run; empty while the run is pending, and
            `QUEUE_HOLDER` while it is posted.
        claimed_at: the instant of the claim, on the store's clock.
        started_at: the start of the call. While a retry is pending, `started_at`, `took_us`,
            `status` and `message` describe the previous attempt.
        took_us: the duration of the call.
        outcome: the outcome; None while the run is unfinished.
        status: the HTTP status of the response.
        message: the start of the body, a traceback, or a reason.
        count: the number of fire times of a missed or skipped record; *fire_time* is the oldest.
        retry_at: the instant from which a pending run may be claimed.
        body: the body of a manual trigger, which replaces the body of the task.
        attempts: the newest attempts before the last one, oldest first.

    """

    id: str
    task: str
    fire_time: Instant
    scheduled_for: Instant | None = None
    partition: str = ""
    trigger: Trigger = Trigger.SCHEDULE
    attempt: int = 1
    holder: str = ""
    claimed_at: Instant | None = None
    started_at: Instant | None = None
    took_us: Span | None = None
    outcome: Outcome | None = None
    status: int | None = None
    message: str = ""
    count: int = 1
    retry_at: Instant | None = None
    body: bytes | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def in_progress(self) -> bool:
        """Whether a process has claimed the run and it has not ended; a posted run waits."""
        return self.outcome is None and self.holder not in _NO_PROCESS

    @property
    def lateness_us(self) -> Span | None:
        """The start of the run minus its fire time; None while it has not started."""
        return None if self.started_at is None else self.started_at - self.fire_time


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The exclusive right of this process to run one tick.

    Attributes:
        run: the unfinished run.
        definition: the definition of the task, which describes the request.
        good_until: the instant of the boot clock until which the claim is valid without renewal:
            the start of the call of `claim_due` plus the lease.

    """

    run: Run
    definition: TaskDefinition
    good_until: Span


AttemptKey = tuple[str, int]
"""The id of a run, and the number of its attempt."""


def attempt_of(claim: Claim) -> AttemptKey:
    """Return the attempt that a claim is for: a later claim may be for another one of its run."""
    return claim.run.id, claim.run.attempt


class Result(msgspec.Struct, frozen=True, gc=False):
    """The result of one execution, as the engine observed it.

    Attributes:
        outcome: succeeded, failed, timed_out, interrupted, or abandoned if the lease ended before
            the call.
        started_at: the wall clock at the start of the call.
        took_us: the duration of the call, by the boot clock.
        status: the HTTP status of the response, if the app sent one.
        message: the start of the body, or the traceback.
        retry_after_us: the wait before the next attempt that the response asks for.
        was_dispatched: whether the application was called.

    """

    outcome: Outcome
    started_at: Instant
    took_us: Span
    status: int | None = None
    message: str = ""
    retry_after_us: Span | None = None
    was_dispatched: bool = True


class CompletedRun(NamedTuple):
    """A claim and its result."""

    claim: Claim
    result: Result


class RecordResult(NamedTuple):
    """Whether the store recorded the result of a claim, and when the run is retried."""

    recorded: bool
    retry_at: Instant | None = None


RECORDED, CLAIM_LOST = RecordResult(recorded=True), RecordResult(recorded=False)
"""The run is finished; the claim was lost, and the store keeps the earlier record."""


def run_id(space: str, task: str, partition: str, slot: Instant) -> str:
    """Return the id of the run of a planned tick: a hash that is equal in all processes."""
    words = f"{space}\0{task}\0{partition}\0{slot}".encode()
    return blake2b(words, digest_size=16).hexdigest()
