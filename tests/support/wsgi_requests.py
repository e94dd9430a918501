"""Requests to a WSGI application without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication


def status_of(app: WSGIApplication, path: str) -> str:
    """Return the status of the answer to a request."""
    environ: dict[str, object] = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    started: list[str] = []

    def start_response(status: str, *_: object) -> Callable[[bytes], object]:
        started.append(status)
        return lambda _chunk: None

    b"".join(app(environ, start_response))
    return started[0]
