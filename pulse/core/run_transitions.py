"""Every state change of a run, and the constructors of pending runs and of records.

All functions are pure; stores apply them. The states are described in `pulse.store.base`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import QUEUE_HOLDER, Attempt, Outcome, Run, run_id
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.planner import NewRun, NotRun
    from pulse.core.run import Result, Trigger

WAITED_TOO_LONG = "waited for an earlier run, longer than the grace of the task"
"""The message of a waiting run that was missed."""

WAITS = "waits for a worker for up to "
NOT_TAKEN = "no worker took it within "
"""The beginnings of the messages of a posted run while it waits, and after it has waited."""

MISSED_RECORD = "missed"
"""A part of the hash from which the id of a record of missed fire times is made."""

MAX_ATTEMPTS_KEPT = 20
MAX_MESSAGE = 500
"""How many earlier attempts a run keeps, and how many characters of the message of each."""


def not_run_record(
    space: str, task: str, *, partition: str, passed: NotRun, outcome: Outcome
) -> Run:
    """Return the record of fire times that were missed or skipped.

    The id of a missed record is not that of the run of its oldest fire time: after a clock that was
    ahead has been set back, that fire time may run.
    """
    ident = run_id(space, task, partition, passed.oldest)
    if outcome is Outcome.MISSED:
        ident = run_id(ident, MISSED_RECORD, str(passed.count), passed.oldest)
    return Run(
        id=ident,
        task=task,
        partition=partition,
        fire_time=passed.oldest,
        scheduled_for=passed.oldest,
        attempt=0,
        outcome=outcome,
        message=passed.reason,
        count=passed.count,
    )


def waiting_run(space: str, task: str, *, partition: str, opened: NewRun, now: Instant) -> Run:
    """Return the pending run of a tick that waits until an earlier run has finished."""
    return Run(
        id=run_id(space, task, partition, opened.scheduled_for),
        task=task,
        partition=partition,
        fire_time=opened.scheduled_for,
        scheduled_for=opened.scheduled_for,
        trigger=opened.trigger,
        attempt=0,
        retry_at=now,
    )


def pending_run(
    ident: str,
    task: str,
    *,
    partition: str,
    trigger: Trigger,
    now: Instant,
    body: bytes | None = None,
) -> Run:
    """Return a pending run that is due at once: a manual or a start-up run."""
    return Run(
        id=ident,
        task=task,
        partition=partition,
        fire_time=now,
        trigger=trigger,
        attempt=0,
        retry_at=now,
        body=body,
    )


def claim_run(run: Run, holder: str, now: Instant) -> Run:
    """Return a pending run as claimed by *holder*, with the next attempt."""
    return msgspec.structs.replace(
        run,
        attempt=run.attempt + 1,
        holder=holder,
        claimed_at=now,
        started_at=None,
        took_us=None,
        status=None,
        message="",
        retry_at=None,
    )


def finish_run(run: Run, result: Result) -> Run:
    """Return *run* finished with *result*."""
    return msgspec.structs.replace(
        run,
        outcome=result.outcome,
        started_at=result.started_at,
        took_us=result.took_us,
        status=result.status,
        message=result.message,
    )


def schedule_retry(run: Run, result: Result, at: Instant) -> Run:
    """Return *run* as pending until *at*, with the result of its last attempt."""
    return msgspec.structs.replace(
        run,
        holder="",
        claimed_at=None,
        started_at=result.started_at,
        took_us=result.took_us,
        status=result.status,
        message=result.message,
        retry_at=at,
        attempts=_with_attempt(run, finish_run(run, result)),
    )


def advance_retry(run: Run, before: Instant) -> Run:
    """Return *run* with a retry that is due at *before* at the latest.

    A changed schedule can move the next tick to an instant before the retry. At the next tick a
    claim decides that the retry has expired, so the pending run must be due by then.
    """
    if (
        run.scheduled_for is None
        or not run.attempts
        or run.retry_at is None
        or run.retry_at <= before
        or before <= run.scheduled_for  # the clock was set back: the tick is an earlier one
    ):
        return run
    return msgspec.structs.replace(run, retry_at=before)


def expire_retry(run: Run) -> Run:
    """Return a run whose retry has expired, finished with the outcome of its last attempt."""
    last = run.attempts[-1]
    if run.started_at is not None or last.started_at is None:
        return _without_retry(run)
    # The retry was claimed and given back: the run does not describe its last attempt any more.
    return _as_last_attempt(run, last.message)


def _as_last_attempt(run: Run, message: str) -> Run:
    last = run.attempts[-1]
    return msgspec.structs.replace(
        _without_retry(run),
        started_at=last.started_at,
        took_us=last.took_us,
        status=last.status,
        message=message,
    )


def _without_retry(run: Run) -> Run:
    *before, last = run.attempts
    return msgspec.structs.replace(run, outcome=last.outcome, retry_at=None, attempts=tuple(before))


def miss_run(run: Run, reason: str = "") -> Run:
    """Return *run*, which waited, as missed for *reason*.

    Without a *reason* that is the one for which the run was given back, or `WAITED_TOO_LONG`.
    """
    message = reason or run.message or WAITED_TOO_LONG
    return msgspec.structs.replace(run, outcome=Outcome.MISSED, retry_at=None, message=message)


def post_run(run: Run, wait_us: Span, queue: str) -> Run:
    """Return a claimed run as posted to the workers of *queue*."""
    message = f"{WAITS}{duration_text(wait_us)} (queue {queue})"
    return msgspec.structs.replace(run, holder=QUEUE_HOLDER, message=message)


def take_run(run: Run, holder: str) -> Run:
    """Return a posted run as claimed by the worker *holder*."""
    return msgspec.structs.replace(run, holder=holder, message="")


def unclaim_run(run: Run) -> Run:
    """Return a claimed or posted run without its claim: the attempt has not begun.

    So a run that no process has begun ends with attempt 0, as one that was never claimed.
    """
    return msgspec.structs.replace(run, holder="", claimed_at=None, attempt=run.attempt - 1)


def miss_posted(run: Run) -> Run:
    """Return a posted run, without its claim, as missed: it has waited as its message says.

    A run that was attempted before ends with the outcome of its last attempt: it has run.
    """
    reason = NOT_TAKEN + run.message.removeprefix(WAITS)
    if not run.attempts:
        return miss_run(unclaim_run(run), reason)
    first = f"attempt {run.attempt}: {reason}"
    before = run.attempts[-1].message[-(MAX_MESSAGE - len(first) - 1) :]
    return _as_last_attempt(unclaim_run(run), f"{first}\n{before}" if before else first)


def return_run(run: Run, reason: str, at: Instant) -> Run:
    """Return a claimed run as it was before its claim: pending, due at *at*, for *reason*."""
    return msgspec.structs.replace(unclaim_run(run), retry_at=at, message=reason)


def abandon_run(run: Run, reason: str) -> Run:
    """Return *run* as abandoned for *reason*."""
    return msgspec.structs.replace(run, outcome=Outcome.ABANDONED, retry_at=None, message=reason)


def interrupt_pending(run: Run, reason: str) -> Run:
    """Return a pending run as interrupted for *reason*."""
    return msgspec.structs.replace(run, outcome=Outcome.INTERRUPTED, retry_at=None, message=reason)


def requeue_run(run: Run, reason: str, now: Instant) -> Run:
    """Return an abandoned run as pending and due at once, for another attempt."""
    attempts = _with_attempt(run, abandon_run(run, reason))
    return msgspec.structs.replace(run, holder="", claimed_at=None, retry_at=now, attempts=attempts)


def _with_attempt(run: Run, last: Run) -> tuple[Attempt, ...]:
    outcome = last.outcome or Outcome.ABANDONED
    # The cause is at the end of a traceback, and at the start of a response.
    words = last.message[-MAX_MESSAGE:] if last.status is None else last.message[:MAX_MESSAGE]
    one = Attempt(last.attempt, last.started_at, last.took_us, outcome, last.status, words)
    return (*run.attempts[1 - MAX_ATTEMPTS_KEPT :], one)
