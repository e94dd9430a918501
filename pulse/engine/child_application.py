"""What `pulse.config.application` names: loaded in a child process, looked up in its parent.

A child process imports it. The process that serves must not: what it has not imported itself, it
would build a second time. There a name is only looked up, in the modules that are imported already.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType
from typing import TYPE_CHECKING, Final

from pulse.core.signatures import takes
from pulse.errors import ConfigError, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from wsgiref.types import WSGIApplication

KEY: Final = "pulse.config.application"

UNKNOWN: Final = object()
"""What is found where only an import could say what a name stands for."""


def load_named(word: str) -> WSGIApplication:
    """Import and return the application that *word* names; call it where it is a factory.

    Raises:
        ConfigError: the module has no such name, or what it stands for is no application.
        Exception: whatever the module raises while it is imported, or the factory.

    """
    found = find_named(word)
    if not word.endswith("()"):
        return _checked(word, found)
    _check_factory(word, found)
    return _checked(word, found())  # type: ignore[operator] # that is checked


def find_named(word: str) -> object:
    """Import and return what *word* names; a factory is not called.

    Raises:
        ConfigError: the module has no such name.
        Exception: whatever the module raises while it is imported.

    """
    name, path = _parted(word)
    return _attribute(word, import_module(name), path)


def look_up(word: str) -> object:
    """Return what *word* names, the factory where it is one, or `UNKNOWN`; nothing is imported.

    Raises:
        ConfigError: there is no such module or name, or what it stands for is no application.

    """
    name, path = _parted(word)
    if name == "__main__":
        raise _problem(word, "the name of a module that child processes can import", "'__main__'")
    module = sys.modules.get(name)
    if module is None:
        _check_findable(word, name)
        return UNKNOWN
    if _is_being_imported(module) or _makes_up(module, path):
        return UNKNOWN
    found = _attribute(word, module, path)
    if word.endswith("()"):
        _check_factory(word, found)
        return found
    return _checked(word, found)


def _parted(word: str) -> tuple[str, str]:
    name, _, path = word.removesuffix("()").partition(":")
    return name, path


def _attribute(word: str, module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            hint = did_you_mean(name, [known for known in dir(found) if not known.startswith("__")])
            owner = f"module {module.__name__}" if found is module else shown(found)
            raise _problem(
                word, f"a name in {owner}", f"{shown(name)}, which it does not have{hint}"
            ) from error
    return found


def _is_being_imported(module: ModuleType) -> bool:
    # There is no public way to ask; importlib itself asks so.
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _makes_up(module: ModuleType, path: str) -> bool:
    """Return whether *module* makes that name when it is asked for, which only a child may do."""
    return path.partition(".")[0] not in vars(module) and "__getattr__" in vars(module)


def _check_findable(word: str, name: str) -> None:
    """Look for the outermost module that is not imported yet; only its import could say more."""
    outer, parts = "", name.split(".")
    for part in parts:
        outer = f"{outer}.{part}" if outer else part
        if outer not in sys.modules:
            break
    try:
        spec = find_spec(outer)
    except (ImportError, AttributeError, ValueError):
        spec = None
    if spec is None:
        raise _problem(word, "a module that can be imported", f"{shown(outer)}, which is not found")


def _check_factory(word: str, found: object) -> None:
    if not callable(found) or not _takes(found):
        raise _problem(word, "a factory that can be called without arguments", shown(found))


def _checked(word: str, found: object) -> WSGIApplication:
    if not callable(found):
        raise _problem(word, "a WSGI application", f"{shown(found)}, which cannot be called")
    if not _takes(found, {}, None):
        raise _problem(
            word,
            "a WSGI application, which takes environ and start_response",
            f"{shown(found)}; if that is a factory, write {word.removesuffix('()')}()",
        )
    return found


def _takes(found: Callable[..., object], *arguments: object) -> bool:
    """Return whether *found* can be called so; True for what is no plain function."""
    return not isinstance(found, FunctionType) or takes(found, *arguments)


def _problem(word: str, expected: str, got: str) -> ConfigError:
    return ConfigError([f"{KEY} = {word}: expected {expected}, got {got}"])
