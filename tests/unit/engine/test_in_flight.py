"""How an end is worded, and that each attempt is taken once."""

from __future__ import annotations

import pytest

from pulse.core.run import Outcome, Result
from pulse.engine.base import Interruption
from pulse.engine.in_flight import NEVER, InFlight, InFlightRun
from pulse.testing.clock import FakeClock
from pulse.testing.sample_runs import make_claim


def make_attempt(clock: FakeClock | None = None, *, timeout: float = 10) -> InFlightRun:
    """Return an attempt that a slot has taken up now."""
    attempt = InFlightRun(make_claim("quick", timeout=timeout), (clock or FakeClock()).boot())
    attempt.begun = True
    return attempt


@pytest.mark.parametrize(
    ("came", "stopped", "seconds", "stands"),
    [
        (Outcome.SUCCEEDED, None, 10, Outcome.SUCCEEDED),
        (Outcome.SUCCEEDED, None, 11, Outcome.TIMED_OUT),
        (Outcome.FAILED, None, 11, Outcome.TIMED_OUT),
        (Outcome.ABANDONED, None, 11, Outcome.ABANDONED),
        (Outcome.INTERRUPTED, None, 11, Outcome.INTERRUPTED),
        (Outcome.SUCCEEDED, Outcome.TIMED_OUT, 1, Outcome.TIMED_OUT),
        (Outcome.FAILED, Outcome.INTERRUPTED, 1, Outcome.INTERRUPTED),
    ],
)
def test_the_outcome_that_stands(
    came: Outcome, stopped: Outcome | None, seconds: int, stands: Outcome
) -> None:
    """A run that was stopped, or ended by itself too late, does not end as it says."""
    clock = FakeClock()
    attempt = make_attempt(clock)
    attempt.stopped = stopped
    clock.forward(seconds)
    assert attempt.final_result(Result(came, 0, 0), clock.boot()).outcome is stands


def test_an_interruption_that_a_run_lets_out_gives_its_outcome() -> None:
    """The engine's own interruption is no failure of the app."""
    attempt = make_attempt()
    stop = Interruption(attempt.claim, Outcome.TIMED_OUT)
    assert attempt.result_of(stop, FakeClock()).outcome is Outcome.TIMED_OUT


def test_an_interruption_of_another_claim_is_a_failure() -> None:
    """What was meant for somebody else tells nothing about this run."""
    stop = Interruption(make_claim("nap"), Outcome.TIMED_OUT)
    assert make_attempt().result_of(stop, FakeClock()).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("begun", "seconds", "outcome", "why"),
    [
        (False, 11, Outcome.INTERRUPTED, "the engine stopped before the run could begin"),
        (True, 1, Outcome.INTERRUPTED, "the run outlasted the drain; "),
        (True, 11, Outcome.TIMED_OUT, "the run was past its timeout of 10s at the stop; "),
    ],
    ids=["never begun", "within its time", "past its time"],
)
def test_what_is_said_of_a_run_that_is_waited_for_no_longer(
    begun: bool,  # noqa: FBT001 - a column of the table
    seconds: int,
    outcome: Outcome,
    why: str,
) -> None:
    """It is `timed_out` when it was past its timeout, else `interrupted`, and has its times."""
    clock = FakeClock()
    attempt = make_attempt(clock)
    attempt.begun = begun
    started = clock.wall()
    clock.forward(seconds)
    result = attempt.unfinished(clock).result
    assert (result.outcome, result.started_at, result.took_us) == (
        outcome,
        started,
        seconds * 1_000_000,
    )
    assert result.message.startswith(why)


def test_an_attempt_is_taken_once() -> None:
    """Whoever comes second is told that somebody else reports it."""
    roll, attempt = InFlight(1), make_attempt()
    roll.add(attempt)
    assert (roll.remove(attempt), roll.remove(attempt)) == (True, False)


def test_the_earliest_look_is_known() -> None:
    """Only an attempt that wants to be looked at before all others is worth waking for."""
    roll = InFlight(3)
    wants = [roll.begin(make_attempt(timeout=seconds), 0) for seconds in (5, 9, 2)]
    assert wants == [True, False, True]


def test_each_attempt_is_due_once() -> None:
    """An attempt that was looked at is not looked at again, until somebody says when."""
    roll, clock = InFlight(2), FakeClock()
    early, late = make_attempt(clock, timeout=1), make_attempt(clock, timeout=3)
    for attempt in (early, late):
        roll.add(attempt)
        roll.begin(attempt, clock.boot())
    clock.forward(2)
    assert (roll.due(clock.boot()), roll.due(clock.boot())) == ([early], [])
    assert roll.next_at == late.deadline


def test_a_run_s_time_counts_from_its_begin() -> None:
    """However long it waited for its slot, a quick run is not late."""
    roll, clock = InFlight(1), FakeClock()
    attempt = make_attempt(clock, timeout=1)
    roll.add(attempt)
    clock.forward(5)
    roll.begin(attempt, clock.boot())
    result = Result(Outcome.SUCCEEDED, 0, 0)
    assert (attempt.final_result(result, clock.boot()), roll.due(clock.boot())) == (result, [])


def test_nobody_looks_at_what_waits_for_its_slot() -> None:
    """A run that has not begun cannot be late."""
    roll, clock = InFlight(1), FakeClock()
    roll.add(make_attempt(clock, timeout=1))
    clock.forward(5)
    assert (roll.due(clock.boot()), roll.next_at) == ([], NEVER)


def test_an_empty_roll_wants_no_look() -> None:
    """Where nothing is in progress the watch sleeps without end."""
    roll, attempt = InFlight(1), make_attempt()
    roll.add(attempt)
    roll.begin(attempt, 0)
    roll.remove(attempt)
    roll.due(0)
    assert roll.next_at == NEVER


def test_a_closed_roll_has_no_free_slot() -> None:
    """After the engine's stop nothing may be added."""
    roll = InFlight(3)
    roll.open = False
    assert roll.free() == 0


def test_attempts_left_behind_do_not_keep_the_drain_waiting() -> None:
    """Busy are only those within their time."""
    roll, attempt = InFlight(2), make_attempt()
    roll.add(attempt)
    roll.add(make_attempt())
    roll.leave_behind(attempt)
    assert (roll.within_time(), roll.free()) == (1, 1)
