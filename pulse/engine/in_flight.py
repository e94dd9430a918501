"""Claims in slots, their deadlines, and the results of runs that the engine ended.

`InFlightRun` is one claim in a slot. `InFlight` is the set of those in progress, from which each is
removed exactly once. Neither waits nor locks: an engine of threads holds its lock around each call.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from pulse.core.error_text import traceback_text
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.engine.base import Interruption
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim

NEVER: Final[Span] = sys.maxsize

_MAX_OVERDUE_PER_SLOT: Final = 2
_ENDED_BY_APP: Final = frozenset((Outcome.SUCCEEDED, Outcome.FAILED))


class InFlightRun(msgspec.Struct, eq=False):
    """A claim in a slot.

    Attributes:
        claim: what is run.
        since: the boot clock from which its timeout counts: its submission, then its start.
        watch_at: the boot clock when the engine checks it next; `NEVER` before it has begun.
        begun: whether a slot has started it.
        stopped: the outcome with which it was interrupted or left behind; None if it was not.

    """

    claim: Claim
    since: Span
    watch_at: Span = NEVER
    begun: bool = False
    stopped: Outcome | None = None

    @property
    def deadline(self) -> Span:
        """The boot clock when its timeout is over."""
        return self.since + self.claim.definition.timeout_us

    def final_result(self, result: Result, now: Span) -> Result:
        """Return *result*, with another outcome if the run was stopped or ended too late."""
        if self.stopped is None and now - self.since <= self.claim.definition.timeout_us:
            return result
        if result.outcome not in _ENDED_BY_APP:
            return result
        return msgspec.structs.replace(result, outcome=self.stopped or Outcome.TIMED_OUT)

    def result_of(self, error: BaseException, clock: Clock) -> Result:
        """Return the result of a run that let *error* out."""
        if isinstance(error, Interruption) and error.claim is self.claim:
            return self._result(error.outcome, clock)
        text = traceback_text(error)
        return self._result(Outcome.FAILED, clock, text)

    def unfinished(self, clock: Clock) -> CompletedRun:
        """Return the end of a run that never began, or for which the engine waits no longer."""
        if not self.begun:
            text = "the engine stopped before the run could begin"
            result = self._result(Outcome.INTERRUPTED, clock, text)
            return CompletedRun(self.claim, msgspec.structs.replace(result, was_dispatched=False))
        outcome, why = Outcome.INTERRUPTED, "outlasted the drain"
        if clock.boot() > self.deadline:
            timeout = duration_text(self.claim.definition.timeout_us)
            outcome, why = Outcome.TIMED_OUT, f"was past its timeout of {timeout} at the stop"
        text = f"the run {why}; it may continue until its process ends"
        return CompletedRun(self.claim, self._result(outcome, clock, text))

    def _result(self, outcome: Outcome, clock: Clock, message: str = "") -> Result:
        took = clock.boot() - self.since
        return Result(outcome, clock.wall() - took, took, message=message)


class InFlight:
    """The runs in progress; `overdue` are those past their timeout that could not be stopped.

    A run left behind does not count against the slots, up to two a slot: that bound keeps an
    application that hangs from filling the process.
    """

    __slots__ = ("active", "cap", "next_at", "open", "overdue", "slots")

    def __init__(self, slots: int) -> None:
        self.slots: int = slots
        self.cap: int = slots * _MAX_OVERDUE_PER_SLOT
        self.active: set[InFlightRun] = set()
        self.overdue: set[InFlightRun] = set()
        self.next_at: Span = NEVER
        self.open: bool = True

    @classmethod
    def closed(cls) -> InFlight:
        """Return an empty set that accepts no run."""
        in_flight = cls(0)
        in_flight.open = False
        return in_flight

    def free(self) -> int:
        """Return how many runs may be added now."""
        return max(0, self.capacity() - len(self.active)) if self.open else 0

    def capacity(self) -> int:
        """Return how many runs may be in progress, including those left behind."""
        return self.slots + min(len(self.overdue), self.cap)

    def within_time(self) -> int:
        """Return how many runs are in progress and within their timeout."""
        return len(self.active) - len(self.overdue)

    def add(self, attempt: InFlightRun) -> None:
        """Add *attempt*, which waits for a slot."""
        self.active.add(attempt)

    def begin(self, attempt: InFlightRun, now: Span) -> bool:
        """Let its timeout count from *now*; return whether it is the first one to check.

        The time that it waited for its slot is no part of the run.
        """
        attempt.begun = True
        attempt.since = now
        attempt.watch_at = watch_at = now + attempt.claim.definition.timeout_us
        return watch_at < self.next_at and self.watch(attempt)

    def watch(self, attempt: InFlightRun) -> bool:
        """Register when to check *attempt*; return whether it is the first one to check."""
        if attempt.watch_at >= self.next_at:
            return False
        self.next_at = attempt.watch_at
        return True

    def due(self, now: Span) -> list[InFlightRun]:
        """Return the runs to check now, each once, and set `next_at` to the next check."""
        late = [attempt for attempt in self.active if attempt.watch_at <= now]
        for attempt in late:
            attempt.watch_at = NEVER
        self.next_at = min((attempt.watch_at for attempt in self.active), default=NEVER)
        return late

    def leave_behind(self, attempt: InFlightRun) -> int:
        """Mark *attempt* as left behind; return how many runs are."""
        attempt.stopped = attempt.stopped or Outcome.TIMED_OUT
        self.overdue.add(attempt)
        return len(self.overdue)

    def remove(self, attempt: InFlightRun) -> bool:
        """Remove *attempt*; return False if another thread or greenlet has, and reports it."""
        if attempt not in self.active:
            return False
        self.active.remove(attempt)
        if self.overdue:
            self.overdue.discard(attempt)
        return True

    def remove_all(self) -> list[InFlightRun]:
        """Remove all runs in progress, and return them."""
        taken = list(self.active)
        self.active.clear()
        self.overdue.clear()
        return taken
