"""How long to wait after a store has failed: before the next call, and for its answer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Span

FIRST_BACK_OFF: Span = 50_000
LONGEST_BACK_OFF: Span = 500_000
SHORTEST_BACK_OFF: Span = 25_000

PROBE_TIMEOUT: Span = 350_000
"""So long a server that has failed may be silent before it is given up again: less than the longest
back-off, so that tries begin as often where nothing is answered as where all is refused."""

_PROBES = 16


def chance() -> float:
    """Return a random figure from 0 to 1, without what `random` would import."""
    return os.urandom(1)[0] / 256


class BackOff:
    """Waits that double from 50 ms to 0.5 s, each shortened by up to a quarter at random.

    They are counted from the beginning of the try before, so that the cap keeps the promise that
    ticks resume within a second of the store's return also where a try takes its time to fail.
    """

    __slots__ = ("_chance", "_next")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._next = FIRST_BACK_OFF

    def wait(self, took: Span = 0) -> Span:
        """Return the next wait; the try that failed *took* some of it."""
        span = self._next
        self._next = min(span * 2, LONGEST_BACK_OFF)
        return max(round(span * (1 - self._chance() / 4)) - took, SHORTEST_BACK_OFF)

    def reset(self) -> None:
        """Begin anew with the shortest wait."""
        self._next = FIRST_BACK_OFF


class ReconnectProbe:
    """Whether a call begins with a knock: a try to reach a server that is soon given up.

    It does where the call before has failed. A server may be slow rather than dead, so now and then
    a call does without: after 16 to 32 tries, after twice as many, four times, and so on. When that
    is differs from process to process: meanwhile the others go on knocking.
    """

    __slots__ = ("_failed", "_patient_at")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._failed = 0
        self._patient_at = _PROBES + round(chance() * _PROBES)

    def failed(self) -> None:
        """Take note that a call was not answered."""
        self._failed += 1

    def answered(self) -> None:
        """Take note that one was."""
        self._failed = 0

    def is_due(self) -> bool:
        """Return whether to knock first."""
        times, rest = divmod(self._failed, self._patient_at)
        return bool(rest) or times.bit_count() > 1
