"""Reads the call stack: it shows what builds the application, or sends it a request."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType


def frames_out(frame: FrameType | None = None) -> Iterator[FrameType]:
    """Yield the frames from *frame*, or from the caller, to the outermost."""
    # inspect.currentframe does the same, but its import takes milliseconds.
    current = frame or sys._getframe(1)  # noqa: SLF001 - documented, and the reason is above
    while current is not None:
        yield current
        current = current.f_back  # type: ignore[assignment] # ends with None


def frames_of(thread: int) -> Iterator[FrameType]:
    """Yield the frames of another thread, innermost first; none once the thread has ended."""
    # Documented, and the only way to see another thread's calls.
    running = sys._current_frames().get(thread)  # noqa: SLF001 - the reason is above
    return iter(()) if running is None else frames_out(running)


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


class LoadingCall:
    """The call that loads the application, which may still be running.

    The module or the pipeline around the middleware may have more to do after the middleware was
    built: routes to add, outer filters to wrap. Until that has ended nothing may be requested.

    The frame of the call is not kept: its variables may hold the middleware, which would keep
    itself alive. A frame keeps its id while it runs.
    """

    __slots__ = ("_call", "_code", "_thread")

    def __init__(self, call: FrameType, thread: int) -> None:
        self._call = id(call)
        self._code: CodeType | None = call.f_code
        self._thread = thread

    def is_over(self) -> bool:
        """Return whether the call has returned; after that, a call of this is a single test."""
        if self._code is None:
            return True
        frames = frames_of(self._thread)
        # Another frame may have got the id after the call returned, so its code is compared too.
        if all(id(frame) != self._call or frame.f_code is not self._code for frame in frames):
            self._code = None
        return self._code is None
