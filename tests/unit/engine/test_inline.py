"""What stepping by hand leans on: the inline engine performs in its caller."""

from __future__ import annotations

from pulse.core.run import Outcome
from pulse.engine.inline import InlineEngine
from pulse.testing.clock import FakeClock
from pulse.testing.engine_harness import EngineHarness
from pulse.testing.sample_runs import make_claim


def test_a_run_has_ended_when_submit_returns() -> None:
    """Nothing needs to be waited for."""
    stage = EngineHarness(InlineEngine(FakeClock()), concurrency=3)
    stage.engine.submit(make_claim("quick"))
    assert [completed_run.result.outcome for completed_run in stage.completed] == [
        Outcome.SUCCEEDED
    ]


def test_no_slot_is_ever_taken() -> None:
    """As many claims are asked for as the concurrency says."""
    stage = EngineHarness(InlineEngine(FakeClock()), concurrency=3)
    stage.engine.submit(make_claim("quick"))
    assert stage.engine.free() == 3


def test_the_loop_is_left_to_the_caller() -> None:
    """`loop.spawn` runs nothing, and there is nothing to join."""
    stage, seen = EngineHarness(InlineEngine(FakeClock()), concurrency=1), []
    stage.engine.loop.spawn(lambda: seen.append("ran"))
    assert (stage.engine.loop.join(0), seen) == (True, [])


def test_waiting_before_the_start_returns_at_once() -> None:
    """An engine that was not started has nothing to wait for."""
    assert InlineEngine(FakeClock()).loop.wait(10_000_000) is None
