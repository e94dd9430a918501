"""A claim becomes a result, whatever the app does."""

from __future__ import annotations

import re
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Result
from pulse.engine.base import Interruption
from pulse.forks import ForkMark
from pulse.testing.clock import FakeClock
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.response import AppProtocolError, Response
from pulse.wsgi.runner import LONGEST_TRACEBACK, Runner, result_of_error, result_of_response
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.core.run import Claim


class Script:
    """A caller that does as told instead of calling an app."""

    def __init__(self, act: Callable[[Claim], Response]) -> None:
        self.act = act
        self.calls = 0

    def call(self, claim: Claim) -> Response:
        """Count the call and act."""
        self.calls += 1
        return self.act(claim)


def answering() -> Script:
    """Return a caller whose app answers 200."""
    return Script(lambda _: Response(200, "200 OK"))


def raising(error: BaseException) -> Script:
    """Return a caller whose app raises *error*."""

    def act(_claim: Claim) -> Response:
        raise error

    return Script(act)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands."""
    return FakeClock()


def test_a_2xx_is_a_success(clock: FakeClock) -> None:
    """The result has start, length, status and the start of the body."""

    def act(_claim: Claim) -> Response:
        clock.forward("1500ms")
        return Response(204, "204 No Content", b"gone")

    began = clock.wall()
    result = Runner(Script(act), clock).perform(make_claim())
    assert result == Result(Outcome.SUCCEEDED, began, 1_500_000, 204, "gone")


def test_length_is_counted_on_the_boot_clock(clock: FakeClock) -> None:
    """Setting the wall clock back during a run changes neither start nor length."""
    moment = clock.wall()

    def act(_claim: Claim) -> Response:
        clock._wall -= 3_600 * SECOND
        return Response(200, "200 OK")

    result = Runner(Script(act), clock).perform(make_claim())
    assert (result.started_at, result.took_us) == (moment, 0)


def test_a_claim_whose_lease_has_ended_is_not_dispatched(clock: FakeClock) -> None:
    """It is abandoned, with words that say why, and the app hears nothing."""
    script = answering()
    result = Runner(script, clock).perform(make_claim(good_until=clock.boot()))
    assert (result.outcome, result.took_us, script.calls) == (Outcome.ABANDONED, 0, 0)
    assert "the lease had ended before the call could begin" in result.message


def test_a_copy_in_a_forked_child_dispatches_nothing(clock: FakeClock) -> None:
    """Whatever an engine does with a claim there, the app hears nothing of it."""
    script, mark = answering(), ForkMark()
    mark.set()
    result = Runner(script, clock, mark).perform(make_claim())
    assert (result.outcome, script.calls) == (Outcome.ABANDONED, 0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_what_ends_a_program_ends_the_child_that_the_app_has_forked(
    error: BaseException, clock: FakeClock
) -> None:
    """A view that forks and calls sys.exit in the child means the child's end."""
    mark = ForkMark()

    def fork_and_end(_claim: Claim) -> Response:
        mark.set()
        raise error

    with pytest.raises(type(error)):
        Runner(Script(fork_and_end), clock, mark).perform(make_claim())


def test_a_failure_in_a_forked_child_comes_out_as_a_result(clock: FakeClock) -> None:
    """It ends nothing; whoever gets the result drops it."""
    mark = ForkMark()

    def fork_and_fail(_claim: Claim) -> Response:
        mark.set()
        raise ValueError

    result = Runner(Script(fork_and_fail), clock, mark).perform(make_claim())
    assert result.outcome is Outcome.FAILED


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

    def act(_claim: Claim) -> Response:
        try:
            raise Interruption(claim, Outcome.INTERRUPTED)
        finally:
            raise ValueError("in close")

    assert Runner(Script(act), clock).perform(claim).outcome is Outcome.INTERRUPTED


def test_a_circle_of_exceptions_is_walked_once() -> None:
    """An app may chain exceptions into a ring."""
    error, other = ValueError("a"), KeyError("b")
    error.__context__, other.__context__ = other, error
    assert result_of_error(error, make_claim()).outcome is Outcome.FAILED


def test_a_run_that_outlasts_its_timeout_is_timed_out(clock: FakeClock) -> None:
    """It ended by itself: the status is kept and the message says so."""

    def act(_claim: Claim) -> Response:
        clock.forward(31)
        return Response(200, "200 OK", b"late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, 200)
    assert result.message == (
        "ended by itself after 31s, past its timeout of 30s, with status 200\nlate"
    )


def test_an_exception_after_the_timeout_is_timed_out_too(clock: FakeClock) -> None:
    """The traceback is kept."""

    def act(_claim: Claim) -> Response:
        clock.forward(31)
        raise ValueError("late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, None)
    assert "with an exception\n" in result.message
    assert "ValueError: late" in result.message


def test_an_interruption_after_the_timeout_keeps_its_own_words(clock: FakeClock) -> None:
    """What stopped the run is told, not that it ended by itself."""
    claim = make_claim(timeout=30)

    def act(_claim: Claim) -> Response:
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

    def act(claim: Claim, depth: int = 200) -> Response:
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
    assert result_of_response(Response(status, f"{status} X")).outcome is Outcome.SUCCEEDED


def test_a_bad_request_tells_of_host_names() -> None:
    """Django advises the wrong cure for an unknown host; the right one stands before it."""
    message = result_of_response(Response(400, "400 Bad Request", b"<h1>Bad Request</h1>")).message
    assert "ALLOWED_HOSTS, set base_url" in message.splitlines()[0]
    assert message.endswith("<h1>Bad Request</h1>")


@pytest.mark.parametrize("status", [100, 199, 300, 304, 400, 404, 499, 500, 503, 999])
def test_settle_takes_all_else_for_a_failure(status: int) -> None:
    """The status is kept."""
    settled = result_of_response(Response(status, f"{status} X"))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, status)


def test_settle_names_where_a_redirection_goes() -> None:
    """The message names the Location and the two usual reasons."""
    message = result_of_response(Response(302, "302 Found", location="/login")).message
    assert message.startswith("redirected to /login, which is not followed")
    assert "slash" in message
    assert "login" in message


def test_settle_tells_of_a_redirection_without_location() -> None:
    """A 304 goes nowhere."""
    assert "no Location header" in result_of_response(Response(304, "304 Not Modified")).message


@pytest.mark.parametrize(
    "reply",
    [
        Response(302, "302 Found", location="/caf\udcc3\0" + "x" * 10_000),
        Response(404, "404 \udcc3\0" + "x" * 10_000),
    ],
    ids=["Location", "status line"],
)
def test_settle_keeps_only_words_that_every_store_can_hold(reply: Response) -> None:
    """What an app did not encode as PEP 3333 wants must not keep its run from the history."""
    message = result_of_response(reply).message
    assert "\0" not in message
    assert len(message.encode()) < 9_000


def test_settle_shows_the_body_of_a_failure() -> None:
    """Its first 2 KiB are text, whatever the bytes."""
    settled = result_of_response(Response(500, "500 Oops", b"caf\xc3\xa9 \xff\0"))
    assert settled.message == "café \ufffd\ufffd"


def test_settle_shows_the_status_line_of_a_failure_without_body() -> None:
    """A failure never goes without words."""
    assert result_of_response(Response(404, "404 Not Found")).message == "404 Not Found"


def test_settle_takes_a_cut_body_for_a_failure() -> None:
    """A body that was not drained is no success: a generator may have had work left."""
    settled = result_of_response(Response(200, "200 OK", b"aaa", truncated=True))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, 200)
    assert "longer than 1 MiB" in settled.message


@pytest.mark.parametrize(
    ("word", "expected"), [("120", 120 * SECOND), ("soon", None), (None, None)]
)
def test_a_reply_that_asks_for_time_is_heard(
    clock: FakeClock, word: str | None, expected: int | None
) -> None:
    """The result says how long the reply asks to wait; what makes no sense asks for nothing."""
    reply = Response(503, "503 Service Unavailable", retry_after=word)
    result = Runner(Script(lambda _: reply), clock).perform(make_claim())
    assert (result.status, result.retry_after_us) == (503, expected)


def test_a_reply_that_comes_too_late_may_ask_for_time(clock: FakeClock) -> None:
    """A timeout keeps the status and what came with it."""

    def act(_claim: Claim) -> Response:
        clock.forward("200s")
        return Response(503, "503 Service Unavailable", retry_after="7")

    result = Runner(Script(act), clock).perform(make_claim())
    assert (result.outcome, result.retry_after_us) == (Outcome.TIMED_OUT, 7 * SECOND)


class OwnTextError(Exception):
    """An error that makes its text itself."""

    def __str__(self) -> str:
        """Return the one argument."""
        return str(self.args[0])


def noted(error: Exception, note: str) -> Exception:
    """Return *error* with a note."""
    error.add_note(note)
    return error


def caused(error: Exception, cause: Exception) -> Exception:
    """Return *error*, raised because of *cause*."""
    error.__cause__ = cause
    return error


LONG = 300_000
LINE, LINES = "x" * LONG, "an \u00e9 and more\n" * (LONG // 14)
LONG_ERRORS: dict[str, Callable[[], Exception]] = {
    "one line": lambda: RuntimeError(LINE),
    "many lines": lambda: RuntimeError(LINES),
    "a text of its own": lambda: OwnTextError(LINE),
    "a note": lambda: noted(ValueError("no"), LINES),
    "a cause": lambda: caused(ValueError("no"), RuntimeError(LINES)),
    "a group": lambda: ExceptionGroup(LINE, [ValueError(LINES)]),
}
"""Errors with a text that is far longer than what is kept of it."""


@pytest.mark.parametrize("make", LONG_ERRORS.values(), ids=LONG_ERRORS)
def test_an_exception_with_a_very_long_text_is_cut(
    clock: FakeClock, make: Callable[[], Exception]
) -> None:
    """What is kept is as long as any long traceback."""
    result = Runner(raising(make()), clock).perform(make_claim())
    assert len(result.message) < LONGEST_TRACEBACK + 100
    assert "characters left out" in result.message


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("make", LONG_ERRORS.values(), ids=LONG_ERRORS)
def test_an_exception_with_a_very_long_text_is_cut_before_it_is_copied(
    clock: FakeClock, make: Callable[[], Exception]
) -> None:
    """A text of 100 MB that is copied again and again stalls every other thread for seconds."""
    runner, claim = Runner(raising(make()), clock), make_claim()
    tracemalloc.start()
    runner.perform(claim)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LONG


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("body", [b"", b"<h1>Method Not Allowed</h1>"], ids=["no body", "a page"])
def test_a_405_is_a_failure_whose_message_names_the_setting(body: bytes) -> None:
    """The view wants another method than GET, which the setting `method` names."""
    message = result_of_response(Response(405, "405 METHOD NOT ALLOWED", body)).message
    assert re.search(r"set `?method\b", message)
