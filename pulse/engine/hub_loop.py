"""The scheduler's loop as a greenlet of the server's hub, and its sleep."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import gevent
from gevent.monkey import get_original

from pulse.clock import SECOND
from pulse.engine.gevent_bridge import NativeThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

    from pulse.clock import Span

T = TypeVar("T")

_thread_id = get_original("_thread", "get_ident")
"""The id of the native thread; in a patched process `threading` returns that of the greenlet."""


class HubLoop:
    """Runs the loop in a greenlet, which sleeps on a timer of the hub.

    The states of the sleep, where only the hub switches into the sleeper:

        awake, nothing asked --wait--> asleep --timer, or callback after wake--> awake
        awake --wake--> awake, wake-up pending --wait--> awake, at once
    """

    __slots__ = ("_awake", "_greenlet", "_hub", "_native", "_sleeper", "_thread")

    def __init__(self) -> None:
        self._awake = False  # whether a wake-up is pending
        self._sleeper: gevent.Greenlet | None = None
        self._greenlet: gevent.Greenlet | None = None

    def open(self, hub: Hub) -> None:
        """Use *hub*, which belongs to this thread; called after any fork."""
        self._hub = hub
        self._thread = _thread_id()
        self._native = NativeThread()

    def spawn(self, loop: Callable[[], None]) -> None:
        """Run *loop* in a greenlet."""
        self._greenlet = gevent.spawn(loop)

    def join(self, timeout_us: Span) -> bool:
        """Wait for the loop to return; False when it has not within the time."""
        if self._greenlet is None:
            return True
        self._greenlet.join(timeout_us / SECOND)
        return bool(self._greenlet.ready())

    def wait(self, timeout_us: Span) -> None:
        """Sleep until `wake`, or for the given time."""
        # Waiting for an event with a timeout costs twice this timer: it ends by an exception. A
        # raw timer may fire early after a long run; the loop reads the clock and sleeps again.
        timer = self._hub.loop.timer(timeout_us / SECOND)
        self._sleeper = gevent.getcurrent()
        try:
            if not self._awake:
                timer.start(self._resume, update=True)
                self._hub.switch()
        finally:
            self._sleeper = None
            self._awake = False
            timer.close()

    def wake(self) -> None:
        """End the sleep of `wait`, or keep the next one from beginning; also from a thread."""
        if self._awake:
            return
        # Set before the sleeper is read: `wait` publishes the sleeper before it reads this. So
        # of a `wait` and a `wake` at the same time at least one sees the other.
        self._awake = True
        if self._sleeper is None:
            return
        if _thread_id() == self._thread:
            self._hub.loop.run_callback(self._resume_if_asked)
        else:
            self._hub.loop.run_callback_threadsafe(self._resume_if_asked)

    def offload(self, call: Callable[[], T]) -> T:
        """Return what *call* returns, from a native thread beside the hub."""
        return self._native.call(call)

    def _resume_if_asked(self) -> None:
        if self._awake:  # otherwise the sleep that the wake-up was meant for has ended
            self._resume()

    def _resume(self) -> None:
        """Switch into the loop if it sleeps in `wait`; called in the hub."""
        sleeper, self._sleeper = self._sleeper, None
        if sleeper is not None:
            sleeper.switch()
