"""One WSGI app that contains many: each framework routes a path to the guarded view in its way.

The header `X-App` selects an app; with `X-Guard: off` it is called without the guard.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import bottle
import django
import flask
import webob
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from pyramid.config import Configurator
from pyramid.response import Response
from werkzeug.middleware.dispatcher import DispatcherMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pyramid.request import Request

REACHED = "the guarded view"
OTHER = "another view"


def flask_site(path: str = "/sessions/cleanup") -> WSGIApplication:
    """Flask with a rule that allows a trailing slash, and a rule for all other paths."""
    app = flask.Flask(__name__)
    app.add_url_rule(path, "cleanup", lambda: REACHED, strict_slashes=False)
    app.add_url_rule("/", "home", lambda: OTHER)
    app.add_url_rule("/<path:rest>", "other", lambda rest: f"{OTHER} {len(rest)}")
    return app


def cleanup(_request: HttpRequest) -> HttpResponse:
    """Django's guarded view."""
    return HttpResponse(REACHED)


def other(_request: HttpRequest) -> HttpResponse:
    """Django's view of everything else."""
    return HttpResponse(OTHER)


urlpatterns = [re_path(r"(?i)^sessions/cleanup/?$", cleanup), re_path("", other)]


def django_site() -> WSGIApplication:
    """Django with a rule that ignores case."""
    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[])
    django.setup()
    from django.core.wsgi import WSGIHandler

    return WSGIHandler()


def pyramid_routes() -> WSGIApplication:
    """Pyramid with URL dispatch."""
    with Configurator() as config:
        for name, pattern in (("exact", ""), ("slash", "/"), ("below", "/below")):
            config.add_route(name, f"/sessions/cleanup{pattern}")
            config.add_view(lambda _: Response(REACHED), route_name=name)
        return config.make_wsgi_app()


def pyramid_traversal() -> WSGIApplication:
    """Pyramid with a tree of resources and a view by name."""

    class Sessions(dict[str, object]):
        """The resource that has the guarded view; it has any child, so that dots can leave it."""

    class Root(dict[str, object]):
        def __getitem__(self, name: str) -> Sessions:
            if name != "sessions":
                raise KeyError(name)
            return Sessions()

    def cleanup_view(_context: object, _request: Request) -> Response:
        return Response(REACHED)

    with Configurator(root_factory=lambda _: Root()) as config:
        config.add_view(cleanup_view, context=Sessions, name="cleanup")
        return config.make_wsgi_app()


def bottle_site() -> WSGIApplication:
    """Bottle, which drops what is not UTF-8."""
    app = bottle.Bottle()
    app.route("/sessions/cleanup", callback=lambda: REACHED)
    app.route("/<rest:path>", callback=lambda rest: OTHER)  # noqa: ARG005 - Bottle calls it by name
    return app


def mounted() -> WSGIApplication:
    """Werkzeug's dispatcher with the view's app under a prefix."""
    return DispatcherMiddleware(flask_site("/other"), {"/sessions": flask_site("/cleanup")})


def popped(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Takes segments from the path one by one, as nested dispatchers do."""
    request = webob.Request(environ)
    reached = request.path_info_pop() == "sessions" and request.path_info_pop() == "cleanup"
    return webob.Response(text=REACHED if reached else OTHER)(environ, start_response)


def joined(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Looks up script name and path together."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return webob.Response(text=REACHED if path == "/sessions/cleanup" else OTHER)(
        environ, start_response
    )


_loosely = re.compile(r"/+sessions/+cleanup(\.\w*)?(;.*)?[/\s\0]*", re.IGNORECASE).fullmatch


def loose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A regex that accepts nearly everything."""
    path = environ.get("PATH_INFO", "").encode("latin-1").decode(errors="replace")
    return webob.Response(text=REACHED if _loosely(path) else OTHER)(environ, start_response)


SITES: dict[str, Callable[[], WSGIApplication]] = {
    "flask": flask_site,
    "django": django_site,
    "pyramid-routes": pyramid_routes,
    "pyramid-traversal": pyramid_traversal,
    "bottle": bottle_site,
    "mounted": mounted,
    "popped": lambda: popped,
    "joined": lambda: joined,
    "loose": lambda: loose,
}


def make_application() -> WSGIApplication:
    """Return the app that contains all apps."""
    from pulse import PulseMiddleware, Task

    plain = {name: make() for name, make in SITES.items()}
    tasks = {"cleanup": Task(action="cleanup", interval=300)}
    guarded = {
        name: PulseMiddleware(
            app, context="sessions", guard=True, start="off", store="memory:", tasks=tasks
        )
        for name, app in plain.items()
    }

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        apps = plain if environ.get("HTTP_X_GUARD") == "off" else guarded
        return apps[environ.get("HTTP_X_APP", "loose")](environ, start_response)

    return application
