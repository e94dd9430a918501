"""What a process holds, and the ends of its runs until the store has them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from pulse import events
from pulse.core.run import CompletedRun, Outcome
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pulse.core.run import Claim, RecordResult
    from pulse.store.base import Store


_INTERRUPTED = Outcome.INTERRUPTED


class Completer:
    """Keeps each claim until its end is recorded: recorded first, told after.

    Args:
        store: records the ends.
        bus: hears of each end once it is recorded, or refused.

    Attributes:
        interrupted: how many runs were interrupted so far.
        waiting: the ends that are not recorded yet; any thread may add to them.
        put: notes an end, to be recorded with those that come at the same time.

    """

    __slots__ = ("_bus", "_held", "_store", "interrupted", "put", "waiting")

    def __init__(self, store: Store, bus: events.EventBus) -> None:
        self._store = store
        self._bus = bus
        self._held: dict[str, Claim] = {}
        self.waiting: deque[CompletedRun] = deque()
        self.put: Callable[[CompletedRun], None] = self.waiting.append
        self.interrupted: int = 0

    def track(self, claims: Iterable[Claim]) -> None:
        """Note that this process has won *claims*."""
        held = self._held
        for claim in claims:
            held[claim.run.id] = claim

    def in_progress(self) -> Sequence[Claim]:
        """Return the claims whose leases have to be renewed."""
        return list(self._held.values())

    def flush(self) -> None:
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
            for completed_run in batch:
                self._record_one(completed_run)

    def drain(self, linger: Callable[[], bool]) -> None:
        """Record what is left; the process ends, and what cannot be recorded has its lease.

        Args:
            linger: waits a little for a store that does not answer; False when it is time to go.

        """
        while True:
            try:
                return self.flush()
            except StoreUnavailableError:
                if not linger():
                    return None

    def _record_all(self, batch: Sequence[CompletedRun]) -> None:
        finished = self._store.finish(batch)
        for completed_run, became in zip(batch, finished, strict=True):
            self._remove(completed_run.claim)
            self._emit(completed_run, became)

    def _record_one(self, completed_run: CompletedRun) -> None:
        """Record one end: as it is, else without its words; else it is left to its lease."""
        for told in (completed_run, _without_words(completed_run)):
            try:
                self._record_all([told])
            except StoreUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - as in `record`
                unforeseen = error
            else:
                return
        self._remove(completed_run.claim)
        self._bus.emit(events.SchedulerError(unforeseen, completed_run.claim.run.task))

    def _remove(self, claim: Claim) -> None:
        self.waiting.popleft()
        # A later attempt at the same run may have come here since this one lost its claim.
        if self._held.get(claim.run.id) is claim:
            del self._held[claim.run.id]

    def _emit(self, completed_run: CompletedRun, became: RecordResult) -> None:
        if completed_run.result.outcome is _INTERRUPTED:
            self.interrupted += 1
        if became.retry_at is not None:
            self._bus.emit(
                events.RunRetrying(completed_run.claim, completed_run.result, became.retry_at)
            )
            return
        kind = events.RunEnded if became.recorded else events.ClaimLost
        if self._bus.has_listeners(kind):
            self._bus.emit(kind(completed_run.claim, completed_run.result))


def _without_words(completed_run: CompletedRun) -> CompletedRun:
    bare = msgspec.structs.replace(
        completed_run.result, message="what it said could not be recorded"
    )
    return CompletedRun(completed_run.claim, bare)
