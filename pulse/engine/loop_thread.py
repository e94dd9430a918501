"""The scheduler's loop as a thread, its sleep, and its blocking calls."""

from __future__ import annotations

import threading
from contextvars import Context
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.engine.gevent_bridge import NativeThread
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Span
    from pulse.forks import ForkMark

T = TypeVar("T")


def spawn(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread that inherits no context; a request may start the engine."""
    thread = threading.Thread(target=Context().run, args=(target,), name=name, daemon=True)
    thread.start()
    return thread


class LoopThread:
    """The scheduler's loop in a thread, or in a greenlet where the process is patched by gevent.

    Args:
        mark: whether this is a copy in a forked child, where the loop does not continue.

    """

    __slots__ = ("_mark", "_native", "_thread", "_woken")

    def __init__(self, mark: ForkMark) -> None:
        self._mark = mark
        self._woken: threading.Event | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Make the event and the native thread, after any fork and any patching."""
        self._woken = threading.Event()
        self._native = NativeThread() if process_is_patched() else None

    def spawn(self, loop: Callable[[], None]) -> None:
        """Run *loop* in a daemon thread."""
        self._thread = spawn(loop, "pulse-loop")

    def join(self, timeout_us: Span) -> bool:
        """Wait for the loop to return; False when it has not within the time."""
        if self._thread is None:
            return True
        self._thread.join(timeout_us / SECOND)
        return not self._thread.is_alive()

    def wait(self, timeout_us: Span) -> None:
        """Sleep until `wake`, or for the given time."""
        if self._woken is not None:
            self._woken.wait(timeout_us / SECOND)
            if self._mark.in_child:
                self._mark.stay()
            self._woken.clear()

    def wake(self) -> None:
        """End the sleep of `wait`, or keep the next one from beginning."""
        if self._woken is not None and not self._woken.is_set():
            self._woken.set()

    def offload(self, call: Callable[[], T]) -> T:
        """Return what *call* returns; in a process with a hub, from a native thread beside it."""
        return call() if self._native is None else self._native.call(call)
