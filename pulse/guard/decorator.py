"""The second layer of the guard: a view that answers pulse alone, under whatever path it is found.

The decorated view may be a WSGI app or a view of Flask, Django, Pyramid, Bottle, or of plain
werkzeug or WebOb. The environ is looked for among its arguments, then in the framework's current
request. A request whose environ cannot be found is refused.
"""

from __future__ import annotations

import functools
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from pulse.errors import BadValueError, RefusedError
from pulse.guard.guard import forbid, is_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

P = ParamSpec("P")
R = TypeVar("R")

_REFUSALS = {
    "flask": ("werkzeug.exceptions", "Forbidden"),
    "werkzeug": ("werkzeug.exceptions", "Forbidden"),
    "django": ("django.core.exceptions", "PermissionDenied"),
    "rest_framework": ("django.core.exceptions", "PermissionDenied"),
    "pyramid": ("pyramid.httpexceptions", "HTTPForbidden"),
    "webob": ("webob.exc", "HTTPForbidden"),
    "bottle": ("bottle", "HTTPError"),
}
"""The 403 of a framework, by the package of its request: module and exception."""


def only(view: Callable[P, R]) -> Callable[P, R]:
    """Return *view* for pulse's own requests; any other gets a 403 before the view is entered.

    A WSGI app answers 403; a view raises the 403 of its framework, so that the app's own error
    page is shown. Put it next to the function, below the decorators that register a route.

    Raises:
        BadValueError: *view* is a class or asynchronous; WSGI has no use for the latter.

    """
    _check(view)

    @functools.wraps(view, updated=("__dict__",) if inspect.isroutine(view) else ())
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        found = _environ_of([*args, *kwargs.values()], guarded)
        if found is not None and is_run(found[0]):
            return view(*args, **kwargs)
        return cast("R", _refuse(found, args))

    _show_parameters(guarded, view)
    return guarded


def _check(view: Callable[P, R]) -> None:
    calls = (view, getattr(view, "__call__", None))  # noqa: B004 - its kind is asked, not whether it is there
    if inspect.isclass(view) or not callable(view):
        raise BadValueError("a view function or a WSGI app", view)
    if any(inspect.iscoroutinefunction(c) or inspect.isasyncgenfunction(c) for c in calls):
        raise BadValueError("a view that is not asynchronous", view)


def _show_parameters(guarded: Callable[P, R], view: Callable[P, R]) -> None:
    """Let *guarded* tell the parameters of *view*: Pyramid and Bottle call it by them."""
    try:
        guarded.__signature__ = inspect.signature(view)  # type: ignore[attr-defined]
    except ValueError:
        return  # something built in: it keeps its parameters to itself


def _environ_of(
    arguments: Iterable[object], guarded: object
) -> tuple[Mapping[str, object], str] | None:
    """Return the environ of the current request and the package its view belongs to."""
    for argument in arguments:
        for owner, candidate in _candidates(argument):
            if isinstance(candidate, dict) and "wsgi.version" in candidate:
                return candidate, _package_of(owner)
    return _flask_environ() or _bottle_environ(guarded)


def _candidates(argument: object) -> Iterator[tuple[object, object]]:
    """Yield what may be an environ in an argument of a view, with the request that holds it."""
    yield argument, argument
    for request in (argument, getattr(argument, "request", None)):
        for name in ("environ", "META"):
            yield request, getattr(request, name, None)


def _package_of(request: object) -> str:
    for kind in type(request).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in _REFUSALS:
            return package
    return ""


def _flask_environ() -> tuple[Mapping[str, object], str] | None:
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    return flask.request.environ, "flask"


def _bottle_environ(guarded: object) -> tuple[Mapping[str, object], str] | None:
    """Return the environ of Bottle's current request if it is this view that is being called.

    Bottle never lets go of a request: after the last one of a thread it is still there. So the
    route must lead to *guarded*, else an old run would vouch for a request elsewhere.
    """
    bottle = sys.modules.get("bottle")
    try:
        environ = bottle.request.environ if bottle else {}
    except RuntimeError:
        return None
    callback = getattr(environ.get("bottle.route"), "callback", None)
    if callback is None or inspect.unwrap(callback, stop=lambda f: f is guarded) is not guarded:
        return None
    return environ, "bottle"


def _refuse(
    found: tuple[Mapping[str, object], str] | None, arguments: tuple[object, ...]
) -> Iterable[bytes]:
    environ, package = found or ({}, "")
    if package in _REFUSALS:
        module, name = _REFUSALS[package]
        refusal = getattr(import_module(module), name)
        raise refusal(403, "Forbidden") if package == "bottle" else refusal
    if len(arguments) > 1 and environ is arguments[-2] and callable(arguments[-1]):
        return forbid(cast("WSGIEnvironment", environ), cast("StartResponse", arguments[-1]))
    raise RefusedError("expected a request that pulse sent, got one from outside or none at all")
