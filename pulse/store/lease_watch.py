"""Lease expiry as one observer measures it on its own boot clock.

Every lease carries a renewal mark, which its holder changes with each renewal. An observer does not
compare the mark with any clock: it remembers when it first saw the mark, and regards the lease as
expired when the mark has not changed for the lease's whole duration under observation. A wall clock
that is set, or clocks that disagree, therefore never end a lease early. Time between two distant
checks does not count as observation: a slow store or a suspended machine may have kept the holder
from renewing as well. After a failed call the observation starts again. Both rules let holders
renew first after an outage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pulse.clock import Span

K = TypeVar("K", bound="Hashable")


class ExpiryWatch(Generic[K]):
    """Reports leases whose renewal mark has not changed for the lease's duration.

    Args:
        gap_us: time between two checks that are further apart than this does not count.

    """

    __slots__ = ("_gap", "_looked_at", "_seen")

    def __init__(self, gap_us: Span) -> None:
        self._gap = gap_us
        self._looked_at: Span | None = None
        self._seen: dict[K, tuple[int, Span]] = {}

    def expired(self, marks: Mapping[K, tuple[int, Span]], boot: Span) -> set[K]:
        """Return the keys of the expired leases.

        Args:
            marks: for each key, the renewal mark and the duration of the lease.
            boot: the boot clock now.

        """
        self._exclude_gap(0 if self._looked_at is None else boot - self._looked_at)
        self._looked_at = boot
        seen = self._seen
        self._seen = {key: self._since(seen, key, mark, boot) for key, (mark, _) in marks.items()}
        return {key for key, (_, span) in marks.items() if boot - self._seen[key][1] >= span}

    def next_expiry(self, marks: Mapping[K, tuple[int, Span]], boot: Span) -> Span | None:
        """Return when the next lease of *marks* expires unless it is renewed; None for none.

        *marks* are those of the last call of `expired`; leases that expired in it do not count.
        """
        ends = (self._seen[key][1] + span for key, (_, span) in marks.items())
        return min((end for end in ends if end > boot), default=None)

    def forget(self) -> None:
        """Restart all observations, as after a failed call."""
        self._seen = {}

    def _exclude_gap(self, unseen: Span) -> None:
        if unseen > self._gap:
            self._seen = {key: (mark, since + unseen) for key, (mark, since) in self._seen.items()}

    def _since(
        self, seen: Mapping[K, tuple[int, Span]], key: K, mark: int, boot: Span
    ) -> tuple[int, Span]:
        known = seen.get(key)
        return known if known is not None and known[0] == mark else (mark, boot)
