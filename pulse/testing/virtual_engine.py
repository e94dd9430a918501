"""The engine of a trip: a run happens in the call of `submit`, and ends once its time is over."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import CompletedRun, Outcome
from pulse.engine.base import EngineCallbacks, InterruptSupport
from pulse.engine.inline import InlineEngine, InlineLoop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim


class VirtualEngine:
    """The inline engine, which holds each ending back for as long as the run is told to take.

    A run that takes longer than its timeout goes on to its end and is `timed_out` then, as it is
    in threads.

    Args:
        clock: stands still while a run is performed.
        took: how long the runs of a task take; of one that is not named, no time.

    """

    name = "inline"
    interrupts: InterruptSupport = InterruptSupport(waiting=False, computing=False)
    default_concurrency = 10

    def __init__(self, clock: Clock, took: Mapping[str, Span]) -> None:
        self._clock = clock
        self._took = took
        self._inline = InlineEngine(clock)
        self.loop: InlineLoop = self._inline.loop
        self._going: list[tuple[Span, int, CompletedRun]] = []
        self._count = 0

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Take the work; at most *concurrency* runs go on at a time."""
        self._report = work.report
        held_back = EngineCallbacks(work.perform, self._hold, work.overdue)
        self._inline.start(held_back, concurrency=concurrency)

    def free(self) -> int:
        """Return how many claims may be submitted now."""
        return max(0, self._inline.free() - len(self._going))

    def submit(self, claim: Claim) -> None:
        """Perform *claim* now; report its ending now too, unless its runs take time."""
        self._inline.submit(claim)

    def _hold(self, completed_run: CompletedRun) -> None:
        span = self._took.get(completed_run.claim.run.task, 0)
        if not span or not self._inline.free():
            self._report(completed_run)
            return
        self._count += 1
        told = msgspec.structs.replace(completed_run.result, took_us=span)
        if span > completed_run.claim.definition.timeout_us:
            told = msgspec.structs.replace(told, outcome=Outcome.TIMED_OUT)
        until = self._clock.boot() + span
        heappush(self._going, (until, self._count, CompletedRun(completed_run.claim, told)))

    def next_end(self) -> Span | None:
        """Return the boot clock when the next run ends; None when none goes on."""
        return self._going[0][0] if self._going else None

    def end_due(self) -> None:
        """Report the runs whose time has passed, in the order of their ends."""
        while self._going and self._going[0][0] <= self._clock.boot():
            self._report(heappop(self._going)[2])

    def stop(self, drain_us: Span) -> None:
        """Take no more claims, and interrupt the runs that go on: no time passes in a drain."""
        self._inline.stop(drain_us)
        for until, _, (claim, result) in sorted(self._going):
            took = result.took_us - (until - self._clock.boot())
            cut = msgspec.structs.replace(result, outcome=Outcome.INTERRUPTED, took_us=took)
            self._report(CompletedRun(claim, cut))
        self._going.clear()

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child."""
        self._inline.forked()
        self._going.clear()
