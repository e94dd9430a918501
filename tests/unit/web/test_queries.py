"""How much of a body is read, by its length or without one."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pulse.web.queries import MAX_BODY, PauseBody, read_body
from pulse.web.responses import HttpError

CHUNKED: dict[str, Any] = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def environ_of(body: bytes, **others: Any) -> dict[str, Any]:
    """Return the environ of a request."""
    return {"wsgi.input": io.BytesIO(body), "CONTENT_TYPE": "application/json"} | others


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("x", 400),
        ("-1", 400),
        ("\u0663", 400),
        (str(MAX_BODY + 1), 413),
        ("9" * 5_000, 413),
    ],
)
def test_length_that_is_wrong_or_too_long_is_refused(length: str, status: int) -> None:
    """Before anything is read."""
    with pytest.raises(HttpError) as caught:
        read_body(environ_of(b"{}", CONTENT_LENGTH=length), PauseBody)
    assert caught.value.status == status


def test_body_in_chunks_is_read_where_the_server_ends_it() -> None:
    """Where it does not, the request is refused: to ignore its body would be worse."""
    body = b'{"note": "release"}'
    assert read_body(environ_of(body, **CHUNKED), PauseBody).note == "release"
    for refused, status in (
        (environ_of(body, HTTP_TRANSFER_ENCODING="chunked"), 411),
        (environ_of(b" " * (MAX_BODY + 1), **CHUNKED), 413),
    ):
        with pytest.raises(HttpError) as caught:
            read_body(refused, PauseBody)
        assert caught.value.status == status


def test_request_without_a_body_is_an_empty_object() -> None:
    """Also with a length of zeros."""
    for others in ({}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": "000"}, CHUNKED):
        assert read_body(environ_of(b"", **others), PauseBody) == PauseBody()
