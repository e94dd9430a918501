"""The JSON API: which call answers a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulse.core.access import Level
from pulse.web.calls import Call
from pulse.web.gated import GatedApplication
from pulse.web.queries import read_body, read_query
from pulse.web.responses import HttpAnswer, HttpError, json_answer, path_of
from pulse.web.routes import DOCUMENT_PATH, methods_of, route_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIEnvironment

    from pulse.web.routes import Route

_LONGEST_KEY = 200


class PulseApi(GatedApplication):
    """A WSGI application: the API of the scheduler that it finds in the environ.

    Mount it inside the application, behind its own login, or let the setting `api` mount it.

    Args:
        access: what the sender of a request may do: a bool, where True means act; an `Access`; or
            a function of the environ that returns one of these.
        trusted_origins: other origins whose pages may act.
        output: what is shown of responses and tracebacks.
        handle: the scheduler; None for that of `environ["pulse.scheduler"]`.
        challenges: the values of `WWW-Authenticate`.
        clock: measures the rates of actions and reports.

    Raises:
        ConfigError: *access* is something else.

    """

    what = "API"

    def _answer(self, environ: WSGIEnvironment) -> HttpAnswer:
        method, path = environ.get("REQUEST_METHOD", "GET"), path_of(environ)
        found = route_of(method, path)
        needed = Level.READ if found is None else found[0].level
        access = self._admitted(environ, needed)
        if path == DOCUMENT_PATH and method in {"GET", "HEAD"}:
            from pulse.web.openapi import openapi

            return json_answer(openapi())
        if found is None:
            raise _not_found(method, path)
        route, name = found
        if route.method == "POST":
            self._refuse_other_site(environ)
        call = self._call(environ, route, name, access.who)
        # Counted at last: a wrong request is answered with what is wrong.
        if route.method == "POST":
            self._count_action()
        elif route.is_costly:
            self._count_report()
        return json_answer(route.call(call))

    def _call(self, environ: WSGIEnvironment, route: Route, name: str, who: str) -> Call:
        handle = self._handle_of(environ)
        if route.method == "POST":
            if environ.get("QUERY_STRING"):
                raise HttpError(400, "query: expected no parameters beside a body")
            sent: object = read_body(environ, route.sent)
        else:
            sent = read_query(environ, route.sent)
        key = _key_of(environ) if route.has_key else None
        return Call(handle, self._output, name, sent, who, key)


def _not_found(method: str, path: str) -> HttpError:
    methods = methods_of(path)
    if not methods:
        return HttpError(404, f"expected a path of the API, such as /v1/tasks, got {path[:200]}")
    allowed = ", ".join(["HEAD", *methods] if "GET" in methods else methods)
    return HttpError(405, f"expected {allowed}, got {method[:20]}", ("Allow", allowed))


def _key_of(environ: Mapping[str, Any]) -> str | None:
    """Return the idempotency key of a request (draft-ietf-httpapi-idempotency-key-header)."""
    key: str | None = environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not 0 < len(key) <= _LONGEST_KEY:
        raise HttpError(400, f"Idempotency-Key: expected 1 to {_LONGEST_KEY} characters")
    return key
