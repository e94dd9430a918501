"""The contract of stores: task rows, start-up and manual runs, pauses, archived tasks."""

from __future__ import annotations

import pytest

from pulse.clock import SECOND, instant_of, moment_of
from pulse.core.run import Outcome, Trigger
from pulse.core.task import build_definition
from pulse.errors import UnknownTaskError
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart


class TaskContract(ContractPart):
    """Task rows are created once, changed, paused, triggered and archived."""

    def test_row_shows_its_cursor_and_unfinished_runs(self, fleet: Fleet) -> None:
        """Anchor, next and last decided fire time and the number of runs are returned."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY)
        process.claim_one()
        (row,) = process.store.tasks()
        assert (row.name, row.partition, row.source, row.paused) == ("work", "", "config", False)
        assert (row.anchor, row.unfinished) == (seen, 1)
        assert (row.last_decided, row.next_fire) == (seen + 10 * SECOND, seen + 20 * SECOND)
        assert row.digest == build_definition("work", make_task()).digest

    def test_new_row_has_no_last_decided_fire_time(self, fleet: Fleet) -> None:
        """There is none before the first decision."""
        process = fleet.join({"work": make_task()})
        assert [row.last_decided for row in process.store.tasks()] == [None]

    def test_sync_returns_added_and_changed_tasks(self, fleet: Fleet) -> None:
        """Unchanged tasks are not named."""
        process = fleet.join({"same": make_task(), "other": make_task()})
        tasks = {"same": make_task(), "other": make_task(timeout=5), "new": make_task()}
        synced = process.store.sync(
            {name: build_definition(name, task) for name, task in tasks.items()}
        )
        assert (synced.added, synced.changed, synced.superseded) == (("new",), ("other",), ())

    def test_sync_keeps_the_cursor_of_an_unchanged_schedule(self, fleet: Fleet) -> None:
        """A restart or another timeout does not move the cursor."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        process.sync({"work": make_task(timeout=5)})
        fleet.clock.forward(1)
        assert process.claim_one().definition.timeout_us == 5 * SECOND

    def test_changed_interval_moves_to_its_next_fire_time(self, fleet: Fleet) -> None:
        """Nothing fires by itself."""
        process = fleet.join({"work": make_task()})
        seen = fleet.clock.wall()
        fleet.clock.forward(EVERY + 2)
        process.sync({"work": make_task(interval=7)})
        assert not process.claim().claims
        fleet.clock.forward(2)
        assert process.claim_one().run.fire_time == seen + 14 * SECOND

    def test_due_ticks_of_a_changed_schedule_are_missed(self, fleet: Fleet) -> None:
        """They are recorded and returned as one record with their number."""
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

    def test_ticks_missed_in_a_pause_keep_that_reason_when_the_schedule_changes(
        self, fleet: Fleet
    ) -> None:
        """A changed schedule does not hide why nothing ran."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause())
        fleet.clock.forward(EVERY)
        (missed,) = process.sync({"work": make_task(interval=7)}).missed
        assert missed.message == "passed while the task was paused"

    def test_future_ticks_of_a_changed_schedule_are_not_missed(self, fleet: Fleet) -> None:
        """Only due fire times are recorded."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY - 1)
        assert list(process.sync({"work": make_task(interval=7)}).missed) == []
        assert process.store.runs() == []

    def test_skip_after_a_missed_tick_gets_a_record_of_its_own(self, fleet: Fleet) -> None:
        """Records keep the order of events."""
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

    def test_due_date_that_is_respelled_still_runs(self, fleet: Fleet) -> None:
        """The new definition has the same date, which has not run."""
        at = moment_of(fleet.clock.wall() + EVERY * SECOND)
        process = fleet.join({"work": make_task(interval=None, at=at)})
        fleet.clock.forward(2 * EVERY)
        bounded = make_task(interval=None, at=at, timezone="Europe/Vienna")
        assert list(process.sync({"work": bounded}).missed) == []
        assert process.claim_one().run.fire_time == instant_of(at)

    def test_task_that_is_no_longer_declared_is_not_claimed(self, fleet: Fleet) -> None:
        """It causes no wake-up either."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        process.sync({})
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)

    def test_undeclared_task_is_archived_after_three_leases(self, fleet: Fleet) -> None:
        """It is not archived before."""
        process = fleet.join({"work": make_task(), "kept": make_task()})
        process.sync({"kept": make_task()})
        beats = fleet.wait(3 * LEASE_S - 5, process)
        assert [beat.archived for beat in beats if beat.archived] == []
        beats = fleet.wait(15, process)
        assert [beat.archived for beat in beats if beat.archived] == [("work",)]
        assert [row.name for row in process.store.tasks()] == ["kept"]

    def test_pending_run_of_an_archived_task_is_abandoned(self, fleet: Fleet) -> None:
        """No process would claim the manual run."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        process.sync({})
        fleet.wait(3 * LEASE_S + 10, process)
        assert [run.outcome for run in process.store.runs()] == [Outcome.ABANDONED]

    def test_task_declared_again_before_archival_keeps_its_cursor(self, fleet: Fleet) -> None:
        """It is removed and declared again within three leases."""
        process = fleet.join({"work": make_task(interval=60)})
        seen = fleet.clock.wall()
        process.sync({})
        fleet.wait(30, process)
        process.sync({"work": make_task(interval=60)})
        assert [row.anchor for row in process.store.tasks()] == [seen]
        fleet.clock.forward(30)
        assert process.claim_one().run.fire_time == seen + 60 * SECOND

    def test_archived_task_that_is_declared_again_is_new(self, fleet: Fleet) -> None:
        """It gets a new anchor, but no decided fire time runs again."""
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
        """The start-up run is due at once, and does not move the cursor."""
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

    def test_manual_run_is_claimed_at_once(self, fleet: Fleet) -> None:
        """It has its own body and does not move the cursor."""
        process = fleet.join({"work": make_task()})
        opened = process.store.trigger("work", body=b"now")
        assert opened is not None
        assert (opened.trigger, opened.attempt, opened.holder) == (Trigger.MANUAL, 0, "")
        claim = process.claim_one()
        assert (claim.run.id, claim.run.body, claim.run.attempt) == (opened.id, b"now", 1)
        assert [row.last_decided for row in process.store.tasks()] == [None]

    def test_next_wakeup_is_the_time_of_a_manual_run(self, fleet: Fleet) -> None:
        """The loop wakes up when the run may be claimed."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(1)
        process.store.trigger("work")
        assert process.claim(0).next_wakeup == fleet.clock.wall()

    def test_manual_run_is_refused_while_a_run_is_unfinished(self, fleet: Fleet) -> None:
        """The unfinished run may be claimed or pending."""
        process = fleet.join({"work": make_task()})
        process.store.trigger("work")
        assert process.store.trigger("work") is None

    def test_pending_manual_runs_respect_the_claim_limit(self, fleet: Fleet) -> None:
        """The others are due at once for the next call."""
        process = fleet.join({"work": make_task(overlap="allow")})
        for _ in range(3):
            process.store.trigger("work")
        first = process.claim(2)
        assert (len(first.claims), first.next_wakeup) == (2, first.now)
        assert len(process.claim(2).claims) == 1

    def test_manual_run_between_skips_separates_their_records(self, fleet: Fleet) -> None:
        """Only consecutive skips share a record."""
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
    def test_unknown_task_error_suggests_the_nearest_name(self, fleet: Fleet, verb: str) -> None:
        """A misspelt name is an error."""
        process = fleet.join({"cleanup": make_task()})
        with pytest.raises(UnknownTaskError, match=r"got 'clenup'; did you mean 'cleanup'\?"):
            call(process, verb, "clenup")

    def test_paused_task_is_not_claimed(self, fleet: Fleet) -> None:
        """It causes no wake-up either, and its row is marked as paused."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause())
        fleet.clock.forward(EVERY)
        claimed = process.claim()
        assert (list(claimed.claims), claimed.next_wakeup) == ([], None)
        assert [row.paused for row in process.store.tasks()] == [True]

    def test_sync_returns_the_paused_tasks(self, fleet: Fleet) -> None:
        """The process that starts can log them, in the order of their declaration."""
        tasks = {name: make_task() for name in ("c", "b", "a")}
        process = fleet.join(tasks)
        for name in ("a", "c"):
            process.store.pause(name, Pause())
        changed = {name: make_task(interval=7) for name in tasks}
        found = [process.sync(changed).paused, process.sync(changed).paused]
        process.store.pause("a", None)
        assert [*found, process.sync(changed).paused] == [("c", "a"), ("c", "a"), ("c",)]

    def test_ticks_during_a_pause_are_missed(self, fleet: Fleet) -> None:
        """After a pause one record counts them, and later ticks run on schedule."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause())
        fleet.clock.forward(3 * EVERY + 1)
        process.store.pause("work", None)
        claimed = process.claim()
        assert not claimed.claims
        assert [(run.outcome, run.count) for run in claimed.not_run] == [(Outcome.MISSED, 3)]
        fleet.clock.forward(EVERY - 1)
        assert process.claim_one().run.trigger is Trigger.SCHEDULE

    def test_resuming_a_task_that_is_not_paused_changes_nothing(self, fleet: Fleet) -> None:
        """A due tick stays due."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.store.pause("work", None)
        assert process.claim_one().run.task == "work"

    def test_paused_task_can_be_triggered(self, fleet: Fleet) -> None:
        """A pause affects the schedule only."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause())
        process.store.trigger("work")
        assert process.claim_one().run.trigger is Trigger.MANUAL

    @pytest.mark.parametrize(("scope", "part"), [("host", "host"), ("process", "holder")])
    def test_scope_decides_the_partition_of_row_and_run(
        self, fleet: Fleet, scope: str, part: str
    ) -> None:
        """A tick of a host or a process is claimed in its own partition."""
        process = fleet.join({"work": make_task(scope=scope)})
        partition = getattr(process.member, part)
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.partition == partition
        assert [row.partition for row in process.store.tasks()] == [partition]

    def test_task_with_another_scope_is_new(self, fleet: Fleet) -> None:
        """The new partition has a new row, which is first seen now."""
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
        process.store.pause(name, Pause())
