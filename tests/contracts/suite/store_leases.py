"""The contract of stores: leases end, runs are abandoned or rerun, and old claims are refused."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pulse.core.run import CLAIM_LOST, RECORDED, Outcome
from pulse.testing.clock import NOON
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task, succeed
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Claim


def begin(fleet: Fleet, **keywords: object) -> tuple[Process, Claim]:
    """Return a process that has claimed one run of a task with these keywords."""
    process = fleet.join({"work": make_task(**keywords)})
    fleet.clock.forward(EVERY)
    return process, process.claim_one()


class LeaseContract(ContractPart):
    """Claimed runs are renewed and finished by their holder alone, and abandoned after a lease."""

    def test_result_of_a_finished_run_is_recorded(self, fleet: Fleet) -> None:
        """Outcome, status, duration and message are kept with the run."""
        process, claim = begin(fleet)
        process.finish(claim, outcome=Outcome.FAILED)
        (run,) = process.store.runs()
        assert (run.id, run.outcome, run.status) == (claim.run.id, Outcome.FAILED, 200)
        assert (run.took_us, run.message) == (5_000, "done")

    def test_run_finishes_once(self, fleet: Fleet) -> None:
        """A second result of the same claim is refused, also within one batch."""
        process, claim = begin(fleet)
        became = process.store.finish([succeed(claim), succeed(claim)])
        assert became == [RECORDED, CLAIM_LOST]
        assert not process.finish(claim)

    def test_empty_batches_return_empty_lists(self, fleet: Fleet) -> None:
        """`finish` and `renew` accept an empty batch."""
        process = fleet.join({})
        assert (process.store.finish([]), process.store.renew([])) == ([], [])

    def test_renewed_run_is_not_abandoned(self, fleet: Fleet) -> None:
        """Renewal each third of a lease keeps the claim for as long as the run takes."""
        process, claim = begin(fleet)
        beats = fleet.wait(4 * LEASE_S, process, renewing=[(process, claim)])
        assert not any(beat.abandoned for beat in beats)
        assert process.finish(claim)

    def test_run_is_not_abandoned_within_its_lease(self, fleet: Fleet) -> None:
        """A holder has a whole lease before other processes may act."""
        process, claim = begin(fleet)
        beats = fleet.wait(LEASE_S - 5, process)
        assert not any(beat.abandoned for beat in beats)
        assert process.finish(claim)

    def test_run_that_is_not_renewed_is_abandoned(self, fleet: Fleet) -> None:
        """The run gets this outcome, and its task runs again at its next fire time."""
        process, claim = begin(fleet)
        beats = fleet.wait(LEASE_S + 10, process)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        (row,) = process.store.runs()
        assert (row.outcome, row.attempt) == (Outcome.ABANDONED, 1)
        assert process.claim_one().run.fire_time > claim.run.fire_time

    def test_abandoned_run_cannot_be_finished(self, fleet: Fleet) -> None:
        """A late result of the holder is refused, and so is its renewal."""
        process, claim = begin(fleet)
        fleet.wait(LEASE_S + 10, process)
        assert process.store.renew([claim]) == [False]
        assert not process.finish(claim)

    def test_clock_set_ahead_ends_no_lease(self, fleet: Fleet) -> None:
        """The wall clock does not decide how long a lease lasts."""
        process, claim = begin(fleet)
        process.store.heartbeat()
        fleet.clock.set_wall(NOON + timedelta(days=1))
        assert not process.store.heartbeat().abandoned
        assert process.finish(claim)

    def test_observer_waits_a_lease_after_its_own_failures(self, fleet: Fleet) -> None:
        """A process whose own calls failed restarts its observation of leases."""
        process, claim = begin(fleet)
        process.store.heartbeat()
        fleet.clock.forward(10 * LEASE_S)
        assert not process.store.heartbeat().abandoned
        assert process.finish(claim)

    def test_heartbeat_returns_a_run_to_be_rerun_as_unfinished(self, fleet: Fleet) -> None:
        """The run has no outcome and no holder."""
        process, claim = begin(fleet, on_abandoned="rerun")
        beats = fleet.wait(LEASE_S + 10, process)
        abandoned = [run for beat in beats for run in beat.abandoned]
        assert [(run.id, run.outcome, run.holder) for run in abandoned] == [
            (claim.run.id, None, "")
        ]

    def test_heartbeat_returns_the_reason_of_an_abandoned_run(self, fleet: Fleet) -> None:
        """A run that will be rerun has the reason in its last attempt."""
        tasks = {"work": make_task(), "again": make_task(on_abandoned="rerun")}
        process = fleet.join(tasks)
        fleet.clock.forward(EVERY)
        process.claim()
        beats = fleet.wait(LEASE_S + 10, process)
        found = {run.task: run for beat in beats for run in beat.abandoned}
        assert found["work"].message
        assert found["again"].attempts[-1].message == found["work"].message

    def test_rerun_is_the_next_attempt_of_the_same_run(self, fleet: Fleet) -> None:
        """The id stays, the attempt number rises, and only the new claim can finish the run."""
        process, claim = begin(fleet, on_abandoned="rerun")
        fleet.wait(LEASE_S + 10, process)
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        assert again.run.attempt == 2
        assert not process.finish(claim)
        assert process.finish(again)

    def test_claim_that_its_holder_returns_is_rerun(self, fleet: Fleet) -> None:
        """A holder whose lease ended before the call leaves the run to another process."""
        process, claim = begin(fleet, on_abandoned="rerun")
        assert process.finish(claim, outcome=Outcome.ABANDONED)
        assert process.claim_one().run.attempt == 2

    def test_claim_that_its_holder_abandons_is_recorded(self, fleet: Fleet) -> None:
        """With `on_abandoned = record` the run is not dispatched again."""
        process, claim = begin(fleet)
        process.finish(claim, outcome=Outcome.ABANDONED)
        assert not process.claim().claims
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]
