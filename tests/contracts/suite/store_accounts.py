"""The contract of stores: what accounts for each fire time, and how long it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.accounting.why import NOT_A_FIRE_TIME, TOO_OLD
from pulse.clock import SECOND
from pulse.core.records import ServedInterval
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.run_query import RunQuery
from pulse.store.accounts import account, why
from pulse.store.shared.backend import Transaction
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task, succeed
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.accounting.ledger import Ledger

DAY_S = 86_400


def ledger_of(process: Process, task: str = "work") -> Ledger:
    """Return the ledger of a task as the store of a process has it."""
    return account(process.store, task)


def counts(ledger: Ledger) -> dict[str, int]:
    """Return what became of the fire times, without what became of none."""
    names = ("ran", "abandoned", "skipped", "missed", "paused", "stopped", "open")
    found = {name: getattr(ledger, name) for name in (*names, "unknown", "unexplained")}
    return {name: number for name, number in found.items() if number}


def run_times(fleet: Fleet, process: Process, number: int, *, failed: bool = False) -> None:
    """Run the task at its next fire times."""
    for _ in range(number):
        fleet.clock.forward(EVERY)
        for claim in process.claim().claims:
            process.finish(claim, outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED)


def begins_to_prune(process: Process) -> bool:
    """Return whether a process is the one that prunes now."""
    store: Any = process.store
    turn = store._run(Transaction.EXCLUSIVE, lambda session: session.begin_prune(every=SECOND))
    return turn is not None


def delete_run(process: Process, ident: str) -> None:
    """Delete a run by hand, as a person might in the storage."""
    backend = process.store._backend  # type: ignore[attr-defined] # of a shared store
    if hasattr(backend, "database"):
        backend.database.run(
            Transaction.WRITE,
            lambda connection: connection.execute("DELETE FROM @runs WHERE id = ?", (ident,)),
        )
    else:
        backend.server.command("HDEL", backend.server.key("runs"), ident)


class AccountContract(ContractPart):
    """Each fire time is accounted for, from the records alone."""

    def test_each_fire_time_is_accounted_for(self, fleet: Fleet) -> None:
        """Whether it ran, was skipped, was missed, passed in a pause, or is not decided yet."""
        process = fleet.join({"work": make_task()})
        run_times(fleet, process, 3)
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        run_times(fleet, process, 2)  # skipped, since the claim goes on
        process.finish(claim)
        fleet.clock.forward(3 * EVERY)  # two of three are missed
        process.finish(process.claim_one())
        process.store.pause("work", Pause(by="anna"))
        fleet.clock.forward(2 * EVERY)
        assert counts(ledger_of(process))["paused"] == 2
        process.store.pause("work", None)
        process.claim()
        fleet.clock.forward(EVERY)
        found = ledger_of(process)
        assert counts(found) == {"ran": 5, "skipped": 2, "missed": 2, "paused": 2, "open": 1}
        assert (found.fire_times, found.is_clean) == (12, True)

    def test_fire_times_of_all_schedules_of_a_task_are_accounted_for(self, fleet: Fleet) -> None:
        """Each from when it was declared until it was changed or removed."""
        process = fleet.join({"work": make_task()})
        run_times(fleet, process, 3)
        fleet.clock.forward(EVERY)
        process.sync({"work": make_task(interval=5)})  # one fire time of the old one is missed
        for _ in range(4):
            fleet.clock.forward(5)
            process.finish(process.claim_one())
        process.add("added", make_task())
        fleet.clock.forward(2 * EVERY)
        assert counts(ledger_of(process)) == {"ran": 7, "missed": 1, "open": 4}
        process.store.remove("added")
        fleet.clock.forward(5 * EVERY)
        assert counts(ledger_of(process, "added")) == {}
        process.add("added", make_task())
        run_times(fleet, process, 1)
        assert counts(ledger_of(process, "added")) == {"ran": 1}

    def test_failed_runs_and_retries_are_runs(self, fleet: Fleet) -> None:
        """A fire time that is retried is one fire time."""
        process = fleet.join({"work": make_task(interval=600, retries=2)})
        fleet.clock.forward(600)
        process.fail(process.claim_one())
        assert counts(ledger_of(process)) == {"open": 1}
        fleet.clock.forward(10)
        process.fail(process.claim_one())
        fleet.clock.forward(20)
        process.fail(process.claim_one())
        assert counts(ledger_of(process)) == {"ran": 1}

    def test_manual_runs_are_no_fire_times(self, fleet: Fleet) -> None:
        """Nor are start-up runs."""
        process = fleet.join({"work": make_task(run_at_start=True)})
        process.finish(process.claim_one())
        process.store.trigger("work")
        process.finish(process.claim_one())
        assert counts(ledger_of(process)) == {}

    def test_ledger_is_of_a_span_of_time(self, fleet: Fleet) -> None:
        """From *since* up to, but without, *until*."""
        process = fleet.join({"work": make_task()})
        began = fleet.clock.wall()
        run_times(fleet, process, 6)
        found = account(
            process.store,
            "work",
            since=began + 2 * EVERY * SECOND,
            until=began + 5 * EVERY * SECOND,
        )
        assert counts(found) == {"ran": 3}

    def test_tasks_without_records_have_an_empty_ledger(self, fleet: Fleet) -> None:
        """Nothing is known of them."""
        assert counts(ledger_of(fleet.join({}), "unknown")) == {}

    def test_result_of_a_lost_claim_is_kept(self, fleet: Fleet) -> None:
        """If another process has made the call too, it may have run twice."""
        process = fleet.join({"work": make_task(on_abandoned="rerun", interval=600)})
        fleet.clock.forward(600)
        lost = process.claim_one()
        process.store.heartbeat()
        fleet.wait(LEASE_S + 10, process)
        again = process.claim_one()
        assert again.run.attempt == 2
        assert not process.finish(lost)
        assert not process.finish(lost)
        assert [one.attempt for one in process.store.records("work").refused] == [1]
        process.finish(again)
        found = ledger_of(process)
        (twice,) = found.twice
        assert (twice.run, twice.attempt, found.is_clean) == (lost.run.id, 1, False)

    def test_result_that_was_refused_alone_is_one_dispatch(self, fleet: Fleet) -> None:
        """Nobody else has made the call."""
        process = fleet.join({"work": make_task(interval=600)})
        fleet.clock.forward(600)
        lost = process.claim_one()
        process.store.heartbeat()
        fleet.wait(LEASE_S + 10, process)
        assert not process.finish(lost)
        assert len(process.store.records("work").refused) == 1
        assert ledger_of(process).is_clean

    def test_results_that_tell_nothing_new_are_not_kept(self, fleet: Fleet) -> None:
        """One that is on record already, and one whose call was not made."""
        process = fleet.join({"work": make_task(interval=600, retries=2)})
        fleet.clock.forward(600)
        claim = process.claim_one()
        assert process.fail(claim) is not None
        assert process.fail(claim) is None
        fleet.clock.forward(10)
        second = process.claim_one()
        process.finish(second)
        assert not process.finish(second)
        late = Result(Outcome.ABANDONED, fleet.clock.wall(), 0, was_dispatched=False)
        process.store.finish([CompletedRun(claim, late)])
        assert list(process.store.records("work").refused) == []

    def test_broken_fence_is_found(self, fleet: Fleet) -> None:
        """Two processes that have made the call of one fire time."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        stolen = msgspec.structs.replace(
            claim, run=msgspec.structs.replace(claim.run, holder="beta:7:nonce")
        )
        process.finish(claim)
        fleet.clock.forward(1)
        later = msgspec.structs.replace(succeed(stolen).result, started_at=fleet.clock.wall())
        process.store.finish([CompletedRun(stolen, later)])
        found = ledger_of(process)
        assert [(one.run, one.holder) for one in found.twice] == [(claim.run.id, "beta:7:nonce")]


class WhyContract(ContractPart):
    """Any instant of any task is explained."""

    def explained(self, process: Process, instant: int, task: str = "work") -> tuple[str, str]:
        """Return kind and text of the only explanation."""
        (found,) = why(process.store, task, instant, within=SECOND)
        return found.kind, found.text

    def test_run_is_explained(self, fleet: Fleet) -> None:
        """Its process, its outcome, and why it was late."""
        process = fleet.join({"work": make_task()})
        run_times(fleet, process, 1)
        kind, text = self.explained(process, fleet.clock.wall())
        assert (kind, text) == ("ran", "schedule run, succeeded, by alpha:1:nonce")
        fleet.clock.forward(EVERY + 7)
        claim = process.claim_one()
        process.finish(claim)
        kind, text = self.explained(process, claim.run.fire_time)
        assert text.splitlines()[1].startswith("it started 7s late: ")

    def test_skip_names_the_run_that_went_on(self, fleet: Fleet) -> None:
        """And since when."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        fleet.clock.forward(EVERY)
        (skip,) = process.claim().not_run
        kind, text = self.explained(process, skip.fire_time)
        assert (kind, claim.run.id in text) == ("skipped", True)

    def test_each_fire_time_of_a_record_is_explained(self, fleet: Fleet) -> None:
        """Not only the first of them; and the fire time after them is none of it."""
        process = fleet.join({"work": make_task(misfire="skip", grace=1)})
        began = fleet.clock.wall()
        fleet.clock.forward(3 * EVERY + 5)
        assert process.claim().not_run[0].count == 3
        for number in (1, 2, 3):
            kind, text = self.explained(process, began + number * EVERY * SECOND)
            assert (kind, "3 fire times" in text) == ("missed", True)
        fleet.clock.forward(5)
        process.claim_one()
        assert self.explained(process, began + 4 * EVERY * SECOND)[0] == "ran"

    def test_pause_is_explained(self, fleet: Fleet) -> None:
        """By whom and why, while it lasts and afterwards."""
        process = fleet.join({"work": make_task()})
        process.store.pause(None, Pause(by="anna", note="release"))
        fleet.clock.forward(EVERY)
        instant = fleet.clock.wall()
        kind, text = self.explained(process, instant)
        assert (kind, "all tasks were paused" in text) == ("paused", True)
        assert "by anna (release)" in text
        fleet.clock.forward(1)
        process.store.pause(None, None)
        process.claim()
        kind, text = self.explained(process, instant)
        assert (kind, "by anna (release)" in text) == ("paused", True)

    def test_instant_without_a_fire_time_names_the_nearest(self, fleet: Fleet) -> None:
        """Before and after it."""
        process = fleet.join({"work": make_task()})
        began = fleet.clock.wall()
        run_times(fleet, process, 2)
        (found,) = why(process.store, "work", began + 15 * SECOND, within=SECOND)
        assert found.kind == NOT_A_FIRE_TIME
        assert (found.before, found.after) == (began + 10 * SECOND, began + 20 * SECOND)

    def test_instant_before_the_records_is_too_old(self, fleet: Fleet) -> None:
        """It says since when there are records."""
        process = fleet.join({"work": make_task()})
        kind, text = self.explained(process, fleet.clock.wall() - 3_600 * SECOND)
        assert (kind, "since 2026-01-05T12:00:00Z" in text) == (TOO_OLD, True)
        assert self.explained(process, fleet.clock.wall(), "unknown")[0] == TOO_OLD

    def test_future_fire_time_is_open(self, fleet: Fleet) -> None:
        """It will come."""
        process = fleet.join({"work": make_task()})
        kind, text = self.explained(process, fleet.clock.wall() + EVERY * SECOND)
        assert (kind, text) == ("open", "it is in the future")

    def test_manual_run_is_explained_beside_the_schedule(self, fleet: Fleet) -> None:
        """At the instant at which it was asked for."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        manual, planned = why(process.store, "work", fleet.clock.wall(), within=SECOND)
        assert (manual.kind, planned.kind) == ("open", NOT_A_FIRE_TIME)


class FleetAccountContract(ContractPart):
    """What several processes have done is accounted for, and what is deleted is tallied."""

    def test_deleted_runs_are_tallied(self, fleet: Fleet) -> None:
        """Beyond `keep_runs`, fire times are known by number."""
        process = fleet.join({"work": make_task()}, keep_runs=16)
        began = fleet.clock.wall()
        run_times(fleet, process, 100)
        found = ledger_of(process)
        assert counts(found) == {"ran": 100}
        assert found.exact_since > began
        kept = len(process.store.runs(limit=1_000))
        tallied = sum(one.number for one in process.store.records("work").tallies)
        assert kept + tallied == 100
        assert kept <= 40
        (gone,) = why(process.store, "work", began + EVERY * SECOND, within=SECOND)
        assert (gone.kind, "its hour had" in gone.text) == ("unknown", True)

    def test_tallies_of_what_did_not_run_are_of_their_kind(self, fleet: Fleet) -> None:
        """Skips, misses, and fire times in a pause."""
        process = fleet.join({"work": make_task()}, keep_runs=16)
        fleet.clock.forward(EVERY)
        claim = process.claim_one()
        run_times(fleet, process, 3)
        process.finish(claim)
        process.store.pause("work", Pause())
        fleet.clock.forward(5 * EVERY)
        process.store.pause("work", None)
        process.claim()
        fleet.clock.forward(4 * EVERY)
        process.finish(process.claim_one())
        run_times(fleet, process, 200)
        expected = {"ran": 202, "skipped": 3, "paused": 5, "missed": 3}
        assert counts(ledger_of(process)) == expected

    def test_failures_are_kept_longer(self, fleet: Fleet) -> None:
        """As many of them as `keep_runs`, beside the newest runs."""
        process = fleet.join({"work": make_task()}, keep_runs=16)
        run_times(fleet, process, 10, failed=True)
        run_times(fleet, process, 200)
        kept = process.store.history(RunQuery(states=frozenset({"failed"}), limit=100))
        assert len(kept) == 10
        assert counts(ledger_of(process)) == {"ran": 210}
        run_times(fleet, process, 200, failed=True)
        run_times(fleet, process, 200)
        kept = process.store.history(RunQuery(states=frozenset({"failed"}), limit=200))
        assert 16 <= len(kept) <= 40
        assert counts(ledger_of(process)) == {"ran": 610}

    def test_old_runs_are_deleted_though_failures_stand_first(self, fleet: Fleet) -> None:
        """Runs are examined once: the cursor passes what is kept longer."""
        process = fleet.join({"work": make_task(interval=60)})
        for number in range(1_200):
            fleet.clock.forward(60)
            claim = process.claim_one()
            process.finish(claim, outcome=Outcome.FAILED if number < 700 else Outcome.SUCCEEDED)
        fleet.clock.forward(40 * DAY_S)
        process.claim()
        for _ in range(4):
            fleet.clock.forward(LEASE_S)
            process.store.heartbeat()
        left = process.store.history(RunQuery(states=frozenset({"succeeded"}), limit=1_000))
        assert len(left) == 0
        kept = process.store.history(RunQuery(states=frozenset({"failed"}), limit=1_000))
        assert len(kept) == 700
        fleet.clock.forward(60 * DAY_S)
        for _ in range(4):
            fleet.clock.forward(LEASE_S)
            process.store.heartbeat()
        kept = process.store.history(RunQuery(states=frozenset({"failed"}), limit=1_000))
        assert len(kept) == 0

    def test_one_process_of_the_fleet_prunes(self, fleet: Fleet) -> None:
        """Another one does so when that has not for some time."""
        one, other = (fleet.join({"work": make_task()}) for _ in range(2))
        fleet.clock.forward(60)
        assert [begins_to_prune(process) for process in (one, other, one)] == [True, False, False]
        fleet.clock.forward(60)
        assert [begins_to_prune(process) for process in (other, one)] == [True, False]

    def test_spans_in_which_nobody_served_are_on_record(self, fleet: Fleet) -> None:
        """A gap is longer than a lease; each host has its own spans."""
        one = fleet.join({"work": make_task(), "local": make_task(scope="host")})
        began = fleet.clock.wall()
        fleet.wait(LEASE_S, one)
        one.store.close()
        ended = fleet.clock.wall()
        fleet.clock.forward(600)
        other = fleet.join({"work": make_task()}, host="beta")
        again = fleet.clock.wall()
        fleet.wait(10, other)
        served = other.store.records("work").served
        assert [span for span in served if not span.partition][:1] == [
            ServedInterval("", began, ended)
        ]
        assert [span.since for span in served if not span.partition] == [began, again]
        assert [span for span in served if span.partition == "alpha"] == [
            ServedInterval("alpha", began, ended)
        ]
        (found,) = why(other.store, "work", ended + 2 * EVERY * SECOND, within=SECOND)
        assert "nobody served from about" in found.text

    def test_host_tasks_are_accounted_for_on_each_host(self, fleet: Fleet) -> None:
        """Each host has its own fire times."""
        tasks = {"work": make_task(scope="host")}
        one, other = fleet.join(tasks), fleet.join(tasks, host="beta")
        for _ in range(3):
            fleet.clock.forward(EVERY)
            for process in (one, other):
                process.finish(process.claim_one())
        assert counts(ledger_of(one)) == {"ran": 6}
        assert len(why(one.store, "work", fleet.clock.wall(), within=SECOND)) == 2

    def test_process_tasks_have_no_ledger(self, fleet: Fleet) -> None:
        """Their rows end with their processes."""
        process = fleet.join({"work": make_task(scope="process")})
        run_times(fleet, process, 2)
        assert counts(ledger_of(process)) == {}

    def test_deleted_run_is_unexplained(self, fleet: Fleet) -> None:
        """A row that was deleted by hand leaves a hole."""
        process = fleet.join({"work": make_task()})
        run_times(fleet, process, 3)
        victim = process.store.runs(limit=2)[1]
        delete_run(process, victim.id)
        found = ledger_of(process)
        assert counts(found) == {"ran": 2, "unexplained": 1}
        assert [one.fire_time for one in found.unexplained_ticks] == [victim.fire_time]
        (explained,) = why(process.store, "work", victim.fire_time, within=SECOND)
        assert (explained.kind, "nowhere on record" in explained.text) == ("unexplained", True)

    def test_records_are_kept_for_90_days(self, fleet: Fleet) -> None:
        """The schedule that is valid stays; what is older is too old to explain."""
        process = fleet.join({"work": make_task(interval=3_600)})
        process.sync({"work": make_task(interval=7_200)})
        first = process.store.records("work")
        assert len(first.versions) == 2
        for _ in range(100):
            fleet.clock.forward(DAY_S)
            for claim in process.claim().claims:
                process.finish(claim)
            process.store.heartbeat()
        found = process.store.records("work")
        assert len(found.versions) == 1
        assert found.versions[0].at == first.versions[1].at
