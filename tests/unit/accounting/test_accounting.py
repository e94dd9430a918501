"""The ledger and the explanations are functions of the records: what they say about any records."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pulse.accounting.ledger import KINDS, Ledger, make_ledger
from pulse.accounting.why import MAX_EXPLANATIONS, NOT_A_FIRE_TIME, TOO_OLD, explain
from pulse.clock import SECOND, Instant
from pulse.core.records import (
    HOUR,
    PAUSED_REASON,
    PausedInterval,
    RefusedResult,
    ScheduleVersion,
    ServedInterval,
    Tally,
    TaskPosition,
    TaskRecords,
)
from pulse.core.run import Outcome, Run
from pulse.core.schedule_text import schedule_text
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval

MINUTE = 60 * SECOND
START: Instant = 1_767_225_600 * SECOND  # 2026-01-01T00:00:00Z
EACH_MINUTE = schedule_text(Interval("1m"))


def version(at: Instant = START, schedule: str = EACH_MINUTE, **words: object) -> ScheduleVersion:
    """Return a version whose first fire time is a minute after it."""
    known: dict[str, object] = {"anchor": at, "first": at + MINUTE, "decided": at}
    return ScheduleVersion(task="work", at=at, schedule=schedule, **(known | words))  # type: ignore[arg-type]


def run_at(number: int, outcome: Outcome | None = Outcome.SUCCEEDED, **words: object) -> Run:
    """Return the run of the fire time of that number."""
    at = START + number * MINUTE
    known: dict[str, object] = {
        "id": f"{number:032x}",
        "fire_time": at,
        "scheduled_for": at,
        "holder": "web1:7:a",
        "claimed_at": at,
        "started_at": at,
        "took_us": SECOND,
        "outcome": outcome,
    }
    return Run(task="work", **(known | words))  # type: ignore[arg-type]


def passed_at(number: int, count: int = 1, message: str = "found no process") -> Run:
    """Return a record of fire times that did not run."""
    words = {"attempt": 0, "holder": "", "started_at": None, "took_us": None, "claimed_at": None}
    return run_at(number, Outcome.MISSED, count=count, message=message, **words)


def records(fire_times: int, **words: object) -> TaskRecords:
    """Return the records of a task whose fire times up to a number are decided."""
    end = START + fire_times * MINUTE
    known: dict[str, object] = {
        "now": end,
        "lease_us": 30 * SECOND,
        "positions": [TaskPosition("", end + MINUTE, end)],
        "versions": [version()],
        "served": [ServedInterval("", START, end)],
    }
    return TaskRecords(**(known | words))  # type: ignore[arg-type]


def tally(hour: Instant, number: int, newest: Instant) -> Tally:
    """Return how many runs of an hour have succeeded and were deleted."""
    return Tally(hour, is_planned=True, kind="succeeded", number=number, newest=newest)


def numbers(ledger: Ledger) -> dict[str, int]:
    """Return the numbers of a ledger that are not 0."""
    return {kind: number for kind in KINDS if (number := getattr(ledger, kind))}


@given(st.lists(st.sampled_from(["ran", "missed", "open", "gone"]), min_size=1, max_size=40))
def test_ledger_accounts_for_each_fire_time_and_finds_each_that_is_gone(fates: list[str]) -> None:
    """Whatever became of them, the numbers are complete, and no lost row stays unseen."""
    runs = []
    for number, fate in enumerate(fates, 1):
        if fate == "ran":
            runs.append(run_at(number))
        elif fate == "missed":
            runs.append(passed_at(number))
        elif fate == "open":
            runs.append(
                run_at(number, None, attempt=0, holder="", claimed_at=None, started_at=None)
            )
    ledger = make_ledger("work", records(len(fates)), runs)
    assert ledger.fire_times == len(fates)
    assert numbers(ledger) == {
        {"gone": "unexplained"}.get(fate, fate): fates.count(fate) for fate in set(fates)
    }
    gone = [START + number * MINUTE for number, fate in enumerate(fates, 1) if fate == "gone"]
    assert [tick.fire_time for tick in ledger.unexplained_ticks] == gone
    assert ledger.is_clean == (not gone)


@given(st.integers(1, 600), st.integers(1, 600), st.data())
def test_runs_that_were_folded_into_tallies_are_never_unexplained(
    total: int, kept: int, data: st.DataObject
) -> None:
    """What is missing before the exact records is unknown."""
    kept = min(kept, total)
    folded = range(1, total - kept + 1)
    lost = data.draw(st.integers(0, min(3, len(folded))))
    tallies: dict[Instant, Tally] = {}
    for number in list(folded)[lost:]:
        at = START + number * MINUTE
        hour = at // HOUR * HOUR
        before = tallies.get(hour, tally(hour, 0, at))
        tallies[hour] = tally(hour, before.number + 1, at)
    runs = [run_at(number) for number in range(total - kept + 1, total + 1)]
    found = make_ledger("work", records(total, tallies=[*tallies.values()]), runs)
    assert found.fire_times == total
    assert found.ran == total - lost
    if tallies:
        assert (found.unknown, found.unexplained) == (lost, 0)
    else:
        assert (found.unknown, found.unexplained) == (0, lost)


def test_deleted_record_of_several_fire_times_covers_those_up_to_the_next_run() -> None:
    """Its tally has the oldest one; without a later run, all that are decided may be covered."""
    at = START + MINUTE
    missed = Tally(at // HOUR * HOUR, is_planned=True, kind="missed", number=3, newest=at)
    found = make_ledger("work", records(3, tallies=[missed]), [])
    assert numbers(found) == {"missed": 3}
    failed = [run_at(4, Outcome.FAILED)]
    found = make_ledger("work", records(5, tallies=[missed]), failed)
    assert numbers(found) == {"missed": 3, "ran": 1, "unexplained": 1}


def test_record_of_several_fire_times_covers_those_that_have_no_run_of_their_own() -> None:
    """A record of three fire times with a run in between covers the fourth."""
    runs = [passed_at(1, count=3), run_at(2), run_at(5)]
    found = make_ledger("work", records(5), runs)
    assert numbers(found) == {"ran": 2, "missed": 3}


def test_change_of_a_schedule_by_an_earlier_release_makes_a_fire_time_unknown() -> None:
    """The instant of such a change is not on record."""
    changed = START + 5 * MINUTE
    versions = [version(), version(changed, first=None, is_exact=False)]
    found = make_ledger("work", records(5, versions=versions), [run_at(1), run_at(2)])
    assert numbers(found) == {"ran": 2, "unknown": 3}
    [why] = explain("work", START + 4 * MINUTE, records(5, versions=versions), [], within=SECOND)
    assert why.kind == "unknown"
    assert "an earlier release of pulse changed the schedule" in why.text


def test_schedule_that_this_release_cannot_read_has_no_fire_times() -> None:
    """A later release has written it."""
    future = [version(schedule='{"moon":"full"}')]
    found = make_ledger("work", records(5, versions=future), [])
    assert (found.fire_times, found.is_clean) == (0, True)


def refused(attempt: int = 1, number: int = 1, began: int = 0) -> RefusedResult:
    """Return the result of a dispatch that the store has refused."""
    at = START + number * MINUTE
    return RefusedResult(
        run=f"{number:032x}",
        task="work",
        partition="",
        fire_time=at,
        attempt=attempt,
        holder="web2:9:b",
        started_at=at + began * SECOND,
        outcome=Outcome.SUCCEEDED,
        at=at + MINUTE,
    )


def test_refused_dispatch_is_listed_if_another_one_is_on_record() -> None:
    """Another process has repeated the run."""
    repeated = run_at(1, attempt=2, started_at=START + MINUTE + 40 * SECOND)
    found = make_ledger("work", records(1, refused=[refused()]), [repeated])
    assert [(one.run, one.attempt, one.holder) for one in found.twice] == [
        (repeated.id, 1, "web2:9:b")
    ]
    assert not found.is_clean


def test_two_refused_dispatches_of_one_run_are_two_dispatches() -> None:
    """Although the run itself was begun by none that was accepted."""
    both = [refused(), refused(began=3)]
    found = make_ledger("work", records(1, refused=both), [run_at(1, Outcome.ABANDONED)])
    assert found.twice


def test_refused_dispatch_of_a_run_that_nobody_else_began_is_one_dispatch() -> None:
    """The run was abandoned before its late dispatch."""
    lost = run_at(1, Outcome.ABANDONED, started_at=None, took_us=None)
    found = make_ledger("work", records(1, refused=[refused()]), [lost])
    assert (found.twice, numbers(found)) == ((), {"abandoned": 1})


def test_attempt_that_failed_before_a_retry_is_no_second_dispatch() -> None:
    """A retry asks for more than one dispatch."""
    retried = run_at(1, attempt=1, started_at=START + MINUTE)
    found = make_ledger("work", records(1, refused=[refused(attempt=2, began=9)]), [retried])
    assert found.twice == ()


def test_lateness_is_explained_by_what_the_records_show() -> None:
    """A gap of service, a run in progress, a pause, or slots that are full."""
    late = run_at(5, started_at=START + 8 * MINUTE, claimed_at=START + 8 * MINUTE)
    nobody = [
        ServedInterval("", START, START + 4 * MINUTE),
        ServedInterval("", START + 8 * MINUTE, START + 9 * MINUTE),
    ]
    [why] = explain("work", late.fire_time, records(9, served=nobody), [late], within=SECOND)
    assert "it started 3m late" in why.text
    assert "nobody served from about 2026-01-01T00:04:00Z to 2026-01-01T00:08:00Z" in why.text
    busy = run_at(4, took_us=4 * MINUTE)
    [why] = explain("work", late.fire_time, records(9), [late, busy], within=SECOND)
    assert f"run {busy.id} of 2026-01-01T00:04:00Z was still going" in why.text
    pause = PausedInterval(START + 4 * MINUTE, START + 7 * MINUTE, "ann", "release 7")
    [why] = explain("work", late.fire_time, records(9, pauses=[pause]), [late], within=SECOND)
    assert "ann" in why.text
    assert "release 7" in why.text
    waiting = msgspec.structs.replace(late, claimed_at=late.fire_time)
    [why] = explain("work", late.fire_time, records(9), [waiting], within=SECOND)
    assert "no free slot" in why.text


def test_fire_time_that_a_pause_covers_is_paused_before_and_after_it_is_recorded() -> None:
    """The record is written when the pause ends."""
    pause = PausedInterval(START + 3 * MINUTE, None, "ann", "release 7")
    behind = [TaskPosition("", START + 3 * MINUTE, START + 2 * MINUTE)]
    known = records(5, pauses=[pause], positions=behind)
    [why] = explain("work", START + 4 * MINUTE, known, [], within=SECOND)
    assert (why.kind, "recorded as missed when the pause ends" in why.text) == ("paused", True)
    [why] = explain(
        "work",
        START + 4 * MINUTE,
        records(5, pauses=[pause]),
        [passed_at(3, 3, PAUSED_REASON)],
        within=SECOND,
    )
    assert why.kind == "paused"
    assert "ann" in why.text


def test_clock_change_near_an_instant_is_named() -> None:
    """The half hour after one does not exist on that day."""
    spring = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    instant = int(spring.timestamp()) * SECOND
    daily = schedule_text(Cron("30 2 * * *", timezone="Europe/Berlin"))
    versions = [version(schedule=daily, first=START + 90 * MINUTE)]
    [why] = explain("work", instant, records(5, versions=versions), [], within=SECOND)
    assert why.kind == NOT_A_FIRE_TIME
    assert "the clock of Europe/Berlin changed by +60 minutes" in why.text


def test_zone_that_this_host_does_not_have_keeps_no_time_from_being_explained() -> None:
    """Another host, or a later release, has stored the schedule; the ends of time are none, too."""
    stored = '[["cron","30 2 * * *"],["timezone","Mars/Olympus"]]'
    versions = [version(schedule=stored, first=START + 90 * MINUTE)]
    [why] = explain("work", START + HOUR, records(5, versions=versions), [], within=SECOND)
    assert "the clock of" not in why.text
    last = 253_402_300_799 * SECOND
    daily = schedule_text(Cron("30 2 * * *", timezone="Europe/Berlin"))
    known = msgspec.structs.replace(
        records(5, versions=[version(schedule=daily, first=START + 90 * MINUTE)]), now=last + HOUR
    )
    assert explain("work", last, known, [], within=SECOND)


def test_answer_about_another_time_names_the_nearest_fire_times() -> None:
    """Between fire times, before the records, and in the future."""
    hourly = [version(schedule=schedule_text(Cron("0 * * * *")), first=START + HOUR)]
    half = START + HOUR + HOUR // 2
    [why] = explain("work", half, records(200, versions=hourly), [run_at(60)], within=SECOND)
    assert (why.kind, why.before, why.after) == (NOT_A_FIRE_TIME, START + HOUR, START + 2 * HOUR)
    [old] = explain("work", START - HOUR, records(5), [], within=SECOND)
    assert (old.kind, "2026-01-01T00:00:00Z" in old.text) == (TOO_OLD, True)
    [future] = explain("work", START + 9 * MINUTE, records(5), [], within=SECOND)
    assert (future.kind, future.text) == ("open", "it is in the future")


def test_task_that_was_out_of_use_says_so() -> None:
    """No live process declared it."""
    gone = version(START + 5 * MINUTE, schedule="", first=None, decided=START + 5 * MINUTE)
    known = records(20, versions=[version(), gone], positions=[])
    [why] = explain("work", START + 9 * MINUTE, known, [], within=SECOND)
    assert (why.kind, "it was not in use then" in why.text) == (NOT_A_FIRE_TIME, True)
    ledger = make_ledger("work", known, [run_at(number) for number in range(1, 6)])
    assert (ledger.fire_times, ledger.ran) == (5, 5)


def test_first_fire_times_of_a_long_time_are_explained() -> None:
    """A bounded number, each as it is alone."""
    runs = [run_at(number) for number in range(1, MAX_EXPLANATIONS + 10)]
    known = records(MAX_EXPLANATIONS + 10)
    found = explain("work", START, known, runs[::-1], within=30 * HOUR)
    assert len(found) == MAX_EXPLANATIONS
    for one in (found[1], found[-1]):
        assert explain("work", one.instant, known, runs[::-1], within=SECOND) == [one]
