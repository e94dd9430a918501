"""Time travel: what a test of an application sees of its schedule."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pulse.testing
from pulse import PulseMiddleware, Task
from pulse.clock import instant_of
from pulse.core.planner import due_at, first_cursor, plan
from pulse.core.task import build_definition
from pulse.errors import (
    BadValueError,
    ConfigError,
    NotServingError,
    TravelError,
    UnknownTaskError,
)
from pulse.schedule.interval import Interval
from pulse.testing import TravelRun, travel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOURLY = Task(action="work", interval="1h")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def view(_environ: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


def built(app: Callable = view, **keywords: object) -> PulseMiddleware:
    """Return a middleware with an hourly task, unless the keywords say otherwise."""
    return PulseMiddleware(app, **({"tasks": {"work": HOURLY}} | keywords))


def outcomes(runs: list[TravelRun]) -> list[str | None]:
    """Return how runs ended."""
    return [run.outcome for run in runs]


def test_a_day_of_a_five_minute_task_is_288_runs() -> None:
    """Every tick of 24 hours runs once, at its fire time."""
    app = built(tasks={"work": Task(action="work", interval="5m")})
    with travel(app) as clock:
        clock.forward(hours=24)
        runs = clock.runs("work")
    steps = {later.fire_time - run.fire_time for run, later in pairwise(runs)}
    assert (len(runs), steps) == (288, {timedelta(minutes=5)})


@given(lengths=st.lists(st.integers(1, 10_000), max_size=6), every=st.integers(60, 4_000))
def test_what_runs_does_not_depend_on_the_stages_of_the_trip(
    lengths: list[int], every: int
) -> None:
    """Many short stages lead to the same runs as a single one: those of the interval's grid."""
    with travel(built(tasks={"work": Task(action="work", interval=every)})) as clock:
        for seconds in lengths:
            clock.forward(seconds)
    grid = [NOON + timedelta(seconds=every * n) for n in range(1, sum(lengths) // every + 1)]
    assert [run.fire_time for run in clock.runs()] == grid


@pytest.mark.parametrize("mode", ["threading", "processing", "gevent", "auto"])
def test_the_mode_that_is_configured_does_not_matter(mode: str) -> None:
    """Runs happen in this process and this thread."""
    seen = []

    def noting(environ: dict, start_response: Callable) -> list[bytes]:
        seen.append(threading.current_thread())
        return view(environ, start_response)

    app = built(noting, mode=mode, application="site_app:app")
    before = threading.active_count()
    with travel(app) as clock:
        clock.forward("1h")
    assert (seen, threading.active_count()) == ([threading.current_thread()], before)


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that is configured is neither made nor opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with travel(built(store="sqlite:///pulse.db")) as one, travel(built()) as other:
        one.forward("1h")
        other.forward("1h")
    assert [*tmp_path.iterdir()] == []


def test_a_run_tells_what_the_app_answered() -> None:
    """Fire time, outcome, status, message, attempts and trigger, as values that tests compare."""
    with travel(built()) as clock:
        clock.forward("1h")
        (run,) = clock.runs("work")
    assert run == TravelRun(
        task="work",
        fire_time=NOON + timedelta(hours=1),
        outcome="succeeded",
        status=200,
        message="done",
        attempts=1,
        trigger="schedule",
        count=1,
        started_at=NOON + timedelta(hours=1),
        took=timedelta(0),
    )


def test_what_the_app_raises_is_the_runs_failure() -> None:
    """It is on record with its traceback, and the trip goes on."""

    def broken(_environ: dict, _start_response: Callable) -> list[bytes]:
        raise RuntimeError("no such table")

    with travel(built(broken)) as clock:
        clock.forward("2h")
        runs = clock.runs()
    assert (outcomes(runs), "no such table" in runs[0].message) == (["failed", "failed"], True)


def test_the_trip_starts_where_it_is_told() -> None:
    """The grid begins when the store first sees the task, which is the start."""
    with travel(built(), start="2027-03-01T00:00:00+01:00") as clock:
        clock.forward("1h")
    assert [run.fire_time.isoformat() for run in clock.runs()] == ["2027-03-01T00:00:00+00:00"]


def test_a_start_up_run_is_there_from_the_start() -> None:
    """A task with `run_at_start` has run before any time has passed."""
    app = built(tasks={"work": Task(action="work", interval="1h", run_at_start=True)})
    with travel(app) as clock:
        assert [(run.trigger, run.outcome) for run in clock.runs()] == [("startup", "succeeded")]


@pytest.mark.parametrize("verb", ["forward", "outage"])
@pytest.mark.parametrize(
    ("length", "words"),
    [
        ("1h30m", {}),
        (timedelta(hours=1), {"minutes": 30}),
        (0, {"hours": 1.5}),
        (1800, {"hours": 1}),
        (0, {"seconds": 5400}),
    ],
)
def test_a_length_is_told_in_any_words(length: object, words: dict, verb: str) -> None:
    """Seconds, a duration, a timedelta, and units as keywords that add up."""
    with travel(built()) as clock:
        getattr(clock, verb)(length, **words)
        assert clock.now() == NOON + timedelta(minutes=90)


@pytest.mark.parametrize("verb", ["forward", "outage"])
def test_no_length_is_an_error(verb: str) -> None:
    """A forgotten argument does not pass for a test that travels."""
    with travel(built()) as clock, pytest.raises(BadValueError, match="expected seconds"):
        getattr(clock, verb)()


def test_one_travels_to_a_moment() -> None:
    """All that is due up to that moment runs, the moment included."""
    with travel(built()) as clock:
        clock.travel_to(NOON + timedelta(hours=3))
        assert (len(clock.runs()), clock.now()) == (3, NOON + timedelta(hours=3))


def test_nobody_travels_back() -> None:
    """Time passes one way; the wall clock alone can be set."""
    with travel(built()) as clock, pytest.raises(BadValueError, match="not before 2026-01-05T12"):
        clock.travel_to(NOON - timedelta(hours=3))


def test_after_an_outage_the_newest_tick_runs() -> None:
    """The others are missed, on one record with their count."""
    with travel(built()) as clock:
        clock.outage("5h")
        runs = clock.runs()
    told = [(run.outcome, run.count, run.trigger) for run in runs]
    assert told == [("missed", 4, "schedule"), ("succeeded", 1, "catch_up")]


def test_a_clock_that_is_set_back_repeats_no_tick() -> None:
    """What ran at an hour does not run again when that hour comes a second time."""
    with travel(built()) as clock:
        clock.forward("3h")
        clock.set_wall(NOON)
        clock.forward("3h")
        assert len(clock.runs()) == 3


def test_a_clock_that_is_set_forth_gives_one_catch_up() -> None:
    """However far it is."""
    with travel(built()) as clock:
        clock.set_wall(datetime(2036, 1, 5, 12, tzinfo=UTC))
        assert outcomes(clock.runs()) == ["missed", "succeeded"]


def test_runs_that_take_time_meet_their_successors() -> None:
    """A tick that finds the run before it still going is skipped, as `overlap` says."""
    with travel(built(timeout="2h"), took={"work": "90m"}) as clock:
        clock.forward("3h")
        runs = clock.runs()
    assert outcomes(runs) == ["succeeded", "skipped", None]
    assert runs[0].took == timedelta(minutes=90)


def test_a_run_that_takes_longer_than_its_timeout_is_timed_out() -> None:
    """It goes on to its end, as runs in threads do."""
    with travel(built(timeout="2m"), took={"work": "3m"}) as clock:
        clock.forward("63m")
    assert outcomes(clock.runs()) == ["timed_out"]


def test_a_process_takes_no_more_runs_than_its_concurrency() -> None:
    """A tick waits until a run that holds the slot has ended."""
    tasks = {name: Task(action=name, interval="1h") for name in ("one", "two")}
    with travel(built(tasks=tasks, concurrency=1), took={"one": 30, "two": 30}) as clock:
        clock.forward("61m")
        started = [run.started_at for run in clock.runs()]
    assert started[1] - started[0] == timedelta(seconds=30)


def test_a_task_can_be_triggered() -> None:
    """It runs at once, with the body that was given, and its run is answered."""
    bodies = []

    def noting(environ: dict, start_response: Callable) -> list[bytes]:
        bodies.append(environ["wsgi.input"].read())
        return view(environ, start_response)

    with travel(built(noting)) as clock:
        run = clock.trigger("work", body="now")
    assert (run.outcome, run.trigger, bodies) == ("succeeded", "manual", [b"now"])


def test_a_trigger_that_overlap_refuses_answers_nothing() -> None:
    """As the handle's does."""
    with travel(built(), took={"work": "1m"}) as clock:
        clock.forward("1h")
        assert clock.trigger("work") is None


def test_views_speak_to_the_schedule() -> None:
    """`environ["pulse.scheduler"]` is the travelling one: a view triggers, pauses, asks."""

    def asking(environ: dict, start_response: Callable) -> list[bytes]:
        if environ["PATH_INFO"] == "/work":
            environ["pulse.scheduler"].trigger("other")
            environ["pulse.scheduler"].pause("work")
        return view(environ, start_response)

    tasks = {"work": HOURLY, "other": Task(action="other", interval="1d")}
    with travel(built(asking, tasks=tasks)) as clock:
        clock.forward("3h")
        told = [(run.task, run.trigger) for run in clock.runs()]
    assert told == [("work", "schedule"), ("other", "manual")]


def test_requests_of_the_test_meet_the_same_schedule() -> None:
    """A request through the middleware finds the travelling handle and begins nothing else."""
    app = built(lambda environ, _: [environ["pulse.scheduler"].tasks()])
    with travel(app) as clock:
        clock.scheduler.pause("work")
        ((state,),) = app({"REQUEST_METHOD": "GET"}, None)
    assert state.paused


def test_after_the_trip_the_handle_is_free() -> None:
    """The middleware is as it was before, and travels again from the beginning."""
    app = built()
    for _ in range(2):
        with travel(app) as clock:
            clock.forward("1h")
        assert len(clock.runs()) == 1
    with pytest.raises(NotServingError):
        app.scheduler.tasks()


def test_after_the_trip_no_time_passes() -> None:
    """A call that would move the time is an error."""
    with travel(built()) as clock:
        pass
    with pytest.raises(TravelError, match="has ended"):
        clock.forward("1h")


def test_a_trip_ends_once() -> None:
    """A second end changes nothing."""
    with travel(built()) as clock:
        clock.end()
    assert clock.runs() == []


def test_two_trips_of_one_app_at_once_are_refused() -> None:
    """Each would see what the other does."""
    app = built()
    with travel(app), pytest.raises(TravelError, match="runs already"), travel(app):
        pytest.fail("a second trip began")


def test_an_app_whose_pulse_runs_is_refused() -> None:
    """The real scheduler would go on in the real time."""
    app = built(store="memory:", start="eager")
    try:
        with pytest.raises(TravelError, match="runs already"), travel(app):
            pytest.fail("a trip began")
    finally:
        app.runtime.shutdown(None)


def test_no_run_travels() -> None:
    """A view that moves the time is told of at the call that moved it first."""
    clocks = []

    def travelling(environ: dict, start_response: Callable) -> list[bytes]:
        clocks[0].forward("1h")
        return view(environ, start_response)

    with travel(built(travelling)) as clock:
        clocks.append(clock)
        with pytest.raises(TravelError, match="from within a run"):
            clock.forward("1h")


def test_tasks_that_trigger_each_other_for_ever_are_told() -> None:
    """Rather than that the test hangs."""

    def again(environ: dict, start_response: Callable) -> list[bytes]:
        other = {"/one": "two", "/two": "one"}[environ["PATH_INFO"]]
        environ["pulse.scheduler"].trigger(other)
        return view(environ, start_response)

    tasks = {name: Task(action=name, interval="1h", max_running=9) for name in ("one", "two")}
    with travel(built(again, tasks=tasks)) as clock, pytest.raises(TravelError, match="each other"):
        clock.trigger("one")


def test_an_error_of_the_scheduler_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not left to the log."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bad schedule")

    with travel(built()) as clock:
        monkeypatch.setattr(Interval, "next_after", broken)
        with pytest.raises(ZeroDivisionError, match="a bad schedule"):
            clock.forward("1h")


def test_an_error_at_the_start_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same app can travel later."""
    app = built()
    with monkeypatch.context() as patch:
        patch.setattr(pulse.testing.virtual_engine.VirtualEngine, "end_due", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError), travel(app):
            pytest.fail("the trip began")
    with travel(app) as clock:
        clock.forward("1h")
    assert len(clock.runs()) == 1


@pytest.mark.parametrize("call", ["runs", "trigger"])
def test_a_task_that_is_not_there_is_an_error(call: str) -> None:
    """A misspelt name would else pass for a task that never ran."""
    with travel(built()) as clock, pytest.raises(UnknownTaskError, match="did you mean 'work'"):
        getattr(clock, call)("wrok")


def test_all_that_is_wrong_with_took_is_told() -> None:
    """A name that is no task, and a value that is no duration."""
    with pytest.raises(ConfigError) as caught, travel(built(), took={"wrok": 1, "work": "soon"}):
        pytest.fail("the trip began")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "took['wrok']",
        "took['work']",
    ]


def test_travelling_needs_no_pytest() -> None:
    """A script, or a test of `unittest`, travels as well."""
    code = "import pulse.testing, sys; pulse.testing.travel; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_names_are_those_that_are_listed() -> None:
    """`from pulse.testing import ...` offers each name of `__all__`, and no other."""
    names = [getattr(pulse.testing, name).__name__ for name in pulse.testing.__all__]
    assert (names, dir(pulse.testing)) == (pulse.testing.__all__, sorted(pulse.testing.__all__))


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    """A misspelt import fails as every module's does."""
    with pytest.raises(AttributeError, match="travle"):
        _ = pulse.testing.travle


ADDED = Task(action="/report", interval="1m")


def test_a_task_added_at_run_time_runs_in_a_trip() -> None:
    """Its runs are among those of all tasks, and `trigger` knows its name."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        told = [run.task for run in clock.runs()]
        assert (told, clock.trigger("report").outcome) == (["report"] * 3, "succeeded")


@pytest.mark.xfail(strict=True, raises=UnknownTaskError, reason="issue 11")
def test_runs_of_a_task_added_at_run_time_are_found_by_its_name() -> None:
    """A task that is in the store is known, whoever declared it."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 3


@pytest.mark.xfail(strict=True, raises=UnknownTaskError, reason="issue 11")
def test_runs_of_a_task_that_a_view_added_are_found_by_its_name() -> None:
    """The handle in the environ adds to the same schedule."""

    def adding(environ: dict, start_response: Callable) -> list[bytes]:
        if environ["PATH_INFO"] == "/work":
            environ["pulse.scheduler"].add("report", ADDED, replace=True)
        return view(environ, start_response)

    with travel(built(adding)) as clock:
        clock.forward("62m")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 2


@pytest.mark.xfail(strict=True, raises=UnknownTaskError, reason="issue 11")
def test_runs_of_a_task_added_at_run_time_are_found_after_the_trip() -> None:
    """The history of a trip outlives it."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
    assert outcomes(clock.runs("report")) == ["succeeded"] * 3


@pytest.mark.xfail(strict=True, raises=UnknownTaskError, reason="issue 11")
def test_runs_of_a_task_removed_at_run_time_are_found_by_its_name() -> None:
    """A task that was removed has a history."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("2m")
        clock.scheduler.remove("report")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 2


@pytest.mark.xfail(strict=True, raises=ConfigError, reason="issue 11")
def test_runs_of_a_task_added_at_run_time_can_take_time() -> None:
    """Overlap shows for such a task as well."""
    with travel(built(), took={"report": "90s"}) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        told = outcomes([run for run in clock.runs() if run.task == "report"])
    assert told == ["succeeded", "skipped", None]


STRICT = [
    {"grace": 0},
    {"grace": "1us"},
    {"grace": 0, "misfire": "skip"},
    {"grace": 0, "misfire": "all"},
    {"grace": 0, "jitter": "30m"},
]
"""Settings under which a tick that begins a millisecond late is missed."""


def first_outcome(settings: dict[str, object]) -> str | None:
    """Return how the first tick of an hourly task ends in a trip; None where it is refused."""
    try:
        task = Task(action="work", interval="1h", **settings)
    except ConfigError:
        return None
    with travel(built(tasks={"work": task})) as clock:
        clock.forward("2h")
        return clock.runs("work")[0].outcome


@pytest.mark.parametrize("settings", STRICT, ids=str)
def test_a_tick_that_begins_a_millisecond_late_is_missed_under_no_grace(
    settings: dict[str, object],
) -> None:
    """No process of the real world begins a tick at its very microsecond."""
    definition = build_definition("work", Task(action="work", interval="1h", **settings))
    cursor = first_cursor(definition, instant_of(NOON))
    planned = plan(definition, cursor, 0, due_at(cursor) + 1_000)
    assert (planned.opened, planned.missed.count) == (None, 1)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")
@pytest.mark.parametrize("settings", STRICT, ids=str)
def test_a_trip_does_not_promise_runs_that_no_grace_forbids(settings: dict[str, object]) -> None:
    """What is always missed in reality is missed in a trip, or refused when it is declared."""
    assert first_outcome(settings) in {"missed", None}


def test_a_trip_runs_what_a_grace_of_a_second_allows() -> None:
    """The default and any usual grace let a tick run at its time."""
    assert first_outcome({"grace": "1s", "misfire": "skip", "jitter": "30m"}) == "succeeded"
