"""The contract of engines as pytest classes; a subclass tests an engine against every promise.

The test module of an engine only says how to make the engine:

    class TestThreadEngine(SlotContract):
        def make(self, clock: Clock) -> Engine:
            return ThreadEngine(clock)

`EngineContract` has the promises of every engine, `LoopContract` those of an engine that runs the
scheduler's loop, and `StepContract` those of an engine that executes runs. An engine of slots keeps
`SlotContract` (`pulse.testing.slot_contract`), which has all of these. An engine that hands runs
over to workers keeps `PostedContract` (`pulse.testing.posted_contract`).

The contract depends on the abilities of an engine (`engine.interrupts`), never on its name. The
runs have the behaviours of `pulse.testing.sample_runs`; an engine that executes runs in another
process serves `pulse.testing.sample_runs:app` there.
"""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome
from pulse.testing.engine_harness import BOUND, EngineHarness
from pulse.testing.sample_runs import make_claim, perform, read_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, Result
    from pulse.engine.base import Engine

MOMENT: Final[Span] = SECOND // 10


class EngineContract:
    """The promises of every engine, whether or not it executes runs itself."""

    concurrency = 4
    many = 100
    """How many claims a test submits to show that none is lost."""

    def make(self, clock: Clock) -> Engine:
        """Return the engine under test, not started."""
        raise NotImplementedError

    def perform(self, claim: Claim) -> Result:
        """Run a claim in this process; an engine that runs it elsewhere never calls this."""
        return perform(claim)

    @pytest.fixture
    def stage(self) -> Iterator[EngineHarness]:
        """Start the engine with `concurrency` slots, and stop it after the test."""
        stage = self.begin(self.concurrency)
        yield stage
        stage.engine.stop(0)

    @pytest.fixture
    def narrow(self) -> Iterator[EngineHarness]:
        """Start the engine with a single slot, and stop it after the test."""
        stage = self.begin(1)
        yield stage
        stage.engine.stop(0)

    def begin(self, concurrency: int) -> EngineHarness:
        """Return a started engine."""
        engine = self.make(SystemClock())
        return EngineHarness(engine, concurrency=concurrency, perform=self.perform)

    def test_building_an_engine_starts_nothing(self) -> None:
        """An engine that is built but not started has no threads, slots or children."""
        before = _threads_and_children()
        engine = self.make(SystemClock())
        assert (_threads_and_children() - before, engine.free()) == (set(), 0)

    def test_waking_or_stopping_an_engine_that_was_not_started_does_nothing(self) -> None:
        """`wake` and `stop` before `start` are harmless."""
        engine = self.make(SystemClock())
        engine.loop.wake()
        engine.stop(0)
        assert engine.free() == 0

    def test_a_stopped_engine_has_no_free_slot(self, stage: EngineHarness) -> None:
        """After `stop` the scheduler submits no claim."""
        stage.engine.stop(0)
        assert stage.engine.free() == 0

    def test_stop_may_be_called_twice(self, stage: EngineHarness) -> None:
        """The second `stop` does nothing."""
        stage.engine.stop(0)
        stage.engine.stop(0)
        assert stage.engine.free() == 0

    def test_forked_may_be_called_at_any_time(self) -> None:
        """`forked` is harmless before `start`, and in a fork of a fork."""
        engine = self.make(SystemClock())
        engine.forked()
        engine.forked()
        assert engine.free() == 0

    def test_wait_ends_when_its_time_is_over(self, stage: EngineHarness) -> None:
        """Without a wake-up, `wait` does not return before its time limit."""
        before = read_seconds()
        stage.engine.loop.wait(MOMENT)
        assert read_seconds() - before >= MOMENT / SECOND

    def test_a_wake_up_before_the_wait_is_not_lost(self, stage: EngineHarness) -> None:
        """`wait` returns at once if `wake` was called before it."""
        before = read_seconds()
        stage.engine.loop.wake()
        stage.engine.loop.wait(BOUND)
        assert read_seconds() - before < BOUND / SECOND / 2

    def test_one_wait_uses_up_all_wake_ups_before_it(self, stage: EngineHarness) -> None:
        """Wake-ups do not accumulate: the second `wait` sleeps."""
        stage.engine.loop.wake()
        stage.engine.loop.wake()
        stage.engine.loop.wait(BOUND)
        before = read_seconds()
        stage.engine.loop.wait(MOMENT)
        assert read_seconds() - before >= MOMENT / SECOND

    def test_a_wake_up_from_elsewhere_ends_the_wait(self, stage: EngineHarness) -> None:
        """`wake` ends a `wait` in progress, from every thread or greenlet."""
        before = read_seconds()
        waker = threading.Timer(MOMENT / SECOND, stage.engine.loop.wake)
        waker.start()
        stage.engine.loop.wait(BOUND)
        waker.join()
        assert read_seconds() - before < BOUND / SECOND / 2

    def test_offload_returns_what_the_call_returns(self, stage: EngineHarness) -> None:
        """The result of the call is the result of `offload`."""
        assert stage.engine.loop.offload(lambda: [1, 2]) == [1, 2]

    def test_offload_raises_what_the_call_raises(
        self, stage: EngineHarness, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """The caller receives the exception, and nothing is written to stderr."""
        with pytest.raises(KeyError, match="nowhere"):
            stage.engine.loop.offload(partial(_look_up, "nowhere"))
        assert capfd.readouterr() == ("", "")


class LoopContract(EngineContract):
    """The promises of an engine that runs the scheduler's loop beside its caller."""

    def test_the_loop_runs_beside_its_caller(self, stage: EngineHarness) -> None:
        """`loop.spawn` returns at once, and `loop.join` returns True once the loop has ended."""
        seen: list[str] = []
        stage.engine.loop.spawn(lambda: seen.append("ran"))
        assert (stage.engine.loop.join(BOUND), seen) == (True, ["ran"])

    def test_a_loop_that_goes_on_is_not_joined(self, stage: EngineHarness) -> None:
        """`loop.join` waits no longer than its timeout, and returns False while the loop runs."""
        stage.engine.loop.spawn(lambda: stage.engine.loop.wait(BOUND))
        joined = stage.engine.loop.join(MOMENT)
        stage.engine.loop.wake()
        assert (joined, stage.engine.loop.join(BOUND)) == (False, True)


class StepContract(EngineContract):
    """The promises of an engine that executes runs, also of one that does so in its caller."""

    def test_a_claim_is_reported_once_with_its_result(self, stage: EngineHarness) -> None:
        """The report has the submitted claim and its result."""
        claim = make_claim("quick")
        stage.submit(claim)
        (completed_run,) = stage.await_endings(1)
        assert (completed_run.claim.run.id, completed_run.result.outcome) == (
            claim.run.id,
            Outcome.SUCCEEDED,
        )

    def test_every_claim_is_reported_exactly_once(self, stage: EngineHarness) -> None:
        """Each of many claims has one report."""
        claims = [make_claim("quick") for _ in range(self.many)]
        stage.submit(*claims)
        stage.await_endings(len(claims))
        reported = sorted(completed_run.claim.run.id for completed_run in stage.completed)
        assert reported == sorted(claim.run.id for claim in claims)

    @pytest.mark.parametrize("kind", ["crash", "quit", "keyboard", "die"])
    def test_whatever_the_app_raises_is_a_failed_run(
        self, narrow: EngineHarness, kind: str
    ) -> None:
        """An exception, an exit or the end of the slot fails the run; the next run succeeds."""
        outcomes = narrow.perform_all(make_claim(kind), make_claim("quick"))
        assert outcomes == [Outcome.FAILED, Outcome.SUCCEEDED]

    def test_a_run_that_ends_after_its_timeout_is_timed_out(self, stage: EngineHarness) -> None:
        """A run that computes past its timeout is `timed_out`, interrupted or not."""
        outcomes = stage.perform_all(make_claim("cpu", 0.3, timeout=0.1))
        assert outcomes == [Outcome.TIMED_OUT]

    def test_a_claim_that_comes_too_late_is_reported_interrupted(
        self, stage: EngineHarness
    ) -> None:
        """A claim that is submitted after `stop` is not executed, but reported."""
        stage.engine.stop(0)
        stage.engine.submit(make_claim("crash"))
        assert [completed_run.result.outcome for completed_run in stage.completed] == [
            Outcome.INTERRUPTED
        ]

    def test_a_copy_in_a_forked_child_has_no_free_slot(self, stage: EngineHarness) -> None:
        """After `forked` no claim is executed."""
        stage.engine.forked()
        stage.engine.submit(make_claim("crash"))
        outcomes = {completed_run.result.outcome for completed_run in stage.completed}
        assert (stage.engine.free(), outcomes - {Outcome.INTERRUPTED}) == (0, set())


def _threads_and_children() -> set[threading.Thread | str]:
    """Return the threads and the pids of the child processes of this process.

    They are compared one by one: a thread of an earlier test may end at any time.
    """
    lists = Path("/proc/self/task").glob("*/children")
    return {*threading.enumerate(), *(pid for each in lists for pid in each.read_text().split())}


def _look_up(name: str) -> str:
    return {"here": "there"}[name]
