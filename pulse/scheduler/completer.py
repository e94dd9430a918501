"""What a process holds, and the ends of its runs until the store has them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from pulse import events
from pulse.core.run import Ending, Outcome
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pulse.core.run import Claim, Finished

    Finish = Callable[[Sequence[Ending]], Sequence[Finished]]


_INTERRUPTED = Outcome.INTERRUPTED


class Endings:
    """Keeps each claim until its end is recorded: recorded first, told after.

    Args:
        finish: records a batch of ends in the store.
        bus: hears of each end once it is recorded, or refused.

    Attributes:
        interrupted: how many runs were interrupted so far.
        waiting: the ends that are not recorded yet; any thread may add to them.
        take: notes an end, to be recorded with those that come at the same time.

    """

    __slots__ = ("_bus", "_finish", "_held", "interrupted", "take", "waiting")

    def __init__(self, finish: Finish, bus: events.Bus) -> None:
        self._finish = finish
        self._bus = bus
        self._held: dict[str, Claim] = {}
        self.waiting: deque[Ending] = deque()
        self.take: Callable[[Ending], None] = self.waiting.append
        self.interrupted: int = 0

    def hold(self, claims: Iterable[Claim]) -> None:
        """Note that this process has won *claims*."""
        held = self._held
        for claim in claims:
            held[claim.run.id] = claim

    def held(self) -> Sequence[Claim]:
        """Return the claims whose leases have to be renewed."""
        return list(self._held.values())

    def record(self) -> None:
        """Record what has ended.

        Raises:
            StoreUnavailableError: the store does not answer; what is not recorded waits.

        """
        batch = list(self.waiting)
        if not batch:
            return
        try:
            self._record_all(batch)
        except StoreUnavailableError:
            raise
        # One end that the store chokes on must not keep the others from their records.
        except Exception:  # noqa: BLE001 - the reason is above
            for ending in batch:
                self._record_one(ending)

    def record_last(self, linger: Callable[[], bool]) -> None:
        """Record what is left; the process ends, and what cannot be recorded has its lease.

        Args:
            linger: waits a little for a store that does not answer; False when it is time to go.

        """
        while True:
            try:
                return self.record()
            except StoreUnavailableError:
                if not linger():
                    return None

    def _record_all(self, batch: Sequence[Ending]) -> None:
        finished = self._finish(batch)
        for ending, became in zip(batch, finished, strict=True):
            self._strike_off(ending.claim)
            self._tell(ending, became)

    def _record_one(self, ending: Ending) -> None:
        """Record one end: as it is, else without its words; else it is left to its lease."""
        for told in (ending, _without_words(ending)):
            try:
                self._record_all([told])
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - as in `record`
                unforeseen = error
            else:
                return
        self._strike_off(ending.claim)
        self._bus.emit(events.StepFailed(unforeseen, ending.claim.run.task))

    def _strike_off(self, claim: Claim) -> None:
        self.waiting.popleft()
        # A later attempt at the same run may have come here since this one lost its claim.
        if self._held.get(claim.run.id) is claim:
            del self._held[claim.run.id]

    def _tell(self, ending: Ending, became: Finished) -> None:
        if ending.result.outcome is _INTERRUPTED:
            self.interrupted += 1
        if became.retry_at is not None:
            self._bus.emit(events.RunRetrying(ending.claim, ending.result, became.retry_at))
            return
        kind = events.RunEnded if became.recorded else events.ClaimLost
        if self._bus.heard(kind):
            self._bus.emit(kind(ending.claim, ending.result))


def _without_words(ending: Ending) -> Ending:
    bare = msgspec.structs.replace(ending.result, message="what it said could not be recorded")
    return Ending(ending.claim, bare)
