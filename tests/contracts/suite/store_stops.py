"""The contract of stores: runs that a person stops, and what processes and tasks show."""

from __future__ import annotations

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.errors import RunNotStoppableError, UnknownRunError
from pulse.store.steering import MemberReport, StopRequest
from tests.contracts.suite.store_harness import EVERY, LEASE_S, STOPS_RUNS, Fleet, make_task
from tests.contracts.suite.store_part import ContractPart


class StopContract(ContractPart):
    """A run is stopped through the store, by the process that holds it."""

    def test_holder_reads_the_request_to_stop_a_run(self, fleet: Fleet) -> None:
        """With its heartbeats, until the run has ended."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim, now = process.claim_one(), fleet.clock.wall()
        assert process.store.heartbeat().stops == {}
        found = process.store.stop(claim.run.id, by="anna", note="wrong month")
        assert (found.id, found.outcome) == (claim.run.id, None)
        expected = {claim.run.id: StopRequest(now, "anna", "wrong month")}
        assert process.store.heartbeat().stops == expected
        assert process.store.look(0).heartbeat.stops == expected
        assert process.finish(claim, outcome=Outcome.INTERRUPTED)
        assert process.store.heartbeat().stops == {}
        (entry,) = process.store.audit()
        assert (entry.verb, entry.task, entry.run) == ("stop", "work", claim.run.id)
        assert (entry.by, entry.note) == ("anna", "wrong month")

    def test_pending_run_ends_at_once(self, fleet: Fleet) -> None:
        """No process has it, and none claims it later."""
        process = fleet.join({"work": make_task()})
        run = process.store.trigger("work")
        assert run is not None
        stopped = process.store.stop(run.id, by="anna")
        assert (stopped.outcome, stopped.message) == (Outcome.INTERRUPTED, "stopped by anna")
        assert process.store.run(run.id) == stopped
        assert list(process.claim().claims) == []
        assert process.store.trigger("work") is not None

    def test_run_that_waits_for_a_retry_is_not_retried(self, fleet: Fleet) -> None:
        """Its last attempt stays on record."""
        process = fleet.join({"work": make_task(retries=3, interval=600)})
        fleet.clock.forward(600)
        claim = process.claim_one()
        assert process.fail(claim) is not None
        stopped = process.store.stop(claim.run.id)
        assert (stopped.outcome, stopped.attempt) == (Outcome.INTERRUPTED, 1)
        fleet.clock.forward(60)
        assert list(process.claim().claims) == []

    def test_run_that_is_to_be_stopped_is_not_attempted_again(self, fleet: Fleet) -> None:
        """Neither after a failure, nor after the loss of its process."""
        task = make_task(interval=600, retries=3, on_abandoned="rerun")
        process = fleet.join({"failing": task, "lost": task})
        fleet.clock.forward(600)
        claims = {claim.run.task: claim for claim in process.claim().claims}
        for claim in claims.values():
            process.store.stop(claim.run.id)
        assert process.fail(claims["failing"]) is None
        process.store.heartbeat()
        beats = fleet.wait(LEASE_S + 10, process)
        (lost,) = [run for beat in beats for run in beat.abandoned]
        assert (lost.task, lost.outcome) == ("lost", Outcome.ABANDONED)
        assert list(process.claim().claims) == []

    def test_run_that_has_ended_stays_as_it_is(self, fleet: Fleet) -> None:
        """It is returned, and the request is on record."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        process.finish(claim)
        assert process.store.stop(claim.run.id).outcome is Outcome.SUCCEEDED
        assert process.store.run(claim.run.id).outcome is Outcome.SUCCEEDED  # type: ignore[union-attr] # it exists

    def test_unknown_run_is_refused(self, fleet: Fleet) -> None:
        """Nothing is on record."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(UnknownRunError, match="expected the id of a run that is kept, got"):
            process.store.stop("0" * 32)
        assert process.store.audit() == []

    def test_run_of_a_process_that_cannot_stop_it_is_refused(self, fleet: Fleet) -> None:
        """The error names the process and its mode."""
        process = fleet.join({"work": make_task()}, report=MemberReport("1.0"))
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        with pytest.raises(RunNotStoppableError, match=r"alpha:1:nonce holds: mode inline cannot"):
            process.store.stop(claim.run.id)
        assert process.store.heartbeat().stops == {}

    def test_task_shows_its_settings(self, fleet: Fleet) -> None:
        """Those that differ from the defaults, without what may be a secret."""
        task = make_task(
            action="/work?kind=a",
            headers={"Authorization": "Bearer ${TOKEN}", "X-Key": "hunter2"},
            body="hunter2",
            retries=2,
        )
        process = fleet.join({"work": task})
        process.add("added", task)
        for state in process.store.tasks():
            assert dict(state.settings) == {
                "action": "/work?kind=a",
                "interval": "10s",
                "headers": "Authorization: ***${TOKEN}\nX-Key: ***",
                "body": "7 bytes",
                "retries": "2",
                "timeout": "3m",
            }

    def test_settings_of_an_earlier_configuration_come_back_with_it(self, fleet: Fleet) -> None:
        """A roll-back after an hour finds what the first deploy has stored."""
        process = fleet.join({"work": make_task(timeout=7)})
        process.sync({"work": make_task(timeout=8)})
        for _ in range(2):
            fleet.clock.forward(3_700)
            process.store.heartbeat()
        process.sync({"work": make_task(timeout=7)})
        (state,) = process.store.tasks()
        assert state.settings["timeout"] == "7s"

    def test_settings_follow_a_changed_task(self, fleet: Fleet) -> None:
        """A row names the definition that it holds."""
        process = fleet.join({"work": make_task()})
        process.sync({"work": make_task(timeout=7)})
        (state,) = process.store.tasks("work")
        assert state.settings["timeout"] == "7s"
        assert process.store.tasks("unknown") == []

    def test_members_say_what_they_are(self, fleet: Fleet) -> None:
        """With the difference of their clocks to the store's."""
        process = fleet.join({"work": make_task()})
        (state,) = process.store.members()
        member = process.member
        assert (state.holder, state.host, state.pid) == (member.holder, member.host, member.pid)
        assert (state.mode, state.digest, state.lease_us) == ("inline", member.digest, 30 * SECOND)
        assert (state.seen_at, state.report) == (fleet.clock.wall(), STOPS_RUNS)


class FleetStopContract(ContractPart):
    """Any process asks, and the holder reads it; any process shows all of them."""

    def test_other_process_asks_the_holder(self, fleet: Fleet) -> None:
        """A client too, which has no row of its own."""
        one, other = (fleet.join({"work": make_task()}) for _ in range(2))
        fleet.clock.forward(EVERY)
        claim = one.claim_one()
        fleet.visit(other).stop(claim.run.id, by="anna")
        assert one.store.heartbeat().stops[claim.run.id].reason() == "stopped by anna"

    def test_settings_are_shown_by_a_process_without_the_task(self, fleet: Fleet) -> None:
        """Another host, or a terminal without the configuration."""
        one, other = fleet.join({"work": make_task(timeout=7)}), fleet.join({}, host="beta")
        assert other.store.tasks()[0].settings["timeout"] == "7s"
        assert fleet.visit(one).tasks()[0].settings["timeout"] == "7s"

    def test_process_that_is_kept_alive_shows_its_own_report(self, fleet: Fleet) -> None:
        """As the process that looks for it has read it; what was not read stays as it was."""
        silent, other = (fleet.join({"work": make_task()}) for _ in range(2))
        fleet.wait(LEASE_S, other)
        said = MemberReport("1.0", "gunicorn", 10, 7, 9_000, 0, stops_runs=True)
        other.store.keep_alive({silent.member.holder: said})
        seen = fleet.clock.wall()
        found = {one.holder: one for one in other.store.members()}[silent.member.holder]
        assert (found.report, found.seen_at) == (said, seen)
        fleet.clock.forward(LEASE_S)
        other.store.keep_alive({silent.member.holder: None})
        found = {one.holder: one for one in other.store.members()}[silent.member.holder]
        assert (found.report, found.seen_at) == (said, fleet.clock.wall())
