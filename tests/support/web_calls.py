"""Requests to a WSGI application without a server, whose whole answer is of interest."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from wsgiref.types import WSGIApplication


class WebAnswer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the document."""
        return json.loads(self.body)


def ask(
    app: WSGIApplication,
    target: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    **headers: str | None,
) -> WebAnswer:
    """Send a request; *target* is a percent-encoded path, perhaps with a query.

    A header is given by its name with underscores; None leaves it out. Both sides are held to
    PEP 3333.
    """
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": query,
        "HTTP_HOST": "shop.example.org",
    }
    if body is not None:
        environ |= {
            "wsgi.input": io.BytesIO(body),
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": "application/json",
        }
    for name, value in headers.items():
        key = name.upper() if name in {"content_type", "content_length"} else f"HTTP_{name.upper()}"
        if value is None:
            environ.pop(key, None)
        else:
            environ[key] = value
    setup_testing_defaults(environ)
    return _sent(validator(app), environ)


def _sent(app: Callable[..., Any], environ: Mapping[str, Any]) -> WebAnswer:
    started: list[tuple[str, dict[str, str]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], *_: object
    ) -> Callable[[bytes], object]:
        started.append((status, dict(headers)))
        return lambda _chunk: None

    chunks = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        chunks.close()
    ((status, sent),) = started
    return WebAnswer(int(status[:3]), sent, body)
