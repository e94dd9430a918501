"""A real Flask app: its teardown runs, its connections come back, its errors are results."""

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
    """An app with a pool of one connection and a list of what happened."""

    def __init__(self) -> None:
        super().__init__("site")
        self.pool = [sqlite3.connect(":memory:", check_same_thread=False)]
        self.happened: list[str] = []
        self.teardown_appcontext(self.give_back)
        for view in (self.count, self.closing, self.stream, self.broken, where, old):
            self.add_url_rule(f"/{view.__name__}", view_func=view)
        self.add_url_rule("/echo", view_func=echo, methods=["POST"])

    def lend(self) -> sqlite3.Connection:
        """Take the connection until the teardown."""
        g.connection = self.pool.pop()
        return g.connection

    def give_back(self, _error: BaseException | None) -> None:
        """Put the connection back, where one was taken."""
        self.happened.append("teardown")
        if "connection" in g:
            self.pool.append(g.connection)

    def count(self) -> str:
        """Ask the database."""
        return str(self.lend().execute("SELECT 1").fetchone()[0])

    def closing(self) -> Response:
        """Answer with something left to do in close()."""
        response = Response("bye")
        response.call_on_close(lambda: self.happened.append("closed"))
        return response

    def stream(self) -> Response:
        """Ask the database while the body is sent."""

        def rows() -> Iterator[str]:
            for (number,) in self.lend().execute("VALUES (1), (2), (3)"):
                yield f"{number} "

        return Response(stream_with_context(rows()))

    def broken(self) -> str:
        """Ask for a table that is not there."""
        self.lend().execute("SELECT * FROM nowhere")
        return "never"


def echo() -> Response:
    """Tell what was sent."""
    return jsonify(json=request.get_json(), kind=request.content_type)


def where() -> str:
    """Tell the address that was asked for."""
    return request.url


def old() -> Redirection:
    """Send the visitor elsewhere."""
    return redirect("/new")


@pytest.fixture
def site() -> Iterator[Site]:
    """The app."""
    site = Site()
    yield site
    for connection in site.pool:
        connection.close()


def test_a_connection_is_back_in_its_pool_after_the_run(site: Site, perform: Perform) -> None:
    """teardown_appcontext has run when the run has ended."""
    result = perform(site, action="/count")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "1")
    assert (len(site.pool), site.happened) == (1, ["teardown"])


def test_call_on_close_runs(site: Site, perform: Perform) -> None:
    """The response is closed."""
    perform(site, action="/closing")
    assert "closed" in site.happened


def test_a_streamed_view_is_drained_before_its_teardown(site: Site, perform: Perform) -> None:
    """The connection is held while the body is made, and then given back."""
    result = perform(site, action="/stream")
    assert (result.message, len(site.pool)) == ("1 2 3 ", 1)


def test_an_exception_in_a_view_is_a_failed_result(
    site: Site, perform: Perform, caplog: pytest.LogCaptureFixture
) -> None:
    """Flask makes it a 500, logs it itself, and tears down."""
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, 500)
    assert "no such table" in caplog.text
    assert len(site.pool) == 1


def test_an_exception_that_flask_lets_out_comes_with_its_traceback(
    site: Site, perform: Perform
) -> None:
    """As under PROPAGATE_EXCEPTIONS; the teardown runs all the same."""
    site.config["PROPAGATE_EXCEPTIONS"] = True
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert result.message.endswith("sqlite3.OperationalError: no such table: nowhere")
    assert "in broken" in result.message
    assert len(site.pool) == 1


def test_a_posted_body_reaches_the_view(site: Site, perform: Perform) -> None:
    """With its type, so that the view can read it as JSON."""
    result = perform(
        site,
        action="/echo",
        method="POST",
        body='{"full": true}',
        headers={"Content-Type": "application/json"},
    )
    assert '"json":{"full":true}' in result.message.replace(" ", "").replace("\n", "")


def test_the_view_sees_the_base_url(site: Site, perform: Perform) -> None:
    """Links that it makes are those of the site."""
    result = perform(site, action="/where?x=1", base_url="https://example.org:8443/app")
    assert result.message == "https://example.org:8443/app/where?x=1"


def test_a_redirection_is_a_failure_that_names_its_target(site: Site, perform: Perform) -> None:
    """It is not followed."""
    result = perform(site, action="/old")
    assert (result.outcome, result.status) == (Outcome.FAILED, 302)
    assert "redirected to /new" in result.message


def test_a_path_with_unicode_finds_its_view(site: Site, perform: Perform) -> None:
    """The action is quoted and unquoted on the way as a browser would have it."""
    site.add_url_rule("/aufräumen", view_func=lambda: "sauber")
    assert perform(site, action="/aufräumen").message == "sauber"
