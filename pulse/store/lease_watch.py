"""What stood still for too long, as one observer saw it on its own boot clock.

Every lease carries a mark that its holder moves when it renews. An observer does not compare the
mark with any clock: it remembers when it first saw that mark, and calls the lease over when the
mark has stood for the lease's whole length while the observer itself was looking. So a wall clock
that is set, and clocks that disagree, end nobody's lease early. Time in which the observer did not
look does not count: a store that kept it waiting, or a suspend, kept the holder from renewing too.
After a call that failed counting starts anew. Both give holders their chance first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pulse.clock import Span

K = TypeVar("K", bound="Hashable")


class ExpiryWatch(Generic[K]):
    """Tells which marks have stood for their span; looks over *gap_us* apart leave a gap in it."""

    __slots__ = ("_gap", "_looked_at", "_seen")

    def __init__(self, gap_us: Span) -> None:
        self._gap = gap_us
        self._looked_at: Span | None = None
        self._seen: dict[K, tuple[int, Span]] = {}

    def expired(self, marks: Mapping[K, tuple[int, Span]], boot: Span) -> set[K]:
        """Return the keys whose mark has stood for its span; *marks* maps each to both."""
        self._exclude_gap(0 if self._looked_at is None else boot - self._looked_at)
        self._looked_at = boot
        seen = self._seen
        self._seen = {key: self._since(seen, key, mark, boot) for key, (mark, _) in marks.items()}
        return {key for key, (_, span) in marks.items() if boot - self._seen[key][1] >= span}

    def next_expiry(self, marks: Mapping[K, tuple[int, Span]], boot: Span) -> Span | None:
        """Return when the next of *marks*, just looked at, is over unless it moves; None for none.

        Those that are over already do not count.
        """
        ends = (self._seen[key][1] + span for key, (_, span) in marks.items())
        return min((end for end in ends if end > boot), default=None)

    def forget(self) -> None:
        """Start counting anew, as after a call that failed."""
        self._seen = {}

    def _exclude_gap(self, unseen: Span) -> None:
        if unseen > self._gap:
            self._seen = {key: (mark, since + unseen) for key, (mark, since) in self._seen.items()}

    def _since(
        self, seen: Mapping[K, tuple[int, Span]], key: K, mark: int, boot: Span
    ) -> tuple[int, Span]:
        known = seen.get(key)
        return known if known is not None and known[0] == mark else (mark, boot)
