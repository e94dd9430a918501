"""The contract of stores: runs that begin in a terminal, and runs that a person deletes."""

from __future__ import annotations

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.core.run_query import RunQuery
from pulse.core.task import build_definition
from pulse.errors import UnknownTaskError
from pulse.store.steering import EVERY_TASK, REFUSED_BY_OVERLAP
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, make_task, succeed
from tests.contracts.suite.store_part import ContractPart

WORK = build_definition("work", make_task())


class BeginContract(ContractPart):
    """A run is created as claimed by its caller."""

    def test_run_begins_with_its_caller(self, fleet: Fleet) -> None:
        """It is a manual run in progress, and an entry of the audit trail."""
        process = fleet.join({"work": make_task()})
        claim = process.store.begin("work", WORK, body=b"now", by="anna")
        assert claim is not None
        run = claim.run
        assert (run.trigger, run.holder, run.attempt) == (Trigger.MANUAL, "alpha:1:nonce", 1)
        assert (run.body, run.claimed_at) == (b"now", fleet.clock.wall())
        assert claim.definition is WORK
        assert claim.good_until == fleet.clock.boot() + LEASE_S * SECOND
        assert process.store.run(run.id) == run
        (entry,) = process.store.audit()
        assert (entry.verb, entry.task, entry.by, entry.run) == ("run", "work", "anna", run.id)
        assert process.store.renew([claim]) == [True]
        assert process.finish(claim)
        assert process.store.run(run.id).outcome is Outcome.SUCCEEDED  # type: ignore[union-attr] # it exists

    def test_overlap_permits_no_second_run(self, fleet: Fleet) -> None:
        """Whoever holds the first one; `at_once` begins a run all the same."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        assert process.store.begin("work", WORK, by="anna") is None
        (entry,) = process.store.audit()
        assert (entry.run, entry.note) == ("", REFUSED_BY_OVERLAP)
        second = process.store.begin("work", WORK, at_once=True)
        assert second is not None
        assert [state.unfinished for state in process.store.tasks()] == [2]

    def test_no_tick_runs_beside_it(self, fleet: Fleet) -> None:
        """The tick that is due meanwhile is skipped."""
        process = fleet.join({"work": make_task()})
        claim = process.store.begin("work", WORK)
        assert claim is not None
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert list(claimed.claims) == []
        assert [run.outcome for run in claimed.not_run] == [Outcome.SKIPPED]
        process.finish(claim)
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.trigger is Trigger.SCHEDULE

    def test_task_that_waits_for_overlap_begins_only_alone(self, fleet: Fleet) -> None:
        """A claimed run fills its only place, although another one may wait."""
        task = make_task(overlap="wait")
        process = fleet.join({"work": task})
        assert process.store.begin("work", build_definition("work", task)) is not None
        assert process.store.begin("work", build_definition("work", task)) is None

    def test_run_time_task_begins_as_the_store_has_it(self, fleet: Fleet) -> None:
        """The caller has no definition of it."""
        process = fleet.join({"work": make_task()})
        process.add("added", make_task(action="/added"))
        claim = process.store.begin("added", None)
        assert claim is not None
        assert claim.definition.path == "/added"

    def test_unknown_task_is_refused(self, fleet: Fleet) -> None:
        """As is a configured one without a definition."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(UnknownTaskError, match="expected the name of a task, got 'wrok'"):
            process.store.begin("wrok", WORK)
        with pytest.raises(UnknownTaskError, match="that was added at run time, got 'work'"):
            process.store.begin("work", None)
        assert process.store.audit() == []

    def test_request_to_stop_it_is_read(self, fleet: Fleet) -> None:
        """By whom and why."""
        process = fleet.join({"work": make_task()})
        claim = process.store.begin("work", WORK)
        assert claim is not None
        assert process.store.stop_request(claim.run) is None
        process.store.stop(claim.run.id, by="anna", note="wrong month")
        request = process.store.stop_request(claim.run)
        assert request is not None
        assert (request.by, request.note) == ("anna", "wrong month")


class DeletedRunsContract(ContractPart):
    """Ended runs are deleted page by page."""

    def test_deleted_runs_stay_in_the_tallies(self, fleet: Fleet) -> None:
        """Other tasks and unfinished runs stay."""
        process = fleet.join({"other": make_task(), "work": make_task()})
        for _ in range(3):
            fleet.clock.forward(EVERY)
            for claim in process.claim().claims:
                process.finish(claim)
        fleet.clock.forward(EVERY)
        process.claim()
        deleted = process.store.delete_runs(RunQuery(task="work"), by="anna", note="test data")
        assert deleted == (3, None)
        left = process.store.runs()
        assert [run.task for run in left if run.outcome is not None] == ["other"] * 3
        assert {run.task for run in left if run.outcome is None} == {"other", "work"}
        counted = {one.kind: one.number for one in process.store.records("work").tallies}
        assert counted == {"succeeded": 3}
        (entry,) = process.store.audit()
        assert (entry.verb, entry.task, entry.by) == ("prune", "work", "anna")
        assert entry.note == "test data"

    def test_runs_are_deleted_in_pages_and_by_outcome(self, fleet: Fleet) -> None:
        """Pages continue at the cursor; the audit trail has one entry."""
        process = fleet.join({"work": make_task()})
        for number in range(6):
            fleet.clock.forward(EVERY)
            claim = process.claim_one()
            process.store.finish(
                [succeed(claim, outcome=Outcome.FAILED if number % 2 else Outcome.SUCCEEDED)]
            )
        query = RunQuery(states=frozenset({"succeeded"}), limit=2)
        first = process.store.delete_runs(query)
        assert first.number == 2
        assert first.cursor is not None
        second = process.store.delete_runs(
            RunQuery(states=frozenset({"succeeded"}), limit=2, before=first.cursor)
        )
        assert second == (1, None)
        assert [run.outcome for run in process.store.runs()] == [Outcome.FAILED] * 3
        assert [(one.verb, one.task) for one in process.store.audit()] == [("prune", EVERY_TASK)]

    def test_deleted_run_does_not_run_again(self, fleet: Fleet) -> None:
        """The cursor of the task stays."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one())
        process.store.delete_runs(RunQuery())
        assert list(process.claim().claims) == []
        assert process.store.runs() == []


class ClientRunContract(ContractPart):
    """A process that is no member runs a task."""

    def test_run_of_a_client_ends_with_its_lease(self, fleet: Fleet) -> None:
        """While it is renewed it goes on; then the fleet abandons it."""
        process = fleet.join({"work": make_task(interval=3_600)})
        client = fleet.visit(process)
        claim = client.begin("work", WORK)
        assert claim is not None
        fleet.wait(LEASE_S * 2, process, renewing=())
        assert process.store.run(claim.run.id).outcome is Outcome.ABANDONED  # type: ignore[union-attr] # it exists
        assert client.renew([claim]) == [False]

    def test_renewed_run_of_a_client_goes_on(self, fleet: Fleet) -> None:
        """Its result is recorded, and the fleet has never had it as a member."""
        process = fleet.join({"work": make_task(interval=3_600)})
        client = fleet.visit(process)
        claim = client.begin("work", WORK)
        assert claim is not None
        for _ in range(2 * LEASE_S // 5):
            fleet.wait(5, process)
            assert client.renew([claim]) == [True]
        (became,) = client.finish([succeed(claim)])
        assert became.recorded
        assert [one.holder for one in process.store.members()] == [process.member.holder]
