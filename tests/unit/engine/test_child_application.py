"""What `pulse.config.application` names: loaded in a child, only looked up in its parent."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pulse.engine.child_application import UNKNOWN, load_named, look_up
from pulse.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SITE = """
class Holder:
    def app(self, environ, start_response):
        return [b"held"]

def app(environ, start_response):
    return [b"app"]

def make(config=None):
    return app

def make_nothing():
    return None

def needs(config):
    return app

class Object:
    def __call__(self, environ, start_response):
        return [b"object"]

holder, instance, settings = Holder(), Object(), {"debug": True}
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that writes a module; what is imported of it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in {"shop_x", "shop_y"}]:
        del sys.modules[name]


def problem_of(word: str, how: Callable[[str], object]) -> str:
    """Return what is wrong with *word*."""
    with pytest.raises(ConfigError) as caught:
        how(word)
    (problem,) = caught.value.problems
    assert problem.startswith(f"pulse.config.application = {word}: expected ")
    return problem.removeprefix(f"pulse.config.application = {word}: expected ")


RIGHT = {
    "shop_x:app": b"app",
    "shop_x:holder.app": b"held",
    "shop_x:instance": b"object",
    "shop_x:make()": b"app",
}
WRONG = {
    "shop_x:ap": "a name in module shop_x, got 'ap', which it does not have; did you mean 'app'?",
    "shop_x:settings": "a WSGI application, got a value of type dict, not shown here",
    "shop_x:settings()": "a factory that can be called without arguments, got a value of type dict",
    "shop_x:needs()": "a factory that can be called without arguments, got <function needs at",
    "shop_x:make": "a WSGI application, which takes environ and start_response, got <function make",
}


@pytest.mark.parametrize("word", RIGHT)
def test_a_child_imports_what_is_named(word: str, write: Callable[[str, str], None]) -> None:
    """An object, an attribute of one, or what a factory returns."""
    write("shop_x", SITE)
    assert load_named(word)({}, print) == [RIGHT[word]]


@pytest.mark.parametrize("word", WRONG)
def test_a_child_refuses_what_is_no_application(
    word: str, write: Callable[[str, str], None]
) -> None:
    """The error names the setting, what was expected and what came."""
    write("shop_x", SITE)
    assert problem_of(word, load_named).startswith(WRONG[word])


def test_a_child_refuses_what_a_factory_returns_instead(write: Callable[[str, str], None]) -> None:
    """Such as nothing."""
    write("shop_x", SITE)
    assert problem_of("shop_x:make_nothing()", load_named) == (
        "a WSGI application, got None, which cannot be called"
    )


def test_a_function_that_is_a_factory_is_told_so(write: Callable[[str, str], None]) -> None:
    """It cannot be called as an application is."""
    write("shop_x", SITE)
    assert problem_of("shop_x:make", load_named).endswith(
        "; if that is a factory, write shop_x:make()"
    )


# In the parent -----------------------------------------------------------------------------


@pytest.mark.parametrize("word", WRONG)
def test_a_parent_finds_the_same_in_what_is_imported(
    word: str, write: Callable[[str, str], None]
) -> None:
    """Before the first run."""
    write("shop_x", SITE)
    __import__("shop_x")
    assert problem_of(word, look_up).startswith(WRONG[word])


@pytest.mark.parametrize("word", RIGHT)
def test_a_parent_looks_it_up_and_calls_nothing(
    word: str, write: Callable[[str, str], None]
) -> None:
    """A factory is returned as it is."""
    write("shop_x", SITE)
    module = __import__("shop_x")
    name = word.removesuffix("()").partition(":")[2].partition(".")[0]
    found = look_up(word)
    assert found in {vars(module)[name], getattr(vars(module)[name], "app", None)}


def test_a_parent_imports_nothing(write: Callable[[str, str], None]) -> None:
    """It would build the application a second time."""
    write("shop_x", SITE)
    assert look_up("shop_x:app") is UNKNOWN
    assert "shop_x" not in sys.modules


@pytest.mark.parametrize(
    ("word", "missing"),
    [
        ("shop_none:app", "shop_none"),
        ("shop_none.wsgi:app", "shop_none"),
        ("shop_x.none:app", "shop_x.none"),
        ("shop_y.none:app", "shop_y.none"),
    ],
)
def test_a_module_that_is_not_there_is_found_out(
    word: str, missing: str, write: Callable[[str, str], None]
) -> None:
    """Without importing what leads to it."""
    write("shop_x", SITE)
    write("shop_y.wsgi", SITE)
    __import__("shop_x")
    __import__("shop_y.wsgi")
    assert problem_of(word, look_up) == (
        f"a module that can be imported, got '{missing}', which is not found"
    )


def test_a_module_below_one_that_is_not_imported_is_left_to_a_child(
    write: Callable[[str, str], None],
) -> None:
    """To look for it would import its package."""
    write("shop_y.wsgi", SITE)
    assert look_up("shop_y.none:app") is UNKNOWN
    assert "shop_y" not in sys.modules


def test_the_program_itself_is_no_module_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """There `__main__` is another one."""
    monkeypatch.setattr(sys.modules["__main__"], "app", lambda *_: [], raising=False)
    assert problem_of("__main__:app", look_up) == (
        "the name of a module that child processes can import, got '__main__'"
    )


def test_what_is_being_imported_says_nothing_yet(write: Callable[[str, str], None]) -> None:
    """The name may still come, and what has it now may be replaced."""
    write(
        "shop_x",
        "from pulse.engine.child_application import look_up\n"
        "app = None\n"
        "seen = look_up('shop_x:app'), look_up('shop_x:later')\n",
    )
    assert __import__("shop_x").seen == (UNKNOWN, UNKNOWN)


def test_a_name_that_a_module_makes_up_is_left_to_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may build the application when it is asked for."""
    module = ModuleType("shop_x")
    module.__getattr__ = lambda _: pytest.fail("it was asked")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "shop_x", module)
    assert look_up("shop_x:app") is UNKNOWN
