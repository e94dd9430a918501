"""The checker accepts a good run with Celery workers, and rejects each run with one change."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.chaos.artifacts import SECOND, Case, Fault, Line, Row, keep_case, read_case
from tests.chaos.capacity import Capacity
from tests.chaos.checker import Judge, judge
from tests.chaos.good_posted_run import (
    BROKER,
    ENDED,
    FIRST,
    KILLED,
    LEASE,
    MAIN,
    OTHER_WEB,
    PURGE,
    SECOND_CHILD,
    THIRD,
    WAIT,
    WEB,
    good_posted_run,
    ready,
)
from tests.chaos.good_run import START, good_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

GOOD = good_posted_run()
WINDOWS = "runs fit windows"
STRANGERS = "nothing runs that is no tick"
TWICE = "no tick is dispatched twice"
OVERLAP = "no overlap where skip says so"
CAUSE = "a record that a tick did not run has a cause"
HISTORY = "the history agrees with the evidence"
RETRIED = "failures are retried"
LEDGER = "the ledger agrees"
STUCK = "no run stays in the queue"
FAILED = "no run fails where the app has not"
SILENT = "runs go on after each disturbance"
LOST = "what lost its lease is not dispatched"
ENDS = "a worker that gets SIGTERM ends"
OWN = "each run fits its own window"

CALM = START + 35 * SECOND
"""A fire time of `plain` and `crowd` far from all faults."""

FLAKY, NAP = CALM + SECOND, CALM + 3 * SECOND
"""Such fire times of `flaky` and `nap`."""


def broken(case: Case) -> set[str]:
    """Return the rules that a run breaks."""
    return {verdict.rule for verdict in judge(case) if verdict.broken}


def with_lines(case: Case, lines: Iterable[Line]) -> Case:
    """Return the case with these lines, in order."""
    return case._replace(lines=tuple(sorted(lines, key=lambda line: line.wall)))


def change(case: Case, run: str, edit: Callable[[Line], Line | None]) -> Case:
    """Return the case with each line of a run edited; None removes the line."""
    edited = (edit(line) if line.run == run else line for line in case.lines)
    return with_lines(case, (line for line in edited if line is not None))


def forge(case: Case, run: str, edit: Callable[[Row], Row]) -> Case:
    """Return the case with the record of a run edited."""
    return case._replace(
        history=tuple(edit(row) if row.run == run else row for row in case.history)
    )


def untaken(case: Case, run: str) -> Case:
    """Return the case with a run that no worker took."""
    claimed = change(case, run, lambda line: line if line.what == "claim" else None)
    return forge(
        claimed, run, lambda row: row._replace(outcome="missed", attempt=0, holder=0, untaken=True)
    )


def silenced(case: Case, since: int, until: int) -> Case:
    """Return the case without runs that began within a stretch."""
    lost = {line.run for line in case.lines if line.what == "begin" and since <= line.wall <= until}
    return with_lines(case, (line for line in case.lines if line.run not in lost))


def test_good_run_breaks_no_rule() -> None:
    """A killed child, a stopped broker and a purged queue are accepted."""
    assert broken(GOOD) == set()


def test_good_run_has_subjects_for_every_rule() -> None:
    """A rule without subjects would prove nothing."""
    idle = {verdict.rule for verdict in judge(GOOD) if not verdict.looked_at}
    assert idle <= {RETRIED, FAILED, ENDS, "what lost its lease is not dispatched"}


def test_run_without_celery_is_not_judged_by_these_rules() -> None:
    """Its windows are those of web processes."""
    assert not {verdict.rule for verdict in judge(good_run())} & {STUCK, FAILED, SILENT, ENDS, OWN}


def test_stored_run_can_be_checked_again(tmp_path: Path) -> None:
    """The folder contains the wait and the lines of workers."""
    import json

    lines = "".join(json.dumps(line._asdict()) + "\n" for line in GOOD.lines)
    (tmp_path / "evidence.jsonl").write_text(lines)
    keep_case(tmp_path, GOOD)
    assert read_case(tmp_path) == GOOD


# The queue -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "is_stuck"), [(WAIT + 2 * LEASE - SECOND, False), (WAIT + 2 * LEASE + SECOND, True)]
)
def test_run_that_stays_in_the_queue_is_rejected(age: int, *, is_stuck: bool) -> None:
    """It has to be recorded within its wait and two leases."""
    tick = ENDED - age
    tick -= tick % SECOND
    claimed = tick + SECOND // 2 if is_stuck else ENDED - age + SECOND // 10
    case = change(GOOD, f"crowd-{tick}", lambda line: line if line.what == "claim" else None)
    case = forge(
        case,
        f"crowd-{tick}",
        lambda row: row._replace(outcome="", holder=0, posted=True, claimed_at=claimed),
    )
    assert (STUCK in broken(case)) is is_stuck


def test_run_that_no_worker_took_needs_a_cause() -> None:
    """Far from all faults an idle worker has to take it."""
    assert CAUSE in broken(untaken(GOOD, f"crowd-{CALM}"))


def test_run_that_no_worker_took_is_accepted_while_all_are_busy() -> None:
    """No child was idle for a second during its wait."""
    busy = [
        line
        for number, pid in enumerate((SECOND_CHILD, THIRD))
        for line in (
            Line("begin", CALM - 1, 0, pid, "long", 0, f"long{number}", 1),
            Line("end", CALM + WAIT, 0, pid, "long", 0, f"long{number}", 1, 200),
        )
    ]
    case = untaken(GOOD, f"crowd-{CALM}")
    case = with_lines(case, [*case.lines, *busy])
    (verdict,) = [one for one in judge(case) if one.rule == CAUSE]
    assert not any("found no worker" in text for text in verdict.broken)


def test_run_that_is_missed_and_began_is_rejected() -> None:
    """A posted run is missed only if no worker took it."""
    run = f"crowd-{CALM}"
    assert STRANGERS in broken(
        forge(GOOD, run, lambda row: row._replace(outcome="missed", attempt=0))
    )


@pytest.mark.parametrize("purged", [False, True], ids=["calm", "purged"])
def test_retry_that_no_worker_took_needs_a_cause(*, purged: bool) -> None:
    """The first attempt has failed, and the record says that the second one found no worker."""
    tick = FLAKY
    run = f"flaky-{tick}"
    case = change(GOOD, run, lambda line: None if _is_second(line) else line)
    ended = partial(Row._replace, outcome="failed", attempt=1, holder=0, untaken=True)
    case = forge(case, run, ended)
    if purged:
        purge = Fault("purge", tick + SECOND // 10, tick + SECOND, (MAIN,))
        case = case._replace(faults=(*case.faults, purge))
    assert broken(case) - {WINDOWS} == (set() if purged else {CAUSE, RETRIED})


def _is_second(line: Line) -> bool:
    return line.attempt == 2 and line.what != "claim"


@pytest.mark.parametrize(("later", "accepted"), [(10, True), (12, False)])
def test_skips_for_a_run_in_the_queue_end_with_its_wait_and_two_leases(
    later: int, *, accepted: bool
) -> None:
    """Later skips have no cause."""
    tick = PURGE.began - PURGE.began % SECOND + (1 + later) * SECOND
    skipped = {f"plain-{one}" for one in range(PURGE.ended, tick + 1, SECOND // 10)}
    case = with_lines(GOOD, (line for line in GOOD.lines if line.run not in skipped))
    for run in skipped:
        case = forge(case, run, lambda row: row._replace(outcome="skipped", attempt=0))
    assert (CAUSE not in broken(case)) is accepted


# Windows ---------------------------------------------------------------------------------


def late(case: Case, run: str, by: int) -> Case:
    """Return the case with a run that began and ended later."""
    return change(
        case, run, lambda line: line if line.what == "claim" else line._replace(wall=line.wall + by)
    )


def test_run_that_waits_while_a_child_is_idle_is_rejected() -> None:
    """More than two seconds of delay need a cause."""
    assert OWN not in broken(late(GOOD, f"crowd-{CALM}", 1_900_000))
    assert OWN in broken(late(GOOD, f"crowd-{CALM}", 2_100_000))
    assert {OWN, WINDOWS} <= broken(late(GOOD, f"nap-{NAP}", 2_100_000))


def test_run_that_waits_while_no_child_is_idle_is_accepted() -> None:
    """Its window begins when a child is idle again."""
    tick = NAP + SECOND  # `nap` goes on for a second and more
    case = with_lines(GOOD, _with_long_run(GOOD, tick - 1, tick + SECOND // 2))
    busy = late(case, f"crowd-{tick}", 2 * SECOND + SECOND // 4)
    assert OWN not in broken(busy)
    assert OWN in broken(late(GOOD, f"crowd-{tick}", 2 * SECOND + SECOND // 4))


def _with_long_run(case: Case, began: int, ended: int) -> list[Line]:
    """Let a run keep the child busy that executes all but naps."""
    named = ("crowd", began - began % SECOND, f"crowd-{began - began % SECOND}", 1)
    kept = [line for line in case.lines if line.run != named[2]]
    begin = Line("begin", began - SECOND // 2, 0, SECOND_CHILD, *named)
    return [*kept, begin, Line("end", ended, 0, SECOND_CHILD, *named, 200)]


def test_worker_that_is_idle_does_not_help_one_that_is_busy() -> None:
    """The message may have gone to the busy one."""
    tick = NAP + SECOND
    case = with_lines(GOOD, _with_long_run(GOOD, tick - 1, tick + SECOND // 2))
    case = late(case, f"crowd-{tick}", 2 * SECOND + SECOND // 4)
    before = START - SECOND
    others = [
        ready(before, 31)._replace(worker="worker1"),
        Line("consume", before, 0, 30, worker="worker1"),
    ]
    assert OWN not in broken(with_lines(case, [*case.lines, *others]))


@pytest.mark.parametrize(("after", "accepted"), [(9, True), (12, False)])
def test_window_closes_ten_seconds_after_a_fault_of_the_broker(
    after: int, *, accepted: bool
) -> None:
    """Whatever has kept runs from beginning."""
    tick = BROKER.ended - BROKER.ended % SECOND
    alone = GOOD._replace(faults=(BROKER,))
    quiet = silenced(alone, BROKER.ended, tick + after * SECOND)
    run = f"crowd-{tick}"
    began = tick + after * SECOND + SECOND // 2
    named = ("crowd", tick, run, 1)
    lines = [
        *quiet.lines,
        Line("begin", began, 0, SECOND_CHILD, *named),
        Line("end", began + 1, 0, SECOND_CHILD, *named, 200),
    ]
    assert (OWN not in broken(with_lines(quiet, lines))) is accepted


def test_missed_tick_is_rejected_while_only_workers_are_away() -> None:
    """Web processes claim and post it, and it waits in the queue."""
    away = Fault("kill-worker", CALM - SECOND, CALM - SECOND, (MAIN, SECOND_CHILD, THIRD))
    back = [ready(CALM + 3 * SECOND, 41), ready(CALM + 3 * SECOND, 42)]
    consume = Line("consume", CALM + 3 * SECOND, 0, 40, worker="worker0")
    run = f"plain-{CALM}"
    unclaimed = change(GOOD, run, lambda _: None)
    missed = forge(unclaimed, run, lambda row: row._replace(outcome="missed", attempt=0))
    case = with_lines(missed, [*missed.lines, *back, consume])
    (verdict,) = [
        one for one in judge(case._replace(faults=(*case.faults, away))) if one.rule == CAUSE
    ]
    assert any(text.startswith("plain") and "missed" in text for text in verdict.broken)


def test_missed_tick_is_accepted_while_the_broker_is_away() -> None:
    """Web processes claim nothing then."""
    missed = [row for row in GOOD.history if row.task == "plain" and row.outcome == "missed"]
    assert any(BROKER.began < row.fire_time < BROKER.ended for row in missed)
    without = GOOD._replace(faults=tuple(one for one in GOOD.faults if one is not BROKER))
    assert CAUSE in broken(without)


@pytest.mark.parametrize(("stopped_s", "accepted"), [(2, True), (7, False)])
def test_run_of_a_stopped_poster_is_dispatched_until_others_could_have_abandoned_it(
    stopped_s: int, *, accepted: bool
) -> None:
    """The lease alone does not end it: a worker may take the run once its poster goes on."""
    run = f"plain-{CALM}"
    begin = next(line for line in GOOD.lines if line.run == run and line.what == "begin")
    stop = Fault("stop-after-claim", begin.wall - stopped_s * SECOND, begin.wall - 1, (WEB,))
    victim = begin._replace(what="victim", point=stop.kind, wall=stop.began, pid=WEB)
    case = GOOD._replace(faults=(*GOOD.faults, stop))
    assert (LOST not in broken(with_lines(case, [*case.lines, victim]))) is accepted


def test_process_that_has_noticed_a_fault_of_the_broker_claims_once_it_has_noticed_its_end() -> (
    None
):
    """Within six seconds without pauses; one that has claimed nothing meanwhile is not waiting."""
    ended, tick = BROKER.ended, BROKER.began + SECOND // 2
    waits = Line("claim", tick, 0, WEB, "plain", tick, f"plain-{tick}", 1)
    alone = GOOD._replace(faults=(BROKER,), lines=tuple(
        line for line in GOOD.lines
        if line.what != "claim" and not (line.what == "start" and line.pid == OTHER_WEB)
    ))  # fmt: skip
    unaware, aware = Capacity(alone), Capacity(with_lines(alone, [*alone.lines, waits]))
    assert unaware.claims(ended) < ended + 6 * SECOND <= aware.claims(ended)
    soon = waits._replace(wall=ended + 2 * SECOND, run="other")
    begin = soon._replace(what="begin", wall=ended + 3 * SECOND, pid=FIRST)
    noticed = Capacity(with_lines(alone, [*alone.lines, waits, soon, begin]))
    assert noticed.claims(ended) == begin.wall
    pause = Fault("stop", ended + SECOND, ended + 3 * SECOND, (WEB,))
    lines = [*alone.lines, waits]
    paused = Capacity(with_lines(alone._replace(faults=(BROKER, pause)), lines))
    assert paused.claims(ended) == aware.claims(ended) + 2 * SECOND
    again = Fault("proxy-cut", ended + 4 * SECOND, ended + 5 * SECOND, ())
    twice = Capacity(with_lines(alone._replace(faults=(BROKER, again)), lines))
    assert twice.claims(ended) == aware.claims(ended) + again.ended - ended


# Faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "bound"),
    [
        pytest.param(BROKER.ended, 10 * SECOND, id="the broker is back"),
        pytest.param(KILLED, 5 * SECOND, id="a child was killed"),
    ],
)
def test_silence_after_a_disturbance_is_rejected(ended: int, bound: int) -> None:
    """A run has to begin within the bound."""
    faults = tuple(one for one in GOOD.faults if one.ended == ended)
    alone = GOOD._replace(faults=faults)
    assert SILENT not in broken(silenced(alone, ended, ended + bound - SECOND - 1))
    assert SILENT in broken(silenced(alone, ended, ended + bound + SECOND))


def test_silence_after_the_start_of_a_worker_is_rejected() -> None:
    """The bound counts from the line of the new worker."""
    at, start = CALM, CALM + 3 * SECOND
    death = Fault("kill-worker", at, at, (MAIN, SECOND_CHILD, THIRD))
    lines = [*GOOD.lines, ready(start, 41), Line("consume", start, 0, 40, worker="worker0")]
    case = with_lines(GOOD._replace(faults=(death,)), lines)
    assert SILENT not in broken(silenced(case, at, start + 4 * SECOND))
    assert SILENT in broken(silenced(case, at, start + 6 * SECOND))


def test_silence_is_not_rejected_while_another_fault_goes_on() -> None:
    """The bound counts from the end of the last one."""
    death = Fault("kill-child", BROKER.began + 1, BROKER.began + 1, (FIRST,))
    case = GOOD._replace(faults=(BROKER, death))
    assert SILENT not in broken(silenced(case, BROKER.began, BROKER.ended + 9 * SECOND))


@pytest.mark.parametrize("answered", [False, True])
def test_failed_run_is_rejected_unless_the_app_has_failed(*, answered: bool) -> None:
    """A fault of the broker fails no run."""
    run = f"crowd-{CALM}"

    def edit(line: Line) -> Line | None:
        if line.what != "end":
            return line
        return line._replace(status=503) if answered else None

    case = forge(change(GOOD, run, edit), run, lambda row: row._replace(outcome="failed"))
    assert (FAILED in broken(case)) is not answered


def test_attempt_that_two_workers_took_is_rejected() -> None:
    """A message that comes twice is executed once."""
    copies = [
        line._replace(pid=THIRD, wall=line.wall + 1)
        for line in GOOD.lines
        if line.run == f"crowd-{CALM}" and line.what == "begin"
    ]
    assert TWICE in broken(with_lines(GOOD, [*GOOD.lines, *copies]))


@pytest.mark.parametrize("stopped", [False, True])
def test_overlap_needs_a_child_that_was_stopped(*, stopped: bool) -> None:
    """A run of a task begins during another one only if the holder of that was stopped."""
    run = f"nap-{NAP}"
    longer = change(
        GOOD, run, lambda line: line._replace(wall=line.wall + (line.what == "end") * 5 * SECOND)
    )
    stop = Fault("stop-child", NAP + SECOND, NAP + 7 * SECOND, (THIRD,))
    case = longer._replace(faults=(*longer.faults, *((stop,) if stopped else ())))
    assert (OVERLAP in broken(case)) is not stopped


@pytest.mark.parametrize(
    ("holder", "accepted"), [pytest.param(SECOND_CHILD, True), pytest.param(OTHER_WEB, False)]
)
def test_claim_that_a_worker_takes_during_its_wait_may_be_lost_in_an_outage(
    holder: int, *, accepted: bool
) -> None:
    """The outage begins after the claim of the web process, and before a worker takes the run."""
    run = f"crowd-{CALM}"
    outage = Fault("store-pause", CALM + 2 * SECOND, CALM + 5 * SECOND)
    case = change(GOOD, run, lambda line: line if line.what == "claim" else None)
    case = forge(case, run, lambda row: row._replace(outcome="abandoned", holder=holder))
    case = case._replace(faults=(*case.faults, outage))
    (verdict,) = [one for one in judge(case) if one.rule == CAUSE]
    assert (not any("was abandoned" in text for text in verdict.broken)) is accepted


def test_worker_that_got_sigterm_takes_nothing() -> None:
    """From then on no worker is there, until another one is started."""
    end = Fault("term-worker", CALM, CALM + 2 * SECOND, (MAIN, SECOND_CHILD, THIRD))
    capacity = Capacity(GOOD._replace(faults=(*GOOD.faults, end)))
    assert capacity.workers is not None
    assert capacity.workers.there[-1][1] == CALM
    assert capacity.workers.pids == {MAIN, FIRST, SECOND_CHILD, THIRD}
    assert WEB not in capacity.workers.pids


@pytest.mark.parametrize(("took_s", "accepted"), [(19, True), (21, False)])
def test_worker_that_does_not_end_is_rejected(took_s: int, *, accepted: bool) -> None:
    """It is killed then, and the run goes on."""
    end = Fault("term-worker", ENDED, ENDED + took_s * SECOND)
    assert (ENDS not in broken(GOOD._replace(faults=(*GOOD.faults, end)))) is accepted


def test_claim_that_was_never_sent_holds_back_other_fire_times_of_its_task() -> None:
    """Until its loss is found out; one of several runs that may go on at once does not."""
    stop = Fault("stop", CALM + 2_000, CALM + 6 * SECOND, (WEB,))
    case = GOOD._replace(faults=(stop,))
    for name, one_at_once in (("plain", True), ("crowd", False)):
        run = f"{name}-{CALM}"
        case = change(case, run, lambda line: line if line.what == "claim" else None)
        case = forge(case, run, lambda row: row._replace(outcome="abandoned", holder=WEB))
        judged = Judge(case)
        (spec,) = [one for one in case.specs if one.name == name]
        found_out = judged.capacity.unsent(WEB, CALM + 1_000)
        assert found_out > CALM + LEASE
        since = found_out if one_at_once else CALM - SECOND
        assert judged.deadline(spec, CALM - SECOND) == since + 2 * SECOND
