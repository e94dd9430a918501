"""How a middleware makes itself known to the child process that loads its application.

A child of `mode = processing` loads the application as the server did, and with it each
`PulseMiddleware` in it. It needs the one that its parent is, to dispatch into what that one wraps.
So each middleware announces itself when it is built; where nobody gathers, that does nothing.

Those who gather keep nothing alive: what was built and thrown away is no part of the application.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from wsgiref.types import WSGIApplication

    from pulse.engine.child_protocol import MiddlewareFingerprint


class Announced(Protocol):
    """A middleware that was built."""

    @property
    def fingerprint(self) -> MiddlewareFingerprint:
        """What it has in common with the parent's that is the same middleware."""

    @property
    def app(self) -> WSGIApplication:
        """The application below the middleware."""

    @property
    def extra(self) -> Mapping[str, object]:
        """Extra entries of each call's environ."""


class Gathering:
    """The middlewares that were announced, and are still in use."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: list[weakref.ref[Announced]] = []

    def add(self, announced: Announced) -> None:
        """Take one in, without keeping it alive."""
        self._known.append(weakref.ref(announced))

    def in_use(self) -> list[Announced]:
        """Return those that somebody holds, in the order in which they were built."""
        return [each for known in self._known if (each := known()) is not None]


_gathering: ContextVar[Gathering | None] = ContextVar("pulse_gathering", default=None)


def register(announced: Announced) -> bool:
    """Make a new middleware known to whoever gathers, and return whether anybody does.

    Where somebody does, this process is a child that dispatches: nothing may be started in it.
    """
    gathered = _gathering.get()
    if gathered is None:
        return False
    gathered.add(announced)
    return True


@contextmanager
def discovery() -> Iterator[Gathering]:
    """Gather the announcements made within, in this thread."""
    gathered = Gathering()
    token = _gathering.set(gathered)
    try:
        yield gathered
    finally:
        _gathering.reset(token)
