"""The contract of engines with slots, in which runs happen side by side."""

from __future__ import annotations

import time  # noqa: TID251 - to test that nothing happens, a test has to wait
from functools import partial
from typing import TYPE_CHECKING

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome
from pulse.engine.base import EngineCallbacks
from pulse.testing.engine_contract import MOMENT, LoopContract, StepContract
from pulse.testing.engine_harness import BOUND, call_together
from pulse.testing.sample_runs import LONG, make_claim, read_seconds

if TYPE_CHECKING:
    from pulse.core.run import Claim, CompletedRun
    from pulse.testing.engine_harness import EngineHarness


class SlotContract(StepContract, LoopContract):
    """The promises of an engine with concurrent slots and a loop beside them."""

    def test_free_counts_the_slots_that_are_left(self, stage: EngineHarness) -> None:
        """Each submitted claim occupies one slot until its run has finished."""
        stage.submit(make_claim("nap", 0.3), make_claim("nap", 0.3))
        taken = stage.engine.free()
        stage.await_endings(2)
        assert (taken, stage.engine.free()) == (self.concurrency - 2, self.concurrency)

    def test_a_slot_is_free_again_when_its_ending_is_reported(self) -> None:
        """The receiver of the report finds the slot free."""
        engine, seen = self.make(SystemClock()), []

        def look(_: CompletedRun) -> None:
            seen.append(engine.free())
            engine.loop.wake()

        engine.start(EngineCallbacks(self.perform, look, lambda _, __: None), concurrency=1)
        engine.submit(make_claim("quick"))
        engine.loop.wait(BOUND)
        engine.stop(0)
        assert seen == [1]

    def test_runs_go_on_side_by_side(self, stage: EngineHarness) -> None:
        """The second run starts before the first run finishes."""
        stage.submit(make_claim("nap", 0.5), make_claim("nap", 0.5))
        first, second = (completed_run.result for completed_run in stage.await_endings(2))
        assert abs(second.started_at - first.started_at) < first.took_us

    def test_a_run_that_waits_past_its_timeout_is_timed_out(self, stage: EngineHarness) -> None:
        """The engine interrupts the run if it can; else it announces the run as overdue."""
        stoppable = stage.engine.interrupts.waiting
        claim = make_claim("nap", LONG if stoppable else 0.5, timeout=0.1)
        outcomes = stage.perform_all(claim)
        announced = [] if stoppable else [(claim, 1)]
        assert (outcomes, stage.left) == ([Outcome.TIMED_OUT], announced)

    def test_a_run_that_computes_past_its_timeout_is_timed_out(self, stage: EngineHarness) -> None:
        """The engine interrupts the run if it can; else the run is `timed_out` at its end."""
        seconds = LONG if stage.engine.interrupts.computing else 0.4
        outcomes = stage.perform_all(make_claim("cpu", seconds, timeout=0.1))
        assert outcomes == [Outcome.TIMED_OUT]

    def test_an_app_that_swallows_the_interruption_is_timed_out(self, stage: EngineHarness) -> None:
        """A run that resists the interruption is `timed_out` at its end, never a success."""
        outcomes = stage.perform_all(make_claim("swallow", 0.5, timeout=0.1))
        assert outcomes == [Outcome.TIMED_OUT]

    def test_a_timeout_frees_the_slot(self, narrow: EngineHarness) -> None:
        """After a timeout the only slot accepts the next claim, even if the first run continues."""
        stuck, after = make_claim("nap", 2.0, timeout=0.1), make_claim("quick")
        narrow.submit(stuck, after)
        narrow.until(lambda: after.run.id in narrow.outcomes(), "ending of the second run")
        assert narrow.outcomes()[after.run.id] is Outcome.SUCCEEDED

    def test_an_earlier_deadline_is_seen_though_it_comes_later(self, stage: EngineHarness) -> None:
        """A run with a short timeout is overdue before an earlier run with a long timeout."""
        patient, hasty = make_claim("nap", 1.0), make_claim("nap", 1.0, timeout=0.1)
        stage.submit(patient, hasty)
        stage.until(lambda: bool(stage.left or stage.completed), "sign of the short timeout")
        early = [claim for claim, _ in stage.left] + [
            completed_run.claim for completed_run in stage.completed
        ]
        assert [claim.run.id for claim in early] == [hasty.run.id]

    def test_an_interruption_never_hits_the_next_claim(self, narrow: EngineHarness) -> None:
        """Runs that end at their timeout do not interrupt the runs after them."""
        nearly = [make_claim("nap", 0.02, timeout=0.02) for _ in range(20)]
        quick = [make_claim("quick") for _ in nearly]
        for pair in zip(nearly, quick, strict=True):
            narrow.submit(*pair)
        narrow.await_endings(len(nearly) + len(quick))
        outcomes = narrow.outcomes()
        assert {outcomes[claim.run.id] for claim in quick} == {Outcome.SUCCEEDED}
        assert len(narrow.completed) == len(outcomes)

    def test_a_run_that_waits_is_interrupted_on_request(self, stage: EngineHarness) -> None:
        """If the engine can do that; other runs continue, and the slot takes another claim."""
        stoppable = stage.engine.interrupts.waiting
        stopped = make_claim("nap", LONG if stoppable else 0.5)
        other = make_claim("nap", 0.5)
        stage.submit(stopped, other)
        time.sleep(0.1)
        stage.engine.interrupt(stopped, "stopped by anna")
        stage.engine.interrupt(stopped, "stopped by anna")
        stage.await_endings(2)
        expected = Outcome.INTERRUPTED if stoppable else Outcome.SUCCEEDED
        assert stage.outcomes() == {stopped.run.id: expected, other.run.id: Outcome.SUCCEEDED}
        assert stage.perform_all(make_claim("quick")) == [Outcome.SUCCEEDED]

    def test_a_run_that_has_ended_is_not_interrupted(self, narrow: EngineHarness) -> None:
        """Nor is the next one in its slot."""
        ended, following = make_claim("quick"), make_claim("nap", 0.3)
        narrow.perform_all(ended)
        narrow.submit(following)
        narrow.engine.interrupt(ended, "stopped by anna")
        narrow.await_endings(2)
        assert narrow.outcomes()[following.run.id] is Outcome.SUCCEEDED

    def test_stop_lets_runs_end_within_the_drain(self, stage: EngineHarness) -> None:
        """A run that finishes within the drain is reported with its own result."""
        stage.submit(make_claim("nap", 0.3))
        stage.engine.stop(BOUND)
        assert list(stage.outcomes().values()) == [Outcome.SUCCEEDED]

    def test_stop_interrupts_what_outlasts_the_drain(self, stage: EngineHarness) -> None:
        """A run that does not finish within the drain is `interrupted` before `stop` returns."""
        stage.submit(make_claim("nap", 3.0), make_claim("nap", 3.0))
        stage.engine.stop(MOMENT)
        assert list(stage.outcomes().values()) == [Outcome.INTERRUPTED] * 2

    def test_stop_without_a_drain_interrupts_at_once(self, stage: EngineHarness) -> None:
        """With a drain of zero, runs in every state are interrupted."""
        stage.submit(*(make_claim("nap", 3.0) for _ in range(self.concurrency)))
        stage.engine.stop(0)
        assert list(stage.outcomes().values()) == [Outcome.INTERRUPTED] * self.concurrency

    def test_an_idle_engine_stops_at_once(self, stage: EngineHarness) -> None:
        """An engine without runs in progress does not wait for the drain."""
        stage.perform_all(make_claim("quick"))
        before = read_seconds()
        stage.engine.stop(BOUND)
        assert read_seconds() - before < BOUND / SECOND / 2

    def test_a_late_result_of_an_interrupted_run_is_dropped(self, stage: EngineHarness) -> None:
        """A run that continues after it was reported `interrupted` is not reported again."""
        stage.submit(make_claim("swallow", 0.5))
        stage.engine.stop(0)
        time.sleep(0.8)
        assert list(stage.outcomes().values()) == [Outcome.INTERRUPTED]
        assert len(stage.completed) == 1

    def test_many_may_stop_an_engine_at_once(self) -> None:
        """Ten callers of `stop`, fifty times: all return, and each claim has one report."""
        for _ in range(50):
            stage = self.begin(2)
            stage.submit(*self.brief_claims())
            call_together(partial(stage.engine.stop, MOMENT), callers=10)
            assert len(stage.completed) == len(stage.outcomes()) == len(self.brief_claims())

    def brief_claims(self) -> list[Claim]:
        """Return the claims of each stop; an engine with expensive runs returns none."""
        return [make_claim("quick"), make_claim("nap", 0.001)]

    def test_a_copy_in_a_forked_child_reports_and_announces_nothing(
        self, stage: EngineHarness
    ) -> None:
        """The copy does not report runs that were submitted before the fork, overdue or not."""
        stage.submit(make_claim("nap", 0.3), make_claim("nap", 0.3, timeout=0.1))
        time.sleep(0.05)
        stage.engine.forked()
        time.sleep(0.8)
        assert (stage.completed, stage.left) == ([], [])

    def test_a_copy_in_a_forked_child_can_be_stopped(self, stage: EngineHarness) -> None:
        """`stop` returns in the copy, and reports nothing."""
        stage.submit(make_claim("nap", 0.3))
        stage.engine.forked()
        stage.engine.stop(0)
        assert stage.completed == []

    def test_the_loop_can_drive_the_slots(self, stage: EngineHarness) -> None:
        """Claims that the loop submits are executed while the loop waits for their results."""
        claims = [make_claim("quick") for _ in range(20)]
        stage.engine.loop.spawn(partial(stage.drive, claims))
        assert (stage.engine.loop.join(BOUND), len(stage.completed)) == (True, len(claims))
