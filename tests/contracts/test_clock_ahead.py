"""After a wall clock was ahead for a while, tasks run again, and no tick runs twice."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from pulse.clock import SECOND, moment_of
from pulse.core.run import Outcome
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.store.base import RewoundTask
from pulse.store.shared.rewinding import EarlyWork, find_early_work
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, LEASE_S, make_task
from tests.support.setups import require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.core.run import Run
    from pulse.store.shared.backend import Session
    from tests.contracts.suite.store_harness import Fleet, Process

DAY_S = 86_400
HOURS = timedelta(hours=2, seconds=5)
AHEAD = [
    pytest.param(timedelta(hours=1), id="an hour"),
    pytest.param(HOURS, id="two hours"),
    pytest.param(timedelta(days=3_652), id="ten years"),
]
POLICIES = [
    pytest.param({}, id="interval"),
    pytest.param({"interval": None, "cron": "*/10 * * * * *"}, id="cron"),
    pytest.param({"overlap": "allow"}, id="allow"),
    pytest.param({"overlap": "wait"}, id="wait"),
    pytest.param({"jitter": 2}, id="jitter"),
    pytest.param({"scope": "host"}, id="host"),
    pytest.param({"scope": "process"}, id="process"),
]


@contextmanager
def clock_ahead(fleet: Fleet, by: timedelta = HOURS) -> Iterator[None]:
    """Set the wall clock ahead inside a `with` block, and back to the right time at its end."""
    right = moment_of(fleet.clock.wall())
    fleet.clock.set_wall(right + by)
    yield
    fleet.clock.set_wall(right)


def run_ticks(fleet: Fleet, *processes: Process, ticks: int = 6, every: float = EVERY) -> list[Run]:
    """Pass several fire times; claim and finish what is due, and return those runs."""
    ran = []
    for _ in range(ticks):
        fleet.clock.forward(every)
        for process in processes:
            claims = process.claim().claims
            ran += [claim.run for claim in claims if process.finish(claim)]
    return ran


def unfinished(process: Process) -> list[Run]:
    """Return the runs without an outcome."""
    return [run for run in process.store.runs() if run.outcome is None]


def run_due(process: Process) -> None:
    """Claim and finish the one tick that is due."""
    require(process.finish(process.claim_one()), "a run that is recorded")


@pytest.mark.parametrize("ahead", AHEAD)
def test_task_runs_again_after_the_clock_is_corrected(fleet: Fleet, ahead: timedelta) -> None:
    """A run at a wrong, later fire time does not block the fire times before it."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet, ahead):
        run_due(process)
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("words", POLICIES)
def test_task_of_each_kind_runs_again_after_the_clock_is_corrected(
    fleet: Fleet, words: dict[str, object]
) -> None:
    """The rule does not depend on schedule, overlap, jitter or scope."""
    process = fleet.join({"work": make_task(**words)})
    with clock_ahead(fleet):
        run_due(process)
    assert run_ticks(fleet, process)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"interval": None, "every": "1 day"}, id="every"),
        pytest.param({"interval": None, "cron": "0 7 * * *", "timezone": "Asia/Tokyo"}, id="cron"),
    ],
)
def test_daily_task_runs_again_after_the_clock_is_corrected(
    fleet: Fleet, words: dict[str, object]
) -> None:
    """A clock that was a month ahead does not stop the task for that month."""
    process = fleet.join({"work": make_task(**words)})
    with clock_ahead(fleet, timedelta(days=31)):
        run_due(process)
    assert run_ticks(fleet, process, every=DAY_S)


def test_task_runs_after_each_correction_of_an_unstable_clock(fleet: Fleet) -> None:
    """Two programs set the clock in turn, to times that are an hour apart."""
    process = fleet.join({"work": make_task()})
    ran = []
    for _ in range(3):
        with clock_ahead(fleet, timedelta(hours=1)):
            fleet.clock.forward(EVERY)
            process.finish(process.claim_one())
        ran.append(run_ticks(fleet, process, ticks=2))
    assert all(ran)


def test_task_runs_again_after_ticks_were_skipped_by_a_wrong_clock(fleet: Fleet) -> None:
    """The run that caused the skip has ended since."""
    process = fleet.join({"work": make_task()})
    fleet.clock.forward(EVERY)
    going = process.claim_one()
    fleet.clock.forward(EVERY)
    with clock_ahead(fleet):
        outcomes = {run.outcome for run in process.claim().not_run}
        require(Outcome.SKIPPED in outcomes, "a tick that is skipped")
    process.finish(going)
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("misfire", ["skip", "all"])
def test_task_runs_again_after_ticks_were_too_late_by_a_wrong_clock(
    fleet: Fleet, misfire: str
) -> None:
    """The grace was exceeded by the wrong clock, so the ticks were recorded as missed."""
    process = fleet.join({"work": make_task(misfire=misfire, grace=2)})
    with clock_ahead(fleet):
        require(not process.claim().claims, "ticks that are all too late")
    assert run_ticks(fleet, process)


def test_task_runs_again_after_a_pause_ended_by_a_wrong_clock(fleet: Fleet) -> None:
    """The task was resumed while the clock was ahead, and the ticks of the pause were missed."""
    process = fleet.join({"work": make_task()})
    process.store.pause("work", Pause())
    with clock_ahead(fleet):
        process.store.pause("work", None)
        require(process.claim().not_run, "ticks that are missed")
    assert run_ticks(fleet, process)


def test_task_runs_again_after_its_schedule_was_replaced_by_a_wrong_clock(fleet: Fleet) -> None:
    """Ticks of the old schedule that were due by the wrong clock are recorded as missed."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        process.sync({"work": make_task(interval=7)})
    assert run_ticks(fleet, process)


def test_task_with_a_replaced_schedule_runs_after_the_clock_is_corrected(fleet: Fleet) -> None:
    """A deploy replaces the interval after the correction."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        run_due(process)
    process.sync({"work": make_task(interval=7)})
    assert run_ticks(fleet, process)


def test_task_that_is_paused_and_resumed_runs_after_the_clock_is_corrected(fleet: Fleet) -> None:
    """Pause and resume come after the correction."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        run_due(process)
    for paused in (True, False):
        process.store.pause("work", Pause() if paused else None)
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("again", [make_task(), make_task(interval=7)], ids=["same", "other"])
def test_task_that_is_removed_and_added_runs_after_the_clock_is_corrected(
    fleet: Fleet, again: object
) -> None:
    """A run-time task that is added after the correction has fire times from then on."""
    process = fleet.join({})
    process.add("work", make_task())
    with clock_ahead(fleet):
        run_due(process)
    process.store.remove("work")
    process.store.add(make_runtime_task("work", again, TaskDefaults()))  # type: ignore[arg-type] # a task
    assert run_ticks(fleet, process)


def test_runtime_task_that_is_replaced_runs_after_the_clock_is_corrected(fleet: Fleet) -> None:
    """The task gets another interval after the correction."""
    process = fleet.join({})
    process.add("work", make_task())
    with clock_ahead(fleet):
        run_due(process)
    process.add("work", make_task(interval=7), replace=True)
    assert run_ticks(fleet, process)


def test_task_that_was_archived_runs_after_the_clock_is_corrected(fleet: Fleet) -> None:
    """The configuration drops the task after the correction, and declares it again later."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        run_due(process)
    process.sync({})
    fleet.wait(3 * LEASE_S + 10, process)
    require(not process.store.tasks(), "a row that was put away")
    process.sync({"work": make_task()})
    assert run_ticks(fleet, process)


def test_manual_run_opened_by_a_wrong_clock_does_not_block_ticks(fleet: Fleet) -> None:
    """No process claims the manual run before the correction."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        require(process.store.trigger("work"), "a manual run")
    assert run_ticks(fleet, process)


def test_waiting_tick_opened_by_a_wrong_clock_does_not_block_ticks(fleet: Fleet) -> None:
    """Under `overlap = wait` the tick waits for a run that ends after the correction."""
    process = fleet.join({"work": make_task(overlap="wait")})
    fleet.clock.forward(EVERY)
    going = process.claim_one()
    with clock_ahead(fleet):
        process.claim()
        require(len(unfinished(process)) == 2, "a run that goes on and a tick that waits for it")
    process.finish(going)
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("ahead", AHEAD)
@pytest.mark.parametrize(
    "words",
    [
        pytest.param({}, id="interval"),
        pytest.param({"interval": None, "cron": "*/10 * * * * *"}, id="cron"),
    ],
)
def test_task_that_is_first_seen_by_a_wrong_clock_runs_after_the_correction(
    fleet: Fleet, words: dict[str, object], ahead: timedelta
) -> None:
    """A machine starts with a wrong clock, which is corrected before the first tick."""
    with clock_ahead(fleet, ahead):
        process = fleet.join({"work": make_task(**words)})
    assert run_ticks(fleet, process)


def test_runtime_task_that_is_added_by_a_wrong_clock_runs_after_the_correction(
    fleet: Fleet,
) -> None:
    """A person adds the task while the clock is ahead."""
    process = fleet.join({})
    with clock_ahead(fleet):
        process.add("work", make_task())
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("ahead", AHEAD)
def test_fire_time_runs_once_by_a_wrong_and_by_the_right_clock(
    fleet: Fleet, ahead: timedelta
) -> None:
    """A tick that ran while the clock was ahead does not run again at its real time."""
    process = fleet.join({"work": make_task()})
    ran = run_ticks(fleet, process, ticks=2)
    with clock_ahead(fleet, ahead):
        ran += run_ticks(fleet, process, ticks=2)
    ran += run_ticks(fleet, process, ticks=2)
    fleet.clock.set_wall(moment_of(fleet.clock.wall()) + ahead)
    ran += run_ticks(fleet, process, ticks=4)
    assert max(Counter(run.scheduled_for for run in ran).values()) == 1


def test_refused_fire_time_is_reported_with_the_next_run(fleet: Fleet) -> None:
    """A tick that ran while the clock was ahead is named when the clock comes to it."""
    process = fleet.join({"work": make_task(interval=3_600)})
    with clock_ahead(fleet, timedelta(hours=1)):
        run_due(process)
    (refusal,) = process.claim().rewound
    refused, following = (fleet.clock.wall() + hours * 3_600 * SECOND for hours in (1, 2))
    assert refusal == RewoundTask("work", "", refused, following)


def test_task_that_is_moved_back_is_reported_with_the_next_run(fleet: Fleet) -> None:
    """The report comes with the first claim after the correction."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        run_due(process)
    (moved,) = process.claim().rewound
    assert (moved.refused, moved.next_fire) == (None, fleet.clock.wall() + 10 * SECOND)


def test_clock_set_back_by_less_than_a_second_reports_nothing(fleet: Fleet) -> None:
    """A correction by NTP repeats no tick and moves none."""
    process = fleet.join({"work": make_task()})
    run_ticks(fleet, process, ticks=1)
    fleet.clock.set_wall(moment_of(fleet.clock.wall()) - timedelta(milliseconds=400))
    claimed = process.claim()
    assert (list(claimed.claims), list(claimed.rewound)) == ([], [])
    assert len(run_ticks(fleet, process, ticks=3)) == 2


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_tick_that_another_process_decides_during_the_check_is_not_reported(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That tick is later than the present of the claim which makes the check, and on time."""
    one, other = (fleet.join({"work": make_task()}) for _ in range(2))

    def find_late(session: Session, **words: Any) -> EarlyWork:
        monkeypatch.undo()
        fleet.clock.forward(EVERY)
        run_due(other)
        return find_early_work(session, **words)

    monkeypatch.setattr("pulse.store.shared.store.find_early_work", find_late)
    assert not one.claim().rewound


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_task_runs_again_after_an_error_in_the_check_of_the_clock(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is made again after the next heartbeat that raises nothing."""
    process = fleet.join({"work": make_task()})
    with clock_ahead(fleet):
        run_due(process)
    with monkeypatch.context() as patch:
        error = Mock(side_effect=RuntimeError("the check failed"))
        patch.setattr("pulse.store.shared.store.find_early_work", error)
        process.claim()
    with pytest.raises(RuntimeError, match="the check failed"):
        process.store.heartbeat()
    process.store.heartbeat()
    assert run_ticks(fleet, process)


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_lasting_error_in_the_check_of_the_clock_lets_every_other_heartbeat_succeed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the process would look dead to the others."""
    process = fleet.join({"work": make_task()})
    error = Mock(side_effect=RuntimeError("the check failed"))
    monkeypatch.setattr("pulse.store.shared.store.find_early_work", error)
    raised = []
    for _ in range(4):
        process.claim()
        try:
            process.store.heartbeat()
        except RuntimeError:
            raised.append(True)
        else:
            raised.append(False)
    assert raised == [True, False, True, False]


def test_each_tick_runs_once_when_the_clock_changes_back_and_forth(fleet: Fleet) -> None:
    """Two programs set the clock in turn, an hour apart, for half a minute each."""
    process = fleet.join({"work": make_task()})
    ran = []
    for _ in range(4):
        ran += run_ticks(fleet, process, ticks=3)
        with clock_ahead(fleet, timedelta(hours=1)):
            ran += run_ticks(fleet, process, ticks=3)
    times = [run.scheduled_for for run in ran]
    assert len(set(times)) == len(times)
    assert len(times) > 12


def test_process_that_joins_after_the_correction_moves_tasks_back(fleet: Fleet) -> None:
    """A restart comes after the correction, and no process has seen the wrong clock."""
    old = fleet.join({"work": make_task()})
    with clock_ahead(fleet, timedelta(days=3_652)):
        run_due(old)
        old.store.close()
    assert run_ticks(fleet, fleet.join({"work": make_task()}))


@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_another_process_moves_tasks_back_after_one_has_ended(fleet: Fleet) -> None:
    """Only the process that ended has read the wrong clock."""
    old, other = (fleet.join({"work": make_task()}) for _ in range(2))
    other.claim()
    other.store.heartbeat()
    with clock_ahead(fleet, timedelta(days=3_652)):
        run_due(old)
        old.store.close()
    other.store.heartbeat()
    assert run_ticks(fleet, other)


def test_runs_do_not_repeat_after_the_history_was_pruned(
    fleet: Fleet,
) -> None:
    """The clock is set back by more ticks than the history keeps."""
    process = fleet.join({"work": make_task(interval=1)})
    ran = run_ticks(fleet, process, ticks=60, every=1)
    fleet.clock.set_wall(moment_of(fleet.clock.wall()) - timedelta(seconds=50))
    ran += run_ticks(fleet, process, ticks=60, every=1)
    times = [run.scheduled_for for run in ran]
    assert len(set(times)) == len(times)
