"""Which middleware is found in an app."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from flask import Flask
from paste.deploy import loadapp
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from pulse import PulseMiddleware
from pulse.errors import TravelError
from pulse.testing.find_middleware import find_pulse

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INI = f"""[pipeline:main]
pipeline = wrap pulse app
[filter:wrap]
paste.filter_factory = {__name__}:make_wrap
[filter:pulse]
use = egg:pulse
pulse.task.a.action = a
pulse.task.a.interval = 60
[app:app]
paste.app_factory = {__name__}:make_app
"""


def answer(_environ: dict, start_response: Callable) -> list[bytes]:
    """Be an app."""
    start_response("200 OK", [])
    return []


def make_app(_global_conf: dict) -> Callable:
    """Be the factory of an app."""
    return answer


def make_wrap(_global_conf: dict) -> Callable:
    """Be the factory of a filter that is a plain function."""
    return wrapped


def wrapped(app: Callable) -> Callable:
    """Return *app* within a function that logs, say."""

    def call(environ: dict, start_response: Callable) -> object:
        return app(environ, start_response)

    return call


def flask_app(pulse: PulseMiddleware) -> Flask:
    """Return a Flask app whose inner app is wrapped by the middleware."""
    app = Flask("site")
    app.wsgi_app = pulse  # type: ignore[method-assign] # Flask's documented way
    return app


@pytest.mark.parametrize(
    "wrap",
    [
        lambda pulse: pulse,
        flask_app,
        wrapped,
        ProxyFix,
        lambda pulse: wrapped(ProxyFix(wrapped(pulse))),
        lambda pulse: DispatcherMiddleware(answer, {"/site": pulse}),
        lambda pulse: SimpleNamespace(applications=[("/a", answer), ("/b", pulse)]),
        lambda pulse: SimpleNamespace(application=pulse),
        lambda pulse: wraps(pulse)(lambda *_: None),
        lambda pulse: flask_app(pulse).__call__,
    ],
    ids=[
        "itself", "flask", "function", "object", "several", "mounts", "urlmap", "application",
        "wraps", "method",
    ],
)  # fmt: skip
def test_middleware_is_found_in_its_wrapper(wrap: Callable) -> None:
    """Frameworks keep inner apps in attributes, functions in closures."""
    pulse = PulseMiddleware(answer)
    assert find_pulse(wrap(pulse)) is pulse


def test_middleware_of_a_paste_pipeline_is_found(tmp_path: Path) -> None:
    """Filters precede the middleware."""
    file = tmp_path / "site.ini"
    file.write_text(INI)
    assert list(find_pulse(loadapp(f"config:{file}")).runtime.settings.tasks) == ["a"]


def test_outer_one_of_two_nested_middlewares_is_found() -> None:
    """The inner middleware is a part of the outer one's application."""
    outer = PulseMiddleware(PulseMiddleware(answer))
    assert find_pulse(wrapped(outer)) is outer


def test_two_middlewares_side_by_side_are_refused() -> None:
    """The error asks for one of them."""
    mounts = DispatcherMiddleware(PulseMiddleware(answer), {"/b": PulseMiddleware(answer)})
    with pytest.raises(TravelError, match="got 2 of them; pass one of them"):
        find_pulse(mounts)


@pytest.mark.parametrize(
    "app", [None, answer, Flask("site"), Mock()], ids=["none", "app", "flask", "mock"]
)
def test_app_without_a_middleware_is_refused(app: object) -> None:
    """The search ends even if an object generates attributes without end."""
    with pytest.raises(TravelError, match="expected a PulseMiddleware or an app that holds one"):
        find_pulse(app)


def test_closure_variable_without_a_value_is_ignored() -> None:
    """A function may be searched before the variable is assigned."""

    def call() -> object:
        return later

    with pytest.raises(TravelError):
        find_pulse(call)
    later = None
    assert call() is None
