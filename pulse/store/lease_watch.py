"""Lease expiry as one observer measures it on its own boot clock.

Every lease carries a renewal mark, which its holder changes with each renewal. An observer does not
compare the mark with any clock: it remembers when it first saw the mark, and regards the lease as
expired when the mark has not changed for the lease's whole duration under observation. A wall clock
that is set, or clocks that disagree, therefore never end a lease early. Where the storage's clock
says how old a new mark is, the observer believes an age up to the time since its last check, when
the mark was another one. Time between two distant
checks does not count as observation: a slow store or a suspended machine may have kept the holder
from renewing as well. After a failed call the observation starts again. Both rules let holders
renew first after an outage. An observer that ends may leave what it has seen to another one that
shares its boot clock.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the hints of what it decodes
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from pulse.clock import Span  # noqa: TC001 - msgspec reads the hints of what it decodes

if TYPE_CHECKING:
    from collections.abc import Hashable

K = TypeVar("K", bound="Hashable")

_NO_AGES: Mapping[Any, Span] = {}


class Observations(NamedTuple):
    """What an observer has seen, for another one of its host that continues the observation.

    Attributes:
        looked_at: the boot clock at the last check.
        seen: for each key, the renewal mark and since when it is under observation.

    """

    looked_at: Span
    seen: Mapping[str, tuple[int, Span]]


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

    def expired(
        self, marks: Mapping[K, tuple[int, Span]], boot: Span, ages: Mapping[K, Span] = _NO_AGES
    ) -> set[K]:
        """Return the keys of the expired leases.

        Args:
            marks: for each key, the renewal mark and the duration of the lease.
            boot: the boot clock now.
            ages: how long ago the leases were renewed, as far as the storage knows.

        """
        unseen = 0 if self._looked_at is None else boot - self._looked_at
        if unseen > self._gap:
            self._seen = {key: (mark, since + unseen) for key, (mark, since) in self._seen.items()}
            ages = _NO_AGES
        self._looked_at = boot
        seen, self._seen = self._seen, {}
        for key, (mark, _) in marks.items():
            known = seen.get(key)
            if known is None or known[0] != mark:
                age = ages.get(key, 0)
                known = mark, boot - age if 0 < age <= unseen else boot
            self._seen[key] = known
        return {key for key, (_, span) in marks.items() if boot - self._seen[key][1] >= span}

    def next_expiry(self, marks: Mapping[K, tuple[int, Span]], boot: Span) -> Span | None:
        """Return when the next lease of *marks* expires unless it is renewed; None for none.

        *marks* are those of the last call of `expired`; leases that expired in it do not count.
        """
        ends = (self._seen[key][1] + span for key, (_, span) in marks.items())
        return min((end for end in ends if end > boot), default=None)

    def observations(self) -> tuple[Span, Mapping[K, tuple[int, Span]]] | None:
        """Return the instant of the last check, and what was seen; None before the first check."""
        return None if self._looked_at is None else (self._looked_at, self._seen)

    def adopt(self, looked_at: Span, seen: Mapping[K, tuple[int, Span]]) -> None:
        """Continue the observation of another observer, unless this one has looked since."""
        if self._looked_at is None or self._looked_at < looked_at:
            self._looked_at, self._seen = looked_at, dict(seen)

    def forget(self) -> None:
        """Restart all observations, as after a failed call."""
        self._looked_at, self._seen = None, {}
