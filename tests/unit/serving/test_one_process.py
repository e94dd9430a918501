"""Recognises the servers that serve in one process, from inside a request."""

from __future__ import annotations

import socketserver
import threading
import urllib.request
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from werkzeug.serving import make_server

from pulse.serving.one_process import serves_alone

if TYPE_CHECKING:
    from collections.abc import Callable


class Quiet(WSGIRequestHandler):
    """A handler without a log."""

    def log_message(self, *_: object) -> None:
        """Do nothing."""


class Forking(socketserver.ForkingMixIn, WSGIServer):
    """A server that forks for each request; here it does not, so that this process answers."""

    process_request = WSGIServer.process_request


class Threading(socketserver.ThreadingMixIn, WSGIServer):
    """A server with a thread for each request."""


def answer(_: dict, start_response: Callable) -> list[bytes]:
    """Answer whether the server is known to run one process."""
    start_response("200 OK", [])
    return [str(serves_alone()).encode()]


def asked(server: WSGIServer) -> str:
    """Return the answer to a request."""
    serving = threading.Thread(target=server.handle_request)
    serving.start()
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}") as response:
        found = response.read().decode()
    serving.join()
    server.server_close()
    return found


@pytest.mark.parametrize(
    ("kind", "expected"), [(WSGIServer, "True"), (Threading, "True"), (Forking, "False")]
)
def test_server_of_the_standard_library(kind: type[WSGIServer], expected: str) -> None:
    """`ForkingMixIn` has a process for each request."""
    server = kind(("127.0.0.1", 0), Quiet)
    server.set_app(answer)
    assert asked(server) == expected


@pytest.mark.parametrize("threaded", [False, True])
def test_server_of_werkzeug(*, threaded: bool) -> None:
    """`flask run` calls this server."""
    assert asked(make_server("127.0.0.1", 0, answer, threaded=threaded)) == "True"


def test_call_outside_a_request_is_of_an_unknown_server() -> None:
    """An unknown number of processes counts as more than one."""
    assert serves_alone() is False
