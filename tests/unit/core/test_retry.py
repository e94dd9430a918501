"""Retries, by properties: when a failed attempt is followed by another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import DAY, SECOND, Instant, Span, instant_of, moment_of
from pulse.core.retry import back_off, may_retry, read_retry_after, retry_at, retry_expires_at
from pulse.core.run import Outcome, Result, Run, run_id
from pulse.core.task import Task, TaskDefinition, build_definition

NOW = 1_800_000_000 * SECOND
SPANS = st.integers(1, 7_200).map(lambda seconds: seconds * SECOND)


def task(**words: object) -> TaskDefinition:
    """Return the definition of a task that is retried, each ten seconds at first."""
    usual = {"retries": 100, "retry_min_backoff": 10, "retry_max_backoff": 300}
    return build_definition("t", Task(action="t", interval=60, **usual | words))


def run(attempt: int = 1, *, slot: Instant | None = NOW, number: int = 0) -> Run:
    """Return a run as the holder of that attempt had it."""
    return Run(
        id=run_id("", "t", "", number), task="t", fire_time=NOW, scheduled_for=slot, attempt=attempt
    )


def failed(status: int | None = 503, *, after: Span | None = None) -> Result:
    """Return the result of an attempt that failed."""
    return Result(Outcome.FAILED, NOW, 5_000, status, "busy", after)


@st.composite
def definitions(draw: st.DrawFn) -> TaskDefinition:
    """Draw a task with any settings of its retries."""
    shortest, longest = sorted((draw(SPANS), draw(SPANS)))
    return task(
        retries=draw(st.integers(0, 100)),
        retry_min_backoff=shortest // SECOND,
        retry_max_backoff=longest // SECOND,
        retry_max_doublings=draw(st.integers(0, 60)),
    )


RUNS = st.builds(run, st.integers(1, 101), number=st.integers(0, 1_000))


def test_waits_double_then_grow_by_steps_then_stand() -> None:
    """The waits of Google's documentation, each up to a quarter longer and never past the cap."""
    definition = task(retry_max_doublings=3)
    least = [wait * SECOND for wait in (10, 20, 40, 80, 160, 240, 300, 300)]
    waits = [back_off(definition, run(attempt)) for attempt in range(1, 9)]
    most = [min(wait * 5 // 4, 300 * SECOND) for wait in least]
    assert all(low <= wait <= high for low, wait, high in zip(least, waits, most, strict=True))


@given(definition=definitions(), tried=RUNS)
def test_a_wait_is_within_its_bounds(definition: TaskDefinition, tried: Run) -> None:
    """Never under the shortest, never over the longest, whatever the settings."""
    wait = back_off(definition, tried)
    assert definition.retry_min_backoff_us <= wait <= definition.retry_max_backoff_us


@given(definition=definitions(), tried=RUNS)
def test_all_processes_agree(definition: TaskDefinition, tried: Run) -> None:
    """The same run and attempt have the same wait everywhere."""
    words = {"now": NOW, "next_fire": None}
    first = retry_at(definition, tried, failed(), **words)
    assert first == retry_at(definition, tried, failed(), **words)


def test_runs_that_failed_together_do_not_come_back_together() -> None:
    """A hundred runs spread over the quarter by which a wait may be longer."""
    waits = {back_off(task(), run(number=number)) for number in range(100)}
    assert len(waits) == 100


@given(
    definition=definitions(),
    tried=RUNS,
    ahead=st.integers(-60, 7_200),
    asked=st.none() | SPANS,
)
def test_a_retry_begins_before_the_next_tick_and_not_before_its_wait(
    definition: TaskDefinition, tried: Run, ahead: int, asked: Span | None
) -> None:
    """It is later than now by the wait and by what the reply asks, earlier than the next tick."""
    next_fire = NOW + ahead * SECOND
    at = retry_at(definition, tried, failed(after=asked), now=NOW, next_fire=next_fire)
    least = NOW + max(back_off(definition, tried), asked or 0)
    allowed = tried.attempt <= definition.retries
    assert at == (least if allowed and least < next_fire else None)


@pytest.mark.parametrize(
    ("slot", "next_fire"),
    [(None, NOW + SECOND), (NOW, None)],
    ids=["manual or start-up", "no fire time follows"],
)
def test_a_run_that_no_tick_follows_is_retried_within_a_day(
    slot: Instant | None, next_fire: Instant | None
) -> None:
    """It counts from its fire time."""
    assert retry_expires_at(run(slot=slot), next_fire) == NOW + DAY


@pytest.mark.parametrize(
    ("outcome", "status", "expected"),
    [
        (Outcome.FAILED, 500, True),
        (Outcome.FAILED, 503, True),
        (Outcome.FAILED, 599, True),
        (Outcome.FAILED, 408, True),
        (Outcome.FAILED, 425, True),
        (Outcome.FAILED, 429, True),
        (Outcome.FAILED, None, True),
        (Outcome.TIMED_OUT, None, True),
        (Outcome.TIMED_OUT, 200, True),
        (Outcome.FAILED, 200, False),
        (Outcome.FAILED, 302, False),
        (Outcome.FAILED, 404, False),
        (Outcome.SUCCEEDED, 200, False),
        (Outcome.INTERRUPTED, None, False),
        (Outcome.ABANDONED, None, False),
    ],
)
def test_what_may_be_over_soon_is_retried(
    outcome: Outcome,
    status: int | None,
    expected: bool,  # noqa: FBT001 - the fact
) -> None:
    """Server errors, three client errors, exceptions and timeouts; nothing else."""
    assert may_retry(task(), run(), Result(outcome, NOW, 0, status)) is expected


@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (2, True), (3, False)])
def test_retries_follow_the_first_attempt(attempt: int, expected: bool) -> None:  # noqa: FBT001 - the fact
    """With two of them there are three attempts in all."""
    assert may_retry(task(retries=2), run(attempt), failed()) is expected


def test_a_status_that_is_final_may_ask_for_nothing() -> None:
    """A timeout is retried by the task's own rule, whatever a 404 asks for."""
    result = Result(Outcome.TIMED_OUT, NOW, 0, 404, "", 3_000 * SECOND)
    at = retry_at(task(), run(), result, now=NOW, next_fire=None)
    assert at == NOW + back_off(task(), run())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Friday, 15-Jan-27 08:01:00 GMT", 60),
        ("Fri Jan 15 08:01:00 2027", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
    ],
)
def test_retry_after_holds_seconds_or_a_date(word: str, expected: int) -> None:
    """In any of the three forms of RFC 9110; a date that has passed asks for no wait."""
    assert read_retry_after(word, NOW) == expected * SECOND


@pytest.mark.parametrize(
    "word", ["", "soon", "-1", "1.5", "\u00b2", "Fri, 99 Jan 2027 08:01:00 GMT"]
)
def test_a_retry_after_that_makes_no_sense_asks_for_nothing(word: str) -> None:
    """The task's own rule stands."""
    assert read_retry_after(word, NOW) is None


@given(word=st.text() | st.text("0123456789") | st.integers().map(str))
def test_whatever_an_app_sends_as_retry_after_is_read(word: str) -> None:
    """It is a wait from zero to a hundred years, or nothing."""
    wait = read_retry_after(word, NOW)
    assert wait is None or wait >= 0


def test_the_instant_of_these_tests_is_a_friday() -> None:
    """2027-01-15T08:00:00Z."""
    assert instant_of(moment_of(NOW)) == NOW
    assert moment_of(NOW).isoformat() == "2027-01-15T08:00:00+00:00"
