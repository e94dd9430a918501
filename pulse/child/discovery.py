"""How a middleware makes itself known to the child process that loads its application.

A child of `mode = processing` loads the application as the server did, and with it each
`PulseMiddleware` in it. It needs the one that its parent is, to dispatch into what that one wraps.
So each middleware announces itself when it is built; where nobody gathers, that does nothing.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from wsgiref.types import WSGIApplication


class Announcement(NamedTuple):
    """A middleware that was built: its settings' digest, what it wraps, and what it adds to calls.

    Attributes:
        digest: the same as in the parent that has the same settings.
        app: the application below the middleware.
        environ: extra entries of each call's environ.

    """

    digest: str
    app: WSGIApplication
    environ: Mapping[str, object]


_gathered: ContextVar[list[Announcement] | None] = ContextVar("pulse_gathered", default=None)


def announce(announcement: Announcement) -> bool:
    """Tell whoever gathers of a new middleware, and return whether anybody does.

    Where somebody does, this process is a child that dispatches: nothing may be started in it.
    """
    gathered = _gathered.get()
    if gathered is None:
        return False
    gathered.append(announcement)
    return True


@contextmanager
def gathering() -> Iterator[list[Announcement]]:
    """Gather the announcements made within, in this thread."""
    gathered: list[Announcement] = []
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)
