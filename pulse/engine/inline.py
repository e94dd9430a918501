"""The engine for tests and for stepping by hand: a run happens in the call of `submit`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.core.run import Ending
from pulse.engine.base import Interrupts
from pulse.engine.in_flight import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import Work

T = TypeVar("T")


class InlineEngine:
    """Performs each claim at once, in its caller; it has no slots, and no loop of its own.

    `spawn_loop` does nothing: whoever uses this engine calls the scheduler's `step` by hand.
    """

    name = "inline"
    interrupts: Interrupts = Interrupts(waiting=False, computing=False)
    usual_concurrency = 10

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0
        self._woken: threading.Event | None = None

    def start(self, work: Work, *, concurrency: int) -> None:
        """Take the work; *concurrency* is how many claims are asked for in one step."""
        self._work = work
        self._free = concurrency
        self._woken = threading.Event()

    def spawn_loop(self, loop: Callable[[], None]) -> None:
        """Do nothing: the loop's steps are called by hand."""

    def join_loop(self, timeout_us: Span) -> bool:  # noqa: ARG002 - the port's signature
        """Return True: no loop goes on."""
        return True

    def free(self) -> int:
        """Return the concurrency: whatever was submitted has ended."""
        return self._free

    def submit(self, claim: Claim) -> None:
        """Perform *claim* and report its ending before returning."""
        attempt = Attempt(claim, self._clock.boot())
        if not self._free:
            self._work.report(attempt.cut_off(self._clock))
            return
        attempt.begun = True
        try:
            result = self._work.perform(claim)
        # Whatever a run lets out is how it failed; see promise 3 of the port.
        except BaseException as error:  # noqa: BLE001 - the reason is above
            result = attempt.result_of(error, self._clock)
        self._work.report(Ending(claim, attempt.judge(result, self._clock.boot())))

    def wait(self, timeout_us: Span) -> None:
        """Sleep until `wake`, or for the given time."""
        if self._woken is not None:
            self._woken.wait(timeout_us / SECOND)
            self._woken.clear()

    def wake(self) -> None:
        """End the sleep of `wait`, or keep the next one from beginning."""
        if self._woken is not None:
            self._woken.set()

    def offload(self, call: Callable[[], T]) -> T:
        """Return what *call* returns."""
        return call()

    def stop(self, drain_us: Span) -> None:  # noqa: ARG002 - the port's signature
        """Take no more claims."""
        self._free = 0
