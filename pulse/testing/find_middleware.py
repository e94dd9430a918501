"""Finds the PulseMiddleware inside a Flask app, a paste pipeline or other middleware."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pulse.errors import TravelError, shown
from pulse.middleware import PulseMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

_INNER: Final = (
    "app",
    "application",
    "wsgi_app",
    "wrapped",
    "wrap_app",
    "next_app",
    "_app",
    "_application",
    "apps",
    "applications",
    "mounts",
    "__wrapped__",
    "__self__",
)
"""Attributes in which Flask, WebTest, Werkzeug, Paste, WhiteNoise and others keep inner apps."""

_MOST: Final = 2_000
"""How many objects are searched: an object may generate attributes without end."""


def find_pulse(app: object) -> PulseMiddleware:
    """Return the only PulseMiddleware that *app* is or contains.

    Raises:
        TravelError: *app* contains none, or several side by side.

    """
    found = list(_search(app))
    if not found:
        raise TravelError(
            f"expected a PulseMiddleware or an app that holds one, got {shown(app)}; "
            "pass the PulseMiddleware itself"
        )
    if len(found) > 1:
        raise TravelError(
            f"expected an app that holds one PulseMiddleware, got {len(found)} of them; "
            "pass one of them"
        )
    return found[0]


def _search(app: object) -> Iterator[PulseMiddleware]:
    """Yield the outermost ones; everything inside a PulseMiddleware is its application."""
    waiting, seen = deque([app]), [app]
    while waiting:
        candidate = waiting.popleft()
        if isinstance(candidate, PulseMiddleware):
            yield candidate
            continue
        for inner in _inside(candidate):
            if len(seen) < _MOST and not any(inner is known for known in seen):
                seen.append(inner)
                waiting.append(inner)


def _inside(candidate: object) -> Iterator[object]:
    for name in _INNER:
        yield from _unpacked(getattr(candidate, name, None))
    for cell in getattr(candidate, "__closure__", None) or ():
        try:
            yield from _unpacked(cell.cell_contents)
        except ValueError:  # a name that has no value yet
            continue


def _unpacked(held: object) -> Iterator[object]:
    """Yield what may be an app: the object, or the items of a collection."""
    match held:
        case Mapping():
            yield from held.values()
        case list() | tuple():
            for each in held:
                yield from _unpacked(each)
        case None | str() | bytes() | int():
            return
        case _:
            yield held
