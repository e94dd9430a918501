"""Whether a view answers the URL of a task, by a dry routing: the application is not called.

Only frameworks whose routing has a public function for that are asked; what they cannot answer is
no problem. A framework is asked only if the application has imported it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulse.core.task import TaskDefinition


def routing_problem(app: object, task: TaskDefinition) -> str:
    """Return a sentence if no view of *app* answers the request of a task; else an empty text."""
    path = task.path.encode("latin-1").decode("utf-8", "replace")
    app = getattr(app, "__self__", app)  # Flask's `app.wsgi_app`
    for name, class_name, ask in (
        ("flask", "Flask", _ask_flask),
        ("django.core.handlers.wsgi", "WSGIHandler", _ask_django),
        ("pyramid.router", "Router", _ask_pyramid),
    ):
        module = sys.modules.get(name)
        if module is not None and isinstance(app, getattr(module, class_name)):
            problem = ask(app, path, task.method)
            return f"{task.name}.action: {problem}" if problem else ""
    return ""


def _ask_flask(app: Any, path: str, method: str) -> str:  # noqa: ANN401 - Flask is no dependency
    from werkzeug.exceptions import MethodNotAllowed, NotFound
    from werkzeug.routing import RequestRedirect

    try:
        app.url_map.bind("localhost").match(path, method=method)
    except RequestRedirect as redirect:
        return (
            f"expected a URL that a view answers, got {path}, which redirects to {redirect.new_url}"
        )
    except NotFound:
        return f"expected a URL that a view answers, got {path}, which no route of Flask matches"
    except MethodNotAllowed as refused:
        return _method_problem(path, method, sorted(refused.valid_methods or ()))
    return ""


def _ask_django(_: object, path: str, __: str) -> str:
    from django.conf import settings
    from django.urls import Resolver404, resolve

    try:
        resolve(path)
    except Resolver404:
        problem = f"expected a URL that a view answers, got {path}, which no URL pattern matches"
        if settings.APPEND_SLASH and not path.endswith("/") and _resolves(f"{path}/"):
            problem += f"; Django redirects it to {path}/, and no redirect is followed"
        return problem
    return ""


def _resolves(path: str) -> bool:
    from django.urls import Resolver404, resolve

    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def _ask_pyramid(app: Any, path: str, method: str) -> str:  # noqa: ANN401 - Pyramid is no dependency
    from pyramid.request import Request

    request = Request.blank(path, method=method)
    request.registry = app.registry
    matched = app.routes_mapper(request)["route"]
    entries = app.registry.introspector.get_category("views") or ()
    views = [one for entry in entries if not _is_of_errors(one := entry["introspectable"])]
    if matched is None:
        if any(one["route_name"] is None for one in views):  # traversal may find a view
            return ""
        return f"expected a URL that a view answers, got {path}, which no route of Pyramid matches"
    found = [one for one in views if one["route_name"] == matched.name]
    if not found:
        return f"expected a URL that a view answers, got {path}: route {matched.name} has no view"
    accepted = [_methods(one["request_methods"]) for one in found]
    if all(methods and method not in methods for methods in accepted):
        return _method_problem(path, method, sorted({one for each in accepted for one in each}))
    return ""


def _is_of_errors(view: Any) -> bool:  # noqa: ANN401 - Pyramid is no dependency
    """Return whether a view answers exceptions, as Pyramid's default one."""
    from pyramid.interfaces import IExceptionResponse

    context = view["context"]
    is_class = isinstance(context, type) and issubclass(context, Exception)
    return is_class or context is IExceptionResponse


def _methods(declared: object) -> tuple[str, ...]:
    match declared:
        case str():
            return (declared,)
        case tuple() | list():
            return tuple(map(str, declared))
    return ()


def _method_problem(path: str, method: str, accepted: list[str]) -> str:
    return f"expected a method of {path} ({', '.join(accepted)}), got {method}; set method"
