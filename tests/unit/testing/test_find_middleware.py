"""Which pulse is meant, where an app holds one."""

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
    """Return a Flask app in front of whose own app a pulse stands."""
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
def test_the_pulse_is_found_in_what_wraps_it(wrap: Callable) -> None:
    """Where frameworks and middleware keep what they wrap, and in the closure of a function."""
    pulse = PulseMiddleware(answer)
    assert find_pulse(wrap(pulse)) is pulse


def test_the_pulse_of_a_paste_pipeline_is_found(tmp_path: Path) -> None:
    """Behind the filters in front of it."""
    file = tmp_path / "site.ini"
    file.write_text(INI)
    assert list(find_pulse(loadapp(f"config:{file}")).runtime.settings.tasks) == ["a"]


def test_of_two_that_wrap_each_other_the_outer_one_is_meant() -> None:
    """What lies below a pulse is its application."""
    outer = PulseMiddleware(PulseMiddleware(answer))
    assert find_pulse(wrapped(outer)) is outer


def test_two_beside_each_other_are_ambiguous() -> None:
    """The error asks for one of them."""
    mounts = DispatcherMiddleware(PulseMiddleware(answer), {"/b": PulseMiddleware(answer)})
    with pytest.raises(TravelError, match="got 2 of them; pass one of them"):
        find_pulse(mounts)


@pytest.mark.parametrize(
    "app", [None, answer, Flask("site"), Mock()], ids=["none", "app", "flask", "mock"]
)
def test_an_app_without_pulse_is_an_error(app: object) -> None:
    """The error says what to pass; an object that makes attributes up is not searched for ever."""
    with pytest.raises(TravelError, match="expected a PulseMiddleware or an app that holds one"):
        find_pulse(app)


def test_a_name_that_has_no_value_yet_is_passed_over() -> None:
    """The closure of a function may hold one."""

    def call() -> object:
        return later

    with pytest.raises(TravelError):
        find_pulse(call)
    later = None
    assert call() is None
