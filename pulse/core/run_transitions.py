"""Every state change of a run, and the constructors of runs that are not claimed yet.

A run is claimed, finished, retried, given up, abandoned or released.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Attempt, Outcome, Run, run_id

if TYPE_CHECKING:
    from pulse.clock import Instant
    from pulse.core.planner import NewRun, NotRun
    from pulse.core.run import Result, Trigger

WAITED_TOO_LONG = "waited for an earlier run, longer than the grace of the task"
"""Why a waiting run was missed, in the words of its row."""

MAX_ATTEMPTS_KEPT = 20
MAX_MESSAGE = 500
"""How many attempts before the last are kept with a run, and how many characters of each."""


def not_run_record(
    space: str, task: str, *, partition: str, passed: NotRun, outcome: Outcome
) -> Run:
    """Return the record of fire times that were missed or skipped."""
    return Run(
        id=run_id(space, task, partition, passed.oldest),
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
    """Return the run of a tick that waits until an earlier run of its task has ended."""
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
    """Return a run that nobody holds yet, due at once: a manual or a start-up run."""
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
    """Return an unheld run as *holder* has it, as its next attempt."""
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
    """Return *run* as it stands after *result*."""
    return msgspec.structs.replace(
        run,
        outcome=result.outcome,
        started_at=result.started_at,
        took_us=result.took_us,
        status=result.status,
        message=result.message,
    )


def schedule_retry(run: Run, result: Result, at: Instant) -> Run:
    """Return *run* held by nobody until *at*, with what came of its last attempt."""
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
    """Return a run that waits for no longer than *before*, if it waits for its retry.

    The next tick has come nearer than it was when the retry was planned. It gives the retry up.
    """
    if (
        run.scheduled_for is None
        or not run.attempts
        or run.retry_at is None
        or run.retry_at <= before
    ):
        return run
    return msgspec.structs.replace(run, retry_at=before)


def expire_retry(run: Run) -> Run:
    """Return a run that nobody has retried in time, ended as its last attempt did."""
    *before, last = run.attempts
    return msgspec.structs.replace(run, outcome=last.outcome, retry_at=None, attempts=tuple(before))


def miss_run(run: Run) -> Run:
    """Return a run that has waited for its turn for too long."""
    return msgspec.structs.replace(
        run, outcome=Outcome.MISSED, retry_at=None, message=WAITED_TOO_LONG
    )


def abandon_run(run: Run, reason: str) -> Run:
    """Return *run* as a row that says that its holder is gone."""
    return msgspec.structs.replace(run, outcome=Outcome.ABANDONED, retry_at=None, message=reason)


def requeue_run(run: Run, reason: str, now: Instant) -> Run:
    """Return *run* held by nobody and due at once, its attempt as it was."""
    attempts = _with_attempt(run, abandon_run(run, reason))
    return msgspec.structs.replace(run, holder="", claimed_at=None, retry_at=now, attempts=attempts)


def _with_attempt(run: Run, last: Run) -> tuple[Attempt, ...]:
    outcome = last.outcome or Outcome.ABANDONED
    # A traceback says at its end what was wrong, a reply at its beginning.
    words = last.message[-MAX_MESSAGE:] if last.status is None else last.message[:MAX_MESSAGE]
    one = Attempt(last.attempt, last.started_at, last.took_us, outcome, last.status, words)
    return (*run.attempts[1 - MAX_ATTEMPTS_KEPT :], one)
