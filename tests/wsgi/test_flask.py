"""A Flask application: teardown functions, returned connections and errors."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from flask import Flask, Response, g, jsonify, redirect, request, stream_with_context

from pulse.core.run import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from werkzeug.wrappers import Response as Redirection

    from pulse.core.run import Result

    Perform = Callable[..., Result]


class Site(Flask):
    """An application with a pool of one connection and a list of its calls."""

    def __init__(self) -> None:
        super().__init__("site")
        self.pool = [sqlite3.connect(":memory:", check_same_thread=False)]
        self.calls: list[str] = []
        self.teardown_appcontext(self.release)
        for view in (self.count, self.closing, self.stream, self.broken, where, old):
            self.add_url_rule(f"/{view.__name__}", view_func=view)
        self.add_url_rule("/echo", view_func=echo, methods=["POST"])

    def acquire(self) -> sqlite3.Connection:
        """Take the connection from the pool until the teardown."""
        g.connection = self.pool.pop()
        return g.connection

    def release(self, _error: BaseException | None) -> None:
        """Return the connection to the pool, if it was taken."""
        self.calls.append("teardown")
        if "connection" in g:
            self.pool.append(g.connection)

    def count(self) -> str:
        """Query the database."""
        return str(self.acquire().execute("SELECT 1").fetchone()[0])

    def closing(self) -> Response:
        """Return a response with a function that is called in close()."""
        response = Response("bye")
        response.call_on_close(lambda: self.calls.append("closed"))
        return response

    def stream(self) -> Response:
        """Query the database while the body is sent."""

        def rows() -> Iterator[str]:
            for (number,) in self.acquire().execute("VALUES (1), (2), (3)"):
                yield f"{number} "

        return Response(stream_with_context(rows()))

    def broken(self) -> str:
        """Query a missing table."""
        self.acquire().execute("SELECT * FROM nowhere")
        return "never"


def echo() -> Response:
    """Return the received body."""
    return jsonify(json=request.get_json(), kind=request.content_type)


def where() -> str:
    """Return the requested URL."""
    return request.url


def old() -> Redirection:
    """Redirect to another path."""
    return redirect("/new")


@pytest.fixture
def site() -> Iterator[Site]:
    """Return the application."""
    site = Site()
    yield site
    for connection in site.pool:
        connection.close()


def test_connection_is_returned_to_its_pool_after_the_run(site: Site, perform: Perform) -> None:
    """The functions of teardown_appcontext were called before the end of the run."""
    result = perform(site, action="/count")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "1")
    assert (len(site.pool), site.calls) == (1, ["teardown"])


def test_call_on_close_function_is_called(site: Site, perform: Perform) -> None:
    """The run closes the response."""
    perform(site, action="/closing")
    assert "closed" in site.calls


def test_streamed_body_is_read_before_the_teardown(site: Site, perform: Perform) -> None:
    """The connection is returned after the body was read."""
    result = perform(site, action="/stream")
    assert (result.message, len(site.pool)) == ("1 2 3 ", 1)


def test_an_exception_in_a_view_is_a_failed_result(
    site: Site, perform: Perform, caplog: pytest.LogCaptureFixture
) -> None:
    """Flask returns a 500 response, logs the exception, and calls the teardown functions."""
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, 500)
    assert "no such table" in caplog.text
    assert len(site.pool) == 1


def test_propagated_exception_is_a_failed_result_with_its_traceback(
    site: Site, perform: Perform
) -> None:
    """With PROPAGATE_EXCEPTIONS, Flask calls the teardown functions, too."""
    site.config["PROPAGATE_EXCEPTIONS"] = True
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert result.message.endswith("sqlite3.OperationalError: no such table: nowhere")
    assert "in broken" in result.message
    assert len(site.pool) == 1


def test_view_receives_the_posted_body(site: Site, perform: Perform) -> None:
    """With its content type, the view can parse the body as JSON."""
    result = perform(
        site,
        action="/echo",
        method="POST",
        body='{"full": true}',
        headers={"Content-Type": "application/json"},
    )
    assert '"json":{"full":true}' in result.message.replace(" ", "").replace("\n", "")


def test_view_receives_the_base_url(site: Site, perform: Perform) -> None:
    """The links of the view have the address of the site."""
    result = perform(site, action="/where?x=1", base_url="https://example.org:8443/app")
    assert result.message == "https://example.org:8443/app/where?x=1"


def test_redirection_is_a_failed_result_with_its_target(site: Site, perform: Perform) -> None:
    """The redirection is not followed."""
    result = perform(site, action="/old")
    assert (result.outcome, result.status) == (Outcome.FAILED, 302)
    assert "redirected to /new" in result.message


def test_path_with_unicode_is_routed_to_its_view(site: Site, perform: Perform) -> None:
    """The action is encoded as by a browser."""
    site.add_url_rule("/aufräumen", view_func=lambda: "sauber")
    assert perform(site, action="/aufräumen").message == "sauber"
