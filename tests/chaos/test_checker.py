"""The checker accepts a good run, and rejects each run with one change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.artifacts import SECOND, Case, Fault, Line, Row
from tests.chaos.capacity import Capacity
from tests.chaos.checker import judge
from tests.chaos.good_run import KILLED, LENGTH_S, OTHER, START, VICTIM, good_run
from tests.chaos.window_matching import Window, match_windows

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = good_run()
ACCOUNTED = "every tick is accounted for"
WINDOWS = "runs fit windows"
STRANGERS = "nothing runs that is no tick"
TWICE = "no tick is dispatched twice"
ATTEMPTS = "attempts rise under one id"
OVERLAP = "no overlap where skip says so"
CAUSE = "a record that a tick did not run has a cause"
HISTORY = "the history agrees with the evidence"
RETRIED = "failures are retried"
LEDGER = "the ledger agrees"
RESUMED = "what lost its lease is not dispatched"

CALM = {START + second * SECOND for second in (*range(8), *range(16, LENGTH_S - 4))}
"""Ticks whose runs are far from the kill, for which the checker makes no allowance."""


def broken(case: Case) -> set[str]:
    """Return the rules that a run breaks."""
    return {verdict.rule for verdict in judge(case) if verdict.broken}


def runs_of(task: str) -> list[str]:
    """Return the ids of the task's runs that no fault affected."""
    began = [line for line in GOOD.lines if line.what == "begin" and line.attempt == 1]
    return [line.run for line in began if line.task == task and line.fire_time in CALM]


def change(case: Case, run: str, edit: Callable[[Line], Line | None]) -> Case:
    """Return the case with each line of a run edited; None removes the line."""
    edited = [edit(line) if line.run == run else line for line in case.lines]
    kept = [line for line in edited if line is not None]
    return case._replace(lines=tuple(sorted(kept, key=lambda line: line.wall)))


def forge(case: Case, run: str, edit: Callable[[Row], Row | None]) -> Case:
    """Return the case with the record of a run edited."""
    edited = [edit(row) if row.run == run else row for row in case.history]
    return case._replace(history=tuple(row for row in edited if row is not None))


def some(task: str) -> st.SearchStrategy[str]:
    """Choose one of the task's runs."""
    return st.sampled_from(runs_of(task))


any_run = st.sampled_from(
    [run for task in ("plain", "nap", "crowd", "flaky") for run in runs_of(task)]
)


def test_good_run_breaks_no_rule() -> None:
    """Kills, skips and reruns with causes are accepted."""
    assert broken(GOOD) == set()


def test_good_run_has_subjects_for_every_rule() -> None:
    """A rule without subjects would prove nothing."""
    idle = {verdict.rule for verdict in judge(GOOD) if not verdict.looked_at}
    assert idle <= {RETRIED, RESUMED}


@given(any_run)
def test_run_without_any_trace_is_a_miss(run: str) -> None:
    """The tick has neither log lines nor a record, and its window has no run."""
    spoilt = forge(change(GOOD, run, lambda _: None), run, lambda _: None)
    assert {ACCOUNTED, WINDOWS} <= broken(spoilt)


@given(any_run)
def test_recorded_success_without_log_lines_is_rejected(run: str) -> None:
    """The app has not seen the run."""
    assert HISTORY in broken(change(GOOD, run, lambda _: None))


@given(any_run)
def test_run_without_a_record_is_rejected(run: str) -> None:
    """Each run that the app saw must be in the history."""
    assert HISTORY in broken(forge(GOOD, run, lambda _: None))


@given(any_run, st.integers(1, SECOND))
def test_second_run_of_a_tick_is_an_extra(run: str, later: int) -> None:
    """It fits no window, and no tick has two runs."""
    copies = [
        line._replace(run="copy", wall=line.wall + later)
        for line in GOOD.lines
        if line.run == run and line.attempt == 1
    ]
    lines = sorted([*GOOD.lines, *copies], key=lambda line: line.wall)
    assert {WINDOWS, TWICE, HISTORY} <= broken(GOOD._replace(lines=tuple(lines)))


@given(any_run)
def test_second_start_of_an_attempt_is_rejected(run: str) -> None:
    """An attempt may start only once."""
    copies = [
        line._replace(wall=line.wall + 1)
        for line in GOOD.lines
        if (line.run, line.what) == (run, "begin")
    ]
    spoilt = GOOD._replace(lines=tuple(sorted([*GOOD.lines, *copies], key=lambda line: line.wall)))
    assert {TWICE, ATTEMPTS} <= broken(spoilt)


@given(any_run, st.integers(1_100_000, 5 * SECOND))
def test_run_outside_its_window_is_rejected(run: str, late: int) -> None:
    """More than a second of delay without a cause is a miss and an extra."""
    assert WINDOWS in broken(change(GOOD, run, lambda line: line._replace(wall=line.wall + late)))


@given(any_run, st.integers(4_000, SECOND))
def test_run_before_its_fire_time_is_rejected(run: str, early: int) -> None:
    """A millisecond is too early."""
    assert STRANGERS in broken(
        change(GOOD, run, lambda line: line._replace(wall=line.wall - early))
    )


@given(any_run, st.integers(1, SECOND - 1))
def test_run_without_a_tick_is_rejected(run: str, off: int) -> None:
    """Only fire times of the schedule may run."""
    spoilt = change(GOOD, run, lambda line: line._replace(fire_time=line.fire_time + off))
    assert {STRANGERS, HISTORY} <= broken(spoilt)


@given(some("nap"), st.integers(1_500_000, 3 * SECOND))
def test_overlapping_runs_are_rejected(run: str, longer: int) -> None:
    """A run that starts during another one breaks `overlap = skip`."""
    spoilt = change(
        GOOD, run, lambda line: line._replace(wall=line.wall + longer * (line.what == "end"))
    )
    assert OVERLAP in broken(spoilt)


@given(any_run, st.sampled_from(["missed", "skipped", "abandoned", "interrupted", "timed_out"]))
def test_run_with_a_record_of_not_running_is_rejected(run: str, outcome: str) -> None:
    """It may not be recorded as missed or skipped, nor as abandoned while its process lived."""
    spoilt = forge(GOOD, run, lambda row: row._replace(outcome=outcome))
    assert broken(spoilt) & {CAUSE, STRANGERS}


@given(some("plain"), st.sampled_from(["missed", "skipped"]))
def test_skipped_tick_without_a_cause_is_rejected(run: str, outcome: str) -> None:
    """A process was available and no run was unfinished, so the tick had to run."""
    spoilt = forge(
        change(GOOD, run, lambda _: None), run, lambda row: row._replace(outcome=outcome)
    )
    assert broken(spoilt) - {LEDGER} == {CAUSE}


@given(some("crowd"), st.sampled_from(["missed", "skipped"]))
def test_missed_tick_under_misfire_all_and_overlap_allow_is_rejected(
    run: str, outcome: str
) -> None:
    """Under these policies every tick runs."""
    spoilt = forge(
        change(GOOD, run, lambda _: None), run, lambda row: row._replace(outcome=outcome)
    )
    assert CAUSE in broken(spoilt)


@pytest.mark.parametrize("begun", [False, True], ids=["not begun", "begun"])
def test_attempt_may_be_lost_that_an_outage_kept_from_beginning(begun: bool) -> None:  # noqa: FBT001 - a parameter
    """Its lease was over when the store answered, although an earlier attempt had run."""
    run = next(one.run for one in GOOD.history if one.run in runs_of("flaky") and one.attempt == 2)
    spoilt = change(GOOD, run, lambda line: line if line.attempt == 1 or begun else None)
    spoilt = forge(spoilt, run, lambda row: row._replace(outcome="abandoned"))
    (row,) = [one for one in spoilt.history if one.run == run]
    outage = Fault("store-pause", row.claimed_at - SECOND // 10, row.claimed_at + 4 * SECOND)
    spoilt = spoilt._replace(faults=(*spoilt.faults, outage))
    assert (CAUSE in broken(spoilt)) == begun


def test_worker_that_is_replaced_need_not_run_what_comes_after() -> None:
    """It drains, and the other one is dead: nobody could run the tick."""
    left = KILLED + 8 * SECOND
    tick = left + SECOND - left % SECOND
    lost = [row.run for row in GOOD.history if row.fire_time == tick]
    spoilt = GOOD
    for run in lost:
        spoilt = forge(change(spoilt, run, lambda _: None), run, lambda _: None)
    assert ACCOUNTED in broken(spoilt)
    leave = Line("leave", left, left, OTHER)
    lines = sorted([*spoilt.lines, leave], key=lambda line: line.wall)
    assert ACCOUNTED not in broken(spoilt._replace(lines=tuple(lines)))


def test_run_that_began_while_its_process_was_being_killed_may_be_lost() -> None:
    """Another thread writes its line after that of the victim."""
    run = next(run for run in runs_of("plain"))
    (begin,) = [line for line in GOOD.lines if (line.run, line.what) == (run, "begin")]
    dead = Line("victim", begin.wall - 1, begin.boot - 1, 13, point="kill-mid-request")
    spoilt = change(GOOD, run, lambda line: line._replace(pid=13) if line.what == "begin" else None)
    spoilt = forge(spoilt, run, lambda row: row._replace(outcome="abandoned", holder=13))
    lines = sorted(
        [*spoilt.lines, Line("start", START - SECOND, 0, 13), dead], key=lambda line: line.wall
    )
    assert not broken(spoilt._replace(lines=tuple(lines))) & {CAUSE, OVERLAP}


@given(any_run)
def test_abandoned_run_of_a_living_process_is_rejected(run: str) -> None:
    """Only the store can have lost its claim."""
    spoilt = change(GOOD, run, lambda line: None if line.what == "end" else line)
    assert CAUSE in broken(forge(spoilt, run, lambda row: row._replace(outcome="abandoned")))


@pytest.mark.parametrize("begun", [True, False])
def test_claim_whose_answer_was_lost_is_given_back(*, begun: bool) -> None:
    """Its process lives, so a restart of the store is no cause to abandon the run."""
    run = runs_of("plain")[0]
    (row,) = [row for row in GOOD.history if row.run == run]
    fault = Fault("store-restart", row.claimed_at + 2_000, row.claimed_at + SECOND, ())
    spoilt = GOOD._replace(faults=(*GOOD.faults, fault))
    spoilt = forge(spoilt, run, lambda row: row._replace(outcome="abandoned"))
    if not begun:
        spoilt = change(spoilt, run, lambda _: None)
    assert CAUSE in broken(spoilt)


@pytest.mark.parametrize(("gap", "is_enough"), [(8_000, False), (SECOND // 2, True)])
def test_end_is_recorded_once_a_process_has_time_for_it(gap: int, *, is_enough: bool) -> None:
    """A few milliseconds between two outages are not enough."""
    first = Fault("store-pause", START + SECOND, START + 3 * SECOND)
    second = Fault("store-restart", first.ended + gap, first.ended + gap + SECOND)
    capacity = Capacity(GOOD._replace(faults=(first, second)))
    closed = capacity.closed(OTHER, START, first.began + SECOND // 2)
    assert closed == (first.ended if is_enough else second.ended)


def test_process_that_goes_on_during_a_block_is_not_paused() -> None:
    """The losses of its later pause are found out after that pause began."""
    busy = Line("block", START + 2 * SECOND, 0, OTHER)
    free = Line("unblock", START + 9 * SECOND, 0, OTHER)
    lines = sorted([*GOOD.lines, busy, free], key=lambda line: line.wall)
    assert Capacity(GOOD._replace(lines=tuple(lines))).hit(OTHER, START, GOOD.ended) is None
    alone = GOOD._replace(
        lines=(Line("start", START, 0, 7), busy._replace(pid=7), free._replace(pid=7))
    )
    assert Capacity(alone).hit(7, START, GOOD.ended) == (busy.wall, free.wall)


@pytest.mark.parametrize(("outage_s", "is_cause"), [(5, True), (0, False)])
def test_process_that_leaves_in_an_outage_may_lose_its_runs(
    outage_s: int, *, is_cause: bool
) -> None:
    """It cannot record what it has run; while the store answers it can."""
    last = max((run for run in runs_of("crowd")), key=lambda run: int(run.partition("-")[2]))
    left = max(line.wall for line in GOOD.lines) + SECOND
    outage = Fault("store-restart", left + SECOND // 2 - outage_s * SECOND, left + SECOND // 2)
    spoilt = forge(GOOD, last, lambda row: row._replace(outcome="abandoned"))
    spoilt = spoilt._replace(
        lines=(*spoilt.lines, Line("stop", left, left, OTHER)), faults=(*spoilt.faults, outage)
    )
    assert (CAUSE not in broken(spoilt)) is is_cause


def test_run_claimed_after_the_death_of_its_holder_is_rejected() -> None:
    """That death did not lose the run."""
    run = next(run for run in runs_of("crowd") if int(run.partition("-")[2]) > KILLED + SECOND)
    spoilt = forge(GOOD, run, lambda row: row._replace(outcome="abandoned", holder=VICTIM))
    assert CAUSE in broken(spoilt)


@given(some("flaky"))
def test_second_attempt_after_a_success_is_rejected(run: str) -> None:
    """With `on_abandoned = record` a successful run is not repeated."""
    spoilt = change(
        GOOD, run, lambda line: line._replace(status=200) if line.status == 503 else line
    )
    assert TWICE in broken(spoilt)


def test_second_attempt_of_a_lost_run_is_rejected_under_record() -> None:
    """With `on_abandoned = record` a lost run is not dispatched again."""
    run = f"crowd-{START + 10 * SECOND}"
    again = Line("begin", KILLED + SECOND, 0, OTHER, "crowd", START + 10 * SECOND, run, 2)
    lines = sorted([*GOOD.lines, again], key=lambda line: line.wall)
    assert TWICE in broken(GOOD._replace(lines=tuple(lines)))


@given(some("flaky"))
def test_attempts_out_of_order_are_rejected(run: str) -> None:
    """The second attempt may not come before the first."""
    spoilt = change(GOOD, run, lambda line: line._replace(attempt=3 - line.attempt))
    assert ATTEMPTS in broken(spoilt)


@given(some("flaky"))
def test_failure_with_unused_retries_is_rejected(run: str) -> None:
    """A failure is retried while retries are left."""
    spoilt = change(GOOD, run, lambda line: line if line.attempt == 1 else None)
    spoilt = forge(spoilt, run, lambda row: row._replace(outcome="failed", attempt=1))
    assert broken(spoilt) == {RETRIED}


@given(any_run, st.sampled_from(["", "failed"]))
def test_record_with_another_outcome_is_rejected(run: str, outcome: str) -> None:
    """The record must agree with the response of the app."""
    assert HISTORY in broken(forge(GOOD, run, lambda row: row._replace(outcome=outcome)))


@given(some("plain"))
def test_dispatch_after_the_end_of_the_lease_is_rejected(run: str) -> None:
    """A process that continues after its lease has ended may not dispatch the claim."""
    line = next(line for line in GOOD.lines if line.run == run)
    stopped = line._replace(what="victim", point="stop-after-claim", wall=line.wall - 1)
    lines = sorted([*GOOD.lines, stopped], key=lambda one: one.wall)
    assert RESUMED in broken(GOOD._replace(lines=tuple(lines)))


def test_skips_after_a_kill_end_within_a_lease_and_a_second() -> None:
    """Later skips have no cause."""
    after = KILLED + 3 * SECOND + SECOND
    skipped = [
        Row("plain", tick, f"plain-{tick}", "skipped")
        for tick in range(START + 11 * SECOND, after + SECOND, SECOND)
    ]
    runs = {row.run for row in skipped}
    kept = tuple(row for row in GOOD.history if row.run not in runs)
    lines = tuple(line for line in GOOD.lines if line.run not in runs)
    spoilt = GOOD._replace(lines=lines, history=(*kept, *skipped))
    (verdict,) = [verdict for verdict in judge(spoilt) if verdict.rule == CAUSE]
    assert len(verdict.broken) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"fire_times": 7},
        {"ran": 7},
        {"passed": 7},
        {"unexplained": (START,)},
        {"twice": (f"plain-{START}",)},
        {"twice": ("unknown",)},
    ],
    ids=["fire times", "ran", "passed", "unexplained", "twice", "twice, unknown"],
)
def test_ledger_that_says_something_else_is_rejected(change: dict[str, Any]) -> None:
    """The grid, the history and the log of the app decide."""
    ledger = next(one for one in GOOD.accounts if one.task == "plain")
    wrong = GOOD._replace(accounts=(ledger._replace(**change),))
    assert LEDGER in broken(wrong)


@pytest.mark.parametrize(
    ("begins", "extras", "misses"),
    [
        pytest.param([1, 11], 0, 0, id="each in its own"),
        pytest.param([11, 12], 1, 1, id="two in one"),
        pytest.param([1, 2, 11], 1, 0, id="one too many"),
        pytest.param([1], 0, 1, id="one left over"),
        pytest.param([6, 11], 1, 1, id="too late for the first"),
    ],
)
def test_each_run_is_matched_to_the_window_that_ends_first(
    begins: list[int], extras: int, misses: int
) -> None:
    """Runs and windows without a partner are returned."""
    windows = [Window("a", 0, 5), Window("a", 10, 15)]
    left = match_windows(begins, windows)
    assert (len(left[0]), len(left[1])) == (extras, misses)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=6), st.data())
def test_matching_finds_all_partners(spans: list[tuple[int, int]], data: st.DataObject) -> None:
    """Runs that were drawn from overlapping windows one by one are all matched."""
    windows = sorted(Window("a", opens, opens + length) for opens, length in spans)
    begins = sorted(data.draw(st.integers(one.opens, one.closes)) for one in windows)
    assert match_windows(begins, windows) == ([], [])


def test_run_that_waits_for_a_retry_at_the_end_is_open_in_the_ledger() -> None:
    """It has been dispatched, and its fire time has no outcome yet."""
    last = max((row for row in GOOD.history if row.task == "flaky"), key=lambda row: row.fire_time)
    waiting = forge(GOOD, last.run, lambda row: row._replace(outcome="", attempt=1, holder=0))
    accounts = [
        one._replace(ran=one.ran - 1) if one.task == "flaky" else one for one in GOOD.accounts
    ]
    assert LEDGER not in broken(waiting._replace(accounts=tuple(accounts)))
    assert LEDGER in broken(waiting)
