"""Which application a child dispatches into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.child.__main__ import choose_middleware, find_dispatcher, load_app, unready
from pulse.child.discovery import Gathering, discovery, register
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.errors import ConfigError, EngineError
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


def gathered(*built: Wrapping) -> Gathering:
    """Return what a child has gathered, where these were built."""
    found = Gathering()
    for each in built:
        found.add(each)
    return found


# What is announced -------------------------------------------------------------------------


def test_an_announcement_is_heard_only_while_somebody_gathers() -> None:
    """Outside of a child's loading an announcement does nothing."""
    with discovery() as found:
        built = Wrapping(child_app.app, "digest")
    assert (found.in_use(), register(built)) == ([built], False)


def test_what_was_built_and_thrown_away_is_not_gathered() -> None:
    """It is no part of the application, and is freed at once."""
    with discovery() as found:
        Wrapping(child_app.app, "digest")
        kept = Wrapping(child_app.app, "digest")
    assert found.in_use() == [kept]


# Which one is the parent's -----------------------------------------------------------------


def test_the_middleware_with_the_parents_tasks_is_chosen() -> None:
    """Of several middlewares the one with the parent's settings counts."""
    built = [Wrapping(child_app.app, digest) for digest in ("outer", "inner", "other")]
    assert choose_middleware(gathered(*built), child_app.app, SETUP) is built[1]


@pytest.mark.parametrize("field", ["name", "store", "application"])
def test_of_several_with_the_same_tasks_the_other_settings_decide(field: str) -> None:
    """The name above all: it is what tells two pulses of one process apart."""
    built = [Wrapping(child_app.app, "d") for _ in range(3)]
    for each, word in zip(built, [None, "front", "back"], strict=True):
        each.fingerprint = MiddlewareFingerprint(digest="d", **{field: word})
    found = gathered(*built)

    for each in built:
        setup = ChildSetup(application="tests.support.child_app:app", fingerprint=each.fingerprint)
        assert choose_middleware(found, child_app.app, setup) is each


def test_another_configuration_may_leave_the_application_out() -> None:
    """A module that children load need not say where children find it."""
    built = Wrapping(child_app.app, "d")
    fingerprint = MiddlewareFingerprint(digest="d", application="tests.support.child_app:app")
    setup = ChildSetup(application="tests.support.child_app:app", fingerprint=fingerprint)
    assert choose_middleware(gathered(built), child_app.app, setup) is built


@pytest.mark.parametrize("number", [0, 1])
def test_of_several_that_are_alike_the_one_that_the_application_holds_counts(number: int) -> None:
    """What a module builds beside it, and keeps, is not what is served."""
    built = [Wrapping(child_app.app, "inner") for _ in range(2)]

    def outermost(environ: dict, start_response: Callable) -> object:
        return served(environ, start_response)

    served = built[number]
    assert choose_middleware(gathered(*built), outermost, SETUP) is served


def test_of_several_that_are_alike_one_that_lies_in_a_cycle_does_not_count() -> None:
    """A Flask app holds itself: the collector is called."""
    dropped, kept = (Wrapping(child_app.app, "inner") for _ in range(2))
    dropped.itself = dropped  # type: ignore[attr-defined]
    found = gathered(dropped, kept)
    del dropped

    assert choose_middleware(found, child_app.app, SETUP) is kept


def test_several_that_are_alike_are_refused() -> None:
    """Nothing is called by guess: the error names the settings that help."""
    built = [Wrapping(child_app.app, "inner") for _ in range(2)]
    with pytest.raises(EngineError) as caught:
        choose_middleware(gathered(*built), lambda *_: built[0](*_) or built[1](*_), SETUP)
    assert str(caught.value) == (
        "pulse.config.application: expected tests.support.child_app:app to hold the"
        " PulseMiddleware of the parent process, without a name, got 2 with its name and its tasks;"
        " give each its own pulse.config.name"
    )


def test_an_application_without_a_middleware_is_called_as_it_is() -> None:
    """Who names the bare application means it."""
    assert choose_middleware(gathered(), child_app.app, SETUP) is None


def test_other_middlewares_are_refused_with_the_place_named() -> None:
    """Nothing is called by guess."""
    built = [Wrapping(child_app.app, "inner", name) for name in ("front", "back")]
    with pytest.raises(EngineError) as caught:
        choose_middleware(gathered(*built), child_app.app, SETUP)
    assert str(caught.value) == (
        "pulse.config.application: expected tests.support.child_app:app to hold the"
        " PulseMiddleware of the parent process, without a name, got 2 with other settings"
        " (pulse.config.name: 'back', 'front')"
    )


# How it is loaded --------------------------------------------------------------------------


def test_a_factory_is_called() -> None:
    """It is named as for gunicorn."""
    loaded = load_app(ChildSetup(application="tests.support.child_app:make_fresh()"))
    assert isinstance(loaded, Wrapping)


def test_what_a_factory_returns_is_dispatched_into_below_its_middleware() -> None:
    """The module has another one of its kind, which is not what the factory returns."""
    setup = ChildSetup(
        application="tests.support.child_app:make_fresh()",
        fingerprint=MiddlewareFingerprint(digest="inner"),
    )
    dispatcher = find_dispatcher(setup)
    assert dispatcher.call(make_claim(action="/pid")).status == 200


def test_a_paste_application_is_loaded_by_its_section(uri: str) -> None:
    """The section says which application of the file is meant."""
    setup = ChildSetup(paste_uri=uri, paste_section="bare", global_conf={"debug": "true"})
    assert load_app(setup) is child_app.app


def test_a_relative_uri_is_loaded_from_the_parents_folder(uri: str, tmp_path: Path) -> None:
    """Wherever the child is."""
    assert uri
    setup = ChildSetup(paste_uri="config:app.ini", paste_section="bare", relative_to=str(tmp_path))
    assert load_app(setup) is child_app.app


def test_a_paste_application_is_dispatched_into_below_its_middleware(uri: str) -> None:
    """What the middleware of the paste file wraps is what is called."""
    dispatcher = find_dispatcher(
        ChildSetup(paste_uri=uri, fingerprint=MiddlewareFingerprint(digest="paste"))
    )
    assert dispatcher.call(make_claim(action="/pid")).status == 200


def test_a_paste_application_without_a_middleware_is_refused(uri: str) -> None:
    """A paste file that holds no pulse is not the file that the parent was loaded from."""
    with pytest.raises(EngineError, match=r"expected section bare of config:.* got none"):
        find_dispatcher(ChildSetup(paste_uri=uri, paste_section="bare"))


# What kept it from loading -----------------------------------------------------------------


def failure(error: BaseException) -> tuple[str, str]:
    """Return what a child answers for *error*: the last line of the problem, and the summary."""
    try:
        raise error
    except type(error) as raised:
        answer = unready(raised, SETUP)
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
def test_whatever_keeps_an_application_from_loading_the_setting_is_named(
    error: BaseException, got: str | None
) -> None:
    """After the traceback, and in a sentence of its own."""
    expected = (
        "pulse.config.application: expected tests.support.child_app:app to be an application that"
        " can be loaded,"
        f" got {got or 'SyntaxError: invalid syntax (x.py, line 3)'}"
    )
    assert failure(error) == (expected, expected)


def test_an_error_that_names_the_setting_is_its_own_summary() -> None:
    """It is not told twice."""
    problem, summary = failure(EngineError("pulse.config.application: expected x"))
    assert summary == "pulse.config.application: expected x"
    assert problem == f"pulse.errors.EngineError: {summary}"
