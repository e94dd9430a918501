"""The decorator `pulse.only`: a view that responds only to pulse, for any route to the view.

The view may be a WSGI application or a view of Flask, Django, Pyramid, Bottle, werkzeug or WebOb.
The decorator searches the environ in the arguments of the view, then in the current request of the
framework. A request without an environ is refused.
"""

from __future__ import annotations

import functools
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

from pulse.core.signatures import signature_of
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
"""Module and name of the exception for status 403, by the package of a framework's request."""


def only(view: Callable[P, R]) -> Callable[P, R]:
    """Decorate *view* so that other requests than those of pulse get status 403.

    A WSGI application responds with 403. A view raises the 403 exception of its framework, so that
    the application can show its own error page. Apply the decorator directly to the function, below
    the decorators that register a route.

    Raises:
        BadValueError: *view* is a class, or is asynchronous, which WSGI does not support.

    """
    _check(view)

    @functools.wraps(view, updated=("__dict__",) if _is_function(view) else ())
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        request = _environ_of([*args, *kwargs.values()], guarded)
        if request is not None and is_run(request[0]):
            return view(*args, **kwargs)
        return cast("R", _refuse(request, args))

    _copy_signature(guarded, view)
    return guarded


def _is_function(view: Callable[P, R]) -> bool:
    """Return whether *view* is a function or a method, not an object with a state of its own.

    Since Python 3.14 `inspect.isroutine` returns True for `functools.partial` as well.
    """
    return inspect.isroutine(view) and not isinstance(view, functools.partial)


def _check(view: Callable[P, R]) -> None:
    functions = (view, getattr(view, "__call__", None))  # noqa: B004 - needed to detect async methods
    if inspect.isclass(view) or not callable(view):
        raise BadValueError("a view function or a WSGI app", view)
    if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in functions):
        raise BadValueError("a view that is not asynchronous", view)


def _copy_signature(guarded: Callable[P, R], view: Callable[P, R]) -> None:
    """Give *guarded* the signature of *view*, which Pyramid and Bottle inspect."""
    try:
        guarded.__signature__ = signature_of(view)  # type: ignore[attr-defined]
    except ValueError:
        return  # a built-in function without a signature


def _environ_of(
    arguments: Iterable[object], guarded: object
) -> tuple[Mapping[str, object], str] | None:
    """Return the environ of the current request and the package of its framework."""
    for argument in arguments:
        for owner, candidate in _candidates(argument):
            if isinstance(candidate, dict) and "wsgi.version" in candidate:
                return candidate, _package_of(owner)
    return _flask_environ() or _bottle_environ(guarded)


def _candidates(argument: object) -> Iterator[tuple[object, object]]:
    """Yield possible environs of an argument of a view, each with the request that contains it."""
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
    """Return the environ of Bottle's current request if its route calls *guarded*.

    Bottle keeps the last request of a thread after its end. The route must therefore call
    *guarded*; otherwise an old run would authorize a request of another framework.
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
    request: tuple[Mapping[str, object], str] | None, arguments: tuple[object, ...]
) -> Iterable[bytes]:
    environ, package = request or ({}, "")
    if package in _REFUSALS:
        module, name = _REFUSALS[package]
        exception = getattr(import_module(module), name)
        raise exception(403, "Forbidden") if package == "bottle" else exception
    if len(arguments) > 1 and environ is arguments[-2] and callable(arguments[-1]):
        return forbid(cast("WSGIEnvironment", environ), cast("StartResponse", arguments[-1]))
    raise RefusedError("expected a request of pulse, got a request of an outsider or no request")
