"""Loads an application as a server does, without starting anything."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pulse.child.discovery import discovery
from pulse.core.error_text import message_of
from pulse.engine.child_application import KEY, load_named
from pulse.errors import ConfigError, shown
from pulse.runtime import PulseRuntime
from pulse.serving.exclusions import START_VARIABLE
from pulse.serving.references import reachable
from pulse.settings.converters import is_application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from wsgiref.types import WSGIApplication

T = TypeVar("T")


def load_runtime(
    word: str, *, task: str, name: str | None, app: str, global_conf: Mapping[str, str]
) -> tuple[WSGIApplication, PulseRuntime]:
    """Return an application, built as a server does, and its middleware that has a task.

    Nothing starts. The application keeps the middleware alive.

    Args:
        word: an ini file, or an application.
        task: the name of a task; where no middleware declares it, the only one is returned.
        name: the name of the middleware; None for any.
        app: the name of the application in an ini file.
        global_conf: variables that the server adds to `[DEFAULT]`.

    Raises:
        ConfigError: the application cannot be loaded, or has no such middleware, or several.

    """
    load = load_named if is_application(word) else _paste_loader(word, app, global_conf)
    with switched_off(), discovery() as found:
        built_app = _loaded(word, load, what="an application")
        built = [each for each in found.in_use() if isinstance(each, PulseRuntime)]
    served = reachable(built_app, built) or built
    named = [each for each in served if name is None or each.settings.name == name]
    chosen = [each for each in named if task in each.settings.tasks] or named
    if len(chosen) != 1:
        known = sorted(each.settings.name or "one without a name" for each in chosen)
        names = ", ".join(known) or "none"
        hint = "; choose by --name" if len(chosen) > 1 else ""
        raise ConfigError([f"{word}: expected one PulseMiddleware, got {names}{hint}"])
    return built_app, chosen[0]


def _paste_loader(
    word: str, app: str, global_conf: Mapping[str, str]
) -> Callable[[str], WSGIApplication]:
    def load(word: str) -> WSGIApplication:
        from paste.deploy import loadapp

        loaded: WSGIApplication = loadapp(
            f"config:{Path(word).resolve()}", name=app, global_conf=dict(global_conf)
        )
        return loaded

    if not Path(word).is_file():
        raise ConfigError([f"{word}: expected an ini file, or package.module:app, got no file"])
    return load


def imported(word: str, load: Callable[[str], object], *, what: str) -> object:
    """Return what *load* returns for `package.module:name`.

    Raises:
        ConfigError: the name cannot be imported, or stands for something else.

    """
    if not is_application(word):
        raise ConfigError([f"expected package.module:name, got {shown(word)}"])
    return _loaded(word, load, what=what)


def _loaded(word: str, load: Callable[[str], T], *, what: str) -> T:
    try:
        return load(word)
    except ConfigError as error:
        problems = [one.replace(f"{KEY} = ", "").replace(KEY, word) for one in error.problems]
        raise ConfigError(problems) from error
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {message_of(error)}"
        raise ConfigError([f"{word}: expected {what} to load, got {got}"]) from error


@contextmanager
def switched_off() -> Iterator[None]:
    """Let no middleware start, even with `start = eager`."""
    before = os.environ.get(START_VARIABLE)
    os.environ[START_VARIABLE] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ[START_VARIABLE]
        else:
            os.environ[START_VARIABLE] = before
