"""How much later than the next instant of work a process looks that has won nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.clock import Instant, Span

LOSER_STEP: Span = 5_000
LONGEST_LOSER_DELAY: Span = 250_000


class ContentionDelay:
    """How long after an instant of work this process looks, so that idle ones do not crowd.

    A process that keeps winning looks at once. Each time it looked when something was due and won
    nothing, it looks later: 5 ms, 10 ms and so on, up to a quarter of a second.
    """

    __slots__ = ("_expected", "_lost")

    def __init__(self) -> None:
        self._lost = 0
        self._expected: Instant | None = None

    def after(self, *, now: Instant, won: bool, next_wakeup: Instant | None) -> None:
        """Take note of a look at the store: what time it was, and what came of it."""
        if won:
            self._lost = 0
        elif self._expected is not None and now >= self._expected:
            self._lost = min(self._lost + 1, 6)
        self._expected = next_wakeup

    def delay(self) -> Span:
        """Return how long after the next instant of work to look."""
        return min(LOSER_STEP << self._lost, LONGEST_LOSER_DELAY) if self._lost else 0
