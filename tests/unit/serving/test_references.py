"""Which objects an application refers to."""

from __future__ import annotations

import weakref
from functools import partial, wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from flask import Flask, current_app
from werkzeug.local import LocalProxy
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from pulse.serving import references
from pulse.serving.gunicorn import GunicornWorker
from pulse.serving.references import follow, reachable

if TYPE_CHECKING:
    from collections.abc import Callable


class Inner:
    """The object to search for; it can be called, as a middleware can."""

    def __call__(self, *_: object) -> list[bytes]:
        """Return an empty response."""
        return []


class Slots:
    """An object without a dict."""

    __slots__ = ("app",)

    def __init__(self, app: object) -> None:
        self.app = app


def in_closure(app: Callable) -> Callable:
    """Return a function around *app*."""

    def call(*words: object) -> object:
        return app(*words)

    return call


def in_default(app: Callable) -> Callable:
    """Return a function that has *app* as a default."""

    def call(*words: object, app: Callable = app) -> object:
        return app(*words)

    return call


def in_flask(app: Callable) -> Flask:
    """Return a Flask app that calls *app*."""
    site = Flask("site")
    site.wsgi_app = app  # type: ignore[method-assign] # Flask's documented way
    return site


class Mounts(dict):
    """A dict that keeps its apps in an attribute, as Paste's composite does."""

    def __init__(self, app: Callable) -> None:
        super().__init__()
        self.applications = [("/shop", app)]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda app: app,
        in_closure,
        in_default,
        in_flask,
        Mounts,
        Slots,
        ProxyFix,
        lambda app: DispatcherMiddleware(Inner(), {"/shop": app}),
        lambda app: SimpleNamespace(deep=[("a", {"b": (app,)})]),
        lambda app: partial(app, 1),
        lambda app: wraps(app)(lambda *_: None),
        lambda app: in_flask(app).__call__,
        lambda app: ProxyFix(in_closure(Slots(in_closure(app)))),
    ],
    ids=[
        "itself", "closure", "default", "flask", "composite", "slots", "object", "mounts", "deep",
        "partial", "wraps", "method", "several",
    ],
)  # fmt: skip
def test_an_object_that_an_app_calls_is_found_without_names(wrap: Callable) -> None:
    """Another object of its class is not found."""
    inner, other = Inner(), Inner()
    assert follow(wrap(inner), [other, inner], by_name=False) == [inner]


FRONT, BACK, SPARE = Inner(), Inner(), Inner()


def by_name(environ: dict, *words: object) -> object:
    """Call a global of this module."""
    return (FRONT if environ else BACK)(*words)


def by_inner_name(*words: object) -> object:
    """Call a global from a nested function."""
    return [FRONT(word) for word in words]


class Site:
    """An app whose methods find what they call by name."""

    back = BACK

    def __call__(self, *words: object) -> object:
        """Call a global of this module, and an attribute of the class."""
        return FRONT(*words), self.back(*words)


class Routes:
    """A namespace of functions."""

    @staticmethod
    def front(*words: object) -> object:
        """Call a global of this module."""
        return FRONT(*words)


def by_class(*words: object) -> object:
    """Call a function of a class."""
    return Routes.front(*words)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (by_name, [FRONT, BACK]),
        (by_inner_name, [FRONT]),
        (Site(), [FRONT, BACK]),
        (by_class, [FRONT]),
        (in_closure(by_name), [FRONT, BACK]),
    ],
    ids=["function", "inner function", "method", "class", "wrapped"],
)
def test_names_of_globals_are_followed_if_no_reference_leads_further(
    app: Callable, expected: list[Inner]
) -> None:
    """Only globals that the code names are followed: a module holds other objects too."""
    found = reachable(app, [FRONT, BACK, SPARE])
    assert sorted(map(id, found)) == sorted(map(id, expected))


def test_names_are_not_followed_if_a_reference_leads_further() -> None:
    """References have priority over names."""

    def call(*words: object) -> object:
        return (held, FRONT)[0](*words)

    held = Inner()
    assert reachable(call, [FRONT, held]) == [held]


@pytest.mark.parametrize(
    "top",
    [
        weakref.ref,
        lambda app: weakref.WeakValueDictionary({"a": app}),
        lambda _: references,
        lambda _: None,
        lambda _: "text",
    ],
    ids=["weak", "weak values", "module", "nothing", "text"],
)
def test_an_object_without_a_strong_reference_is_not_found(top: Callable) -> None:
    """Weak references and modules are not followed."""
    inner = Inner()
    assert reachable(top(inner), [inner]) == []


def test_an_object_that_refers_to_the_server_is_skipped() -> None:
    """A middleware refers to its worker, and the worker to what it serves."""
    inner = Inner()
    worker = SimpleNamespace(wsgi=inner)
    assert reachable([GunicornWorker(worker)], [inner]) == []  # type: ignore[arg-type] # a fake


def test_proxies_are_not_called() -> None:
    """Flask's current_app raises outside of a request."""
    calls: list[int] = []
    proxy = LocalProxy(lambda: calls.append(1))
    inner = Inner()
    assert reachable([proxy, current_app, inner], [inner]) == [inner]
    assert calls == []


def test_the_search_stops_after_a_maximum_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search of a large application takes a limited time."""
    monkeypatch.setattr(references, "MAX_OBJECTS", 10)
    inner = Inner()
    assert reachable([[[] for _ in range(20)], [[[inner]]]], [inner]) == []


def test_an_object_in_a_reference_cycle_is_found_once() -> None:
    """An app may refer to itself."""
    inner = Inner()
    app: list[object] = [inner]
    app.append(app)
    assert reachable(app, [inner]) == [inner]
