"""One claim in a slot: since when, until when, and in which words its end is reported."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

import msgspec

from pulse.engine.base import Interruption
from pulse.run import Ending, Outcome, Result

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.run import Claim

_ENDED_BY_ITSELF: Final = frozenset((Outcome.SUCCEEDED, Outcome.FAILED))


class Attempt:
    """A claim on its way through a slot.

    Attributes:
        claim: what is run.
        began: the boot clock when the slot took it.
        deadline: the boot clock when its timeout is over.
        watch_at: the boot clock when the engine should look at it next.
        stopped: the outcome for which it was interrupted, None while it was not.

    """

    __slots__ = ("began", "claim", "deadline", "stopped", "watch_at")

    def __init__(self, claim: Claim, began: Span) -> None:
        self.claim = claim
        self.began = began
        self.deadline = self.watch_at = began + claim.definition.timeout_us
        self.stopped: Outcome | None = None

    def judge(self, result: Result, now: Span) -> Result:
        """Return *result*, with the outcome that stands when it was stopped or ended too late."""
        if self.stopped is None and now <= self.deadline:
            return result
        if result.outcome not in _ENDED_BY_ITSELF:
            return result
        return msgspec.structs.replace(result, outcome=self.stopped or Outcome.TIMED_OUT)

    def result_of(self, error: BaseException, clock: Clock) -> Result:
        """Return the result of a run that let *error* out."""
        if isinstance(error, Interruption) and error.claim is self.claim:
            return self.result_as(error.outcome, clock)
        text = "".join(traceback.format_exception(error))
        return self.result_as(Outcome.FAILED, clock, message=text)

    def result_as(self, outcome: Outcome, clock: Clock, *, message: str = "") -> Result:
        """Return a result that the engine gives because the run itself has none."""
        took = clock.boot() - self.began
        return Result(outcome, clock.wall() - took, took, message=message)

    def ending_cut_off(self, clock: Clock) -> Ending:
        """Return the ending of a run that outlasted the drain and cannot be waited for."""
        late = clock.boot() > self.deadline
        outcome = Outcome.TIMED_OUT if late else Outcome.INTERRUPTED
        message = "the run outlasted the drain; it may go on until the process ends"
        return Ending(self.claim, self.result_as(outcome, clock, message=message))

    def ending_too_late(self, clock: Clock) -> Ending:
        """Return the ending of a claim that came when the engine took no more."""
        message = "the engine had stopped before the run could begin"
        return Ending(self.claim, self.result_as(Outcome.INTERRUPTED, clock, message=message))
