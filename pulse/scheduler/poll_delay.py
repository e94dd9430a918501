"""When the loop asks the store for claims: at the next instant of work, or later than others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.store.base import Claimed

MAX_SLEEP: Span = SECOND
"""The loop claims at least this often: somebody may have set the clock, or another process may have
triggered a task."""

MIN_SLEEP_AFTER_CLAIM: Span = 300
"""After a claim that won something the loop sleeps at least this long, so that what is due next is
claimed together. At thousands of ticks a second that saves a third of the CPU."""

LOSER_STEP: Span = 5_000
LONGEST_LOSER_DELAY: Span = 250_000


NO_WORK: Span = 2**62


def until_work(claimed: Claimed) -> Span:
    """Return how long after the claim the store has work; `NO_WORK` if it knows of none."""
    if claimed.next_wakeup is None:
        return NO_WORK
    return max(claimed.next_wakeup - claimed.now, 0)


class NextClaim:
    """When the loop claims next, on the boot clock, as its last claim found.

    Attributes:
        at: until when a turn without a claim may sleep: the deadline of `idle` and the contention
            delay.

    """

    __slots__ = ("_contention", "_idle_until", "_requested", "at")

    def __init__(self) -> None:
        self._contention = ContentionDelay()
        self._requested = False
        self._idle_until: Span = 0
        self.at: Span = 0

    def request(self) -> None:
        """Let the next turn claim: the application has changed something. From any thread."""
        self._requested = True

    @property
    def requested(self) -> bool:
        """Whether the application has changed something since the last claim."""
        return self._requested

    def idle(self, now: Span) -> bool:
        """Return whether nothing has become due by the passing of time, nor by a request."""
        return now < self._idle_until and not self._requested

    def expire(self) -> None:
        """Let this turn claim, or the next one that can: the last claim's answer is out of date."""
        self._idle_until = 0

    def begin(self) -> None:
        """Note that a claim begins; until `after` is called another one is wanted."""
        # Before the store is read: a request that comes while it is read asks for the next claim.
        self._requested = False
        self._idle_until = 0

    def after(self, claimed: Claimed, *, asked_at: Span, now: Span, shared: bool) -> Span:
        """Take what a claim found, and return how long to sleep.

        A store whose limit was reached while more is due says so by its `next_wakeup`. The store
        reads its clock some time after *asked_at*, and will do so in the next claim. So the next
        claim begins at *asked_at* plus the difference of `next_wakeup` and the store's `now`.

        Args:
            claimed: the store's answer.
            asked_at: the boot clock just before the claim.
            now: the boot clock after the claim.
            shared: whether other processes claim from the same store.

        """
        won, wait = bool(claimed.claims or claimed.not_run), min(until_work(claimed), MAX_SLEEP)
        self._idle_until = self.at = asked_at + wait
        if shared:
            self._contention.after(now=claimed.now, won=won, next_wakeup=claimed.next_wakeup)
            self.at = asked_at + min(wait + self._contention.delay(), MAX_SLEEP)
        pause = max(self.at - now, 0)
        return max(pause, MIN_SLEEP_AFTER_CLAIM) if won and wait else pause


class ContentionDelay:
    """How long after an instant of work this process claims, so that idle processes do not contend.

    A process that keeps winning claims without delay. Each claim that found something due and won
    nothing doubles the delay: 10 ms, 20 ms and so on, up to a quarter of a second.
    """

    __slots__ = ("_expected", "_lost")

    def __init__(self) -> None:
        self._lost = 0
        self._expected: Instant | None = None

    def after(self, *, now: Instant, won: bool, next_wakeup: Instant | None) -> None:
        """Record a claim: the time on the store's clock, and its result."""
        if won:
            self._lost = 0
        elif self._expected is not None and now >= self._expected:
            self._lost = min(self._lost + 1, 6)
        self._expected = next_wakeup

    def delay(self) -> Span:
        """Return how long after the next instant of work to claim."""
        return min(LOSER_STEP << self._lost, LONGEST_LOSER_DELAY) if self._lost else 0
