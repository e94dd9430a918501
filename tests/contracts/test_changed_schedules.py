"""Schedules that are replaced, or only respelled, while ticks of their tasks are due or wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.run import Outcome, Trigger
from pulse.schedule.cron import Cron
from pulse.store.reschedule import CHANGED
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.setups import require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.core.run import Claim, Run
    from tests.contracts.suite.store_harness import Fleet, Process

SPELLINGS = [
    pytest.param("*/10 * * * * *", "0/10 * * * * *", id="step"),
    pytest.param("0,10,20,30,40,50 * * * * *", "*/10 * * * * *", id="list"),
    pytest.param("*/10 * * * * 1-5", "*/10 * * * * mon-fri", id="weekdays"),
    pytest.param("*/10 * * * * mon-fri", "*/10 * * * * MON-FRI", id="case"),
    pytest.param("*/10 * * * * 0-6", "*/10 * * * * 1-7", id="sunday"),
    pytest.param("*/10 * * 5,6 * *", "*/10 * * 5-6 * *", id="days"),
    pytest.param("*/10 * * * jan,feb *", "*/10 * * * 1-2 *", id="months"),
]
REPLACEMENTS = [
    pytest.param({"interval": 7}, id="interval"),
    pytest.param({"interval": None, "cron": "0 0 1 1 *"}, id="cron"),
    pytest.param({"interval": None, "every": "1 year"}, id="every"),
    pytest.param({"interval": None, "at": "2030-01-01T00:00:00Z"}, id="at"),
]


def declare(process: Process, **words: object) -> Sequence[Run]:
    """Sync a task of the configuration, as a deploy does; return the rows of missed ticks."""
    return process.sync({"work": make_task(**words)}).missed


def replace(process: Process, **words: object) -> Sequence[Run]:
    """Add or replace a run-time task; return the rows of missed ticks."""
    return process.add("work", make_task(**words), replace=True)


WAYS = [pytest.param(declare, id="declared"), pytest.param(replace, id="added")]


def open_waiting_tick(fleet: Fleet, process: Process) -> tuple[Claim, Run]:
    """Open two ticks; return the claim of the first and the run of the second, which waits."""
    fleet.clock.forward(EVERY)
    claim = process.claim_one()
    fleet.clock.forward(EVERY)
    process.claim()
    waiting = [run for run in process.store.runs() if run.attempt == 0 and run.outcome is None]
    require(len(waiting) == 1, "one tick that waits")
    return claim, waiting[0]


def require_due(fleet: Fleet, process: Process) -> None:
    """Fail the test if no tick is due."""
    next_wakeup = process.claim(0).next_wakeup
    require(next_wakeup is not None and next_wakeup <= fleet.clock.wall(), "a tick that is due")


def state_of(process: Process, run: Run) -> tuple[Outcome | None, str]:
    """Return the outcome and the message of a run in the history."""
    (found,) = [one for one in process.store.runs() if one.id == run.id]
    return found.outcome, found.message


@pytest.mark.parametrize("words", REPLACEMENTS)
@pytest.mark.parametrize("change", WAYS)
def test_waiting_tick_of_a_replaced_schedule_is_missed(
    fleet: Fleet, change: Callable[..., Sequence[Run]], words: dict[str, object]
) -> None:
    """The tick has not begun, so it does not run, and its row states the reason."""
    process = fleet.join({})
    change(process, overlap="wait")
    claim, waiting = open_waiting_tick(fleet, process)
    change(process, overlap="wait", **words)
    process.finish(claim)
    process.claim()
    assert state_of(process, waiting) == (Outcome.MISSED, CHANGED)


@pytest.mark.parametrize("change", WAYS)
def test_waiting_tick_of_a_replaced_schedule_is_reported(
    fleet: Fleet, change: Callable[..., Sequence[Run]]
) -> None:
    """The call that replaces the schedule returns the row of the missed tick."""
    process = fleet.join({})
    change(process, overlap="wait")
    _, waiting = open_waiting_tick(fleet, process)
    missed = change(process, overlap="wait", interval=7)
    assert waiting.id in {run.id for run in missed}


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_waiting_tick_is_missed_when_a_rolling_deploy_replaces_its_schedule(fleet: Fleet) -> None:
    """The new process replaces the schedule while a run of the old process goes on."""
    old = fleet.join({"work": make_task(overlap="wait")})
    claim, waiting = open_waiting_tick(fleet, old)
    new = fleet.join({"work": make_task(overlap="wait", interval=7)})
    old.finish(claim)
    new.claim()
    assert state_of(new, waiting) == (Outcome.MISSED, CHANGED)


@pytest.mark.parametrize("change", WAYS)
def test_waiting_tick_runs_after_a_change_of_another_setting(
    fleet: Fleet, change: Callable[..., Sequence[Run]]
) -> None:
    """A new timeout does not affect ticks that are already due."""
    process = fleet.join({})
    change(process, overlap="wait")
    claim, waiting = open_waiting_tick(fleet, process)
    change(process, overlap="wait", timeout=7)
    process.finish(claim)
    assert process.claim_one().run.id == waiting.id


@pytest.mark.parametrize("change", WAYS)
def test_manual_run_is_kept_when_the_schedule_is_replaced(
    fleet: Fleet, change: Callable[..., Sequence[Run]]
) -> None:
    """A manual run does not depend on the schedule."""
    process = fleet.join({})
    change(process)
    opened = process.store.trigger("work")
    change(process, interval=7)
    assert opened is not None
    assert process.claim_one().run.id == opened.id


@pytest.mark.parametrize(("before", "after"), SPELLINGS)
def test_due_tick_runs_after_its_schedule_is_respelled(
    fleet: Fleet, before: str, after: str
) -> None:
    """Equal expressions are one schedule, so a due tick is not missed."""
    require(Cron(before) == Cron(after), "two spellings of one schedule")
    process = fleet.join({"work": make_task(interval=None, cron=before)})
    fleet.clock.forward(3 * EVERY)
    require_due(fleet, process)
    missed = process.sync({"work": make_task(interval=None, cron=after)}).missed
    ran = [(claim.run.trigger, claim.run.fire_time) for claim in process.claim().claims]
    assert (list(missed), ran) == ([], [(Trigger.CATCH_UP, fleet.clock.wall())])


@pytest.mark.parametrize(
    "bound",
    [
        pytest.param({"start": "2026-01-01T00:00:00Z"}, id="start"),
        pytest.param({"end": "2027-01-01T00:00:00Z"}, id="end"),
        pytest.param({"timezone": "Europe/Vienna"}, id="time zone"),
    ],
)
def test_due_tick_runs_after_a_bounded_schedule_is_respelled(
    fleet: Fleet, bound: dict[str, str]
) -> None:
    """The same holds with a start, an end or a time zone beside the expression."""
    process = fleet.join({"work": make_task(interval=None, cron="*/10 * * * * *", **bound)})
    fleet.clock.forward(EVERY)
    require_due(fleet, process)
    process.sync({"work": make_task(interval=None, cron="0/10 * * * * *", **bound)})
    assert [claim.run.fire_time for claim in process.claim().claims] == [fleet.clock.wall()]


def test_due_tick_of_a_runtime_task_runs_after_its_schedule_is_respelled(fleet: Fleet) -> None:
    """`add(..., replace=True)` follows the rule of a deploy."""
    process = fleet.join({})
    process.add("work", make_task(interval=None, cron="*/10 * * * * *"))
    fleet.clock.forward(EVERY)
    require_due(fleet, process)
    process.add("work", make_task(interval=None, cron="0/10 * * * * *"), replace=True)
    assert [claim.run.fire_time for claim in process.claim().claims] == [fleet.clock.wall()]


def test_due_tick_is_missed_when_its_schedule_is_replaced(fleet: Fleet) -> None:
    """Expressions with different fire times are different schedules."""
    process = fleet.join({"work": make_task(interval=None, cron="*/10 * * * * *")})
    fleet.clock.forward(EVERY)
    missed = process.sync({"work": make_task(interval=None, cron="5/10 * * * * *")}).missed
    assert [(run.outcome, run.message) for run in missed] == [(Outcome.MISSED, CHANGED)]
