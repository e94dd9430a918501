"""A harness for engines, in which the test takes the part of the scheduler."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.engine.base import EngineCallbacks
from pulse.testing.sample_runs import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.clock import Span
    from pulse.core.run import Claim, CompletedRun, Outcome, Result
    from pulse.engine.base import Engine
    from pulse.events import Event

BOUND: Final[Span] = 20 * SECOND
"""The time limit for everything that an engine promises, on a busy machine."""


class EngineHarness:
    """A started engine, and its reports so far.

    The test takes the part of the scheduler's loop: a report wakes it, `until` waits like the loop.

    Attributes:
        completed: the runs that the engine has executed.
        left: the runs past their timeout that it has left behind, with the number of such runs.
        posted: the claims that it has handed over, with the wait and the name of the queue.
        returned: the claims that it has given back, with the pause and the reason.
        events: what it has emitted, which wakes no loop.

    """

    def __init__(
        self, engine: Engine, *, concurrency: int, perform: Callable[[Claim], Result] = perform
    ) -> None:
        self.engine = engine
        self.completed: list[CompletedRun] = []
        self.left: list[tuple[Claim, int]] = []
        self.posted: list[tuple[Claim, Span, str]] = []
        self.returned: list[tuple[Claim, Span, str]] = []
        self.events: list[Event] = []
        self._clock = SystemClock()
        work = EngineCallbacks(
            perform,
            self._take_report,
            self._take_overdue,
            posted=self._take_posted,
            returned=self._take_returned,
            emit=self.events.append,
        )
        engine.start(work, concurrency=concurrency)

    def _take_report(self, completed_run: CompletedRun) -> None:
        self.completed.append(completed_run)
        self.engine.loop.wake()

    def _take_overdue(self, claim: Claim, left_behind: int) -> None:
        self.left.append((claim, left_behind))
        self.engine.loop.wake()

    def _take_posted(self, claim: Claim, wait_us: Span, queue: str) -> None:
        self.posted.append((claim, wait_us, queue))
        self.engine.loop.wake()

    def _take_returned(self, claim: Claim, pause_us: Span, reason: str) -> None:
        self.returned.append((claim, pause_us, reason))
        self.engine.loop.wake()

    def submit(self, *claims: Claim) -> None:
        """Submit each claim as soon as a slot is free for it."""
        for claim in claims:
            self.until(lambda: self.engine.free() > 0, "a free slot")
            self.engine.submit(claim)

    def until(self, condition: Callable[[], bool], what: str, *, within: Span = BOUND) -> None:
        """Wait until *condition* holds; fail if it does not hold within the limit."""
        end = self._clock.boot() + within
        while not condition():
            if self._clock.boot() > end:
                pytest.fail(f"no {what} within {within / SECOND} s; {self._reports()}")
            self.engine.loop.wait(20_000)

    def _reports(self) -> str:
        return (
            f"reported: {self.completed}; posted: {self.posted}; returned: {self.returned};"
            f" emitted: {self.events}"
        )

    def await_endings(self, count: int) -> list[CompletedRun]:
        """Return the completed runs once there are *count* of them."""
        self.until(lambda: len(self.completed) >= count, f"{count} completed runs")
        return self.completed

    def outcomes(self) -> dict[str, Outcome]:
        """Return the outcome of each completed run, by its id."""
        return {
            completed_run.claim.run.id: completed_run.result.outcome
            for completed_run in self.completed
        }

    def drive(self, claims: Sequence[Claim]) -> None:
        """Do the work of a scheduler's loop: submit the claims, and wait for their results."""
        self.perform_all(*claims)

    def perform_all(self, *claims: Claim) -> list[Outcome]:
        """Submit the claims and return their outcomes, in the order of the claims."""
        before = len(self.completed)
        self.submit(*claims)
        self.await_endings(before + len(claims))
        outcomes = self.outcomes()
        return [outcomes[claim.run.id] for claim in claims]


def call_together(call: Callable[[], None], *, callers: int) -> None:
    """Make a call in many threads or greenlets at once; fail if one does not return in time."""
    threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND / SECOND)
    assert not any(thread.is_alive() for thread in threads)
