"""Waits of a run's thread or greenlet for the native thread that uses the store."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from pulse.clock import SECOND
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from pulse.clock import Span


class Bell(Protocol):
    """Is waited for by one thread or greenlet, and rung once by the native thread."""

    def wait(self, timeout_us: Span | None = None) -> bool:
        """Wait until `ring`; return False when the time is over before that."""

    def ring(self) -> None:
        """End the wait, or keep it from beginning."""


class ThreadBell:
    """A bell for a thread."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung = threading.Event()

    def wait(self, timeout_us: Span | None = None) -> bool:
        """Wait until `ring`; return False when the time is over before that."""
        return self._rung.wait(None if timeout_us is None else timeout_us / SECOND)

    def ring(self) -> None:
        """End the wait."""
        self._rung.set()


class HubBell:
    """A bell for a greenlet: while the greenlet waits, the hub goes on."""

    __slots__ = ("_hub", "_rung")

    def __init__(self) -> None:
        from gevent import get_hub
        from gevent.event import Event

        self._hub = get_hub()
        self._rung = Event()

    def wait(self, timeout_us: Span | None = None) -> bool:
        """Wait until `ring`; return False when the time is over before that."""
        return bool(self._rung.wait(None if timeout_us is None else timeout_us / SECOND))

    def ring(self) -> None:
        """End the wait; called in the native thread."""
        self._hub.loop.run_callback_threadsafe(self._rung.set)


def make_bell() -> Bell:
    """Return a bell for the thread or greenlet that calls this."""
    return HubBell() if process_is_patched() else ThreadBell()
