"""A claim becomes a result, whatever the app does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Result
from pulse.engine.base import Interruption
from pulse.testing.clock import FakeClock
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.response import AppProtocolError, Reply
from pulse.wsgi.runner import LONGEST_TRACEBACK, Runner, settle, settle_error
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.core.run import Claim


class Script:
    """A caller that does as told instead of calling an app."""

    def __init__(self, act: Callable[[Claim], Reply]) -> None:
        self.act = act
        self.calls = 0

    def call(self, claim: Claim) -> Reply:
        """Count the call and act."""
        self.calls += 1
        return self.act(claim)


def answering() -> Script:
    """Return a caller whose app answers 200."""
    return Script(lambda _: Reply(200, "200 OK"))


def raising(error: BaseException) -> Script:
    """Return a caller whose app raises *error*."""

    def act(_claim: Claim) -> Reply:
        raise error

    return Script(act)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands."""
    return FakeClock()


def test_a_2xx_is_a_success(clock: FakeClock) -> None:
    """The result has start, length, status and the start of the body."""

    def act(_claim: Claim) -> Reply:
        clock.forward("1500ms")
        return Reply(204, "204 No Content", b"gone")

    began = clock.wall()
    result = Runner(Script(act), clock).perform(make_claim())
    assert result == Result(Outcome.SUCCEEDED, began, 1_500_000, 204, "gone")


def test_length_is_counted_on_the_boot_clock(clock: FakeClock) -> None:
    """Setting the wall clock back during a run changes neither start nor length."""
    moment = clock.wall()

    def act(_claim: Claim) -> Reply:
        clock._wall -= 3_600 * SECOND
        return Reply(200, "200 OK")

    result = Runner(Script(act), clock).perform(make_claim())
    assert (result.started_at, result.took_us) == (moment, 0)


def test_a_claim_whose_lease_has_ended_is_not_dispatched(clock: FakeClock) -> None:
    """It is abandoned, with words that say why, and the app hears nothing."""
    script = answering()
    result = Runner(script, clock).perform(make_claim(good_until=clock.boot()))
    assert (result.outcome, result.took_us, script.calls) == (Outcome.ABANDONED, 0, 0)
    assert "the lease had ended before the call could begin" in result.message


def test_a_claim_is_good_to_the_last_microsecond(clock: FakeClock) -> None:
    """Up to its end a lease is trusted."""
    result = Runner(answering(), clock).perform(make_claim(good_until=clock.boot() + 1))
    assert result.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        BaseException("raw"),
        ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
    ],
    ids=repr,
)
def test_whatever_the_app_raises_is_a_failure_with_its_traceback(
    clock: FakeClock, error: BaseException
) -> None:
    """No exception of the app comes out of the runner."""
    result = Runner(raising(error), clock).perform(make_claim())
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert type(error).__name__ in result.message
    assert "in act" in result.message


def test_frames_of_pulse_are_left_out_of_the_traceback(clock: FakeClock) -> None:
    """The traceback begins in the app."""
    result = Runner(raising(ValueError("no")), clock).perform(make_claim())
    assert "pulse/wsgi/runner.py" not in result.message


def raise_at_once(_environ: WSGIEnvironment, _start: StartResponse) -> Iterable[bytes]:
    """Raise instead of answering."""
    raise ValueError("no")


def raise_in_the_body(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """Raise while the body is read."""
    start("200 OK", [])
    yield b"begun"
    raise ValueError("no")


@pytest.mark.parametrize("app", [raise_at_once, raise_in_the_body])
def test_the_traceback_of_a_dispatched_call_begins_in_the_app(
    clock: FakeClock, app: WSGIApplication
) -> None:
    """The frames of the runner and of the dispatcher are left out."""
    result = Runner(Dispatcher(app, multithread=True), clock).perform(make_claim())
    assert "pulse/" not in result.message
    assert f"in {app.__name__}" in result.message.splitlines()[1]


def test_a_broken_protocol_is_told_in_one_line(clock: FakeClock) -> None:
    """Its message says all; a traceback would show pulse alone."""
    result = Runner(raising(AppProtocolError("wrong so")), clock).perform(make_claim())
    assert (result.outcome, result.message) == (Outcome.FAILED, "wrong so")


def test_an_interruption_of_the_claim_is_its_outcome(clock: FakeClock) -> None:
    """The message shows where the run was."""
    claim = make_claim()
    result = Runner(raising(Interruption(claim, Outcome.TIMED_OUT)), clock).perform(claim)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.message.startswith("interrupted at its timeout; it was here:\n")
    assert "in act" in result.message


def test_an_interruption_at_the_end_of_the_process_says_so(clock: FakeClock) -> None:
    """The drain was over; the run is interrupted."""
    claim = make_claim()
    result = Runner(raising(Interruption(claim, Outcome.INTERRUPTED)), clock).perform(claim)
    assert result.outcome is Outcome.INTERRUPTED
    assert result.message.startswith("interrupted because this process stops")


def test_an_interruption_of_another_claim_is_the_apps_own_trouble(clock: FakeClock) -> None:
    """A claim is told by identity, not by its looks."""
    other = Interruption(make_claim(), Outcome.TIMED_OUT)
    result = Runner(raising(other), clock).perform(make_claim())
    assert result.outcome is Outcome.FAILED


def test_an_interruption_is_found_under_what_was_raised_over_it(clock: FakeClock) -> None:
    """A `finally` or close() that raises while the run is interrupted does not hide that."""
    claim = make_claim()

    def act(_claim: Claim) -> Reply:
        try:
            raise Interruption(claim, Outcome.INTERRUPTED)
        finally:
            raise ValueError("in close")

    assert Runner(Script(act), clock).perform(claim).outcome is Outcome.INTERRUPTED


def test_a_circle_of_exceptions_is_walked_once() -> None:
    """An app may chain exceptions into a ring."""
    error, other = ValueError("a"), KeyError("b")
    error.__context__, other.__context__ = other, error
    assert settle_error(error, make_claim()).outcome is Outcome.FAILED


def test_a_run_that_outlasts_its_timeout_is_timed_out(clock: FakeClock) -> None:
    """It ended by itself: the status is kept and the message says so."""

    def act(_claim: Claim) -> Reply:
        clock.forward(31)
        return Reply(200, "200 OK", b"late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, 200)
    assert result.message == (
        "ended by itself after 31s, past its timeout of 30s, with status 200\nlate"
    )


def test_an_exception_after_the_timeout_is_timed_out_too(clock: FakeClock) -> None:
    """The traceback is kept."""

    def act(_claim: Claim) -> Reply:
        clock.forward(31)
        raise ValueError("late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, None)
    assert "with an exception\n" in result.message
    assert "ValueError: late" in result.message


def test_an_interruption_after_the_timeout_keeps_its_own_words(clock: FakeClock) -> None:
    """What stopped the run is told, not that it ended by itself."""
    claim = make_claim(timeout=30)

    def act(_claim: Claim) -> Reply:
        clock.forward(31)
        raise Interruption(claim, Outcome.INTERRUPTED)

    assert Runner(Script(act), clock).perform(claim).outcome is Outcome.INTERRUPTED


def test_a_long_traceback_keeps_its_beginning_and_its_end(clock: FakeClock) -> None:
    """The end names the exception: it is never cut off."""
    error = ValueError("x" * 50_000 + "the end")
    result = Runner(raising(error), clock).perform(make_claim())
    assert result.message.startswith("Traceback (most recent call last)")
    assert result.message.endswith("the end")
    assert len(result.message) < LONGEST_TRACEBACK + 100


def test_a_deep_traceback_is_bounded(clock: FakeClock) -> None:
    """A recursion of a thousand frames is told by its last ones."""

    def act(claim: Claim, depth: int = 200) -> Reply:
        return act(claim, depth - 1) if depth else 1 / 0

    result = Runner(Script(act), clock).perform(make_claim())
    assert len(result.message) < LONGEST_TRACEBACK
    assert result.message.endswith("ZeroDivisionError: division by zero")


def test_text_that_no_store_can_hold_is_replaced(clock: FakeClock) -> None:
    """Lone surrogates and NUL never reach a store."""
    result = Runner(raising(ValueError("a\udc80b\0c")), clock).perform(make_claim())
    assert result.message.endswith("ValueError: a\\udc80b\ufffdc")


def test_an_exception_without_words_of_its_own_is_told(clock: FakeClock) -> None:
    """An exception whose __str__ raises is a failure like any other."""

    class Mute(Exception):  # noqa: N818 - it is the app's
        def __str__(self) -> str:
            raise ValueError("no words")

    result = Runner(raising(Mute()), clock).perform(make_claim())
    assert "Mute" in result.message


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_settle_takes_every_2xx_for_a_success(status: int) -> None:
    """Success is the whole class."""
    assert settle(Reply(status, f"{status} X")).outcome is Outcome.SUCCEEDED


def test_a_bad_request_tells_of_host_names() -> None:
    """Django advises the wrong cure for an unknown host; the right one stands before it."""
    message = settle(Reply(400, "400 Bad Request", b"<h1>Bad Request</h1>")).message
    assert "ALLOWED_HOSTS, set base_url" in message.splitlines()[0]
    assert message.endswith("<h1>Bad Request</h1>")


@pytest.mark.parametrize("status", [100, 199, 300, 304, 400, 404, 499, 500, 503, 999])
def test_settle_takes_all_else_for_a_failure(status: int) -> None:
    """The status is kept."""
    settled = settle(Reply(status, f"{status} X"))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, status)


def test_settle_names_where_a_redirection_goes() -> None:
    """The message names the Location and the two usual reasons."""
    message = settle(Reply(302, "302 Found", location="/login")).message
    assert message.startswith("redirected to /login, which is not followed")
    assert "slash" in message
    assert "login" in message


def test_settle_tells_of_a_redirection_without_location() -> None:
    """A 304 goes nowhere."""
    assert "no Location header" in settle(Reply(304, "304 Not Modified")).message


@pytest.mark.parametrize(
    "reply",
    [
        Reply(302, "302 Found", location="/caf\udcc3\0" + "x" * 10_000),
        Reply(404, "404 \udcc3\0" + "x" * 10_000),
    ],
    ids=["Location", "status line"],
)
def test_settle_keeps_only_words_that_every_store_can_hold(reply: Reply) -> None:
    """What an app did not encode as PEP 3333 wants must not keep its run from the history."""
    message = settle(reply).message
    assert "\0" not in message
    assert len(message.encode()) < 9_000


def test_settle_shows_the_body_of_a_failure() -> None:
    """Its first 2 KiB are text, whatever the bytes."""
    settled = settle(Reply(500, "500 Oops", b"caf\xc3\xa9 \xff\0"))
    assert settled.message == "café \ufffd\ufffd"


def test_settle_shows_the_status_line_of_a_failure_without_body() -> None:
    """A failure never goes without words."""
    assert settle(Reply(404, "404 Not Found")).message == "404 Not Found"


def test_settle_takes_a_cut_body_for_a_failure() -> None:
    """A body that was not drained is no success: a generator may have had work left."""
    settled = settle(Reply(200, "200 OK", b"aaa", cut=True))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, 200)
    assert "longer than 1 MiB" in settled.message


@pytest.mark.parametrize(
    ("word", "expected"), [("120", 120 * SECOND), ("soon", None), (None, None)]
)
def test_a_reply_that_asks_for_time_is_heard(
    clock: FakeClock, word: str | None, expected: int | None
) -> None:
    """The result says how long the reply asks to wait; what makes no sense asks for nothing."""
    reply = Reply(503, "503 Service Unavailable", retry_after=word)
    result = Runner(Script(lambda _: reply), clock).perform(make_claim())
    assert (result.status, result.retry_after_us) == (503, expected)


def test_a_reply_that_comes_too_late_may_ask_for_time(clock: FakeClock) -> None:
    """A timeout keeps the status and what came with it."""

    def act(_claim: Claim) -> Reply:
        clock.forward("200s")
        return Reply(503, "503 Service Unavailable", retry_after="7")

    result = Runner(Script(act), clock).perform(make_claim())
    assert (result.outcome, result.retry_after_us) == (Outcome.TIMED_OUT, 7 * SECOND)
