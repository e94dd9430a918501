"""Looks at the stack of calls: who is building the application, or sending it a request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def frames_out(frame: FrameType | None = None) -> Iterator[FrameType]:
    """Yield the frames from *frame*, or from the caller, to the outermost."""
    # inspect.currentframe is the same, behind an import that costs milliseconds.
    current = frame or sys._getframe(1)  # noqa: SLF001 - documented, and the reason is above
    while current is not None:
        yield current
        current = current.f_back  # type: ignore[assignment] # ends with None


def module_of(frame: FrameType) -> str:
    """Return the name of the module whose code the frame runs."""
    return str(frame.f_globals.get("__name__", ""))


def within(name: str, package: str) -> bool:
    """Return whether the module *name* is *package* or lies in it."""
    return name == package or name.startswith(f"{package}.")


def innermost(package: str) -> FrameType | None:
    """Return the innermost frame that runs code of *package*, or None."""
    for frame in frames_out():
        if within(module_of(frame), package):
            return frame
    return None


class Loading:
    """Tells when the call that builds the application has returned.

    The module or the pipeline around the middleware may have more to do after it was built:
    routes to add, outer filters to wrap. Until that has ended nothing may be requested.
    """

    __slots__ = ("_call", "_thread")

    def __init__(self, call: FrameType, thread: int) -> None:
        self._call: FrameType | None = call
        self._thread = thread

    def is_over(self) -> bool:
        """Return whether the call has returned; it is a single test once it has."""
        if self._call is None:
            return True
        # Documented; there is no other way to see another thread's calls.
        running = sys._current_frames().get(self._thread)  # noqa: SLF001 - the reason is above
        if running is None or all(frame is not self._call for frame in frames_out(running)):
            self._call = None
        return self._call is None
