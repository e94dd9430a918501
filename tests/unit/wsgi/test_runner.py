"""Claims become results, whatever the app does."""

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
    """A caller that runs a function instead of calling an app."""

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
    """Return a clock that does not move."""
    return FakeClock()


def test_2xx_is_a_success(clock: FakeClock) -> None:
    """The result has start, duration, status and the start of the body."""

    def act(_claim: Claim) -> Response:
        clock.forward("1500ms")
        return Response(204, "204 No Content", b"gone")

    began = clock.wall()
    result = Runner(Script(act), clock).perform(make_claim())
    assert result == Result(Outcome.SUCCEEDED, began, 1_500_000, 204, "gone")


def test_duration_is_measured_by_the_boot_clock(clock: FakeClock) -> None:
    """A wall clock that is set back during a run changes neither start nor duration."""
    moment = clock.wall()

    def act(_claim: Claim) -> Response:
        clock._wall -= 3_600 * SECOND
        return Response(200, "200 OK")

    result = Runner(Script(act), clock).perform(make_claim())
    assert (result.started_at, result.took_us) == (moment, 0)


def test_claim_with_an_ended_lease_is_abandoned_without_a_call(clock: FakeClock) -> None:
    """The message says why."""
    script = answering()
    result = Runner(script, clock).perform(make_claim(good_until=clock.boot()))
    assert (result.outcome, result.took_us, script.calls) == (Outcome.ABANDONED, 0, 0)
    assert "the lease had ended before the call could begin" in result.message


def test_copy_in_a_forked_child_calls_no_app(clock: FakeClock) -> None:
    """The rule holds whatever an engine does with a claim there."""
    script, mark = answering(), ForkMark()
    mark.set()
    result = Runner(script, clock, mark).perform(make_claim())
    assert (result.outcome, script.calls) == (Outcome.ABANDONED, 0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_system_exit_ends_the_child_that_the_app_has_forked(
    error: BaseException, clock: FakeClock
) -> None:
    """A view that forks and calls sys.exit in the child ends the child."""
    mark = ForkMark()

    def fork_and_end(_claim: Claim) -> Response:
        mark.set()
        raise error

    with pytest.raises(type(error)):
        Runner(Script(fork_and_end), clock, mark).perform(make_claim())


def test_failure_in_a_forked_child_is_a_result(clock: FakeClock) -> None:
    """The exception does not propagate; the receiver drops the result."""
    mark = ForkMark()

    def fork_and_fail(_claim: Claim) -> Response:
        mark.set()
        raise ValueError

    result = Runner(Script(fork_and_fail), clock, mark).perform(make_claim())
    assert result.outcome is Outcome.FAILED


def test_claim_is_valid_to_the_last_microsecond_of_its_lease(clock: FakeClock) -> None:
    """At the end of the lease it is not."""
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
def test_exception_of_the_app_is_a_failure_with_a_traceback(
    clock: FakeClock, error: BaseException
) -> None:
    """No exception of the app propagates."""
    result = Runner(raising(error), clock).perform(make_claim())
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert type(error).__name__ in result.message
    assert "in act" in result.message


def test_traceback_omits_frames_of_pulse(clock: FakeClock) -> None:
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
def test_traceback_of_a_dispatched_call_begins_in_the_app(
    clock: FakeClock, app: WSGIApplication
) -> None:
    """The frames of the runner and of the dispatcher are omitted."""
    result = Runner(Dispatcher(app, multithread=True), clock).perform(make_claim())
    assert "pulse/wsgi/" not in result.message
    assert f"in {app.__name__}" in result.message.splitlines()[1]


def test_protocol_error_is_one_line(clock: FakeClock) -> None:
    """A traceback would only show frames of pulse."""
    result = Runner(raising(AppProtocolError("wrong so")), clock).perform(make_claim())
    assert (result.outcome, result.message) == (Outcome.FAILED, "wrong so")


def test_interruption_of_the_claim_is_its_outcome(clock: FakeClock) -> None:
    """The message shows where the run was."""
    claim = make_claim()
    result = Runner(raising(Interruption(claim, Outcome.TIMED_OUT)), clock).perform(claim)
    assert result.outcome is Outcome.TIMED_OUT
    assert result.message.startswith("interrupted at its timeout; it was here:\n")
    assert "in act" in result.message


def test_interruption_at_the_end_of_the_process_has_its_own_message(clock: FakeClock) -> None:
    """The drain was over; the run is interrupted."""
    claim = make_claim()
    result = Runner(raising(Interruption(claim, Outcome.INTERRUPTED)), clock).perform(claim)
    assert result.outcome is Outcome.INTERRUPTED
    assert result.message.startswith("interrupted because this process stops")


def test_interruption_of_another_claim_is_a_failure(clock: FakeClock) -> None:
    """Claims are compared by identity."""
    other = Interruption(make_claim(), Outcome.TIMED_OUT)
    result = Runner(raising(other), clock).perform(make_claim())
    assert result.outcome is Outcome.FAILED


def test_interruption_in_the_context_of_another_exception_is_found(clock: FakeClock) -> None:
    """A `finally` clause or close() may raise during an interruption."""
    claim = make_claim()

    def act(_claim: Claim) -> Response:
        try:
            raise Interruption(claim, Outcome.INTERRUPTED)
        finally:
            raise ValueError("in close")

    assert Runner(Script(act), clock).perform(claim).outcome is Outcome.INTERRUPTED


def test_circular_exception_chain_is_searched_once() -> None:
    """An app may chain exceptions in a circle."""
    error, other = ValueError("a"), KeyError("b")
    error.__context__, other.__context__ = other, error
    assert result_of_error(error, make_claim()).outcome is Outcome.FAILED


def test_run_longer_than_its_timeout_is_timed_out(clock: FakeClock) -> None:
    """The status is kept, and the message says that the run ended by itself."""

    def act(_claim: Claim) -> Response:
        clock.forward(31)
        return Response(200, "200 OK", b"late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, 200)
    assert result.message == (
        "ended by itself after 31s, past its timeout of 30s, with status 200\nlate"
    )


def test_exception_after_the_timeout_is_timed_out(clock: FakeClock) -> None:
    """The traceback is kept."""

    def act(_claim: Claim) -> Response:
        clock.forward(31)
        raise ValueError("late")

    result = Runner(Script(act), clock).perform(make_claim(timeout=30))
    assert (result.outcome, result.status) == (Outcome.TIMED_OUT, None)
    assert "with an exception\n" in result.message
    assert "ValueError: late" in result.message


def test_interruption_after_the_timeout_keeps_its_message(clock: FakeClock) -> None:
    """The message does not say that the run ended by itself."""
    claim = make_claim(timeout=30)

    def act(_claim: Claim) -> Response:
        clock.forward(31)
        raise Interruption(claim, Outcome.INTERRUPTED)

    assert Runner(Script(act), clock).perform(claim).outcome is Outcome.INTERRUPTED


def test_long_traceback_keeps_its_start_and_its_end(clock: FakeClock) -> None:
    """The end, which names the exception, is never omitted."""
    error = ValueError("x" * 50_000 + "the end")
    result = Runner(raising(error), clock).perform(make_claim())
    assert result.message.startswith("Traceback (most recent call last)")
    assert result.message.endswith("the end")
    assert len(result.message) < LONGEST_TRACEBACK + 100


def test_deep_traceback_is_bounded(clock: FakeClock) -> None:
    """Only the last frames of a deep recursion are kept."""

    def act(claim: Claim, depth: int = 200) -> Response:
        return act(claim, depth - 1) if depth else 1 / 0

    result = Runner(Script(act), clock).perform(make_claim())
    assert len(result.message) < LONGEST_TRACEBACK
    assert result.message.endswith("ZeroDivisionError: division by zero")


def test_characters_that_a_store_refuses_are_replaced(clock: FakeClock) -> None:
    """Lone surrogates and NUL never reach a store."""
    result = Runner(raising(ValueError("a\udc80b\0c")), clock).perform(make_claim())
    assert result.message.endswith("ValueError: a\\udc80b\ufffdc")


def test_exception_without_a_text_is_a_failure(clock: FakeClock) -> None:
    """The `__str__` of the exception raises."""

    class Mute(Exception):  # noqa: N818 - it is the app's
        def __str__(self) -> str:
            raise ValueError("no words")

    result = Runner(raising(Mute()), clock).perform(make_claim())
    assert "Mute" in result.message


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_every_2xx_is_a_success(status: int) -> None:
    """The whole class of statuses counts."""
    assert result_of_response(Response(status, f"{status} X")).outcome is Outcome.SUCCEEDED


def test_message_of_a_400_names_base_url() -> None:
    """Django suggests another remedy for an unknown host; the hint precedes it."""
    message = result_of_response(Response(400, "400 Bad Request", b"<h1>Bad Request</h1>")).message
    assert "ALLOWED_HOSTS, set base_url" in message.splitlines()[0]
    assert message.endswith("<h1>Bad Request</h1>")


@pytest.mark.parametrize("status", [100, 199, 300, 304, 400, 404, 499, 500, 503, 999])
def test_status_other_than_2xx_is_a_failure(status: int) -> None:
    """The status is kept."""
    settled = result_of_response(Response(status, f"{status} X"))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, status)


def test_message_of_a_redirection_has_its_target() -> None:
    """The message also names the two usual causes."""
    message = result_of_response(Response(302, "302 Found", location="/login")).message
    assert message.startswith("redirected to /login, which is not followed")
    assert "slash" in message
    assert "login" in message


def test_message_of_a_redirection_without_location_says_so() -> None:
    """A 304 has no target."""
    assert "no Location header" in result_of_response(Response(304, "304 Not Modified")).message


@pytest.mark.parametrize(
    "reply",
    [
        Response(302, "302 Found", location="/caf\udcc3\0" + "x" * 10_000),
        Response(404, "404 \udcc3\0" + "x" * 10_000),
    ],
    ids=["Location", "status line"],
)
def test_message_has_only_characters_that_a_store_accepts(reply: Response) -> None:
    """A response that violates PEP 3333 must not keep the run out of the history."""
    message = result_of_response(reply).message
    assert "\0" not in message
    assert len(message.encode()) < 9_000


def test_message_of_a_failure_is_the_body() -> None:
    """Its first 2 KiB are decoded, whatever the bytes are."""
    settled = result_of_response(Response(500, "500 Oops", b"caf\xc3\xa9 \xff\0"))
    assert settled.message == "café \ufffd\ufffd"


def test_message_of_a_failure_without_a_body_is_the_status_line() -> None:
    """A failure always has a message."""
    assert result_of_response(Response(404, "404 Not Found")).message == "404 Not Found"


def test_truncated_body_is_a_failure() -> None:
    """A generator that was not exhausted may have had work left."""
    settled = result_of_response(Response(200, "200 OK", b"aaa", truncated=True))
    assert (settled.outcome, settled.status) == (Outcome.FAILED, 200)
    assert "longer than 1 MiB" in settled.message


@pytest.mark.parametrize(
    ("word", "expected"), [("120", 120 * SECOND), ("soon", None), (None, None)]
)
def test_retry_after_of_a_response_is_in_the_result(
    clock: FakeClock, word: str | None, expected: int | None
) -> None:
    """A malformed header asks for no wait."""
    reply = Response(503, "503 Service Unavailable", retry_after=word)
    result = Runner(Script(lambda _: reply), clock).perform(make_claim())
    assert (result.status, result.retry_after_us) == (503, expected)


def test_retry_after_of_a_late_response_is_in_the_result(clock: FakeClock) -> None:
    """A timeout keeps the status and the header."""

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
def test_very_long_text_of_an_exception_is_truncated(
    clock: FakeClock, make: Callable[[], Exception]
) -> None:
    """The message is as long as that of any long traceback."""
    result = Runner(raising(make()), clock).perform(make_claim())
    assert len(result.message) < LONGEST_TRACEBACK + 100
    assert "characters left out" in result.message


@pytest.mark.parametrize("make", LONG_ERRORS.values(), ids=LONG_ERRORS)
def test_very_long_text_of_an_exception_is_truncated_before_it_is_copied(
    clock: FakeClock, make: Callable[[], Exception]
) -> None:
    """Repeated copies of 100 MB would block every other thread for seconds."""
    runner, claim = Runner(raising(make()), clock), make_claim()
    tracemalloc.start()
    runner.perform(claim)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * LONG


@pytest.mark.parametrize("body", [b"", b"<h1>Method Not Allowed</h1>"], ids=["no body", "a page"])
def test_message_of_a_405_names_the_setting_method(body: bytes) -> None:
    """The view requires another method than GET."""
    message = result_of_response(Response(405, "405 METHOD NOT ALLOWED", body)).message
    assert re.search(r"set `?method\b", message)
