"""Accepted and rejected responses of an application."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pulse.wsgi.response import MAX_BODY, MAX_KEPT_BODY, AppProtocolError, ResponseReader

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def reception() -> ResponseReader:
    """Return a reader without a response."""
    return ResponseReader()


def test_response_has_status_line_and_body(reception: ResponseReader) -> None:
    """The response contains the status line and its code."""
    reception.start_response("201 Created", PLAIN)
    reception.take(b"made")
    reply = reception.end()
    assert (reply.status, reply.line, reply.body) == (201, "201 Created", b"made")


def test_first_two_kibibytes_of_the_body_are_kept(reception: ResponseReader) -> None:
    """Later chunks are read and dropped."""
    reception.start_response("200 OK", PLAIN)
    for letter in (b"a", b"b", b"c"):
        reception.take(letter * 1_000)
    assert reception.end().body == (b"a" * 1_000 + b"b" * 1_000 + b"c" * 48)
    assert MAX_KEPT_BODY == 2_048


def test_body_longer_than_a_mebibyte_is_truncated(reception: ResponseReader) -> None:
    """The body is truncated after the chunk that exceeds 1 MiB."""
    reception.start_response("200 OK", PLAIN)
    assert reception.take(bytes(MAX_BODY)) is True
    assert reception.take(b"x") is False
    assert reception.end().truncated is True


def test_written_chunks_are_part_of_the_body(reception: ResponseReader) -> None:
    """Written chunks precede returned chunks."""
    write = reception.start_response("200 OK", PLAIN)
    write(b"written, ")
    reception.take(b"returned")
    assert reception.end().body == b"written, returned"


def test_write_beyond_a_mebibyte_raises_in_the_app(reception: ResponseReader) -> None:
    """The error can end an endless loop of the app."""
    write = reception.start_response("200 OK", PLAIN)
    write(bytes(MAX_BODY))
    with pytest.raises(AppProtocolError, match="more than 1 MiB"):
        write(b"x")


@pytest.mark.parametrize("name", ["Location", "location", "LOCATION"])
def test_redirection_has_its_location(reception: ResponseReader, name: str) -> None:
    """Header names are case-insensitive."""
    reception.start_response("302 Found", [*PLAIN, (name, "/login")])
    assert reception.end().location == "/login"


def test_error_response_has_its_retry_after(reception: ResponseReader) -> None:
    """A 503 response contains the time of the next attempt."""
    reception.start_response("503 Service Unavailable", [("Retry-After", "120")])
    assert reception.end().retry_after == "120"


def test_second_start_response_without_exc_info_is_rejected(reception: ResponseReader) -> None:
    """The first status stays in effect."""
    reception.start_response("200 OK", PLAIN)
    with pytest.raises(AppProtocolError, match="start_response twice"):
        reception.start_response("200 OK", PLAIN)


def test_exc_info_before_output_replaces_the_response(reception: ResponseReader) -> None:
    """An error handler may start a new response before any output."""
    reception.start_response("200 OK", PLAIN)
    reception.start_response("500 Oops", PLAIN, _exc_info())
    assert reception.end().status == 500


def test_exc_info_after_output_is_raised(reception: ResponseReader) -> None:
    """After output, the exception of the app is raised in the app."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"half")
    with pytest.raises(ZeroDivisionError):
        reception.start_response("500 Oops", PLAIN, _exc_info())


def test_empty_chunk_is_no_output(reception: ResponseReader) -> None:
    """According to PEP 3333, headers count as sent with the first byte of the body."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"")
    reception.start_response("500 Oops", PLAIN, _exc_info())
    assert reception.end().status == 500


def test_exc_info_without_an_exception_is_accepted(reception: ResponseReader) -> None:
    """`sys.exc_info()` outside a handler contains three times None."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"half")
    reception.start_response("200 OK", PLAIN, (None, None, None))
    assert reception.end().status == 200


def test_missing_start_response_is_reported(reception: ResponseReader) -> None:
    """An app must call start_response before it returns."""
    with pytest.raises(AppProtocolError, match="without having called start_response"):
        reception.end()


def test_body_before_start_response_is_reported(reception: ResponseReader) -> None:
    """A body requires a status."""
    with pytest.raises(AppProtocolError, match="without having called start_response"):
        reception.take(b"early")


@pytest.mark.parametrize("chunk", ["text", 104, None, bytearray(b"x")], ids=repr)
def test_chunk_of_another_type_is_reported(reception: ResponseReader, chunk: object) -> None:
    """The error shows the given value."""
    reception.start_response("200 OK", PLAIN)
    with pytest.raises(AppProtocolError, match=r"expected bytes, got ") as caught:
        reception.take(chunk)
    assert repr(chunk) in str(caught.value)


@pytest.mark.parametrize("status", ["OK", "", "2", "099 Low", b"200 OK", 200], ids=repr)
def test_invalid_status_is_reported(reception: ResponseReader, status: object) -> None:
    """A status is a text that begins with three digits."""
    with pytest.raises(AppProtocolError, match="expected a status such as '200 OK'"):
        reception.start_response(status, PLAIN)


def _exc_info() -> OptExcInfo:
    try:
        return 1 / 0
    except ZeroDivisionError:
        return sys.exc_info()
