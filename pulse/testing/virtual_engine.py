"""The engine of time travel: performs a run in `submit`, and reports it after its virtual time."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import CompletedRun, Outcome
from pulse.engine.base import EngineCallbacks, InterruptSupport
from pulse.engine.inline import InlineEngine, InlineLoop
from pulse.testing.django_connections import kept_connections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Result


class VirtualEngine:
    """An inline engine that reports each run after the virtual time that the run takes.

    A run that takes longer than its timeout continues to its end, and is `timed_out` then, as in
    threads.

    Args:
        clock: the virtual clock, which does not move while a run is performed.
        took: the virtual durations of runs by task; runs of other tasks take no time.

    """

    name = "inline"
    interrupts: InterruptSupport = InterruptSupport(waiting=False, computing=False)
    default_concurrency = 10

    def __init__(self, clock: Clock, took: Mapping[str, Span]) -> None:
        self._clock = clock
        self._took = took
        self._inline = InlineEngine(clock)
        self.loop: InlineLoop = self._inline.loop
        self._in_progress: list[tuple[Span, int, CompletedRun]] = []
        self._count = 0

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        """Keep the callbacks; at most *concurrency* runs are in progress at a time."""
        self._report = work.report

        def perform(claim: Claim) -> Result:
            with kept_connections():
                return work.perform(claim)

        held_back = EngineCallbacks(perform, self._hold, work.overdue)
        self._inline.start(held_back, concurrency=concurrency)

    def free(self) -> int:
        """Return how many claims may be submitted now."""
        return max(0, self._inline.free() - len(self._in_progress))

    def submit(self, claim: Claim) -> None:
        """Perform *claim* now, and report it now too if its runs take no time."""
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
        heappush(self._in_progress, (until, self._count, CompletedRun(completed_run.claim, result)))

    def next_end(self) -> Span | None:
        """Return the boot clock when the next run ends; None when none is in progress."""
        return self._in_progress[0][0] if self._in_progress else None

    def end_due(self) -> None:
        """Report the runs whose duration is over, in the order of their ends."""
        while self._in_progress and self._in_progress[0][0] <= self._clock.boot():
            self._report(heappop(self._in_progress)[2])

    def interrupt(self, claim: Claim, reason: str) -> None:
        """Do nothing: a run has been performed when it is in progress."""

    def stop(self, drain_us: Span) -> None:
        """Stop accepting claims, and interrupt the runs in progress; no virtual time passes."""
        self._inline.stop(drain_us)
        for until, _, (claim, result) in sorted(self._in_progress):
            took = result.took_us - (until - self._clock.boot())
            interrupted = msgspec.structs.replace(result, outcome=Outcome.INTERRUPTED, took_us=took)
            self._report(CompletedRun(claim, interrupted))
        self._in_progress.clear()

    def forked(self) -> None:
        """Drop all runs: this engine is a copy in a forked child."""
        self._inline.forked()
        self._in_progress.clear()
