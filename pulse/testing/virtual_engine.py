"""The engine of time travel: a run happens in `submit`, and ends once its duration is over."""

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
    """The inline engine, which reports each end after the duration that the test has set.

    A run that takes longer than its timeout ends after its duration and is `timed_out`, as in
    threads.

    Args:
        clock: does not advance while a run is performed.
        took: how long the runs of a task take; those of other tasks take no time.

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
        """Keep the callbacks; at most *concurrency* runs are in progress at a time."""
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
        result = msgspec.structs.replace(completed_run.result, took_us=span)
        if span > completed_run.claim.definition.timeout_us:
            result = msgspec.structs.replace(result, outcome=Outcome.TIMED_OUT)
        until = self._clock.boot() + span
        heappush(self._going, (until, self._count, CompletedRun(completed_run.claim, result)))

    def next_end(self) -> Span | None:
        """Return the boot clock when the next run ends; None when none is in progress."""
        return self._going[0][0] if self._going else None

    def end_due(self) -> None:
        """Report the runs whose duration is over, in the order of their ends."""
        while self._going and self._going[0][0] <= self._clock.boot():
            self._report(heappop(self._going)[2])

    def stop(self, drain_us: Span) -> None:
        """Take no more claims, and interrupt the runs in progress: no time passes in a drain."""
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
