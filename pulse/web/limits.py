"""Limits the rate of calls in one process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pulse.clock import SECOND

if TYPE_CHECKING:
    from pulse.clock import Clock, Span


class RateLimit:
    """Allows a number of calls at once, and one more after each *every*.

    Args:
        clock: measures the time between calls.
        burst: how many calls are allowed at once.
        every: after how long one more is.

    """

    def __init__(self, clock: Clock, *, burst: int, every: Span) -> None:
        self._clock = clock
        self._burst = burst
        self._every = every
        self._left = float(burst)
        self._at: Span = clock.boot()
        self._lock = threading.Lock()

    def wait(self) -> int:
        """Count a call; return 0 if it is allowed, else after how many seconds the next one is."""
        with self._lock:
            now = self._clock.boot()
            self._left = min(self._burst, self._left + (now - self._at) / self._every)
            self._at = now
            if self._left >= 1:
                self._left -= 1
                return 0
            return max(1, round((1 - self._left) * self._every / SECOND))

    def give_back(self) -> None:
        """Count a call no more."""
        with self._lock:
            self._left = min(self._burst, self._left + 1)
