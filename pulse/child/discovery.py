"""How a child process discovers the middlewares of the application that it loads.

A child of `mode = processing` loads the application as the server did, and with it each
`PulseMiddleware` of the application. It needs the one of its parent process, to dispatch into the
application below it. So each middleware registers when it is built; without an active discovery
that does nothing.

A discovery keeps nothing alive: a middleware that was built and dropped is not in use.
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


class BuiltMiddleware(Protocol):
    """A middleware that was built."""

    @property
    def fingerprint(self) -> MiddlewareFingerprint:
        """Equal to the parent's if it is the same middleware."""

    @property
    def app(self) -> WSGIApplication:
        """The application below the middleware."""

    @property
    def extra(self) -> Mapping[str, object]:
        """Extra entries of the environ of each call."""


class Discovery:
    """The middlewares that were built during a discovery and are still in use."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: list[weakref.ref[BuiltMiddleware]] = []

    def add(self, middleware: BuiltMiddleware) -> None:
        """Add a middleware, without keeping it alive."""
        self._known.append(weakref.ref(middleware))

    def in_use(self) -> list[BuiltMiddleware]:
        """Return the middlewares that are alive, in the order in which they were built."""
        return [each for known in self._known if (each := known()) is not None]


_active: ContextVar[Discovery | None] = ContextVar("pulse_discovery", default=None)


def register(middleware: BuiltMiddleware) -> bool:
    """Register a new middleware with the active discovery, if any; return whether one is active.

    If one is active, this process is a child that only dispatches: nothing may be started in it.
    """
    found = _active.get()
    if found is None:
        return False
    found.add(middleware)
    return True


@contextmanager
def discovery() -> Iterator[Discovery]:
    """Discover the middlewares that are built within, in this thread."""
    found = Discovery()
    token = _active.set(found)
    try:
        yield found
    finally:
        _active.reset(token)
