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
    """Return the definition of a task with retries, the first after ten seconds."""
    usual = {"retries": 100, "retry_min_backoff": 10, "retry_max_backoff": 300}
    return build_definition("t", Task(action="t", interval=60, **usual | words))


def run(attempt: int = 1, *, slot: Instant | None = NOW, number: int = 0) -> Run:
    """Return a run as claimed for an attempt."""
    return Run(
        id=run_id("", "t", "", number), task="t", fire_time=NOW, scheduled_for=slot, attempt=attempt
    )


def failed(status: int | None = 503, *, after: Span | None = None) -> Result:
    """Return the result of a failed attempt."""
    return Result(Outcome.FAILED, NOW, 5_000, status, "busy", after)


@st.composite
def definitions(draw: st.DrawFn) -> TaskDefinition:
    """Draw a task with any retry settings."""
    shortest, longest = sorted((draw(SPANS), draw(SPANS)))
    return task(
        retries=draw(st.integers(0, 100)),
        retry_min_backoff=shortest // SECOND,
        retry_max_backoff=longest // SECOND,
        retry_max_doublings=draw(st.integers(0, 60)),
    )


RUNS = st.builds(run, st.integers(1, 101), number=st.integers(0, 1_000))


def test_waits_double_then_grow_by_steps_up_to_the_limit() -> None:
    """The waits are those of Google's documentation, each extended by up to a quarter."""
    definition = task(retry_max_doublings=3)
    least = [wait * SECOND for wait in (10, 20, 40, 80, 160, 240, 300, 300)]
    waits = [back_off(definition, run(attempt)) for attempt in range(1, 9)]
    most = [min(wait * 5 // 4, 300 * SECOND) for wait in least]
    assert all(low <= wait <= high for low, wait, high in zip(least, waits, most, strict=True))


@given(definition=definitions(), tried=RUNS)
def test_wait_is_within_its_limits(definition: TaskDefinition, tried: Run) -> None:
    """The rule holds for all settings."""
    wait = back_off(definition, tried)
    assert definition.retry_min_backoff_us <= wait <= definition.retry_max_backoff_us


@given(definition=definitions(), tried=RUNS)
def test_all_processes_compute_the_same_wait(definition: TaskDefinition, tried: Run) -> None:
    """The wait depends on run and attempt alone."""
    words = {"now": NOW, "next_fire": None}
    first = retry_at(definition, tried, failed(), **words)
    assert first == retry_at(definition, tried, failed(), **words)


def test_waits_of_runs_that_failed_together_differ() -> None:
    """A hundred runs spread over a quarter of the wait."""
    waits = {back_off(task(), run(number=number)) for number in range(100)}
    assert len(waits) == 100


@given(
    definition=definitions(),
    tried=RUNS,
    ahead=st.integers(-60, 7_200),
    asked=st.none() | SPANS,
)
def test_retry_starts_after_its_wait_and_before_the_next_tick(
    definition: TaskDefinition, tried: Run, ahead: int, asked: Span | None
) -> None:
    """The wait is at least as long as the response asks for."""
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
def test_run_without_a_next_tick_is_retried_within_a_day(
    slot: Instant | None, next_fire: Instant | None
) -> None:
    """The day counts from the fire time."""
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
def test_temporary_failure_is_retried(
    outcome: Outcome,
    status: int | None,
    expected: bool,  # noqa: FBT001 - the fact
) -> None:
    """Server errors, three client errors, exceptions and timeouts count as temporary."""
    assert may_retry(task(), run(), Result(outcome, NOW, 0, status)) is expected


@pytest.mark.parametrize(("attempt", "expected"), [(1, True), (2, True), (3, False)])
def test_retries_follow_the_first_attempt(attempt: int, expected: bool) -> None:  # noqa: FBT001 - the fact
    """Two retries permit three attempts."""
    assert may_retry(task(retries=2), run(attempt), failed()) is expected


def test_retry_after_of_a_final_status_is_ignored() -> None:
    """A timeout is retried by the settings of the task, even if a 404 asks for a wait."""
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
def test_retry_after_has_seconds_or_a_date(word: str, expected: int) -> None:
    """A date has one of the three forms of RFC 9110; a past date asks for no wait."""
    assert read_retry_after(word, NOW) == expected * SECOND


@pytest.mark.parametrize(
    "word", ["", "soon", "-1", "1.5", "\u00b2", "Fri, 99 Jan 2027 08:01:00 GMT"]
)
def test_malformed_retry_after_is_ignored(word: str) -> None:
    """The settings of the task decide."""
    assert read_retry_after(word, NOW) is None


@given(word=st.text() | st.text("0123456789") | st.integers().map(str))
def test_any_text_of_retry_after_is_read_without_an_error(word: str) -> None:
    """The result is None, or a wait from zero to a hundred years."""
    wait = read_retry_after(word, NOW)
    assert wait is None or wait >= 0


def test_instant_of_these_tests_is_a_friday() -> None:
    """The instant is 2027-01-15T08:00:00Z."""
    assert instant_of(moment_of(NOW)) == NOW
    assert moment_of(NOW).isoformat() == "2027-01-15T08:00:00+00:00"
