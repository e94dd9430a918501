"""The guard refuses format suffixes that routes of real frameworks accept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bottle
import flask
import pytest
from pyramid.config import Configurator
from pyramid.response import Response

from pulse import PulseMiddleware, Task
from tests.support.setups import require
from tests.support.wsgi_requests import status_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

PATHS = [
    "/sessions/cleanup.tar.gz",
    "/sessions/cleanup.a.b.c",
    "/sessions/cleanup..json",
    "/sessions/cleanup.json.",
    "/sessions/cleanup...",
]


def make_flask() -> WSGIApplication:
    """Return a Flask app."""
    app = flask.Flask("site")
    app.add_url_rule("/sessions/cleanup.<form>", view_func=cleanup)
    return app


def cleanup(form: str) -> str:
    """Answer in a format."""
    return f"reached {form}"


def make_pyramid() -> WSGIApplication:
    """Return a Pyramid app."""
    with Configurator() as config:
        config.add_route("cleanup", "/sessions/cleanup.{form}")
        config.add_view(lambda _: Response("reached"), route_name="cleanup")
        app: WSGIApplication = config.make_wsgi_app()
    return app


def make_bottle() -> WSGIApplication:
    """Return a Bottle app."""
    app = bottle.Bottle()
    app.route("/sessions/cleanup.<form>", callback=cleanup)
    return app


def guarded(app: WSGIApplication) -> PulseMiddleware:
    """Return the app behind a guard of its scheduled view."""
    tasks = {"cleanup": Task(action="/sessions/cleanup", interval="1h")}
    return PulseMiddleware(app, guard=True, start="off", store="memory:", tasks=tasks)


MAKERS = [make_flask, make_pyramid, make_bottle]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("make", MAKERS)
def test_format_suffix_of_several_parts_is_refused(
    make: Callable[[], WSGIApplication], path: str
) -> None:
    """The framework maps the path to the scheduled view."""
    app = make()
    require(status_of(app, path) == "200 OK", "a path that the framework maps to the view")
    assert status_of(guarded(app), path) == "403 Forbidden"


@pytest.mark.parametrize("make", MAKERS)
def test_format_suffix_is_refused(make: Callable[[], WSGIApplication]) -> None:
    """The guard refuses a suffix of one part."""
    assert status_of(guarded(make()), "/sessions/cleanup.json") == "403 Forbidden"
