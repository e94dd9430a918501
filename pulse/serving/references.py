"""Which of several objects an application refers to, directly or through other objects.

A server holds one application. The application refers to everything that it calls: as an attribute,
in a container, in the closure of a function. So the references show which of several middlewares
the server can reach, without calling anything.

pulse's own references to the server are skipped: a middleware does not call the server.

Functions also find what they call by name, among the globals of their module. Such names are
followed only if the caller asks for that, or if nothing was found without them: a module may hold
more than what is served, and its names lead to many unrelated objects.
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

MAX_OBJECTS: Final = 100_000
"""How many objects are visited at most; that takes a quarter of a second."""

SKIP_ATTRIBUTE: Final = "REFERS_TO_SERVER"
"""A class with this attribute refers to the server, and so to everything that is served."""

_OPAQUE: Final = (
    ModuleType, FrameType, TracebackType, GeneratorType, CodeType, weakref.ref,
)  # fmt: skip
"""Types whose references lead to unrelated objects, or do not keep their target alive."""


def reachable(top: object, wanted: Sequence[T]) -> list[T]:
    """Return those of *wanted* that *top* refers to; by names of globals only if none else."""
    return follow(top, wanted, by_name=False) or follow(top, wanted, by_name=True)


def follow(top: object, wanted: Sequence[T], *, by_name: bool) -> list[T]:
    """Return those of *wanted* that *top* refers to, the nearest first.

    Args:
        top: the first object to visit; it may be one of *wanted*.
        wanted: the objects to search for.
        by_name: whether to follow functions to the globals that their code names, and objects to
            the methods of their class.

    """
    missing = {id(each): each for each in wanted}
    seen, waiting = {id(top)}, deque([top])
    found: list[T] = []
    while waiting and missing and len(seen) < MAX_OBJECTS:
        current = waiting.popleft()
        if id(current) in missing:
            found.append(missing.pop(id(current)))
        for inner in _parts(current, by_name=by_name):
            if id(inner) not in seen and gc.is_tracked(inner):
                seen.add(id(inner))
                waiting.append(inner)
    return found


def _parts(current: object, *, by_name: bool) -> Iterable[object]:
    # isinstance would call into a proxy such as Flask's current_app; `type` does not.
    kind = type(current)
    if issubclass(kind, _OPAQUE) or SKIP_ATTRIBUTE in vars(kind):
        return ()
    if kind is FunctionType:
        return _parts_of_function(current, by_name=by_name)  # type: ignore[arg-type] # checked above
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
    """Return whether a class or module is pulse's: its names lead to the server's own objects."""
    name = namespace.get("__module__", namespace.get("__name__"))
    return isinstance(name, str) and (name == "pulse" or name.startswith("pulse."))


def _names(code: CodeType) -> set[str]:
    """Return the global names that *code* and the functions nested in it use."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(_names, inner))
