"""Every odd app that PEP 3333 allows, and those that it does not."""

from __future__ import annotations

import io
import itertools
import sys
from typing import TYPE_CHECKING

import gevent
import pytest

from pulse.core.run import Outcome
from pulse.engine.base import Interruption
from pulse.wsgi.dispatcher import Dispatcher
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.core.run import Result

    Perform = Callable[..., Result]

PLAIN = [("Content-Type", "text/plain")]


class Body:
    """A body that knows whether it was closed, and may raise on the way."""

    def __init__(
        self,
        *chunks: bytes,
        error: BaseException | None = None,
        close_error: BaseException | None = None,
    ) -> None:
        self._chunks = chunks
        self._error = error
        self._close_error = close_error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        """Give the chunks, then raise what is to be raised."""
        yield from self._chunks
        if self._error:
            raise self._error

    def close(self) -> None:
        """Count, then raise what is to be raised."""
        self.closed += 1
        if self._close_error:
            raise self._close_error

    def __call__(self, _environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        """Answer with itself: the body is its own app."""
        start_response("200 OK", PLAIN)
        return self


def test_a_body_is_drained_and_closed_once(perform: Perform) -> None:
    """Both, always: frameworks return connections in close()."""
    body = Body(b"one ", b"two")
    result = perform(body)
    assert (result.outcome, result.message, body.closed) == (Outcome.SUCCEEDED, "one two", 1)


def test_a_generator_that_answers_late(perform: Perform) -> None:
    """start_response may come as late as the first chunk."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("202 Accepted", PLAIN)
        yield b"later"

    result = perform(app)
    assert (result.status, result.message) == (202, "later")


def test_work_after_the_last_chunk_of_a_generator_is_done(perform: Perform) -> None:
    """A run has ended when its generator has."""
    done = []

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"working"
        done.append(True)

    perform(app)
    assert done == [True]


def test_write_before_the_body(perform: Perform) -> None:
    """Old apps write instead of returning."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"old ")
        return [b"style"]

    assert perform(app).message == "old style"


def test_exc_info_before_output_replaces_the_answer(perform: Perform) -> None:
    """The app's error page is the answer."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            int("no number")
        except ValueError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"error page"]

    result = perform(app)
    assert (result.outcome, result.status, result.message) == (Outcome.FAILED, 500, "error page")


def test_exc_info_after_output_fails_with_the_apps_traceback(perform: Perform) -> None:
    """It is too late for an error page: the exception itself is told."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"half"
        try:
            int("too late")
        except ValueError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        yield b"never"

    result = perform(app)
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert result.message.endswith("'too late'")


def test_a_missing_start_response_is_a_failure_in_words(perform: Perform) -> None:
    """The message says what the app left out."""
    result = perform(lambda _environ, _start_response: [])
    assert result.message == "the app returned without having called start_response"


def test_a_double_start_response_is_a_failure_in_words(perform: Perform) -> None:
    """The message says what the app did twice."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", PLAIN)
        start_response("200 OK", PLAIN)
        return []

    assert "start_response twice" in perform(app).message


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(["text"], "expected bytes, got 'text'", id="str chunks"),
        pytest.param("text", "expected bytes, got 't'", id="a str"),
        pytest.param(b"text", "expected bytes, got 116", id="bytes"),
        pytest.param(None, "expected an iterable of bytes, got None", id="nothing"),
    ],
)
def test_a_body_of_another_kind_is_a_failure_in_words(
    perform: Perform, body: object, expected: str
) -> None:
    """The message shows what came instead of bytes."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> object:
        start_response("200 OK", PLAIN)
        return body

    result = perform(app)
    assert result.outcome is Outcome.FAILED
    assert expected in result.message


def test_a_raising_app_is_a_failure_with_its_traceback(perform: Perform) -> None:
    """Before the answer began."""

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        raise LookupError("no such thing")

    result = perform(app)
    assert result.message.endswith("LookupError: no such thing")
    assert "in app" in result.message


def test_a_raising_body_is_closed(perform: Perform) -> None:
    """A failure on the way takes nothing from close()."""
    body = Body(b"half", error=OSError("broken"))
    result = perform(body)
    assert (result.outcome, body.closed) == (Outcome.FAILED, 1)
    assert result.message.endswith("OSError: broken")


def test_a_raising_close_is_a_failure(perform: Perform) -> None:
    """A transaction that fails in close() is not reported as done."""
    result = perform(Body(b"all", close_error=RuntimeError("commit failed")))
    assert result.outcome is Outcome.FAILED
    assert result.message.endswith("RuntimeError: commit failed")


def test_a_body_and_a_close_that_raise_are_both_told(perform: Perform) -> None:
    """The first cause is not hidden by the second."""
    body = Body(error=OSError("first"), close_error=RuntimeError("second"))
    message = perform(body).message
    assert "OSError: first" in message
    assert message.endswith("RuntimeError: second")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), BaseException()], ids=repr)
def test_a_body_is_closed_whatever_interrupts_it(perform: Perform, error: BaseException) -> None:
    """Not for exceptions alone."""
    body = Body(b"half", error=error)
    result = perform(body)
    assert (result.outcome, body.closed) == (Outcome.FAILED, 1)


def test_a_timeout_of_the_apps_own_is_a_failure(perform: Perform) -> None:
    """A gevent.Timeout that the app sets is no timeout of the run."""

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        with gevent.Timeout(0.001):
            gevent.sleep(30)
        return []

    result = perform(app)
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert result.message.endswith("Timeout: 0.001 seconds")


def test_an_interrupted_body_is_closed() -> None:
    """A run that is interrupted returns its connection too."""
    claim = make_claim()
    body = Body(b"half", error=Interruption(claim, Outcome.TIMED_OUT))
    with pytest.raises(Interruption):
        Dispatcher(body, multithread=True).call(claim)
    assert body.closed == 1


def test_an_endless_body_is_cut_and_closed(perform: Perform) -> None:
    """After 1 MiB it is told that it was not drained."""
    body = Body()
    body._chunks = itertools.repeat(bytes(65_536))
    result = perform(body)
    assert (result.outcome, result.status, body.closed) == (Outcome.FAILED, 200, 1)
    assert "longer than 1 MiB" in result.message


def test_a_generator_that_is_cut_can_clean_up(perform: Perform) -> None:
    """close() raises GeneratorExit in it: its finally runs."""
    cleaned = []

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        try:
            while True:
                yield bytes(65_536)
        finally:
            cleaned.append(True)

    perform(app)
    assert cleaned == [True]


def test_an_app_that_writes_without_end_fails(perform: Perform) -> None:
    """write() raises in the app after 1 MiB."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        while True:
            write(bytes(65_536))

    assert "wrote more than 1 MiB" in perform(app).message


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content")], ids=["HEAD", "204"]
)
def test_an_answer_without_body_is_a_success(perform: Perform, method: str, status: str) -> None:
    """Nothing to drain is drained."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, [])
        return []

    assert perform(app, method=method).outcome is Outcome.SUCCEEDED


def test_a_file_is_sent_by_the_file_wrapper(perform: Perform) -> None:
    """The server's wrapper is there, iterates the file and closes it."""
    file = io.BytesIO(b"contents")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](file, 3)

    assert perform(app).message == "contents"
    assert file.closed


def test_the_apps_changes_to_environ_and_headers_stay_with_it(perform: Perform) -> None:
    """Middleware shifts SCRIPT_NAME and PATH_INFO as it likes."""
    paths = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        paths.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        environ.clear()
        start_response("200 OK", PLAIN)
        return []

    perform(app)
    perform(app)
    assert paths == [("", "/sessions/cleanup")] * 2
