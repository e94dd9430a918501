"""Runs: why one started, how it ended, and the claim that gives the right to it."""

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
    """One attempt at a run that another one followed.

    Attributes:
        attempt: its number.
        started_at: when its call began; None where nobody knows.
        took_us: how long the call took; None where nobody knows.
        outcome: how it ended.
        status: the HTTP status of the reply.
        message: the start of what it said.

    """

    attempt: int
    started_at: Instant | None
    took_us: Span | None
    outcome: Outcome
    status: int | None = None
    message: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One execution of a claimed tick, or the record of ticks that did not run.

    Instants are whole microseconds since the Unix epoch, UTC, and spans whole microseconds.

    Attributes:
        id: 32 hex digits; for a planned tick the same in whichever process opens it.
        task: the task's name.
        partition: empty for the fleet, else the host or the holder that the tick belongs to.
        fire_time: the planned instant; for manual and start-up runs the instant of the request.
        scheduled_for: the fire time of a planned tick; None for manual and start-up runs.
        trigger: why it started.
        attempt: counts the tries, 1 first; 0 while it was never claimed.
        holder: who runs it; empty while nobody does.
        claimed_at: when it was claimed, on the store's clock.
        started_at: when the call began; while a retry is due, this and what follows are those of
            the attempt before.
        took_us: how long the call took.
        outcome: how it ended; None while it is open.
        status: the HTTP status of the reply.
        message: the start of the body, a traceback, or a reason in words.
        count: how many fire times a missed or skipped row stands for, *fire_time* the oldest.
        retry_at: when an open run that nobody holds may be claimed.
        body: a body given with a manual trigger instead of the task's own.
        attempts: the newest of the attempts before the last, oldest first.

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
    def lateness_us(self) -> Span | None:
        """The start of the run minus its fire time; None while it has not started."""
        return None if self.started_at is None else self.started_at - self.fire_time


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The exclusive right of this process to run one tick.

    Attributes:
        run: the open run.
        definition: what to call.
        good_until: the instant of the boot clock up to which the right may be trusted without
            renewal: the start of the claim attempt plus the lease.

    """

    run: Run
    definition: TaskDefinition
    good_until: Span


class Result(msgspec.Struct, frozen=True, gc=False):
    """What came of one execution, as the engine's worker saw it.

    Attributes:
        outcome: succeeded, failed, timed_out, interrupted, or abandoned when the lease had ended
            before the call could begin.
        started_at: the wall clock when the call began.
        took_us: how long it took, by the boot clock.
        status: the HTTP status of the reply, if there was one.
        message: the start of the body, or the traceback.
        retry_after_us: how long the reply asks to wait before the next attempt.

    """

    outcome: Outcome
    started_at: Instant
    took_us: Span
    status: int | None = None
    message: str = ""
    retry_after_us: Span | None = None


class CompletedRun(NamedTuple):
    """A claim and what came of it."""

    claim: Claim
    result: Result


class RecordResult(NamedTuple):
    """What became of an ending: whether the store took it, and when the run is tried again."""

    recorded: bool
    retry_at: Instant | None = None


RECORDED, CLAIM_LOST = RecordResult(recorded=True), RecordResult(recorded=False)
"""The run has ended; the claim was lost, and what was recorded before stands."""


def run_id(space: str, task: str, partition: str, slot: Instant) -> str:
    """Return the id of a planned tick's run: a hash on which all processes agree."""
    words = f"{space}\0{task}\0{partition}\0{slot}".encode()
    return blake2b(words, digest_size=16).hexdigest()
