"""Retries: whether an attempt is followed by another one, and when.

The rule is that of Google Cloud Scheduler. The wait before the first retry is
`retry_min_backoff`. The wait doubles `retry_max_doublings` times, then grows by equal steps, up to
`retry_max_backoff`. With 10 s, 300 s and 3 doublings the waits are 10, 20, 40, 80, 160, 240, 300,
300 s. A hash of run and attempt extends each wait by up to a quarter, so that tasks that failed
together are not retried together, and all processes compute the same wait.

A response can ask for a longer wait with `Retry-After` (RFC 9110, section 10.2.3). A retry never
starts at or after the next fire time of its task: the next tick replaces the retry. Runs without a
next tick are retried within a day.
"""

from __future__ import annotations

from datetime import UTC
from hashlib import blake2b
from typing import TYPE_CHECKING

from pulse.clock import DAY, SECOND, instant_of
from pulse.core.policies import OnAbandoned
from pulse.core.run import Outcome

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run
    from pulse.core.task import TaskDefinition

MAX_RETRY_PERIOD: Span = DAY
"""How long after its fire time a run is retried if its task has no later fire time."""

_SUCCEEDED = Outcome.SUCCEEDED  # each finish reads it; reading a member of an enum takes longer
_JITTER = 4
_AGAIN = frozenset({408, 425, 429})
"""Client errors that may be temporary: timeout, too early, too many requests."""


def may_run_again(claim: Claim, result: Result) -> bool:
    """Return whether another attempt may follow; the row of the task decides whether one does."""
    if result.outcome is _SUCCEEDED:
        return False
    definition = claim.definition
    return is_rerun(result.outcome, definition) or may_retry(definition, claim.run, result)


def is_rerun(outcome: Outcome, definition: TaskDefinition) -> bool:
    """Return whether a run that its own holder abandoned is dispatched again."""
    return outcome is Outcome.ABANDONED and definition.on_abandoned is OnAbandoned.RERUN


def may_retry(definition: TaskDefinition, run: Run, result: Result) -> bool:
    """Return whether the result permits another attempt."""
    if run.attempt > definition.retries:
        return False
    if result.outcome is Outcome.TIMED_OUT:
        return True
    return result.outcome is Outcome.FAILED and _is_passing(result.status)


def _is_passing(status: int | None) -> bool:
    """Return whether a failure may be temporary; an exception, which has no status, may be."""
    return status is None or status >= 500 or status in _AGAIN  # noqa: PLR2004 - server errors


def retry_at(
    definition: TaskDefinition, run: Run, result: Result, *, now: Instant, next_fire: Instant | None
) -> Instant | None:
    """Return the start of the next attempt; None if the run is not retried.

    Args:
        definition: the task.
        run: the run, as claimed for this attempt.
        result: the result of this attempt.
        now: the current instant on the store's clock.
        next_fire: the next fire time of the task; None if there is none.

    """
    if not may_retry(definition, run, result):
        return None
    wait = back_off(definition, run)
    if result.retry_after_us is not None and _is_passing(result.status):
        wait = max(wait, result.retry_after_us)
    at, until = now + wait, retry_expires_at(run, next_fire)
    if run.scheduled_for is not None and next_fire is not None:
        until = min(until, next_fire)
    return at if at < until else None


def retry_expires_at(run: Run, next_fire: Instant | None) -> Instant:
    """Return the instant from which a pending retry of *run* expires.

    After the clock was set back, the next fire time may be earlier than that of the run: it is not
    the tick that follows the run.
    """
    if run.scheduled_for is None or next_fire is None or next_fire <= run.scheduled_for:
        return run.fire_time + MAX_RETRY_PERIOD
    return next_fire


def back_off(definition: TaskDefinition, run: Run) -> Span:
    """Return the wait after the current attempt of *run*."""
    before = run.attempt - 1
    doublings = min(before, definition.retry_max_doublings)
    steps = before - doublings + 1
    wait = min(
        definition.retry_min_backoff_us * steps << doublings, definition.retry_max_backoff_us
    )
    return min(wait + _jitter(run, wait // _JITTER), definition.retry_max_backoff_us)


def _jitter(run: Run, most: Span) -> Span:
    digest = blake2b(f"{run.id}\0{run.attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) * most >> 64


def read_retry_after(word: str, now: Instant) -> Span | None:
    """Return the wait that a `Retry-After` header asks for; None if it is malformed.

    The header has seconds, or a date in one of the three forms of RFC 9110, section 5.6.7.
    """
    word = word.strip()
    if word.isascii() and word.isdecimal():
        return min(int(word[:18]), _LONGEST_S) * SECOND
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(word)
    except (ValueError, TypeError, OverflowError):
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, instant_of(zoned) - now)


_LONGEST_S = 100 * 366 * 86_400
