"""The checker lets a good run pass, and fails each one that is spoilt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.artifacts import SECOND, Case, Line, Row
from tests.chaos.checker import judge
from tests.chaos.good_run import KILLED, LENGTH_S, OTHER, START, VICTIM, good_run
from tests.chaos.window_matching import Window, sweep

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
RESUMED = "what lost its lease is not dispatched"

CALM = {START + second * SECOND for second in (*range(8), *range(16, LENGTH_S - 4))}
"""Ticks whose runs are far from the kill, for which the checker makes no allowance."""


def broken(case: Case) -> set[str]:
    """Return the rules that a run breaks."""
    return {verdict.rule for verdict in judge(case) if verdict.broken}


def runs_of(task: str) -> list[str]:
    """Return the ids of the task's runs that nothing happened to."""
    began = [line for line in GOOD.lines if line.what == "begin" and line.attempt == 1]
    return [line.run for line in began if line.task == task and line.fire_time in CALM]


def change(case: Case, run: str, edit: Callable[[Line], Line | None]) -> Case:
    """Return the case with an edit of each line of a run; None takes the line away."""
    edited = [edit(line) if line.run == run else line for line in case.lines]
    kept = [line for line in edited if line is not None]
    return case._replace(lines=tuple(sorted(kept, key=lambda line: line.wall)))


def forge(case: Case, run: str, edit: Callable[[Row], Row | None]) -> Case:
    """Return the case with an edit of a run's row."""
    edited = [edit(row) if row.run == run else row for row in case.history]
    return case._replace(history=tuple(row for row in edited if row is not None))


def some(task: str) -> st.SearchStrategy[str]:
    """Choose one of the task's runs."""
    return st.sampled_from(runs_of(task))


any_run = st.sampled_from(
    [run for task in ("plain", "nap", "crowd", "flaky") for run in runs_of(task)]
)


def test_a_good_run_breaks_no_rule() -> None:
    """Kills, skips and reruns that have their causes are none of the checker's business."""
    assert broken(GOOD) == set()


def test_every_rule_has_something_to_look_at() -> None:
    """A rule that is held against nothing would prove nothing."""
    idle = {verdict.rule for verdict in judge(GOOD) if not verdict.looked_at}
    assert idle <= {RETRIED, RESUMED}


@given(any_run)
def test_a_run_that_vanishes_is_a_miss(run: str) -> None:
    """Without evidence and row a tick is nowhere, and its window is left over."""
    spoilt = forge(change(GOOD, run, lambda _: None), run, lambda _: None)
    assert {ACCOUNTED, WINDOWS} <= broken(spoilt)


@given(any_run)
def test_a_run_without_evidence_is_no_run(run: str) -> None:
    """A history that claims a success which the app has not seen is found out."""
    assert HISTORY in broken(change(GOOD, run, lambda _: None))


@given(any_run)
def test_a_run_without_a_row_is_found(run: str) -> None:
    """What the app saw has to be in the history."""
    assert HISTORY in broken(forge(GOOD, run, lambda _: None))


@given(any_run, st.integers(1, SECOND))
def test_a_run_that_is_doubled_is_an_extra(run: str, later: int) -> None:
    """A second dispatch under another id fits no window, and no tick has two runs."""
    copies = [
        line._replace(run="copy", wall=line.wall + later)
        for line in GOOD.lines
        if line.run == run and line.attempt == 1
    ]
    lines = sorted([*GOOD.lines, *copies], key=lambda line: line.wall)
    assert {WINDOWS, TWICE, HISTORY} <= broken(GOOD._replace(lines=tuple(lines)))


@given(any_run)
def test_an_attempt_that_is_doubled_is_found(run: str) -> None:
    """The same attempt may not begin twice."""
    copies = [
        line._replace(wall=line.wall + 1)
        for line in GOOD.lines
        if (line.run, line.what) == (run, "begin")
    ]
    spoilt = GOOD._replace(lines=tuple(sorted([*GOOD.lines, *copies], key=lambda line: line.wall)))
    assert {TWICE, ATTEMPTS} <= broken(spoilt)


@given(any_run, st.integers(1_100_000, 5 * SECOND))
def test_a_run_out_of_its_window_is_found(run: str, late: int) -> None:
    """More than a second late is a miss and an extra where nothing was in the way."""
    assert WINDOWS in broken(change(GOOD, run, lambda line: line._replace(wall=line.wall + late)))


@given(any_run, st.integers(4_000, SECOND))
def test_a_run_before_its_fire_time_is_found(run: str, early: int) -> None:
    """Nothing may be early, not by a millisecond."""
    assert STRANGERS in broken(
        change(GOOD, run, lambda line: line._replace(wall=line.wall - early))
    )


@given(any_run, st.integers(1, SECOND - 1))
def test_a_fire_time_off_the_grid_is_found(run: str, off: int) -> None:
    """Only ticks run."""
    spoilt = change(GOOD, run, lambda line: line._replace(fire_time=line.fire_time + off))
    assert {STRANGERS, HISTORY} <= broken(spoilt)


@given(some("nap"), st.integers(1_500_000, 3 * SECOND))
def test_runs_that_overlap_are_found(run: str, longer: int) -> None:
    """A run that goes on while the next one begins breaks `skip`."""
    spoilt = change(
        GOOD, run, lambda line: line._replace(wall=line.wall + longer * (line.what == "end"))
    )
    assert OVERLAP in broken(spoilt)


@given(any_run, st.sampled_from(["missed", "skipped", "abandoned", "interrupted", "timed_out"]))
def test_a_row_that_says_that_a_run_did_not_happen_is_found(run: str, outcome: str) -> None:
    """What ran cannot be on record as not run, nor as lost while its process lived."""
    spoilt = forge(GOOD, run, lambda row: row._replace(outcome=outcome))
    assert broken(spoilt) & {CAUSE, STRANGERS}


@given(some("plain"), st.sampled_from(["missed", "skipped"]))
def test_a_tick_that_is_on_record_without_a_cause_is_found(run: str, outcome: str) -> None:
    """A process was there, and nothing was going: the tick had to run."""
    spoilt = forge(
        change(GOOD, run, lambda _: None), run, lambda row: row._replace(outcome=outcome)
    )
    assert broken(spoilt) == {CAUSE}


@given(some("crowd"), st.sampled_from(["missed", "skipped"]))
def test_no_tick_passes_where_all_of_them_run(run: str, outcome: str) -> None:
    """Under `misfire = all` and `overlap = allow` nothing is a cause."""
    spoilt = forge(
        change(GOOD, run, lambda _: None), run, lambda row: row._replace(outcome=outcome)
    )
    assert CAUSE in broken(spoilt)


@given(any_run)
def test_an_abandoned_run_needs_a_victim(run: str) -> None:
    """A claim that vanished in a process that lived is nobody's fault but the store's."""
    spoilt = change(GOOD, run, lambda line: None if line.what == "end" else line)
    assert CAUSE in broken(forge(spoilt, run, lambda row: row._replace(outcome="abandoned")))


def test_a_victim_excuses_nothing_that_came_later() -> None:
    """A run claimed after the death of its holder was not lost by that death."""
    run = next(run for run in runs_of("crowd") if int(run.partition("-")[2]) > KILLED + SECOND)
    spoilt = forge(GOOD, run, lambda row: row._replace(outcome="abandoned", holder=VICTIM))
    assert CAUSE in broken(spoilt)


@given(some("flaky"))
def test_an_attempt_needs_a_failure_before_it(run: str) -> None:
    """With `on_abandoned = record` a run that succeeded is not tried again."""
    spoilt = change(
        GOOD, run, lambda line: line._replace(status=200) if line.status == 503 else line
    )
    assert TWICE in broken(spoilt)


def test_a_lost_run_is_not_dispatched_again() -> None:
    """With `on_abandoned = record` a second attempt at a victim's run is one too many."""
    run = f"crowd-{START + 10 * SECOND}"
    again = Line("begin", KILLED + SECOND, 0, OTHER, "crowd", START + 10 * SECOND, run, 2)
    lines = sorted([*GOOD.lines, again], key=lambda line: line.wall)
    assert TWICE in broken(GOOD._replace(lines=tuple(lines)))


@given(some("flaky"))
def test_attempts_that_fall_are_found(run: str) -> None:
    """The second attempt may not come before the first."""
    spoilt = change(GOOD, run, lambda line: line._replace(attempt=3 - line.attempt))
    assert ATTEMPTS in broken(spoilt)


@given(some("flaky"))
def test_a_failure_that_is_given_up_early_is_found(run: str) -> None:
    """As long as there are retries left a failure is tried again."""
    spoilt = change(GOOD, run, lambda line: line if line.attempt == 1 else None)
    spoilt = forge(spoilt, run, lambda row: row._replace(outcome="failed", attempt=1))
    assert broken(spoilt) == {RETRIED}


@given(any_run, st.sampled_from(["", "failed"]))
def test_a_row_with_another_outcome_is_found(run: str, outcome: str) -> None:
    """The row says how the app answered."""
    assert HISTORY in broken(forge(GOOD, run, lambda row: row._replace(outcome=outcome)))


@given(some("plain"))
def test_a_claim_that_was_stopped_before_its_dispatch_stays_undispatched(run: str) -> None:
    """A process that comes back after its lease has ended may not go on with it."""
    line = next(line for line in GOOD.lines if line.run == run)
    stopped = line._replace(what="victim", point="stop-after-claim", wall=line.wall - 1)
    lines = sorted([*GOOD.lines, stopped], key=lambda one: one.wall)
    assert RESUMED in broken(GOOD._replace(lines=tuple(lines)))


def test_a_task_held_by_a_victim_goes_on_within_a_lease_and_a_second() -> None:
    """The skips that a killed process causes end then."""
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
    ("begins", "extras", "misses"),
    [
        pytest.param([1, 11], 0, 0, id="each in its own"),
        pytest.param([11, 12], 1, 1, id="two in one"),
        pytest.param([1, 2, 11], 1, 0, id="one too many"),
        pytest.param([1], 0, 1, id="one left over"),
        pytest.param([6, 11], 1, 1, id="too late for the first"),
    ],
)
def test_the_sweep_gives_each_run_the_window_that_ends_first(
    begins: list[int], extras: int, misses: int
) -> None:
    """Runs and windows that find no partner are left over."""
    windows = [Window("a", 0, 5), Window("a", 10, 15)]
    left = sweep(begins, windows)
    assert (len(left[0]), len(left[1])) == (extras, misses)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10)), max_size=6), st.data())
def test_the_sweep_finds_partners_wherever_there_are_some(
    spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Runs that were drawn from windows one by one match them all, overlap as they may."""
    windows = sorted(Window("a", opens, opens + length) for opens, length in spans)
    begins = sorted(data.draw(st.integers(one.opens, one.closes)) for one in windows)
    assert sweep(begins, windows) == ([], [])
