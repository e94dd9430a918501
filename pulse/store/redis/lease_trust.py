"""When an observer may act on a lease that has ended on the server's clock.

An observer must not act at once: after an outage the holders must be able to renew first, and the
server's clock may have been set. So an observer acts only after its own checks have succeeded for a
whole lease, with no more than one lease between two of them, while the server's clock and its own
boot clock ran at one pace. By then every live holder has renewed its lease, since holders renew
each third of a lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.clock import Instant, Span


class ClockTrust:
    """Decides whether an observer has checked for long enough; counting starts at *boot*."""

    __slots__ = ("_ahead", "_checked_at", "_lease", "_since")

    def __init__(self, lease_us: Span, boot: Span) -> None:
        self._lease = lease_us
        self._since: Span | None = boot
        self._checked_at = boot
        self._ahead: Span | None = None

    def forget(self) -> None:
        """Restart counting, as after a failed call."""
        self._since = None

    def trusted_from(self, boot: Span) -> Span:
        """Return when checks are trusted if all succeed until then; the last one was at *boot*."""
        return (boot if self._since is None else self._since) + self._lease

    def observe(self, *, now: Instant, boot: Span) -> bool:
        """Record a check; return whether leases that ended before *now* may be acted on."""
        ahead = now - boot
        steady = self._ahead is None or abs(ahead - self._ahead) <= self._lease // 3
        if self._since is None or not steady or boot - self._checked_at > self._lease:
            self._since = boot
        self._checked_at, self._ahead = boot, ahead
        return boot - self._since >= self._lease
