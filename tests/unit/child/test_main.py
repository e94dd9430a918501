"""Which application a child dispatches into."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pulse.child.__main__ import (
    ChildMain,
    choose_middleware,
    failed_to_load,
    find_dispatcher,
    load_app,
)
from pulse.child.discovery import Discovery, discovery, register
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.errors import ConfigError, EngineError
from pulse.testing.clock import FakeClock
from tests.support import child_app
from tests.support.child_app import Wrapping
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SETUP = ChildSetup(
    application="tests.support.child_app:app", fingerprint=MiddlewareFingerprint(digest="inner")
)
INI = """\
[app:main]
paste.app_factory = tests.support.child_app:make_outermost

[app:bare]
paste.app_factory = tests.support.child_app:make_bare
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """Return the URI of an ini file with a wrapped application and a bare one."""
    path = tmp_path / "app.ini"
    path.write_text(INI)
    return f"config:{path}"


def discovered(*built: Wrapping) -> Discovery:
    """Return the discovery of a child in which these middlewares were built."""
    found = Discovery()
    for each in built:
        found.add(each)
    return found


# Discovery -------------------------------------------------------------------------


def test_a_middleware_is_registered_only_during_a_discovery() -> None:
    """Outside of a child's loading a registration does nothing."""
    with discovery() as found:
        built = Wrapping(child_app.app, "digest")
    assert (found.in_use(), register(built)) == ([built], False)


def test_a_middleware_that_was_dropped_is_not_in_use() -> None:
    """It is not part of the application, and is freed at once."""
    with discovery() as found:
        Wrapping(child_app.app, "digest")
        kept = Wrapping(child_app.app, "digest")
    assert found.in_use() == [kept]


# Which one is the parent's -----------------------------------------------------------------


def test_the_middleware_with_the_parents_tasks_is_chosen() -> None:
    """Of several middlewares, the one with the parent's settings is the parent's."""
    built = [Wrapping(child_app.app, digest) for digest in ("outer", "inner", "other")]
    assert choose_middleware(discovered(*built), child_app.app, SETUP) is built[1]


@pytest.mark.parametrize("field", ["name", "store", "application"])
def test_of_several_with_the_same_tasks_the_other_settings_decide(field: str) -> None:
    """Above all the name: it distinguishes two middlewares of one process."""
    built = [Wrapping(child_app.app, "d") for _ in range(3)]
    for each, word in zip(built, [None, "front", "back"], strict=True):
        each.fingerprint = MiddlewareFingerprint(digest="d", **{field: word})
    found = discovered(*built)

    for each in built:
        setup = ChildSetup(application="tests.support.child_app:app", fingerprint=each.fingerprint)
        assert choose_middleware(found, child_app.app, setup) is each


def test_a_middleware_without_the_application_setting_matches_its_parent() -> None:
    """The module that children load need not name itself in its settings."""
    built = Wrapping(child_app.app, "d")
    fingerprint = MiddlewareFingerprint(digest="d", application="tests.support.child_app:app")
    setup = ChildSetup(application="tests.support.child_app:app", fingerprint=fingerprint)
    assert choose_middleware(discovered(built), child_app.app, setup) is built


@pytest.mark.parametrize("number", [0, 1])
def test_of_several_that_are_alike_the_one_in_the_application_is_chosen(
    number: int,
) -> None:
    """A middleware that a module builds and keeps elsewhere is not served."""
    built = [Wrapping(child_app.app, "inner") for _ in range(2)]

    def outermost(environ: dict, start_response: Callable) -> object:
        return served(environ, start_response)

    served = built[number]
    assert choose_middleware(discovered(*built), outermost, SETUP) is served


def test_a_dropped_middleware_in_a_reference_cycle_is_not_chosen() -> None:
    """A Flask app refers to itself, so the garbage collector is called."""
    dropped, kept = (Wrapping(child_app.app, "inner") for _ in range(2))
    dropped.itself = dropped  # type: ignore[attr-defined]
    found = discovered(dropped, kept)
    del dropped

    assert choose_middleware(found, child_app.app, SETUP) is kept


def test_several_served_middlewares_that_are_alike_are_an_error() -> None:
    """Nothing is guessed; the error names the setting that distinguishes them."""
    built = [Wrapping(child_app.app, "inner") for _ in range(2)]
    with pytest.raises(EngineError) as caught:
        choose_middleware(discovered(*built), lambda *_: built[0](*_) or built[1](*_), SETUP)
    assert str(caught.value) == (
        "pulse.config.application: expected tests.support.child_app:app to hold the"
        " PulseMiddleware of the parent process, without a name, got 2 with its name and its tasks;"
        " give each its own pulse.config.name"
    )


def test_an_application_without_a_middleware_is_called_as_it_is() -> None:
    """The setting may name the bare application."""
    assert choose_middleware(discovered(), child_app.app, SETUP) is None


def test_only_other_middlewares_are_an_error_that_names_the_application() -> None:
    """Nothing is guessed."""
    built = [Wrapping(child_app.app, "inner", name) for name in ("front", "back")]
    with pytest.raises(EngineError) as caught:
        choose_middleware(discovered(*built), child_app.app, SETUP)
    assert str(caught.value) == (
        "pulse.config.application: expected tests.support.child_app:app to hold the"
        " PulseMiddleware of the parent process, without a name, got 2 with other settings"
        " (pulse.config.name: 'back', 'front')"
    )


# How it is loaded --------------------------------------------------------------------------


def test_a_factory_is_called() -> None:
    """A factory is named as for gunicorn."""
    loaded = load_app(ChildSetup(application="tests.support.child_app:make_fresh()"))
    assert isinstance(loaded, Wrapping)


def test_a_run_calls_what_the_middleware_of_a_factory_wraps() -> None:
    """The module has another middleware of its kind, which the factory does not return."""
    setup = ChildSetup(
        application="tests.support.child_app:make_fresh()",
        fingerprint=MiddlewareFingerprint(digest="inner"),
    )
    dispatcher = find_dispatcher(setup)
    assert dispatcher.call(make_claim(action="/pid")).status == 200


def test_a_paste_application_is_loaded_by_its_section(uri: str) -> None:
    """The section names the application in the file."""
    setup = ChildSetup(paste_uri=uri, paste_section="bare", global_conf={"debug": "true"})
    assert load_app(setup) is child_app.app


def test_a_relative_uri_is_loaded_from_the_parents_folder(uri: str, tmp_path: Path) -> None:
    """The working directory of the child does not matter."""
    assert uri
    setup = ChildSetup(paste_uri="config:app.ini", paste_section="bare", relative_to=str(tmp_path))
    assert load_app(setup) is child_app.app


def test_a_run_calls_what_the_middleware_of_a_paste_file_wraps(uri: str) -> None:
    """The dispatcher calls the application below the middleware."""
    dispatcher = find_dispatcher(
        ChildSetup(paste_uri=uri, fingerprint=MiddlewareFingerprint(digest="paste"))
    )
    assert dispatcher.call(make_claim(action="/pid")).status == 200


def test_a_paste_application_without_a_middleware_is_an_error(uri: str) -> None:
    """The parent cannot have been loaded from a paste file without a middleware."""
    with pytest.raises(EngineError, match=r"expected section bare of config:.* got none"):
        find_dispatcher(ChildSetup(paste_uri=uri, paste_section="bare"))


# Failures to load -----------------------------------------------------------------


def failure(error: BaseException) -> tuple[str, str]:
    """Return what a child answers for *error*: the last line of the problem, and the summary."""
    try:
        raise error
    except type(error) as raised:
        answer = failed_to_load(raised, SETUP)
    return answer.problem.splitlines()[-1], answer.summary


@pytest.mark.parametrize(
    ("error", "got"),
    [
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'"),
        (SystemExit("not here"), "SystemExit: not here"),
        (ConfigError(["lease: expected", "drain: x"]), "ConfigError: lease: expected drain: x"),
        (SyntaxError("invalid syntax", ("x.py", 3, 1, "a b")), None),
    ],
    ids=["import", "exit", "other settings", "syntax"],
)
def test_a_failure_to_load_names_the_setting(error: BaseException, got: str | None) -> None:
    """The sentence follows the traceback, and is also sent by itself."""
    expected = (
        "pulse.config.application: expected tests.support.child_app:app to be an application that"
        " can be loaded,"
        f" got {got or 'SyntaxError: invalid syntax (x.py, line 3)'}"
    )
    assert failure(error) == (expected, expected)


def test_an_error_that_names_the_setting_is_its_own_summary() -> None:
    """The setting is not named twice."""
    problem, summary = failure(EngineError("pulse.config.application: expected x"))
    assert summary == "pulse.config.application: expected x"
    assert problem == f"pulse.errors.EngineError: {summary}"


# Signals ---------------------------------------------------------------------------


def test_sigterm_ends_a_forked_process_before_the_hooks_of_the_fork_have_run() -> None:
    """The handler may run in the first instant of the process, when no mark is set yet."""
    here, there = socket.socketpair()
    with closing(here), closing(there):
        child = ChildMain(there, FakeClock())
        pid = os.fork()
        if not pid:
            try:
                child.terminate(signal.SIGTERM, None)
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert (os.WIFSIGNALED(status), os.WTERMSIG(status)) == (True, signal.SIGTERM)
