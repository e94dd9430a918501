"""The store of time travel: it claims a tick a millisecond after the tick is due.

A real process never claims a tick at the exact microsecond of its fire time: it wakes up a little
later. In virtual time it could, and a tick that no real process runs in time would run. So a claim
of what is due sees the clock a millisecond later. Nothing else does: the instants of runs, retries
and requests are those of the virtual clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.memory.store import MemoryStore

if TYPE_CHECKING:
    from pulse.clock import Clock, Instant, Span
    from pulse.store.base import Claimed, StoreOptions

LATENESS: Span = 1_000
"""How much later than due a tick is claimed, in microseconds."""


class LateStore(MemoryStore):
    """A memory store whose claims come late, as those of a real process do.

    Args:
        clock: the virtual clock.
        options: the options of the store.

    """

    def __init__(self, clock: Clock, options: StoreOptions) -> None:
        self._late = _LateClock(clock)
        super().__init__(self._late, options)

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs, a millisecond late."""
        known = super().claim_due(0)
        if limit <= 0 or known.next_wakeup is None or known.next_wakeup > known.now:
            return known if limit <= 0 else super().claim_due(limit)
        self._late.late_us = LATENESS
        try:
            return super().claim_due(limit)
        finally:
            self._late.late_us = 0


class _LateClock:
    """The virtual clock, whose wall clock is ahead during a claim."""

    __slots__ = ("_clock", "late_us")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.late_us: Span = 0

    def wall(self) -> Instant:
        """Return the instant of the wall clock."""
        return self._clock.wall() + self.late_us

    def boot(self) -> Span:
        """Return the time of the boot clock."""
        return self._clock.boot()

    def sleep(self, span: Span) -> None:
        """Sleep by the virtual clock, which refuses."""
        self._clock.sleep(span)
