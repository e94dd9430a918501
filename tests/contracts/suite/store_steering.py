"""The contract of stores: pauses with an end, a note, and who asked; the audit trail."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.planner import OLDER_THAN_NEWEST
from pulse.core.records import PAUSED_REASON
from pulse.core.run import Outcome, Trigger
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigError, UnknownTaskError
from pulse.store.accounts import account
from pulse.store.steering import EVERY_TASK, PAUSE_ENDED, REFUSED_BY_OVERLAP, Pause
from tests.contracts.suite.store_harness import EVERY, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Run
    from pulse.store.steering import TaskState


def only(process: Process) -> TaskState:
    """Return the state of the only task."""
    (state,) = process.store.tasks()
    return state


class PauseContract(ContractPart):
    """A pause has a reason, and may end by itself."""

    def test_pause_shows_since_and_until_when_and_why(self, fleet: Fleet) -> None:
        """As long as the task is paused."""
        process = fleet.join({"work": make_task()})
        assert only(process).pause is None
        began, end = fleet.clock.wall(), fleet.clock.wall() + 100 * SECOND
        process.store.pause("work", Pause(until=end, by="anna", note="release"))
        assert only(process).pause == Pause(began, end, "anna", "release")
        process.store.pause("work", None)
        assert only(process).pause is None

    def test_another_pause_replaces_all_but_its_beginning(self, fleet: Fleet) -> None:
        """Who is on call next may prolong it."""
        process = fleet.join({"work": make_task()})
        began = fleet.clock.wall()
        process.store.pause("work", Pause(until=began + SECOND, by="anna", note="release"))
        fleet.clock.forward(1)
        process.store.pause("work", Pause(by="otto"))
        assert only(process).pause == Pause(began, None, "otto", "")
        process.store.pause("work", None)
        fleet.clock.forward(1)
        process.store.pause("work", Pause())
        assert only(process).pause == Pause(fleet.clock.wall())

    def test_pause_ends_by_itself(self, fleet: Fleet) -> None:
        """At the next heartbeat; what is due after the end runs, what was due before does not."""
        process = fleet.join({"work": make_task(misfire="all")})
        end = fleet.clock.wall() + (3 * EVERY - 5) * SECOND
        process.store.pause("work", Pause(until=end))
        fleet.clock.forward(2 * EVERY)
        assert process.store.heartbeat().resumed == []
        assert only(process).paused
        fleet.clock.forward(2 * EVERY)
        assert list(process.store.heartbeat().resumed) == ["work"]
        assert only(process).pause is None
        missed = process.claim().not_run
        assert [(run.outcome, run.count) for run in missed] == [(Outcome.MISSED, 2)]
        assert process.claim_one().run.fire_time == end + 5 * SECOND
        ended, _ = process.store.audit()
        assert (ended.verb, ended.task, ended.note) == ("resume", "work", PAUSE_ENDED)
        assert process.store.heartbeat().resumed == []

    def test_pause_that_would_be_over_is_refused(self, fleet: Fleet) -> None:
        """By the store's clock, as all instants."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(ConfigError, match=r"until: expected an instant after .*which has pas"):
            process.store.pause("work", Pause(until=fleet.clock.wall()))
        assert only(process).pause is None
        assert process.store.audit() == []

    def test_pause_that_is_prolonged_does_not_end(self, fleet: Fleet) -> None:
        """Only its last end counts."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause(until=fleet.clock.wall() + SECOND))
        process.store.pause("work", Pause(until=fleet.clock.wall() + 60 * SECOND))
        fleet.clock.forward(5)
        assert process.store.heartbeat().resumed == []
        assert only(process).paused

    def test_pause_of_a_removed_task_ends_without_a_report(self, fleet: Fleet) -> None:
        """A task of the same name that is added later is not paused."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", Pause(until=fleet.clock.wall() + SECOND, note="why"))
        process.store.remove("work")
        fleet.clock.forward(2)
        assert process.store.heartbeat().resumed == []
        process.add("work", make_task())
        assert only(process).pause is None


class PauseOfAllContract(ContractPart):
    """All tasks are paused by one flag, which is beside their own pauses."""

    def test_pause_of_all_has_since_until_and_a_reason(self, fleet: Fleet) -> None:
        """As that of one task."""
        process = fleet.join({"work": make_task()})
        assert process.store.pause_of_all() is None
        began, end = fleet.clock.wall(), fleet.clock.wall() + 60 * SECOND
        process.store.pause(None, Pause(until=end, by="anna", note="release"))
        assert process.store.pause_of_all() == Pause(began, end, "anna", "release")
        fleet.clock.forward(1)
        process.store.pause(None, Pause(by="otto"))
        assert process.store.pause_of_all() == Pause(began, None, "otto")
        process.store.pause(None, None, by="otto")
        assert process.store.pause_of_all() is None
        assert [(one.verb, one.task, one.by) for one in process.store.audit()] == [
            ("resume", EVERY_TASK, "otto"),
            ("pause", EVERY_TASK, "otto"),
            ("pause", EVERY_TASK, "anna"),
        ]

    def test_no_fire_time_runs_while_all_tasks_are_paused(self, fleet: Fleet) -> None:
        """Those that pass are missed once the pause ends; what is due later runs."""
        process = fleet.join({"work": make_task(), "all": make_task(misfire="all")})
        process.store.pause(None, Pause())
        fleet.clock.forward(2 * EVERY)
        found = process.claim()
        assert ([*found.claims], [*found.not_run], found.next_wakeup) == ([], [], None)
        process.store.pause(None, None)
        missed = process.claim()
        assert list(missed.claims) == []
        assert sorted((run.task, run.count, run.message) for run in missed.not_run) == [
            ("all", 2, PAUSED_REASON),
            ("work", 2, PAUSED_REASON),
        ]
        fleet.clock.forward(EVERY)
        assert {claim.run.task for claim in process.claim().claims} == {"all", "work"}

    def test_tasks_that_come_meanwhile_are_paused_too(self, fleet: Fleet) -> None:
        """Whether they are deployed or added."""
        process = fleet.join({"work": make_task()})
        process.store.pause(None, Pause())
        synced = process.sync({"work": make_task(), "new": make_task()})
        assert synced.paused == (EVERY_TASK,)
        process.add("added", make_task())
        fleet.clock.forward(EVERY)
        assert list(process.claim().claims) == []
        process.store.pause(None, None)
        process.claim()
        fleet.clock.forward(EVERY)
        assert {one.run.task for one in process.claim().claims} == {"work", "new", "added"}

    def test_end_of_the_pause_of_all_leaves_other_pauses(self, fleet: Fleet) -> None:
        """Exactly the tasks that were paused before are paused after it."""
        process = fleet.join({"work": make_task(), "other": make_task()})
        process.store.pause("other", Pause(note="broken"))
        process.store.pause(None, Pause())
        process.store.pause(None, None)
        assert [(one.name, one.paused) for one in process.store.tasks()] == [
            ("other", True),
            ("work", False),
        ]
        fleet.clock.forward(EVERY)
        assert process.claim_one().run.task == "work"

    def test_resumption_without_a_pause_changes_nothing(self, fleet: Fleet) -> None:
        """What is due runs."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY)
        process.store.pause(None, None)
        assert process.claim_one().run.task == "work"

    def test_pause_of_all_ends_by_itself(self, fleet: Fleet) -> None:
        """At the next heartbeat, and what was due after its end runs."""
        process = fleet.join({"work": make_task(misfire="all")})
        end = fleet.clock.wall() + (EVERY + 5) * SECOND
        process.store.pause(None, Pause(until=end))
        fleet.clock.forward(2 * EVERY)
        assert list(process.store.heartbeat().resumed) == [EVERY_TASK]
        assert process.store.pause_of_all() is None
        found = process.claim()
        assert [(run.outcome, run.count) for run in found.not_run] == [(Outcome.MISSED, 1)]
        assert process.claim_one().run.fire_time == end + 5 * SECOND
        assert process.store.audit()[0].note == PAUSE_ENDED
        assert process.store.heartbeat().resumed == []

    def test_pause_of_all_that_would_be_over_is_refused(self, fleet: Fleet) -> None:
        """As that of one task."""
        process = fleet.join({"work": make_task()})
        with pytest.raises(ConfigError, match="until: expected an instant after"):
            process.store.pause(None, Pause(until=fleet.clock.wall()))
        assert process.store.pause_of_all() is None

    def test_manual_runs_go_on_while_all_tasks_are_paused(self, fleet: Fleet) -> None:
        """A person asks for them."""
        process = fleet.join({"work": make_task()})
        process.store.pause(None, Pause())
        process.store.trigger("work")
        assert process.claim_one().run.trigger is Trigger.MANUAL


class OverdueContract(ContractPart):
    """What was overdue as a pause began is not explained by the pause."""

    def test_fire_times_before_a_pause_are_missed_for_another_reason(self, fleet: Fleet) -> None:
        """Nobody ran them; the pause covers those that follow, and the resumption returns both."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(3 * EVERY + 5)
        process.store.pause("work", Pause())
        fleet.clock.forward(2 * EVERY)
        (before,) = process.store.pause("work", None)
        assert (before.count, before.message) == (3, OLDER_THAN_NEWEST)
        (during,) = process.claim().not_run
        assert (during.count, during.message) == (2, PAUSED_REASON)
        ledger = account(process.store, "work")
        assert (ledger.missed, ledger.paused, ledger.unexplained) == (3, 2, 0)

    def test_fire_times_before_a_pause_of_all_are_missed_for_another_reason(
        self, fleet: Fleet
    ) -> None:
        """In each task that is due."""
        process = fleet.join({"work": make_task(), "other": make_task(interval=3_600)})
        fleet.clock.forward(3 * EVERY + 5)
        process.store.pause(None, Pause())
        fleet.clock.forward(EVERY)
        (before,) = process.store.pause(None, None)
        assert (before.task, before.count, before.message) == ("work", 3, OLDER_THAN_NEWEST)
        ledger = account(process.store, "work")
        assert (ledger.missed, ledger.unexplained) == (3, 0)

    def test_records_of_several_tasks_are_numbered_by_name(self, fleet: Fleet) -> None:
        """Whatever order a store reads its rows in."""
        names = ["d", "b", "e", "a", "c"]
        process = fleet.join({name: make_task() for name in names})
        fleet.clock.forward(3 * EVERY + 5)
        process.store.pause(None, Pause())
        before = process.store.pause(None, None)
        assert [run.task for run in before] == sorted(names)
        newest_first = [run.task for run in process.store.runs()]
        assert newest_first == sorted(names, reverse=True)

    def test_pause_that_ends_by_itself_reports_what_was_overdue(self, fleet: Fleet) -> None:
        """With the heartbeat that resumes the task."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(3 * EVERY + 5)
        process.store.pause("work", Pause(until=fleet.clock.wall() + EVERY * SECOND))
        beats = fleet.wait(2 * EVERY, process)
        (before,) = [run for beat in beats for run in beat.missed]
        assert (before.count, before.message) == (3, OLDER_THAN_NEWEST)

    def test_fire_time_that_is_just_due_belongs_to_the_pause(self, fleet: Fleet) -> None:
        """A process would have decided it within a second."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(EVERY + 1)
        process.store.pause("work", Pause())
        assert list(process.store.pause("work", None)) == []
        (during,) = process.claim().not_run
        assert during.message == PAUSED_REASON

    @pytest.mark.parametrize(
        ("steps", "paused", "missed"),
        [
            ("work, all, work, all", 6, 0),
            ("all, work, work, all", 6, 0),
            ("all, work, all, work", 6, 0),
            ("work, all, all, work", 6, 0),
            ("work, work, work, work", 4, 2),
            ("work, work, all, all", 4, 2),
            ("all, all, work, work", 4, 2),
        ],
    )
    def test_pauses_that_overlap_or_follow_explain_what_was_due_during_them(
        self, fleet: Fleet, steps: str, paused: int, missed: int
    ) -> None:
        """Each word begins or ends a pause; two fire times lie between it and the next one."""
        process = fleet.join({"work": make_task()})
        fleet.clock.forward(5)
        in_effect: set[str | None] = set()
        not_run: list[Run] = []
        for number, word in enumerate(steps.split(", ")):
            fleet.clock.forward(2 * EVERY if number else 0)
            name = None if word == "all" else word
            in_effect ^= {name}
            not_run += process.store.pause(name, Pause() if name in in_effect else None)
        not_run += process.claim().not_run
        counts = Counter[str]()
        for run in not_run:
            counts[run.message] += run.count
        assert counts == Counter({PAUSED_REASON: paused, OLDER_THAN_NEWEST: missed})
        ledger = account(process.store, "work")
        assert (ledger.paused, ledger.missed, ledger.unexplained) == (paused, missed, 0)


class AuditContract(ContractPart):
    """What was asked for is on record, with who asked."""

    def test_each_verb_is_an_entry(self, fleet: Fleet) -> None:
        """Newest first, numbered, with the time of the store's clock."""
        process = fleet.join({"work": make_task()})
        store, now = process.store, fleet.clock.wall()
        runtime_task = make_runtime_task("added", make_task(), TaskDefaults())
        store.add(runtime_task, by="anna")
        store.add(runtime_task, replace=True)
        store.remove("added", by="otto")
        store.pause("work", Pause(by="anna", note="release", until=now + 60 * SECOND))
        store.pause("work", None)
        run = store.trigger("work", by="otto")
        assert run is not None
        assert store.trigger("work") is None
        found = store.audit()
        assert [(one.verb, one.task, one.by) for one in reversed(found)] == [
            ("add", "added", "anna"),
            ("replace", "added", ""),
            ("remove", "added", "otto"),
            ("pause", "work", "anna"),
            ("resume", "work", ""),
            ("trigger", "work", "otto"),
            ("trigger", "work", ""),
        ]
        assert {one.at for one in found} == {now}
        refused, triggered, _, paused, *_ = found
        assert (triggered.run, triggered.note) == (run.id, "")
        assert (refused.run, refused.note) == ("", REFUSED_BY_OVERLAP)
        assert (paused.note, paused.until) == ("release", now + 60 * SECOND)

    def test_audit_trail_is_read_in_pages(self, fleet: Fleet) -> None:
        """The number of the last entry leads to the next page."""
        process = fleet.join({"work": make_task()})
        for number in range(5):
            process.store.pause("work", Pause(by=f"{number}"))
        first = process.store.audit(limit=2)
        second = process.store.audit(limit=2, before=first[-1].number)
        assert [one.by for one in (*first, *second)] == ["4", "3", "2", "1"]

    def test_call_that_fails_is_no_entry(self, fleet: Fleet) -> None:
        """Nothing was done."""
        process = fleet.join({"work": make_task()})
        for call in (process.store.trigger, process.store.remove):
            with pytest.raises(UnknownTaskError):
                call("unknown")
        assert process.store.audit() == []


class FleetPauseContract(ContractPart):
    """Any process of the fleet ends a pause, and one of them reports it."""

    def test_pause_of_all_is_for_all_processes(self, fleet: Fleet) -> None:
        """In all partitions, also those that are added meanwhile."""
        tasks = {"work": make_task(scope="process"), "host": make_task(scope="host")}
        one, other = fleet.join(tasks), fleet.join(tasks, host="beta")
        one.store.pause(None, Pause())
        fleet.clock.forward(EVERY)
        late = fleet.join(tasks, host="gamma")
        fleet.clock.forward(EVERY)
        for process in (one, other, late):
            assert list(process.claim().claims) == []
            found = process.store.look(0, partitions=[process.member.holder])
            assert found.next_due == {}
        other.store.pause(None, None)
        for process in (one, other, late):
            assert {run.message for run in process.claim().not_run} == {PAUSED_REASON}

    def test_one_process_reports_the_end_of_a_pause(self, fleet: Fleet) -> None:
        """In all partitions the task is resumed from the same instant."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.pause("work", Pause(until=fleet.clock.wall() + SECOND))
        assert all(state.paused for state in other.store.tasks())
        fleet.clock.forward(2)
        resumed = [*one.store.heartbeat().resumed, *other.store.heartbeat().resumed]
        assert resumed == ["work"]
        assert not any(state.paused for state in other.store.tasks())

    def test_look_leaves_the_claim_to_the_end_of_a_pause(self, fleet: Fleet) -> None:
        """The task may be due."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause(until=fleet.clock.wall() + SECOND))
        fleet.clock.forward(2)
        found = process.store.look(100)
        assert list(found.heartbeat.resumed) == ["work"]
        assert found.claimed is None

    def test_audit_entries_are_deleted_after_90_days(self, fleet: Fleet) -> None:
        """By a heartbeat that writes."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", Pause(by="anna"))
        fleet.clock.forward(80 * 86_400)
        process.store.pause("work", Pause(by="otto"))
        process.store.heartbeat()
        assert len(process.store.audit()) == 2
        fleet.clock.forward(11 * 86_400)
        process.store.heartbeat()
        assert [one.by for one in process.store.audit()] == ["otto"]
