"""The guard refuses a view that the traversal of Pyramid finds by its selector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pyramid.config import Configurator
from pyramid.response import Response

from pulse import PulseMiddleware, Task
from tests.support.setups import require
from tests.support.wsgi_requests import status_of

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication


def make_site() -> WSGIApplication:
    """Return an app with a resource `sessions` and a view of it."""
    root: dict[str, dict[str, object]] = {"sessions": {}}
    with Configurator(root_factory=lambda _: root) as config:
        config.add_view(lambda _: Response("reached"), name="cleanup", context=dict)
        app: WSGIApplication = config.make_wsgi_app()
    return app


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
