"""How long no tick is skipped after an outage."""

import pytest

from pulse.clock import SECOND
from pulse.core.cursor import Cursor, jitter_of
from pulse.core.planner import NotRun, Plan
from pulse.core.task import Task, build_definition
from pulse.store.shared.recovery import (
    RECHECK_AFTER,
    RECOVERY_WINDOW,
    RecoveryWindow,
    defer_skip,
    recheck_at,
)


def test_recovery_window_lasts_until_a_second_after_the_return() -> None:
    """Holders have this long to record results of the outage."""
    window = RecoveryWindow()
    window.answered(0)
    before = window.is_open(RECOVERY_WINDOW)
    window.failed()
    away = window.is_open(RECOVERY_WINDOW)
    window.answered(9 * SECOND)
    window.answered(9 * SECOND + 5)
    ends = [window.is_open(9 * SECOND + at) for at in (RECOVERY_WINDOW - 1, RECOVERY_WINDOW)]
    assert (before, away, ends) == (False, True, [True, False])


def test_recovery_window_is_open_after_joining() -> None:
    """A new process cannot know whether the store was down before."""
    assert RecoveryWindow().is_open(0)


def test_deferred_tick_is_planned_again_soon_and_not_after_other_work() -> None:
    """The loop sleeps until then, and does not spin."""
    wakes = [recheck_at(SECOND, at) for at in (None, SECOND + 1, 9 * SECOND)]
    assert wakes == [SECOND + RECHECK_AFTER, SECOND + 1, SECOND + RECHECK_AFTER]


@pytest.mark.parametrize(
    ("words", "now", "waits"),
    [
        pytest.param({}, 0.1, True, id="just due"),
        pytest.param({}, 9.5, True, id="later"),
        pytest.param({}, 9.7, False, id="the next one is near"),
        pytest.param({"grace": 5}, 4.5, True, id="within its grace"),
        pytest.param({"grace": 5}, 4.7, False, id="its grace would be over"),
        pytest.param({"misfire": "skip", "grace": 0}, 0.0, False, id="no grace"),
    ],
)
def test_skip_is_deferred_within_its_grace_and_before_the_next_tick(
    words: dict[str, object], now: float, *, waits: bool
) -> None:
    """So a tick keeps its reason, and an unstable store does not defer it for long."""
    task = build_definition("work", Task(action="/work", interval=10, **words))
    plan = Plan(Cursor(0, 10 * SECOND, 0), skipped=NotRun(0, 1, "found another"))
    assert defer_skip(task, plan, now=round(now * SECOND)) is waits


@pytest.mark.parametrize(("late", "waits"), [(0.5, True), (1.5, True), (1.7, False)])
def test_grace_of_a_deferred_skip_counts_from_the_jitter(late: float, *, waits: bool) -> None:
    """The delay of the tick is no lateness."""
    task = build_definition("work", Task(action="/work", interval=3_600, jitter=3_000, grace=2))
    delay = jitter_of(task, 0, anchor=0)
    plan = Plan(Cursor(0, 3_600 * SECOND, 0), skipped=NotRun(0, 1, "found another"))
    assert delay > 10 * SECOND
    assert defer_skip(task, plan, now=delay + round(late * SECOND)) is waits


def test_run_is_never_deferred() -> None:
    """Only a skip is made again."""
    task = build_definition("work", Task(action="/work", interval=10))
    assert not defer_skip(task, Plan(Cursor(0, 10 * SECOND, 0)), now=0)
