"""Unusual applications that PEP 3333 permits, and applications that violate it."""

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
    """A body that counts its close() calls and may raise errors."""

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
        """Yield the chunks, then raise the error, if any."""
        yield from self._chunks
        if self._error:
            raise self._error

    def close(self) -> None:
        """Count the call, then raise the error, if any."""
        self.closed += 1
        if self._close_error:
            raise self._close_error

    def __call__(self, _environ: WSGIEnvironment, start_response: StartResponse) -> Body:
        """Return the object itself: the body is its own application."""
        start_response("200 OK", PLAIN)
        return self


def test_body_is_read_and_closed_once(perform: Perform) -> None:
    """Frameworks return connections in close()."""
    body = Body(b"one ", b"two")
    result = perform(body)
    assert (result.outcome, result.message, body.closed) == (Outcome.SUCCEEDED, "one two", 1)


def test_start_response_may_be_called_with_the_first_chunk(perform: Perform) -> None:
    """A generator calls start_response when its first chunk is requested."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("202 Accepted", PLAIN)
        yield b"later"

    result = perform(app)
    assert (result.status, result.message) == (202, "later")


def test_generator_is_exhausted(perform: Perform) -> None:
    """Code after the last chunk is part of the run."""
    done = []

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"working"
        done.append(True)

    perform(app)
    assert done == [True]


def test_written_chunks_precede_the_body(perform: Perform) -> None:
    """Old applications call write() instead of returning the body."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"old ")
        return [b"style"]

    assert perform(app).message == "old style"


def test_exc_info_before_output_replaces_the_response(perform: Perform) -> None:
    """The error page of the application is the response."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", PLAIN)
        try:
            int("no number")
        except ValueError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"error page"]

    result = perform(app)
    assert (result.outcome, result.status, result.message) == (Outcome.FAILED, 500, "error page")


def test_exc_info_after_output_is_a_failed_result_with_the_traceback(perform: Perform) -> None:
    """An error page is impossible after output, so the exception is reported."""

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


def test_missing_start_response_is_a_failed_result(perform: Perform) -> None:
    """The message names the missing call."""
    result = perform(lambda _environ, _start_response: [])
    assert result.message == "the app returned without having called start_response"


def test_second_start_response_is_a_failed_result(perform: Perform) -> None:
    """The message names the repeated call."""

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
def test_body_of_another_type_is_a_failed_result(
    perform: Perform, body: object, expected: str
) -> None:
    """The message shows the given value."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> object:
        start_response("200 OK", PLAIN)
        return body

    result = perform(app)
    assert result.outcome is Outcome.FAILED
    assert expected in result.message


def test_exception_in_the_app_is_a_failed_result_with_its_traceback(perform: Perform) -> None:
    """The exception is raised before the response began."""

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        raise LookupError("no such thing")

    result = perform(app)
    assert result.message.endswith("LookupError: no such thing")
    assert "in app" in result.message


def test_body_is_closed_after_an_exception(perform: Perform) -> None:
    """An exception during iteration does not prevent close()."""
    body = Body(b"half", error=OSError("broken"))
    result = perform(body)
    assert (result.outcome, body.closed) == (Outcome.FAILED, 1)
    assert result.message.endswith("OSError: broken")


def test_exception_in_close_is_a_failed_result(perform: Perform) -> None:
    """A transaction that fails in close() is not reported as succeeded."""
    result = perform(Body(b"all", close_error=RuntimeError("commit failed")))
    assert result.outcome is Outcome.FAILED
    assert result.message.endswith("RuntimeError: commit failed")


def test_exceptions_of_body_and_close_are_both_reported(perform: Perform) -> None:
    """The second exception does not hide the first."""
    body = Body(error=OSError("first"), close_error=RuntimeError("second"))
    message = perform(body).message
    assert "OSError: first" in message
    assert message.endswith("RuntimeError: second")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), BaseException()], ids=repr)
def test_body_is_closed_after_any_base_exception(perform: Perform, error: BaseException) -> None:
    """The body is closed after SystemExit and KeyboardInterrupt, too."""
    body = Body(b"half", error=error)
    result = perform(body)
    assert (result.outcome, body.closed) == (Outcome.FAILED, 1)


def test_gevent_timeout_of_the_app_is_a_failed_result(perform: Perform) -> None:
    """A gevent.Timeout of the application is not a timeout of the run."""

    def app(_environ: WSGIEnvironment, _start_response: StartResponse) -> list[bytes]:
        with gevent.Timeout(0.001):
            gevent.sleep(30)
        return []

    result = perform(app)
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert result.message.endswith("Timeout: 0.001 seconds")


def test_body_is_closed_after_an_interruption() -> None:
    """An interrupted run returns its connection."""
    claim = make_claim()
    body = Body(b"half", error=Interruption(claim, Outcome.TIMED_OUT))
    with pytest.raises(Interruption):
        Dispatcher(body, multithread=True).call(claim)
    assert body.closed == 1


def test_endless_body_is_truncated_and_closed(perform: Perform) -> None:
    """After 1 MiB, the message reports an incomplete body."""
    body = Body()
    body._chunks = itertools.repeat(bytes(65_536))
    result = perform(body)
    assert (result.outcome, result.status, body.closed) == (Outcome.FAILED, 200, 1)
    assert "longer than 1 MiB" in result.message


def test_truncated_generator_runs_its_finally_block(perform: Perform) -> None:
    """close() raises GeneratorExit in the generator."""
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


def test_endless_writes_are_a_failed_result(perform: Perform) -> None:
    """write() raises an error in the application after 1 MiB."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", PLAIN)
        while True:
            write(bytes(65_536))

    assert "wrote more than 1 MiB" in perform(app).message


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content")], ids=["HEAD", "204"]
)
def test_response_without_a_body_succeeds(perform: Perform, method: str, status: str) -> None:
    """A response to HEAD and a 204 response have no body."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, [])
        return []

    assert perform(app, method=method).outcome is Outcome.SUCCEEDED


def test_file_wrapper_reads_and_closes_the_file(perform: Perform) -> None:
    """The environ contains `wsgi.file_wrapper`."""
    file = io.BytesIO(b"contents")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        start_response("200 OK", PLAIN)
        return environ["wsgi.file_wrapper"](file, 3)

    assert perform(app).message == "contents"
    assert file.closed


def test_changes_of_the_environ_do_not_affect_later_runs(perform: Perform) -> None:
    """Middleware may change SCRIPT_NAME and PATH_INFO."""
    paths = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        paths.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        environ.clear()
        start_response("200 OK", PLAIN)
        return []

    perform(app)
    perform(app)
    assert paths == [("", "/sessions/cleanup")] * 2
