"""Back-off after failed store calls, and the probe that precedes the next calls."""

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
"""How long a probed server may be silent. It is less than the longest back-off, so that calls to a
server that does not answer are repeated as often as calls to one that refuses connections."""

_FIRST_UNPROBED = 16


def chance() -> float:
    """Return a random number in [0, 1), without the modules that `random` would import."""
    return os.urandom(1)[0] / 256


class BackOff:
    """Delays that double from 50 ms to 0.5 s, each shortened by up to a quarter at random.

    A delay counts from the start of the failed call, so that ticks resume within a second after the
    store has recovered even if each call takes some time to fail.
    """

    __slots__ = ("_chance", "_next")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._next = FIRST_BACK_OFF

    def wait(self, took: Span = 0) -> Span:
        """Return the next delay, less the duration that the failed call *took*."""
        span = self._next
        self._next = min(span * 2, LONGEST_BACK_OFF)
        return max(round(span * (1 - self._chance() / 4)) - took, SHORTEST_BACK_OFF)

    def reset(self) -> None:
        """Start again with the shortest delay."""
        self._next = FIRST_BACK_OFF


class ReconnectProbe:
    """Decides whether to probe the server before a call (half-open circuit breaker).

    After a failure, each call is preceded by a short probe. A server may be slow rather than down,
    so the first call after 16 to 32 failures skips the probe, and then the calls after twice, four
    times, ... as many. The number is random, so that not all processes skip the probe at once.
    """

    __slots__ = ("_failed", "_unprobed_after")

    def __init__(self, chance: Callable[[], float]) -> None:
        self._failed = 0
        self._unprobed_after = _FIRST_UNPROBED + round(chance() * _FIRST_UNPROBED)

    def failed(self) -> None:
        """Record that a call was not answered."""
        self._failed += 1

    def answered(self) -> None:
        """Record that a call was answered."""
        self._failed = 0

    def is_due(self) -> bool:
        """Return whether to probe the server before the next call."""
        # Calls skip the probe after 1, 2, 4, 8, ... times `_unprobed_after` failures.
        times, rest = divmod(self._failed, self._unprobed_after)
        return bool(rest) or times.bit_count() > 1
