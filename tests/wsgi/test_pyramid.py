"""A Pyramid application: finished callbacks, returned connections and errors."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

import pytest
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPServiceUnavailable
from pyramid.response import Response

from pulse.core.run import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import WSGIApplication

    from pyramid.request import Request

    from pulse.core.run import Result

    Perform = Callable[..., Result]
    Pool = list[sqlite3.Connection]


@pytest.fixture
def pool() -> Iterator[Pool]:
    """Return a pool with one connection."""
    connections = [sqlite3.connect(":memory:", check_same_thread=False)]
    yield connections
    for connection in connections:
        connection.close()


@pytest.fixture
def site(pool: Pool) -> WSGIApplication:
    """Return an application with the views of the tests."""

    def acquire(request: Request) -> sqlite3.Connection:
        connection = pool.pop()
        request.add_finished_callback(lambda _request: pool.append(connection))
        return connection

    def count(request: Request) -> Response:
        return Response(str(request.connection.execute("SELECT 1").fetchone()[0]))

    def broken(request: Request) -> Response:
        return Response(request.connection.execute("SELECT * FROM nowhere"))

    def echo(request: Request) -> Response:
        return Response(json_body={"json": request.json_body, "url": request.url})

    def busy(_request: Request) -> Response:
        raise HTTPServiceUnavailable("later", headers=[("Retry-After", "30")])

    with Configurator() as config:
        config.add_request_method(acquire, "connection", reify=True)
        for view in (count, broken, echo, busy):
            config.add_route(view.__name__, f"/{view.__name__}")
            config.add_view(view, route_name=view.__name__)
        return config.make_wsgi_app()


def test_connection_is_returned_to_its_pool_after_the_run(
    site: WSGIApplication, pool: Pool, perform: Perform
) -> None:
    """The finished callback was called before the end of the run."""
    result = perform(site, action="/count")
    assert (result.outcome, result.message, len(pool)) == (Outcome.SUCCEEDED, "1", 1)


def test_exception_in_a_view_is_a_failed_result_with_its_traceback(
    site: WSGIApplication, pool: Pool, perform: Perform
) -> None:
    """Pyramid propagates the exception and calls the finished callback."""
    result = perform(site, action="/broken")
    assert (result.outcome, result.status, len(pool)) == (Outcome.FAILED, None, 1)
    assert "in broken" in result.message
    assert result.message.endswith("sqlite3.OperationalError: no such table: nowhere")


def test_body_of_a_response_is_closed(perform: Perform) -> None:
    """An app_iter with close() is closed after it was read."""
    closed = []

    class Rows(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    with Configurator() as config:
        config.add_route("rows", "/rows")
        config.add_view(lambda _: Response(app_iter=Rows([b"a", b"b"])), route_name="rows")
        app = config.make_wsgi_app()
    assert perform(app, action="/rows").message == "ab"
    assert closed == [True]


def test_view_receives_the_posted_body(site: WSGIApplication, perform: Perform) -> None:
    """The view sees the address of the site."""
    result = perform(
        site,
        action="/echo",
        method="POST",
        body='{"full": 1}',
        base_url="https://example.org/app",
    )
    assert json.loads(result.message) == {
        "json": {"full": 1},
        "url": "https://example.org/app/echo",
    }


def test_http_exception_is_a_failed_result_with_its_status(
    site: WSGIApplication, perform: Perform
) -> None:
    """The result has the status of Pyramid's response."""
    result = perform(site, action="/busy")
    assert (result.outcome, result.status) == (Outcome.FAILED, 503)
    assert "later" in result.message
