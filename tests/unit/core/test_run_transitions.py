"""Posted runs, and runs that are given back: what a change keeps, and what it undoes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.run import QUEUE_HOLDER, Attempt, Outcome, Result, Run, Trigger
from pulse.core.run_transitions import (
    MAX_MESSAGE,
    NOT_TAKEN,
    WAITED_TOO_LONG,
    WAITS,
    claim_run,
    expire_retry,
    finish_run,
    miss_posted,
    miss_run,
    post_run,
    requeue_run,
    return_run,
    schedule_retry,
    take_run,
    unclaim_run,
)

NOW, LATER = 1_000 * SECOND, 2_000 * SECOND
ME, WORKER = "a:1:x", "b:2:y"
RESULTS = st.builds(
    Result,
    outcome=st.sampled_from([Outcome.FAILED, Outcome.TIMED_OUT]),
    started_at=st.integers(1, NOW),
    took_us=st.integers(0, SECOND),
    status=st.none() | st.integers(500, 599),
    message=st.text(max_size=20),
)
FIRST = st.builds(
    Run,
    id=st.just("1" * 32),
    task=st.just("t"),
    fire_time=st.just(NOW),
    scheduled_for=st.none() | st.just(NOW),
    trigger=st.sampled_from(Trigger),
    attempt=st.just(0),
    retry_at=st.just(NOW),
    body=st.none() | st.binary(max_size=3),
)
"""Pending runs that no process has claimed yet."""


@st.composite
def pending_runs(draw: st.DrawFn) -> Run:
    """Return a pending run, which may have failed or been abandoned before."""
    run = draw(FIRST)
    for result in draw(st.lists(st.none() | RESULTS, max_size=3)):
        claimed = claim_run(run, ME, NOW)
        if result is None:
            run = requeue_run(claimed, "its holder is gone", NOW)
        else:
            run = schedule_retry(claimed, result, LATER)
    return run


SPANS = st.integers(1, 10_000 * SECOND)
QUEUES = st.text(min_size=1, max_size=8)


def identity(run: Run) -> tuple[object, ...]:
    """Return what no change of a posted run touches."""
    return (
        run.id, run.task, run.partition, run.fire_time, run.scheduled_for, run.trigger, run.body,
        run.attempts, run.count,
    )  # fmt: skip


@given(pending=pending_runs(), wait=SPANS, queue=QUEUES)
def test_taken_run_is_the_claimed_run_of_another_holder(
    pending: Run, wait: int, queue: str
) -> None:
    """Whether the worker takes it from its poster or from the queue."""
    claimed = claim_run(pending, ME, NOW)
    posted = post_run(claimed, wait, queue)
    assert (posted.holder, posted.outcome) == (QUEUE_HOLDER, None)
    assert posted.message.startswith(WAITS)
    expected = claim_run(pending, WORKER, NOW)
    assert [take_run(one, WORKER) for one in (claimed, posted)] == [expected, expected]


@given(pending=pending_runs(), wait=SPANS, queue=QUEUES)
def test_posted_run_that_is_missed_has_no_claim(pending: Run, wait: int, queue: str) -> None:
    """Its message says how long it has waited."""
    pending = msgspec.structs.replace(pending, attempt=0, attempts=())
    posted = post_run(claim_run(pending, ME, NOW), wait, queue)
    missed = miss_posted(posted)
    assert (missed.outcome, missed.holder, missed.claimed_at) == (Outcome.MISSED, "", None)
    assert (missed.attempt, missed.retry_at) == (pending.attempt, None)
    assert missed.message == NOT_TAKEN + posted.message.removeprefix(WAITS)
    assert identity(missed) == identity(pending)


@given(
    pending=pending_runs().filter(lambda run: bool(run.attempts)),
    wait=SPANS,
    queue=QUEUES,
    text=st.text(max_size=2 * MAX_MESSAGE),
)
def test_posted_retry_that_is_missed_ends_as_its_last_attempt(
    pending: Run, wait: int, queue: str, text: str
) -> None:
    """The run has begun, so that it is not missed; the first line says why it was not retried."""
    *before, last = pending.attempts
    last = msgspec.structs.replace(last, message=text)
    pending = msgspec.structs.replace(pending, attempts=(*before, last))
    posted = post_run(claim_run(pending, ME, NOW), wait, queue)
    ended = miss_posted(posted)
    assert (ended.outcome, ended.status, ended.started_at) == (
        last.outcome, last.status, last.started_at,
    )  # fmt: skip
    assert (ended.attempt, ended.attempts) == (pending.attempt, tuple(before))
    assert (ended.holder, ended.claimed_at, ended.retry_at) == ("", None, None)
    reason = f"attempt {posted.attempt}: {NOT_TAKEN}{posted.message.removeprefix(WAITS)}"
    assert ended.message.startswith(reason)
    kept = ended.message.removeprefix(reason).removeprefix("\n")
    assert text.endswith(kept)
    assert bool(kept) is bool(text)
    assert len(ended.message) <= MAX_MESSAGE


@given(pending=pending_runs(), at=st.integers(NOW, LATER), reason=st.text(max_size=9))
def test_run_that_is_given_back_is_claimed_as_the_same_attempt(
    pending: Run, at: int, reason: str
) -> None:
    """The claim is the one that followed without that."""
    claimed = claim_run(pending, ME, NOW)
    returned = return_run(claimed, reason, at)
    assert (returned.retry_at, returned.message, returned.holder) == (at, reason, "")
    assert claim_run(returned, ME, NOW) == claimed


@given(pending=pending_runs().filter(lambda run: bool(run.attempts)), at=st.integers(NOW, LATER))
def test_retry_that_was_given_back_expires_as_without_that(pending: Run, at: int) -> None:
    """It describes the attempt that failed, as far as the run has kept that."""
    returned = return_run(claim_run(pending, ME, NOW), "the broker did not take it", at)
    if pending.attempts[-1].outcome is Outcome.ABANDONED:
        return  # a run that is attempted again does not expire
    assert expire_retry(returned) == expire_retry(pending)


@given(pending=pending_runs())
def test_run_without_its_claim_is_pending_but_for_when_it_is_due(pending: Run) -> None:
    """An attempt that has not begun does not count."""
    run = unclaim_run(claim_run(pending, ME, NOW))
    assert (run.holder, run.claimed_at, run.attempt) == ("", None, pending.attempt)
    assert identity(run) == identity(pending)


@pytest.mark.parametrize(
    ("wait", "text"),
    [
        (300 * SECOND, "5m (queue pulse)"),
        (90 * SECOND, "1m30s (queue pulse)"),
        (SECOND // 4, "250ms (queue pulse)"),
    ],
)
def test_messages_name_the_wait_and_the_queue(wait: int, text: str) -> None:
    """While the run waits, and after it."""
    posted = post_run(Run(id="1", task="t", fire_time=0, holder=ME), wait, "pulse")
    assert posted.message == f"waits for a worker for up to {text}"
    assert miss_posted(posted).message == f"no worker took it within {text}"


def test_run_that_waits_is_missed_for_the_reason_that_is_known() -> None:
    """That of the caller, else the one for which it was given back, else that it has waited."""
    run = Run(id="1", task="t", fire_time=0, attempt=0, retry_at=1)
    returned = msgspec.structs.replace(run, message="the broker did not take it")
    found = [miss_run(run), miss_run(returned), miss_run(returned, "changed")]
    assert [one.message for one in found] == [WAITED_TOO_LONG, returned.message, "changed"]


def test_retry_that_was_not_given_back_keeps_its_whole_message() -> None:
    """An attempt keeps a part of it alone."""
    result = Result(Outcome.FAILED, NOW, 5, 503, "x" * 5_000)
    claimed = Run(id="1", task="t", fire_time=0, holder=ME)
    retry = schedule_retry(claimed, result, LATER)
    assert expire_retry(retry) == msgspec.structs.replace(
        finish_run(claimed, result), holder="", attempts=()
    )


def test_retry_of_an_attempt_that_ended_at_an_unknown_time_keeps_what_it_has() -> None:
    """There is nothing better to show."""
    last = Attempt(1, None, None, Outcome.FAILED, None, "")
    run = Run(id="1", task="t", fire_time=0, retry_at=1, message="kept", attempts=(last,))
    assert expire_retry(run).message == "kept"
