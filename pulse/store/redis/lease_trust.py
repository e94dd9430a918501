"""When the silence of others may be taken for their end.

A lease ends on the server's clock. Whoever sees that must not act on it at once: after an outage
holders get their chance first, and the server's clock may have been set. So an observer acts only
after its own looks have succeeded for a whole lease, none later than a lease after the one before,
while the server's clock and its own boot clock went at one pace. By then every holder that lives
has renewed its lease, which it does each third of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.clock import Instant, Span


class ClockTrust:
    """Tells whether an observer has looked for long enough; it begins to count at *boot*."""

    __slots__ = ("_ahead", "_lease", "_looked_at", "_since")

    def __init__(self, lease_us: Span, boot: Span) -> None:
        self._lease = lease_us
        self._since: Span | None = boot
        self._looked_at = boot
        self._ahead: Span | None = None

    def forget(self) -> None:
        """Count anew, as after a call that failed."""
        self._since = None

    def trusted_from(self, boot: Span) -> Span:
        """Return when a look is trusted if all go well until then; the last one was at *boot*."""
        return (boot if self._since is None else self._since) + self._lease

    def observe(self, *, now: Instant, boot: Span) -> bool:
        """Return whether what *now* says is over is over."""
        ahead = now - boot
        steady = self._ahead is None or abs(ahead - self._ahead) <= self._lease // 3
        if self._since is None or not steady or boot - self._looked_at > self._lease:
            self._since = boot
        self._looked_at, self._ahead = boot, ahead
        return boot - self._since >= self._lease
