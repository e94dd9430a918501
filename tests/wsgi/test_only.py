"""`pulse.only` on views of frameworks: requests of pulse are allowed, forgeries are refused."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING
from wsgiref.util import setup_testing_defaults

import bottle
import flask
import pytest
import webob
import webob.dec
from django.core.handlers.exception import convert_exception_to_response
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.views import View
from flask.views import MethodView
from pyramid.config import Configurator
from pyramid.response import Response
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from pulse.core.run import Run
from pulse.guard.decorator import only
from pulse.guard.guard import PULSE_HEADERS
from tests.support.django_site import make_django_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pyramid.request import Request

RUN = Run(id="1", task="cleanup", fire_time=0)
FORGERIES: dict[str, dict[str, object]] = {
    "nothing": {},
    "headers": dict.fromkeys(PULSE_HEADERS, "1") | {"HTTP_USER_AGENT": "pulse/1.0"},
    "the key as a header": {"HTTP_PULSE.RUN": "1", "HTTP_PULSE_RUN": "1"},
    "the key as text": {"pulse.run": "cleanup"},
    "a query": {"QUERY_STRING": "pulse.run=1&wsgi.version=1"},
}


def plain() -> WSGIApplication:
    """Return a WSGI application without a framework."""

    @only
    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    return app


def plain_method() -> WSGIApplication:
    """Return a WSGI application whose `__call__` is decorated."""

    class App:
        @only
        def __call__(
            self, _environ: WSGIEnvironment, start_response: StartResponse
        ) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

    return App()


def flask_function() -> WSGIApplication:
    """Return an application with a Flask view function, which has no request argument."""
    app = flask.Flask("flask_function")

    @app.route("/<name>")
    @only
    def view(name: str) -> str:
        return f"done {name}"

    return app


def flask_class() -> WSGIApplication:
    """Return an application with a Flask view class."""
    app = flask.Flask("flask_class")

    class Cleanup(MethodView):
        decorators = (only,)

        def get(self, name: str) -> str:
            return f"done {name}"

    app.add_url_rule("/<name>", view_func=Cleanup.as_view("cleanup"))
    return app


def django_function() -> WSGIApplication:
    """Return an application with a Django view function."""

    @only
    def view(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("done")

    return _django(view)


def django_class() -> WSGIApplication:
    """Return an application with a decorated Django class-based view."""

    class Cleanup(View):
        def get(self, _request: HttpRequest) -> HttpResponse:
            return HttpResponse("done")

    return _django(only(Cleanup.as_view()))


def django_method() -> WSGIApplication:
    """Return an application with a Django view class whose method is decorated."""

    class Cleanup(View):
        @only
        def get(self, _request: HttpRequest) -> HttpResponse:
            return HttpResponse("done")

    return _django(Cleanup.as_view())


def _django(view: Callable[..., HttpResponse]) -> WSGIApplication:
    handler = convert_exception_to_response(view)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        response = handler(WSGIRequest(environ))
        start_response(f"{response.status_code} {response.reason_phrase}", [])
        return list(response)

    return app


def pyramid_request() -> WSGIApplication:
    """Return an application with a Pyramid view that accepts the request."""

    @only
    def view(_request: Request) -> Response:
        return Response("done")

    return _pyramid(view)


def pyramid_context() -> WSGIApplication:
    """Return an application with a Pyramid view that accepts context and request."""

    @only
    def view(_context: object, _request: Request) -> Response:
        return Response("done")

    return _pyramid(view)


def pyramid_class() -> WSGIApplication:
    """Return an application with a Pyramid view class, which has a request attribute."""

    class Views:
        def __init__(self, request: Request) -> None:
            self.request = request

        @only
        def cleanup(self) -> Response:
            return Response("done")

    return _pyramid(Views, attr="cleanup")


def _pyramid(view: object, **keywords: str) -> WSGIApplication:
    with Configurator() as config:
        config.add_route("cleanup", "/cleanup")
        config.add_view(view, route_name="cleanup", **keywords)
        return config.make_wsgi_app()


def bottle_route() -> WSGIApplication:
    """Return an application with a Bottle route, which has no request argument."""
    app = bottle.Bottle()

    @app.route("/<name>")
    @only
    def view(name: str) -> str:
        return f"done {name}"

    return app


def webob_request() -> WSGIApplication:
    """Return an application from a function by WebOb's decorator."""

    @webob.dec.wsgify
    @only
    def app(_request: webob.Request) -> webob.Response:
        return webob.Response("done")

    return app


def werkzeug_request() -> WSGIApplication:
    """Return an application from a function by werkzeug's decorator."""

    @WerkzeugRequest.application
    @only
    def app(_request: WerkzeugRequest) -> WerkzeugResponse:
        return WerkzeugResponse("done")

    return app


APPS = [
    *(plain, plain_method, flask_function, flask_class, django_function, django_class),
    *(django_method, pyramid_request, pyramid_context, pyramid_class, bottle_route),
    *(webob_request, werkzeug_request),
]


@pytest.fixture(autouse=True)
def _django_is_set_up(tmp_path: Path) -> None:
    make_django_app(tmp_path / "unused.db")


def request_cleanup(
    app: WSGIApplication, extra: dict[str, object], method: str = "GET"
) -> tuple[int, bytes]:
    """Return status and body of the application's response to a request for /cleanup."""
    environ: dict[str, object] = {"REQUEST_METHOD": method, "PATH_INFO": "/cleanup"}
    environ["wsgi.input"] = BytesIO()
    setup_testing_defaults(environ)
    environ |= extra
    started: list[str] = []

    def start_response(
        status: str, _headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], None]:
        started.append(status)
        return lambda _chunk: None

    chunks = app(environ, start_response)
    body = b"".join(chunks)
    getattr(chunks, "close", list)()
    return int(started[-1][:3]), body


@pytest.mark.parametrize("make", APPS)
def test_request_of_pulse_is_allowed(make: Callable[[], WSGIApplication]) -> None:
    """The view is called and its response is returned."""
    status, body = request_cleanup(make(), {"pulse.run": RUN})
    assert (status, body[:4]) == (200, b"done")


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
@pytest.mark.parametrize("make", APPS)
def test_request_of_an_outsider_is_refused(
    make: Callable[[], WSGIApplication], forgery: dict[str, object]
) -> None:
    """The status is 403 and the view is not called, whatever text the request contains."""
    status, body = request_cleanup(make(), forgery)
    assert status == 403
    assert b"done" not in body


def test_old_run_of_bottle_does_not_authorize_other_requests() -> None:
    """After a run with Bottle, a view of another framework in the same thread refuses outsiders."""
    request_cleanup(bottle_route(), {"pulse.run": RUN})
    status, _ = request_cleanup(flask_function(), {})
    assert status == 403


def test_error_page_of_the_application_is_returned() -> None:
    """A refusal is the framework's own 403 exception."""
    app = flask_function()
    app.register_error_handler(403, lambda _error: ("our page", 403))  # type: ignore[attr-defined]
    assert request_cleanup(app, {}) == (403, b"our page")
