"""The contract of stores: pages of the history, and the run of an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.run import Outcome, Trigger
from pulse.core.run_query import PENDING, RUNNING, WENT_WRONG, RunQuery, ended_at
from tests.contracts.suite.store_harness import EVERY, Fleet, Process, make_task
from tests.contracts.suite.store_part import ContractPart

if TYPE_CHECKING:
    from pulse.core.run import Run

TASKS = {"work": make_task(), "other": make_task()}
FIVE = 5


def run_once(fleet: Fleet, process: Process) -> list[Run]:
    """Run each task once; the runs of `other` fail."""
    fleet.clock.forward(EVERY)
    claims = process.claim().claims
    for claim in claims:
        failed = claim.run.task == "other"
        process.finish(claim, outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED)
    return [claim.run for claim in claims]


class HistoryReadsContract(ContractPart):
    """The history is read in pages, by a cursor, and filtered."""

    @pytest.fixture
    def process(self, fleet: Fleet) -> Process:
        """Return a process whose two tasks have each run five times."""
        process = fleet.join(TASKS)
        for _ in range(FIVE):
            run_once(fleet, process)
        return process

    def test_pages_follow_each_other_without_gap_or_repetition(self, process: Process) -> None:
        """Whatever the length of a page, the pages together are the whole history."""
        whole = [run.id for run in process.store.history(RunQuery())]
        assert len(whole) == 2 * FIVE
        for limit in (1, 3, 10, 11):
            found: list[str] = []
            cursor = None
            while True:
                page = process.store.history(RunQuery(before=cursor, limit=limit))
                assert len(page) <= limit
                found += [run.id for run in page]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == whole

    def test_runs_that_are_added_meanwhile_do_not_shift_the_next_page(
        self, fleet: Fleet, process: Process
    ) -> None:
        """A cursor names a place in the history, not a number of runs."""
        first = process.store.history(RunQuery(limit=4))
        run_once(fleet, process)
        second = process.store.history(RunQuery(limit=4, before=first.cursor))
        assert not {run.id for run in first} & {run.id for run in second}
        assert max(run.fire_time for run in second) <= min(run.fire_time for run in first)

    def test_page_is_of_one_task(self, process: Process) -> None:
        """All of its runs, and no other ones."""
        page = process.store.history(RunQuery(task="work", limit=FIVE))
        assert [run.task for run in page] == ["work"] * FIVE
        assert page.cursor is None
        assert list(process.store.history(RunQuery(task="unknown"))) == []

    def test_page_is_of_some_outcomes(self, process: Process) -> None:
        """`pending` and `running` are the runs without an outcome."""
        failed = process.store.history(RunQuery(states=frozenset({"failed"})))
        assert {(run.task, run.outcome) for run in failed} == {("other", Outcome.FAILED)}
        wrong = process.store.history(RunQuery(states=WENT_WRONG, limit=2))
        assert (len(wrong), wrong.cursor is None) == (2, False)
        process.store.trigger("work")
        waiting = process.store.history(RunQuery(states=frozenset({PENDING})))
        assert [run.trigger for run in waiting] == [Trigger.MANUAL]
        process.claim()
        running = process.store.history(RunQuery(states=frozenset({RUNNING, "succeeded"})))
        assert len(running) == FIVE + 1
        assert list(process.store.history(RunQuery(states=frozenset()))) == []

    def test_page_is_of_a_trigger_or_a_holder(self, process: Process) -> None:
        """Filters are combined."""
        process.store.trigger("work")
        manual = process.store.history(RunQuery(trigger=Trigger.MANUAL))
        assert len(manual) == 1
        held = RunQuery(holder=process.member.holder, task="work")
        assert len(process.store.history(held)) == FIVE
        assert list(process.store.history(RunQuery(holder="nobody"))) == []

    def test_page_is_of_a_span_of_fire_times(self, process: Process) -> None:
        """From *since* up to, but without, *until*."""
        times = sorted({run.fire_time for run in process.store.history(RunQuery())})
        page = process.store.history(RunQuery(since=times[1], until=times[3]))
        assert {run.fire_time for run in page} == {times[1], times[2]}
        later = process.store.history(RunQuery(since=times[-1] + SECOND))
        assert list(later) == []

    def test_tasks_show_how_their_newest_runs_ended(self, fleet: Fleet, process: Process) -> None:
        """The last outcome and end, the last success, and how many runs have failed since."""
        other, work = process.store.tasks()
        assert (other.last_outcome, other.last_success, other.failures) == ("failed", None, FIVE)
        assert (work.last_outcome, work.failures) == (Outcome.SUCCEEDED, 0)
        assert work.last_success == work.last_end
        newest = process.store.history(RunQuery(task="work", limit=1))[0]
        assert work.last_end == ended_at(newest)
        fleet.clock.forward(EVERY)
        for claim in process.claim().claims:
            process.finish(claim)
        other, _ = process.store.tasks()
        assert (other.last_outcome, other.failures) == (Outcome.SUCCEEDED, 0)
        fleet.clock.forward(EVERY)
        for claim in process.claim().claims:
            process.finish(claim, outcome=Outcome.TIMED_OUT)
        other, work = process.store.tasks()
        assert [other.failures, work.failures] == [1, 1]
        assert work.last_end is not None
        assert work.last_success is not None
        assert work.last_end > work.last_success

    def test_runs_that_no_process_has_begun_do_not_count(self, fleet: Fleet) -> None:
        """Neither one in progress, nor a record of what did not run."""
        process = fleet.join({"work": make_task()})
        (state,) = process.store.tasks()
        assert (state.last_outcome, state.last_end, state.failures) == (None, None, 0)
        fleet.clock.forward(EVERY)
        process.claim()
        fleet.clock.forward(EVERY)
        process.claim()
        (state,) = process.store.tasks()
        assert (state.last_outcome, state.last_end, state.failures) == (None, None, 0)

    def test_tasks_name_their_schedules(self, fleet: Fleet) -> None:
        """As settings, so that a process that does not declare a task can explain it."""
        process = fleet.join(
            {"cron": make_task(interval=None, cron="0 7 * * *", timezone="Europe/Berlin")}
        )
        process.add("added", make_task())
        found = {state.name: state.schedule for state in process.store.tasks()}
        assert found == {
            "cron": {"cron": "0 7 * * *", "timezone": "Europe/Berlin"},
            "added": {"interval": "10s"},
        }

    def test_run_is_found_by_its_id(self, process: Process) -> None:
        """Finished or not; None for an id that no run has."""
        for expected in process.store.history(RunQuery(limit=3)):
            assert process.store.run(expected.id) == expected
        triggered = process.store.trigger("work")
        assert triggered is not None
        found = process.store.run(triggered.id)
        assert found is not None
        assert found.outcome is None
        assert process.store.run("0" * 32) is None
