"""Which of several objects an application refers to, directly or by way of other objects.

A server holds one application. What that application calls, it refers to: as an attribute, in a
container, in the closure of a function. So the references show which of several middlewares the
server can reach, without calling anything.

What pulse itself knows of the server is passed over: a middleware does not call the server.

Functions also find what they call by its name among the globals of their module. Such names are
followed only where a caller asks for it, or where nothing was found without: a module may hold more
than what is served, and its names lead far.
"""

from __future__ import annotations

import gc
import weakref
from collections import deque
from types import CodeType, FrameType, FunctionType, GeneratorType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")

MOST: Final = 100_000
"""How many objects are looked at; that takes a quarter of a second."""

MARK: Final = "KNOWS_THE_SERVER"
"""A class with this attribute refers to the server, and thereby to all that is served."""

_OPAQUE: Final = (
    ModuleType, FrameType, TracebackType, GeneratorType, CodeType, weakref.ref,
)  # fmt: skip
"""What leads everywhere, or to what is not held."""


def reached(top: object, wanted: Sequence[T]) -> list[T]:
    """Return those of *wanted* that *top* refers to; by names of globals only where it must be."""
    return follow(top, wanted, by_name=False) or follow(top, wanted, by_name=True)


def follow(top: object, wanted: Sequence[T], *, by_name: bool) -> list[T]:
    """Return those of *wanted* that *top* refers to, the nearest first.

    Args:
        top: where to begin; it may be one of *wanted*.
        wanted: what is looked for.
        by_name: whether functions lead to the globals that their code names, and objects to the
            methods of their class.

    """
    missing = {id(each): each for each in wanted}
    seen, waiting = {id(top)}, deque([top])
    found: list[T] = []
    while waiting and missing and len(seen) < MOST:
        current = waiting.popleft()
        if id(current) in missing:
            found.append(missing.pop(id(current)))
        for inner in _parts(current, by_name=by_name):
            if id(inner) not in seen and gc.is_tracked(inner):
                seen.add(id(inner))
                waiting.append(inner)
    return found


def _parts(current: object, *, by_name: bool) -> Iterable[object]:
    # The class itself is asked: isinstance would wake a proxy such as Flask's current_app.
    kind = type(current)
    if issubclass(kind, _OPAQUE) or MARK in vars(kind):
        return ()
    if kind is FunctionType:
        return _parts_of_function(current, by_name=by_name)  # type: ignore[arg-type] # it is one
    if issubclass(kind, type):
        return list(vars(current).values()) if by_name and not _is_ours(vars(current)) else ()
    return gc.get_referents(current)


def _parts_of_function(function: FunctionType, *, by_name: bool) -> Iterator[object]:
    yield function.__closure__
    yield function.__defaults__
    yield function.__kwdefaults__
    yield function.__dict__
    if by_name and not _is_ours(function.__globals__):
        names = _names(function.__code__)
        yield from (function.__globals__[name] for name in names if name in function.__globals__)


def _is_ours(namespace: Mapping[str, object]) -> bool:
    """Return whether a class or a module is pulse's, whose names lead to the server's own parts."""
    name = namespace.get("__module__", namespace.get("__name__"))
    return isinstance(name, str) and (name == "pulse" or name.startswith("pulse."))


def _names(code: CodeType) -> set[str]:
    """Return the names that *code* and the functions written in it look up."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))
