"""The contract of stores: rows of tasks, start-up and manual runs, pauses, archives."""

from __future__ import annotations

import pytest

from pulse.clock import SECOND, instant_of, moment_of
from pulse.core.run import Outcome, Trigger
from pulse.core.task import build_definition
from pulse.errors import UnknownTaskError
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart


class TaskContract(ContractPart):
    """Rows: made once, changed in place, paused, triggered, archived."""

    def test_a_row_shows_its_place_in_time(self, fleet: Fleet) -> None:
        """Anchor, next fire time, floor and the number of open runs are told."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY)
        process.claim_one()
        (row,) = process.store.tasks()
        assert (row.name, row.partition, row.source, row.paused) == ("work", "", "config", False)
        assert (row.anchor, row.unfinished) == (seen, 1)
        assert (row.last_decided, row.next_fire) == (seen + 10 * SECOND, seen + 20 * SECOND)
        assert row.digest == build_definition("work", make_task()).digest

    def test_a_new_row_has_no_floor(self, fleet: Fleet) -> None:
        """Before the first decision there is none to show."""
        process = fleet.join({"work": make_task()})
        assert [row.last_decided for row in process.store.tasks()] == [None]

    def test_sync_tells_what_it_added_and_changed(self, fleet: Fleet) -> None:
        """Names of new and of changed tasks are told apart; the unchanged are not named."""
        process = fleet.join({"same": make_task(), "other": make_task()})
        tasks = {"same": make_task(), "other": make_task(timeout=5), "new": make_task()}
        synced = process.store.sync(
            {name: build_definition(name, task) for name, task in tasks.items()}
        )
        assert (synced.added, synced.changed, synced.superseded) == (("new",), ("other",), ())

    def test_sync_keeps_the_cursor_of_an_unchanged_schedule(self, fleet: Fleet) -> None:
        """A restart or another timeout does not start the count anew."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        process.sync({"work": make_task(timeout=5)})
        fleet.clock.forward(1)
        assert process.claim_one().definition.timeout_us == 5 * SECOND

    def test_a_changed_interval_moves_to_its_new_grid(self, fleet: Fleet) -> None:
        """Nothing fires by itself; the next instant of the new grid is the next tick."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY + 2)
        process.sync({"work": make_task(interval=7)})
        assert not process.claim().claims
        fleet.clock.forward(2)
        assert process.claim_one().run.fire_time == seen + 14 * SECOND

    def test_what_was_due_of_a_changed_schedule_is_missed(self, fleet: Fleet) -> None:
        """It runs no more, and is on record and told of as one row with its number."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        fleet.clock.forward(3 * EVERY + 2)
        synced = process.sync({"work": make_task(interval=7)})
        (missed,) = synced.missed
        assert (missed.outcome, missed.fire_time) == (Outcome.MISSED, seen + EVERY * SECOND)
        assert (missed.count, missed.message) == (3, "passed before the schedule was changed")
        assert process.store.runs() == [missed]
        (row,) = process.store.tasks()
        assert (row.last_decided, row.next_fire) == (seen + 30 * SECOND, seen + 35 * SECOND)

    def test_what_passed_in_a_pause_is_missed_for_that(self, fleet: Fleet) -> None:
        """A schedule that changes while its task is paused does not hide why nothing ran."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True)
        fleet.clock.forward(EVERY)
        (missed,) = process.sync({"work": make_task(interval=7)}).missed
        assert missed.message == "passed while the task was paused"

    def test_what_is_not_due_of_a_changed_schedule_is_not_missed(self, fleet: Fleet) -> None:
        """A fire time that is yet to come was promised by nobody."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        assert list(process.sync({"work": make_task(interval=7)}).missed) == []
        assert process.store.runs() == []

    def test_a_skip_is_not_folded_over_what_was_missed(self, fleet: Fleet) -> None:
        """Rows keep the order of what happened."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        for interval in (7, 9):
            fleet.clock.forward(2 * EVERY)
            process.claim()
            fleet.clock.forward(2 * EVERY)
            process.sync({"work": make_task(interval=interval)})
        outcomes = [run.outcome for run in process.store.runs()]
        assert outcomes.count(Outcome.SKIPPED) == 2

    def test_a_date_that_is_spelt_otherwise_runs_all_the_same(self, fleet: Fleet) -> None:
        """It is due, it has not run, and the new definition wants it."""
        at = moment_of(fleet.clock.wall() + EVERY * SECOND)
        process = fleet.join({"work": make_task(interval=None, at=at)})
        fleet.clock.forward(2 * EVERY)
        bounded = make_task(interval=None, at=at, timezone="Europe/Vienna")
        assert list(process.sync({"work": bounded}).missed) == []
        assert process.claim_one().run.fire_time == instant_of(at)

    def test_a_removed_task_is_not_claimed(self, fleet: Fleet) -> None:
        """A task that this process no longer declares is not its to run, and no work."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        process.sync({})
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)

    def test_a_removed_task_is_archived_after_three_leases(self, fleet: Fleet) -> None:
        """Its row goes when nobody has wanted it for so long; not before."""
        process = fleet.join({"work": make_task(), "kept": make_task()})
        process.sync({"kept": make_task()})
        beats = fleet.wait(3 * LEASE_S - 5, process)
        assert [beat.archived for beat in beats if beat.archived] == []
        beats = fleet.wait(15, process)
        assert [beat.archived for beat in beats if beat.archived] == [("work",)]
        assert [row.name for row in process.store.tasks()] == ["kept"]

    def test_a_waiting_run_of_an_archived_task_ends(self, fleet: Fleet) -> None:
        """A manual run that nobody will take is abandoned with its task."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_a_task_that_returns_in_time_goes_on(self, fleet: Fleet) -> None:
        """Removed and put back within three leases, it keeps its row and its count."""
        process = fleet.join({"work": make_task(interval=60)})
        seen = fleet.clock.wall()
        process.sync({})
        fleet.wait(30, process)
        process.sync({"work": make_task(interval=60)})
        assert [row.anchor for row in process.store.tasks()] == [seen]
        fleet.clock.forward(30)
        assert process.claim_one().run.fire_time == seen + 60 * SECOND

    def test_a_task_that_returns_from_the_archive_begins_anew(self, fleet: Fleet) -> None:
        """It is first seen again, but no fire time below its floor is run."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.claim_one()
        (before,) = process.store.tasks()
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        process.sync({"work": make_task()})
        (after,) = process.store.tasks()
        assert (after.anchor, after.last_decided) == (fleet.clock.wall(), before.last_decided)

    def test_run_at_start_runs_once_when_first_seen(self, fleet: Fleet) -> None:
        """The start-up run is due at once, and leaves the cursor alone."""
        process = fleet.join({"work": make_task(run_at_start=True)})
        claim = process.claim_one()
        assert (claim.run.trigger, claim.run.scheduled_for, claim.run.attempt) == (
            Trigger.STARTUP,
            None,
            1,
        )
        process.finish(claim)
        process.sync({"work": make_task(run_at_start=True)})
        assert not process.claim().claims

    def test_a_manual_run_is_claimed_at_once(self, fleet: Fleet) -> None:
        """It carries its own body and does not move the schedule."""
        process = fleet.join({"work": make_task()})
        opened = process.store.trigger("work", body=b"now")
        assert opened is not None
        assert (opened.trigger, opened.attempt, opened.holder) == (Trigger.MANUAL, 0, "")
        claim = process.claim_one()
        assert (claim.run.id, claim.run.body, claim.run.attempt) == (opened.id, b"now", 1)
        assert [row.last_decided for row in process.store.tasks()] == [None]

    def test_manual_runs_are_told_as_work(self, fleet: Fleet) -> None:
        """`next_wakeup` is the instant from which the manual run may be claimed."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(1)
        process.store.trigger("work")
        assert process.claim(0).next_wakeup == fleet.clock.wall()

    def test_overlap_refuses_a_manual_run(self, fleet: Fleet) -> None:
        """While a run is open there is no room for another, held or not."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        assert process.store.trigger("work") is None

    def test_waiting_manual_runs_respect_the_limit(self, fleet: Fleet) -> None:
        """What is left over is due at once for the next call."""
        process = fleet.join({"work": make_task(overlap="allow")})
        for _ in range(3):
            process.store.trigger("work")
        first = process.claim(2)
        assert (len(first.claims), first.next_wakeup) == (2, first.now)
        assert len(process.claim(2).claims) == 1

    def test_a_manual_run_parts_two_skips(self, fleet: Fleet) -> None:
        """Skips on both sides of another run are two rows."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        running = process.claim_one()
        fleet.clock.forward(EVERY)
        process.claim()
        process.finish(running)
        process.store.trigger("work")
        fleet.clock.forward(EVERY)
        process.claim()
        outcomes = [run.outcome for run in process.store.runs()]
        assert outcomes.count(Outcome.SKIPPED) == 2

    @pytest.mark.parametrize("verb", ["trigger", "pause"])
    def test_an_unknown_task_is_named_with_the_nearest(self, fleet: Fleet, verb: str) -> None:
        """A misspelt name is an error that says what was probably meant."""
        process = fleet.join({"cleanup": make_task()})
        with pytest.raises(UnknownTaskError, match=r"got 'clenup'; did you mean 'cleanup'\?"):
            call(process, verb, "clenup")

    def test_a_paused_task_is_not_claimed(self, fleet: Fleet) -> None:
        """It is no work either; its row says that it is paused."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True)
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)
        assert [row.paused for row in process.store.tasks()] == [True]

    def test_what_passed_in_a_pause_is_missed(self, fleet: Fleet) -> None:
        """After a pause one row counts what did not run, and the grid goes on."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True)
        fleet.clock.forward(3 * EVERY + 1)
        process.store.pause("work", paused=False)
        claimed = process.claim()
        assert not claimed.claims
        assert [(run.outcome, run.count) for run in claimed.not_run] == [(Outcome.MISSED, 3)]
        fleet.clock.forward(EVERY - 1)
        assert process.claim_one().run.trigger is Trigger.SCHEDULE

    def test_resuming_a_task_that_runs_changes_nothing(self, fleet: Fleet) -> None:
        """What is due stays due."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.store.pause("work", paused=False)
        assert process.claim_one().run.task == "work"

    def test_a_paused_task_stays_paused_while_it_is_gone(self, fleet: Fleet) -> None:
        """Archived and declared again, it waits to be resumed."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True)
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        process.sync({"work": make_task()})
        assert [row.paused for row in process.store.tasks()] == [True]

    def test_a_paused_task_can_be_run_by_hand(self, fleet: Fleet) -> None:
        """A pause concerns the schedule, not the person."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True)
        process.store.trigger("work")
        assert process.claim_one().run.trigger is Trigger.MANUAL

    @pytest.mark.parametrize(("scope", "part"), [("host", "host"), ("process", "holder")])
    def test_the_scope_is_the_place_of_row_and_run(
        self, fleet: Fleet, scope: str, part: str
    ) -> None:
        """A host's or a process's tick is claimed in its own place."""
        process = fleet.join({"work": make_task(scope=scope)})
        partition = getattr(process.member, part)
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.partition == partition
        assert [row.partition for row in process.store.tasks()] == [partition]

    def test_a_task_of_another_scope_begins_anew(self, fleet: Fleet) -> None:
        """With its place its row changes, and the new one is first seen now."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        process.sync({"work": make_task(scope="host")})
        fleet.clock.forward(EVERY - 1)
        assert not process.claim().claims
        fleet.clock.forward(1)
        assert process.claim_one().run.partition == process.member.host


def call(process: Process, verb: str, name: str) -> None:
    """Trigger or pause a task."""
    if verb == "trigger":
        process.store.trigger(name)
    else:
        process.store.pause(name, paused=True)
