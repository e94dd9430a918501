"""The contract of stores: leases end, runs are abandoned or run again, and fencing holds."""

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
    """Runs in progress: renewed, ended by their holder alone, abandoned after a lease."""

    def test_a_finished_run_is_on_record(self, fleet: Fleet) -> None:
        """Outcome, status, duration and message are kept with the run."""
        process, claim = begin(fleet)
        process.finish(claim, outcome=Outcome.FAILED)
        (run,) = process.store.runs()
        assert (run.id, run.outcome, run.status) == (claim.run.id, Outcome.FAILED, 200)
        assert (run.took_us, run.message) == (5_000, "done")

    def test_a_run_ends_once(self, fleet: Fleet) -> None:
        """A second end of the same claim is refused, also within one batch."""
        process, claim = begin(fleet)
        became = process.store.finish([succeed(claim), succeed(claim)])
        assert became == [RECORDED, CLAIM_LOST]
        assert not process.finish(claim)

    def test_no_endings_and_no_claims_are_no_work(self, fleet: Fleet) -> None:
        """Empty batches are answered by empty lists."""
        process = fleet.join({})
        assert (process.store.finish([]), process.store.renew([])) == ([], [])

    def test_a_renewed_run_is_not_abandoned(self, fleet: Fleet) -> None:
        """Renewal each third of a lease keeps the claim for as long as the run takes."""
        process, claim = begin(fleet)
        beats = fleet.wait(4 * LEASE_S, process, renewing=[(process, claim)])
        assert not any(beat.abandoned for beat in beats)
        assert process.finish(claim)

    def test_a_run_is_not_abandoned_within_its_lease(self, fleet: Fleet) -> None:
        """A holder has a whole lease before others may act."""
        process, claim = begin(fleet)
        beats = fleet.wait(LEASE_S - 5, process)
        assert not any(beat.abandoned for beat in beats)
        assert process.finish(claim)

    def test_a_run_that_is_not_renewed_is_abandoned(self, fleet: Fleet) -> None:
        """Its row says so, and its task runs again at its next fire time."""
        process, claim = begin(fleet)
        beats = fleet.wait(LEASE_S + 10, process)
        assert [run.id for beat in beats for run in beat.abandoned] == [claim.run.id]
        (row,) = process.store.runs()
        assert (row.outcome, row.attempt) == (Outcome.ABANDONED, 1)
        assert process.claim_one().run.fire_time > claim.run.fire_time

    def test_an_abandoned_run_cannot_be_finished(self, fleet: Fleet) -> None:
        """The answer of a holder that comes too late is refused, and so is its renewal."""
        process, claim = begin(fleet)
        fleet.wait(LEASE_S + 10, process)
        assert process.store.renew([claim]) == [False]
        assert not process.finish(claim)

    def test_a_clock_set_ahead_ends_no_lease(self, fleet: Fleet) -> None:
        """The wall clock has no say in how long a lease lasts."""
        process, claim = begin(fleet)
        process.store.heartbeat()
        fleet.clock.set_wall(NOON + timedelta(days=1))
        assert not process.store.heartbeat().abandoned
        assert process.finish(claim)

    def test_after_a_silence_holders_get_a_lease_first(self, fleet: Fleet) -> None:
        """A process whose own calls did not go through begins to count anew."""
        process, claim = begin(fleet)
        process.store.heartbeat()
        fleet.clock.forward(10 * LEASE_S)
        assert not process.store.heartbeat().abandoned
        assert process.finish(claim)

    def test_a_run_that_will_be_rerun_is_told_as_open(self, fleet: Fleet) -> None:
        """The beat names it, without an outcome, held by nobody."""
        process, claim = begin(fleet, on_abandoned="rerun")
        beats = fleet.wait(LEASE_S + 10, process)
        abandoned = [run for beat in beats for run in beat.abandoned]
        assert [(run.id, run.outcome, run.holder) for run in abandoned] == [
            (claim.run.id, None, "")
        ]

    def test_the_beat_tells_why_a_run_was_abandoned(self, fleet: Fleet) -> None:
        """In words: of one that will be rerun, with the attempt that ended so."""
        tasks = {"work": make_task(), "again": make_task(on_abandoned="rerun")}
        process = fleet.join(tasks)
        fleet.clock.forward(EVERY)
        process.claim()
        beats = fleet.wait(LEASE_S + 10, process)
        found = {run.task: run for beat in beats for run in beat.abandoned}
        assert found["work"].message
        assert found["again"].attempts[-1].message == found["work"].message

    def test_a_rerun_is_the_next_attempt_of_the_same_run(self, fleet: Fleet) -> None:
        """The id stays, the attempt counts, and only the new claim can end it."""
        process, claim = begin(fleet, on_abandoned="rerun")
        fleet.wait(LEASE_S + 10, process)
        again = next(one for one in process.claim().claims if one.run.id == claim.run.id)
        assert again.run.attempt == 2
        assert not process.finish(claim)
        assert process.finish(again)

    def test_a_claim_given_back_is_run_again(self, fleet: Fleet) -> None:
        """A holder that finds its lease over before the call leaves the run to the next."""
        process, claim = begin(fleet, on_abandoned="rerun")
        assert process.finish(claim, outcome=Outcome.ABANDONED)
        assert process.claim_one().run.attempt == 2

    def test_a_claim_given_up_is_on_record(self, fleet: Fleet) -> None:
        """With `on_abandoned = record` it is not dispatched again."""
        process, claim = begin(fleet)
        process.finish(claim, outcome=Outcome.ABANDONED)
        assert not process.claim().claims
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]
