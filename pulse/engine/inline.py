"""The engine for tests and for stepping by hand: a run happens in the call of `submit`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.core.run import CompletedRun
from pulse.engine.base import InterruptSupport
from pulse.engine.in_flight import InFlightRun
from pulse.forks import ForkMark

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.base import EngineCallbacks

T = TypeVar("T")


class InlineLoop:
    """Runs no loop: the caller of the engine calls the scheduler's `step` by hand."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: threading.Event | None = None

    def open(self) -> None:
        """Make the event that `wait` waits for, after any fork."""
        self._woken = threading.Event()

    def spawn(self, loop: Callable[[], None]) -> None:
        """Do nothing: the loop's steps are called by hand."""

    def join(self, timeout_us: Span) -> bool:  # noqa: ARG002 - the interface's signature
        """Return True: no loop is in progress."""
        return True

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


class InlineEngine:
    """Performs each claim at once, in its caller; it has no slots."""

    name = "inline"
    interrupts: InterruptSupport = InterruptSupport(waiting=False, computing=False)
    default_concurrency = 10

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0
        self._mark = ForkMark()
        self.loop: InlineLoop = InlineLoop()

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Keep the callbacks; *concurrency* is how many claims one step asks for."""
        self._work = work
        self._free = concurrency
        self.loop.open()

    def free(self) -> int:
        """Return the concurrency: every submitted claim has ended."""
        return self._free

    def submit(self, claim: Claim) -> None:
        """Perform *claim* and report its ending before returning."""
        attempt = InFlightRun(claim, self._clock.boot())
        if not self._free:
            self._work.report(attempt.unfinished(self._clock))
            return
        attempt.begun = True
        try:
            result = self._work.perform(claim)
        # Any exception that leaves the run is how it failed; see promise 3 of `pulse.engine.base`.
        except BaseException as error:
            if self._mark.ends_child(error):
                raise
            result = attempt.result_of(error, self._clock)
        if not self._mark.in_child:
            self._work.report(CompletedRun(claim, attempt.final_result(result, self._clock.boot())))

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Do nothing: a run ends within the call of `submit`."""

    def stop(self, drain_us: Span) -> None:  # noqa: ARG002 - the interface's signature
        """Take no more claims."""
        self._free = 0

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child."""
        self._mark.set()
        self._free = 0
