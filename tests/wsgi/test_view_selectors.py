"""The guard refuses a view that the traversal of Pyramid finds by its selector."""

from __future__ import annotations

from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

import pytest
from pyramid.config import Configurator
from pyramid.response import Response

from pulse import PulseMiddleware, Task
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication


def make_site() -> WSGIApplication:
    """Return an app with a resource `sessions` and a view of it."""
    root: dict[str, dict[str, object]] = {"sessions": {}}
    with Configurator(root_factory=lambda _: root) as config:
        config.add_view(lambda _: Response("reached"), name="cleanup", context=dict)
        app: WSGIApplication = config.make_wsgi_app()
    return app


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


@pytest.mark.parametrize(
    "path",
    [
        "/sessions/cleanup",
        "/sessions/@@cleanup",
        "/sessions/%40%40cleanup",
        "/sessions/@@cleanup/below",
        "//sessions//@@cleanup/",
        "/sessions/x/../@@cleanup",
    ],
)
def test_view_that_a_selector_names_is_refused(path: str) -> None:
    """`@@` names a view, whatever the resource contains."""
    app = make_site()
    tasks = {"cleanup": Task(action="/sessions/cleanup", interval="1h")}
    guarded = PulseMiddleware(app, guard=True, start="off", store="memory:", tasks=tasks)
    if "%" not in path:
        require(status_of(app, path) == "200 OK", "a path that Pyramid maps to the view")

    assert status_of(guarded, path) == "403 Forbidden"
