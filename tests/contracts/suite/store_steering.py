"""The contract of stores: pauses with an end, a note, and who asked; the audit trail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import ConfigError, UnknownTaskError
from pulse.store.base import PAUSE_ENDED, REFUSED_BY_OVERLAP, Pause
from tests.contracts.suite.store_harness import EVERY, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.store.base import TaskState


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
        process.store.pause("work", paused=True, until=end, by="anna", note="release")
        assert only(process).pause == Pause(began, end, "anna", "release")
        process.store.pause("work", paused=False)
        assert only(process).pause is None

    def test_another_pause_replaces_all_but_its_beginning(self, fleet: Fleet) -> None:
        """Who is on call next may prolong it."""
        process = fleet.join({"work": make_task()})
        began = fleet.clock.wall()
        process.store.pause("work", paused=True, until=began + SECOND, by="anna", note="release")
        fleet.clock.forward(1)
        process.store.pause("work", paused=True, by="otto")
        assert only(process).pause == Pause(began, None, "otto", "")
        process.store.pause("work", paused=False)
        fleet.clock.forward(1)
        process.store.pause("work", paused=True)
        assert only(process).pause == Pause(fleet.clock.wall())

    def test_pause_ends_by_itself(self, fleet: Fleet) -> None:
        """At the next heartbeat; what is due after the end runs, what was due before does not."""
        process = fleet.join({"work": make_task(misfire="all")})
        end = fleet.clock.wall() + (3 * EVERY - 5) * SECOND
        process.store.pause("work", paused=True, until=end)
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
            process.store.pause("work", paused=True, until=fleet.clock.wall())
        assert only(process).pause is None
        assert process.store.audit() == []

    def test_pause_that_is_prolonged_does_not_end(self, fleet: Fleet) -> None:
        """Only its last end counts."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True, until=fleet.clock.wall() + SECOND)
        process.store.pause("work", paused=True, until=fleet.clock.wall() + 60 * SECOND)
        fleet.clock.forward(5)
        assert process.store.heartbeat().resumed == []
        assert only(process).paused

    def test_pause_of_a_removed_task_ends_without_a_report(self, fleet: Fleet) -> None:
        """A task of the same name that is added later is not paused."""
        process = fleet.join({})
        process.add("work", make_task())
        process.store.pause("work", paused=True, until=fleet.clock.wall() + SECOND, note="why")
        process.store.remove("work")
        fleet.clock.forward(2)
        assert process.store.heartbeat().resumed == []
        process.add("work", make_task())
        assert only(process).pause is None


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
        store.pause("work", paused=True, by="anna", note="release", until=now + 60 * SECOND)
        store.pause("work", paused=False)
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
            process.store.pause("work", paused=True, by=f"{number}")
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

    def test_one_process_reports_the_end_of_a_pause(self, fleet: Fleet) -> None:
        """In all partitions the task is resumed from the same instant."""
        tasks = {"work": make_task(scope="process")}
        one, other = fleet.join(tasks), fleet.join(tasks)
        one.store.pause("work", paused=True, until=fleet.clock.wall() + SECOND)
        assert all(state.paused for state in other.store.tasks())
        fleet.clock.forward(2)
        resumed = [*one.store.heartbeat().resumed, *other.store.heartbeat().resumed]
        assert resumed == ["work"]
        assert not any(state.paused for state in other.store.tasks())

    def test_look_leaves_the_claim_to_the_end_of_a_pause(self, fleet: Fleet) -> None:
        """The task may be due."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True, until=fleet.clock.wall() + SECOND)
        fleet.clock.forward(2)
        found = process.store.look(100)
        assert list(found.heartbeat.resumed) == ["work"]
        assert found.claimed is None

    def test_audit_entries_are_deleted_after_90_days(self, fleet: Fleet) -> None:
        """By a heartbeat that writes."""
        process = fleet.join({"work": make_task()})
        process.store.pause("work", paused=True, by="anna")
        fleet.clock.forward(80 * 86_400)
        process.store.pause("work", paused=True, by="otto")
        process.store.heartbeat()
        assert len(process.store.audit()) == 2
        fleet.clock.forward(11 * 86_400)
        process.store.heartbeat()
        assert [one.by for one in process.store.audit()] == ["otto"]
