"""What `Reception` takes from an app, and what it refuses."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pulse.wsgi.response import KEPT, LONGEST, AppProtocolError, Reception

if TYPE_CHECKING:
    from _typeshed import OptExcInfo

PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture
def reception() -> Reception:
    """An answer that has not begun."""
    return Reception()


def test_a_reply_has_number_line_and_body(reception: Reception) -> None:
    """The status line is kept whole and its number apart."""
    reception.start_response("201 Created", PLAIN)
    reception.take(b"made")
    reply = reception.end()
    assert (reply.status, reply.line, reply.body) == (201, "201 Created", b"made")


def test_the_first_two_kibibytes_of_a_body_are_kept(reception: Reception) -> None:
    """What follows is taken and dropped."""
    reception.start_response("200 OK", PLAIN)
    for letter in (b"a", b"b", b"c"):
        reception.take(letter * 1_000)
    assert reception.end().body == (b"a" * 1_000 + b"b" * 1_000 + b"c" * 48)
    assert KEPT == 2_048


def test_a_mebibyte_is_enough_and_one_byte_more_is_too_much(reception: Reception) -> None:
    """The body is cut after the chunk that goes past 1 MiB."""
    reception.start_response("200 OK", PLAIN)
    assert reception.take(bytes(LONGEST)) is True
    assert reception.take(b"x") is False
    assert reception.end().cut is True


def test_write_counts_as_body(reception: Reception) -> None:
    """What is written comes before what is returned."""
    write = reception.start_response("200 OK", PLAIN)
    write(b"written, ")
    reception.take(b"returned")
    assert reception.end().body == b"written, returned"


def test_an_app_that_writes_without_end_is_told(reception: Reception) -> None:
    """The write past 1 MiB raises in the app, where it can end."""
    write = reception.start_response("200 OK", PLAIN)
    write(bytes(LONGEST))
    with pytest.raises(AppProtocolError, match="more than 1 MiB"):
        write(b"x")


@pytest.mark.parametrize("name", ["Location", "location", "LOCATION"])
def test_a_redirection_carries_its_location(reception: Reception, name: str) -> None:
    """Header names are compared without case."""
    reception.start_response("302 Found", [*PLAIN, (name, "/login")])
    assert reception.end().location == "/login"


def test_a_refusal_carries_its_retry_after(reception: Reception) -> None:
    """A 503 says when to come again."""
    reception.start_response("503 Service Unavailable", [("Retry-After", "120")])
    assert reception.end().retry_after == "120"


def test_a_second_start_response_is_refused(reception: Reception) -> None:
    """Without exc_info the first answer stands, and the app is told."""
    reception.start_response("200 OK", PLAIN)
    with pytest.raises(AppProtocolError, match="start_response twice"):
        reception.start_response("200 OK", PLAIN)


def test_exc_info_before_output_replaces_the_answer(reception: Reception) -> None:
    """An error handler may start again while nothing was sent."""
    reception.start_response("200 OK", PLAIN)
    reception.start_response("500 Oops", PLAIN, _exc_info())
    assert reception.end().status == 500


def test_exc_info_after_output_is_raised_again(reception: Reception) -> None:
    """Once something was sent, the app's own exception comes back at it."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"half")
    with pytest.raises(ZeroDivisionError):
        reception.start_response("500 Oops", PLAIN, _exc_info())


def test_empty_chunks_are_no_output(reception: Reception) -> None:
    """Headers count as sent with the first byte of the body, as PEP 3333 has it."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"")
    reception.start_response("500 Oops", PLAIN, _exc_info())
    assert reception.end().status == 500


def test_an_exc_info_without_exception_is_harmless(reception: Reception) -> None:
    """`sys.exc_info()` outside a handler is three times None."""
    reception.start_response("200 OK", PLAIN)
    reception.take(b"half")
    reception.start_response("200 OK", PLAIN, (None, None, None))
    assert reception.end().status == 200


def test_a_missing_start_response_is_told(reception: Reception) -> None:
    """An app that returns without an answer has broken the rules."""
    with pytest.raises(AppProtocolError, match="without having called start_response"):
        reception.end()


def test_a_body_before_start_response_is_told(reception: Reception) -> None:
    """A body needs a status first."""
    with pytest.raises(AppProtocolError, match="without having called start_response"):
        reception.take(b"early")


@pytest.mark.parametrize("chunk", ["text", 104, None, bytearray(b"x")], ids=repr)
def test_a_chunk_that_is_not_bytes_is_told(reception: Reception, chunk: object) -> None:
    """The error shows what came."""
    reception.start_response("200 OK", PLAIN)
    with pytest.raises(AppProtocolError, match=r"expected bytes, got ") as caught:
        reception.take(chunk)
    assert repr(chunk) in str(caught.value)


@pytest.mark.parametrize("status", ["OK", "", "2", "099 Low", b"200 OK", 200], ids=repr)
def test_a_status_that_is_none_is_told(reception: Reception, status: object) -> None:
    """A status is text that begins with three digits."""
    with pytest.raises(AppProtocolError, match="expected a status such as '200 OK'"):
        reception.start_response(status, PLAIN)


def _exc_info() -> OptExcInfo:
    try:
        return 1 / 0
    except ZeroDivisionError:
        return sys.exc_info()
