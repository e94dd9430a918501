"""The check before the first run that children can load the application."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pulse.child import application_check
from pulse.child.application_check import ApplicationCheck, loading_problem
from pulse.clock import SystemClock
from pulse.engine.child_protocol import ChildSetup, MiddlewareFingerprint
from pulse.errors import ConfigError
from tests.support.child_app import Wrapping, app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module that is imported."""
    module = ModuleType("shop_m")
    monkeypatch.setitem(sys.modules, "shop_m", module)
    return module


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ChildSetup]:
    """Return the setups of the children that are started; each child reports a problem."""
    setups: list[ChildSetup] = []

    def problem_of(setup: ChildSetup, _clock: object) -> str:
        setups.append(setup)
        return f"{setup.where} cannot be loaded"

    monkeypatch.setattr(application_check, "loading_problem", problem_of)
    monkeypatch.setattr(application_check, "spawn", lambda target, _name: target())
    return setups


class Case:
    """A check, its reports, and a server that accepts work if the test wants it."""

    def __init__(self, mine: Wrapping, setup: ChildSetup, *others: Wrapping) -> None:
        self.wanted = True
        self.reports: list[str] = []
        self._beside = [mine, *others]
        self._check = ApplicationCheck(
            mine,
            setup,
            beside=lambda: self._beside,
            clock=SystemClock(),
            report=self.reports.append,
        )

    def start(self) -> Callable[[], bool]:
        """Return the function that is called before each claim."""
        return self._check.at_start(lambda: self.wanted)


def named(name: str) -> ChildSetup:
    """Return the setup of children for the setting `application = name`."""
    return ChildSetup(application=name, fingerprint=MiddlewareFingerprint(digest="d"))


def test_an_imported_application_that_is_right_needs_no_child(
    shop: ModuleType, loaded: list[ChildSetup]
) -> None:
    """In this usual case no child is started."""
    shop.app = mine = Wrapping(app, "d")
    case = Case(mine, named("shop_m:app"))
    accepts_work = case.start()

    assert (accepts_work(), case.reports, loaded) == (True, [], [])


def test_an_imported_application_that_is_wrong_is_an_error_at_the_start(shop: ModuleType) -> None:
    """The server does not come up."""
    shop.app = {}
    with pytest.raises(ConfigError, match=r"shop_m:app: expected a WSGI application, got \{\}"):
        Case(Wrapping(app, "d"), named("shop_m:app")).start()


def test_a_module_that_is_not_imported_is_loaded_by_a_child_once_the_server_accepts_work(
    loaded: list[ChildSetup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded only once, and a problem is reported."""
    (tmp_path / "shop_later.py").write_text("raise AssertionError('imported here')")
    monkeypatch.syspath_prepend(tmp_path)
    case = Case(Wrapping(app, "d"), named("shop_later:app"))
    accepts_work = case.start()

    case.wanted = False
    before = accepts_work(), list(loaded)
    case.wanted = True
    after = accepts_work(), accepts_work()

    assert (before, after) == ((False, []), (True, True))
    assert [setup.application for setup in loaded] == ["shop_later:app"]
    assert case.reports == ["shop_later:app cannot be loaded"]


@pytest.mark.parametrize(
    ("values", "reports"),
    [
        ({"app": app}, []),
        ({"app": 7}, ["a WSGI application, got 7, which cannot be called"]),
        ({}, ["a name in module shop_m, got 'app', which it does not have"]),
    ],
    ids=["right", "wrong", "missing"],
)
def test_a_module_that_is_being_imported_is_checked_afterwards(
    values: dict[str, object], reports: list[str], shop: ModuleType, loaded: list[ChildSetup]
) -> None:
    """Usually it is the served module itself."""
    shop.__spec__ = importing = ModuleType("spec")  # type: ignore[assignment]
    importing._initializing = True
    case = Case(Wrapping(app, "d"), named("shop_m:app"))
    accepts_work = case.start()

    importing._initializing = False
    vars(shop).update(values)

    assert accepts_work()
    expected = [f"pulse.config.application = shop_m:app: expected {text}" for text in reports]
    assert (case.reports, loaded) == (expected, [])


@pytest.mark.usefixtures("loaded")
def test_nothing_is_claimed_while_a_child_loads_the_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the problem is in the log before a run fails because of it."""
    started: list[Callable[[], None]] = []
    monkeypatch.setattr(application_check, "spawn", lambda target, _name: started.append(target))
    setup = ChildSetup(paste_uri="config:/x.ini", paste_section="admin", chosen=True)
    case = Case(Wrapping(app, "d"), setup)
    accepts_work = case.start()

    before = accepts_work(), accepts_work(), list(case.reports)
    started[0]()

    assert before == (False, False, [])
    assert (accepts_work(), len(case.reports)) == (True, 1)


@pytest.mark.parametrize(("chosen", "number"), [(True, 1), (False, 0)])
def test_a_section_that_the_setting_names_is_loaded_by_a_child(
    *, chosen: bool, number: int, loaded: list[ChildSetup]
) -> None:
    """A section that the server has loaded needs no check."""
    setup = ChildSetup(paste_uri="config:/x.ini", paste_section="admin", chosen=chosen)
    case = Case(Wrapping(app, "d"), setup)

    assert case.start()()
    assert len(loaded) == len(case.reports) == number


# Another one that is alike ----------------------------------------------------------------


def test_an_application_that_holds_only_an_equal_middleware_is_an_error(shop: ModuleType) -> None:
    """Its children would call an application that is not served."""
    served, other = Wrapping(app, "d"), Wrapping(app, "d")
    shop.app = other
    with pytest.raises(ConfigError) as caught:
        Case(served, named("shop_m:app"), other).start()
    (problem,) = caught.value.problems
    assert problem == (
        "pulse.config.application = shop_m:app: expected the application that is served, got"
        " another one with an equal PulseMiddleware; serve that one, name the factory of the served"
        " one with (), or give each its own pulse.config.name"
    )


@pytest.mark.parametrize(
    "held",
    [["served"], ["other", "served"], []],
    ids=["this one", "both", "neither"],
)
def test_an_application_that_may_hold_this_middleware_is_no_error(
    held: list[str], shop: ModuleType
) -> None:
    """The child decides if nothing is certain in the parent."""
    built = {"served": Wrapping(app, "d"), "other": Wrapping(app, "d")}
    parts = [built[each] for each in held]
    shop.app = lambda environ, _: (environ, parts)
    case = Case(built["served"], named("shop_m:app"), built["other"])

    assert case.start()()
    assert case.reports == []


def test_an_application_that_holds_one_of_another_name_is_left_to_the_child(
    shop: ModuleType,
) -> None:
    """In the child the name identifies the middleware."""
    served, other = Wrapping(app, "d"), Wrapping(app, "d", "other")
    shop.app = other
    assert Case(served, named("shop_m:app"), other).start()()


def test_references_of_a_factory_are_ignored(shop: ModuleType) -> None:
    """A factory makes another application each time."""
    served, other = Wrapping(app, "d"), Wrapping(app, "d")
    shop.make = lambda: other
    assert Case(served, named("shop_m:make()"), other).start()()


def test_the_check_does_not_keep_the_middleware_alive(shop: ModuleType) -> None:
    """The check lives as long as the loop, which outlives a dropped middleware."""
    mine = Wrapping(app, "d")
    shop.app = mine
    check = ApplicationCheck(
        mine, named("shop_m:app"), beside=list, clock=SystemClock(), report=print
    )
    del shop.app, mine

    assert check._mine() is None


# What a child finds -----------------------------------------------------------------------


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Return a function that writes the module `shop_w`."""
    monkeypatch.syspath_prepend(tmp_path)
    return (tmp_path / "shop_w.py").write_text


def test_an_application_that_can_be_loaded_is_no_problem() -> None:
    """It holds the parent's middleware."""
    setup = ChildSetup(
        application="tests.support.child_app:outermost",
        fingerprint=MiddlewareFingerprint(digest="inner"),
    )
    assert loading_problem(setup, SystemClock()) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 / 0", "that can be loaded, got ZeroDivisionError: division by zero"),
        ("import os; os._exit(5)", "that loads: the child process ended while it loaded"),
        ("app = 7", "expected a WSGI application, got 7, which cannot be called"),
        ("from tests.support.child_app import outermost as app", "got 2 with other settings"),
    ],
    ids=["raises", "dies", "no application", "another"],
)
def test_a_failure_to_load_is_described_in_a_sentence(
    text: str, problem: str, write: Callable[[str], int]
) -> None:
    """The sentence names the setting."""
    write(text)
    found = loading_problem(ChildSetup(application="shop_w:app"), SystemClock())
    assert found.startswith("pulse.config.application")
    assert problem in found
    assert "\n" not in found


def test_a_child_that_cannot_be_started_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem is the system's error text."""
    monkeypatch.setattr("pulse.engine.child_process.find_python", lambda: "/none")
    found = loading_problem(ChildSetup(application="shop_w:app"), SystemClock())
    assert found.startswith("no child process could be started: ")
