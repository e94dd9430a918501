"""Time travel: how a test of an application observes the schedule."""

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
from pulse.core.cursor import due_at, first_cursor
from pulse.core.planner import plan
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
def test_runs_do_not_depend_on_the_steps_of_the_time_travel(lengths: list[int], every: int) -> None:
    """Many short steps lead to the same runs as one step."""
    with travel(built(tasks={"work": Task(action="work", interval=every)})) as clock:
        for seconds in lengths:
            clock.forward(seconds)
    grid = [NOON + timedelta(seconds=every * n) for n in range(1, sum(lengths) // every + 1)]
    assert [run.fire_time for run in clock.runs()] == grid


@pytest.mark.parametrize("mode", ["threading", "processing", "gevent", "auto"])
def test_configured_mode_has_no_effect(mode: str) -> None:
    """Runs happen in this process and this thread."""
    seen = []

    def noting(environ: dict, start_response: Callable) -> list[bytes]:
        seen.append(threading.current_thread())
        return view(environ, start_response)

    app = built(noting, mode=mode, application="site_app:app")
    before = set(threading.enumerate())
    with travel(app) as clock:
        clock.forward("1h")
    assert seen == [threading.current_thread()]
    assert set(threading.enumerate()) <= before


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured store is neither created nor opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with travel(built(store="sqlite:///pulse.db")) as one, travel(built()) as other:
        one.forward("1h")
        other.forward("1h")
    assert [*tmp_path.iterdir()] == []


def test_run_has_the_response_of_the_app() -> None:
    """Fire time, outcome, status, message, attempts and trigger are plain values."""
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


def test_exception_of_the_app_fails_the_run() -> None:
    """The message has the traceback, and the time travel continues."""

    def broken(_environ: dict, _start_response: Callable) -> list[bytes]:
        raise RuntimeError("no such table")

    with travel(built(broken)) as clock:
        clock.forward("2h")
        runs = clock.runs()
    assert (outcomes(runs), "no such table" in runs[0].message) == (["failed", "failed"], True)


def test_time_travel_starts_at_its_start() -> None:
    """The grid begins when the store sees the task for the first time, at the start."""
    with travel(built(), start="2027-03-01T00:00:00+01:00") as clock:
        clock.forward("1h")
    assert [run.fire_time.isoformat() for run in clock.runs()] == ["2027-03-01T00:00:00+00:00"]


def test_start_up_run_happens_at_the_start() -> None:
    """A task with `run_at_start` has run before time has passed."""
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
def test_length_may_have_any_form(length: object, words: dict, verb: str) -> None:
    """Seconds, a duration, a timedelta, and units as keywords are accepted and added."""
    with travel(built()) as clock:
        getattr(clock, verb)(length, **words)
        assert clock.now() == NOON + timedelta(minutes=90)


@pytest.mark.parametrize("verb", ["forward", "outage"])
def test_missing_length_is_an_error(verb: str) -> None:
    """A forgotten argument does not make a test pass."""
    with travel(built()) as clock, pytest.raises(BadValueError, match="expected seconds"):
        getattr(clock, verb)()


def test_travel_to_runs_everything_up_to_its_moment() -> None:
    """The moment is included."""
    with travel(built()) as clock:
        clock.travel_to(NOON + timedelta(hours=3))
        assert (len(clock.runs()), clock.now()) == (3, NOON + timedelta(hours=3))


def test_travel_to_an_earlier_moment_is_refused() -> None:
    """Only the wall clock can be set back."""
    with travel(built()) as clock, pytest.raises(BadValueError, match="not before 2026-01-05T12"):
        clock.travel_to(NOON - timedelta(hours=3))


def test_after_an_outage_the_newest_tick_runs() -> None:
    """The other ticks are missed, on one record with their count."""
    with travel(built()) as clock:
        clock.outage("5h")
        runs = clock.runs()
    found = [(run.outcome, run.count, run.trigger) for run in runs]
    assert found == [("missed", 4, "schedule"), ("succeeded", 1, "catch_up")]


def test_clock_set_back_repeats_no_tick() -> None:
    """A tick of an hour does not run again when the hour comes again."""
    with travel(built()) as clock:
        clock.forward("3h")
        clock.set_wall(NOON)
        clock.forward("3h")
        assert len(clock.runs()) == 3


def test_clock_set_forward_causes_one_catch_up() -> None:
    """The length of the step has no effect."""
    with travel(built()) as clock:
        clock.set_wall(datetime(2036, 1, 5, 12, tzinfo=UTC))
        assert outcomes(clock.runs()) == ["missed", "succeeded"]


def test_tick_during_an_earlier_run_is_skipped() -> None:
    """The policy `overlap` decides."""
    with travel(built(timeout="2h"), took={"work": "90m"}) as clock:
        clock.forward("3h")
        runs = clock.runs()
    assert outcomes(runs) == ["succeeded", "skipped", None]
    assert runs[0].took == timedelta(minutes=90)


def test_run_longer_than_its_timeout_is_timed_out_at_its_end() -> None:
    """Runs in threads behave in the same way."""
    with travel(built(timeout="2m"), took={"work": "3m"}) as clock:
        clock.forward("63m")
    assert outcomes(clock.runs()) == ["timed_out"]


def test_runs_are_limited_by_concurrency() -> None:
    """A tick waits until a slot is free."""
    tasks = {name: Task(action=name, interval="1h") for name in ("one", "two")}
    with travel(built(tasks=tasks, concurrency=1), took={"one": 30, "two": 30}) as clock:
        clock.forward("61m")
        started = [run.started_at for run in clock.runs()]
    assert started[1] - started[0] == timedelta(seconds=30)


def test_triggered_task_runs_at_once() -> None:
    """The run has the given body, and trigger returns the run."""
    bodies = []

    def noting(environ: dict, start_response: Callable) -> list[bytes]:
        bodies.append(environ["wsgi.input"].read())
        return view(environ, start_response)

    with travel(built(noting)) as clock:
        run = clock.trigger("work", body="now")
    assert (run.outcome, run.trigger, bodies) == ("succeeded", "manual", [b"now"])


def test_trigger_that_overlap_refuses_returns_none() -> None:
    """The handle returns None, too."""
    with travel(built(), took={"work": "1m"}) as clock:
        clock.forward("1h")
        assert clock.trigger("work") is None


def test_handle_of_a_view_controls_the_virtual_schedule() -> None:
    """A view triggers and pauses tasks, and reads runs by `environ["pulse.scheduler"]`."""

    def asking(environ: dict, start_response: Callable) -> list[bytes]:
        if environ["PATH_INFO"] == "/work":
            environ["pulse.scheduler"].trigger("other")
            environ["pulse.scheduler"].pause("work")
        return view(environ, start_response)

    tasks = {"work": HOURLY, "other": Task(action="other", interval="1d")}
    with travel(built(asking, tasks=tasks)) as clock:
        clock.forward("3h")
        found = [(run.task, run.trigger) for run in clock.runs()]
    assert found == [("work", "schedule"), ("other", "manual")]


def test_request_of_a_test_has_the_handle_of_the_time_travel() -> None:
    """The request does not start another scheduler."""
    app = built(lambda environ, _: [environ["pulse.scheduler"].tasks()])
    with travel(app) as clock:
        clock.scheduler.pause("work")
        ((state,),) = app({"REQUEST_METHOD": "GET"}, None)
    assert state.paused


def test_middleware_can_travel_again() -> None:
    """After the end the middleware is in its initial state."""
    app = built()
    for _ in range(2):
        with travel(app) as clock:
            clock.forward("1h")
        assert len(clock.runs()) == 1
    with pytest.raises(NotServingError):
        app.scheduler.tasks()


def test_call_after_the_end_is_an_error() -> None:
    """The call would move time."""
    with travel(built()) as clock:
        pass
    with pytest.raises(TravelError, match="has ended"):
        clock.forward("1h")


def test_second_end_has_no_effect() -> None:
    """The history does not change."""
    with travel(built()) as clock:
        clock.end()
    assert clock.runs() == []


def test_second_time_travel_of_an_app_is_refused() -> None:
    """Each would affect the other."""
    app = built()
    with travel(app), pytest.raises(TravelError, match="runs already"), travel(app):
        pytest.fail("a second time travel started")


def test_app_with_a_started_scheduler_is_refused() -> None:
    """The real scheduler would continue in real time."""
    app = built(store="memory:", start="eager")
    try:
        with pytest.raises(TravelError, match="runs already"), travel(app):
            pytest.fail("time travel started")
    finally:
        app.runtime.shutdown(None)


def test_call_from_within_a_run_is_refused() -> None:
    """The call that moved time first raises the error."""
    clocks = []

    def travelling(environ: dict, start_response: Callable) -> list[bytes]:
        clocks[0].forward("1h")
        return view(environ, start_response)

    with travel(built(travelling)) as clock:
        clocks.append(clock)
        with pytest.raises(TravelError, match="from within a run"):
            clock.forward("1h")


def test_tasks_that_trigger_each_other_without_end_are_an_error() -> None:
    """Otherwise the test would hang."""

    def again(environ: dict, start_response: Callable) -> list[bytes]:
        other = {"/one": "two", "/two": "one"}[environ["PATH_INFO"]]
        environ["pulse.scheduler"].trigger(other)
        return view(environ, start_response)

    tasks = {name: Task(action=name, interval="1h", max_running=9) for name in ("one", "two")}
    with travel(built(again, tasks=tasks)) as clock, pytest.raises(TravelError, match="each other"):
        clock.trigger("one")


def test_error_of_the_scheduler_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is not only logged."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bad schedule")

    with travel(built()) as clock:
        monkeypatch.setattr(Interval, "next_after", broken)
        with pytest.raises(ZeroDivisionError, match="a bad schedule"):
            clock.forward("1h")


def test_error_at_the_start_ends_the_time_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same app can travel later."""
    app = built()
    with monkeypatch.context() as patch:
        patch.setattr(pulse.testing.virtual_engine.VirtualEngine, "end_due", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError), travel(app):
            pytest.fail("the time travel started")
    with travel(app) as clock:
        clock.forward("1h")
    assert len(clock.runs()) == 1


@pytest.mark.parametrize("call", ["runs", "trigger"])
def test_unknown_task_is_an_error(call: str) -> None:
    """Otherwise a misspelt name would look like a task without runs."""
    with travel(built()) as clock, pytest.raises(UnknownTaskError, match="did you mean 'work'"):
        getattr(clock, call)("wrok")


def test_error_names_all_problems_of_took() -> None:
    """A problem is an unknown task, or an invalid duration."""
    with pytest.raises(ConfigError) as caught, travel(built(), took={"wrok": 1, "work": "soon"}):
        pytest.fail("the time travel started")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "took['wrok']",
        "took['work']",
    ]


def test_time_travel_needs_no_pytest() -> None:
    """A script or a test of `unittest` can travel."""
    code = "import pulse.testing, sys; pulse.testing.travel; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_those_of_all() -> None:
    """`from pulse.testing import ...` offers each name of `__all__`, and no other."""
    names = [getattr(pulse.testing, name).__name__ for name in pulse.testing.__all__]
    assert (names, dir(pulse.testing)) == (pulse.testing.__all__, sorted(pulse.testing.__all__))


def test_unknown_public_name_is_an_attribute_error() -> None:
    """A misspelt import fails as in every module."""
    with pytest.raises(AttributeError, match="travle"):
        _ = pulse.testing.travle


ADDED = Task(action="/report", interval="1m")


def test_runtime_task_runs_in_time_travel() -> None:
    """Its runs are among those of all tasks, and `trigger` accepts its name."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        found = [run.task for run in clock.runs()]
        assert (found, clock.trigger("report").outcome) == (["report"] * 3, "succeeded")


def test_runs_of_a_runtime_task_are_found_by_its_name() -> None:
    """A task in the store is known, whatever declared it."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 3


def test_runs_of_a_task_that_a_view_added_are_found_by_its_name() -> None:
    """The handle in the environ adds to the same schedule."""

    def adding(environ: dict, start_response: Callable) -> list[bytes]:
        if environ["PATH_INFO"] == "/work":
            environ["pulse.scheduler"].add("report", ADDED, replace=True)
        return view(environ, start_response)

    with travel(built(adding)) as clock:
        clock.forward("62m")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 2


def test_runs_of_a_runtime_task_are_found_after_the_end() -> None:
    """The history is available after the end."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
    assert outcomes(clock.runs("report")) == ["succeeded"] * 3


def test_runs_of_a_task_removed_at_run_time_are_found_by_its_name() -> None:
    """A removed task has a history."""
    with travel(built()) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("2m")
        clock.scheduler.remove("report")
        assert outcomes(clock.runs("report")) == ["succeeded"] * 2


def test_runs_of_a_runtime_task_can_take_time() -> None:
    """Its overlap shows, too."""
    with travel(built(), took={"report": "90s"}) as clock:
        clock.scheduler.add("report", ADDED)
        clock.forward("3m")
        found = outcomes([run for run in clock.runs() if run.task == "report"])
    assert found == ["succeeded", "skipped", None]


def test_task_that_a_view_adds_can_take_time() -> None:
    """The duration is given before the task is added."""

    def adding(environ: dict, start_response: Callable) -> list[bytes]:
        if environ["PATH_INFO"] == "/work":
            environ["pulse.scheduler"].add("work 2", ADDED, replace=True)
        return view(environ, start_response)

    with travel(built(adding), took={"work 2": 5}) as clock:
        clock.forward("61m30s")
        assert {run.took for run in clock.runs("work 2")} == {timedelta(seconds=5)}


def test_took_of_a_task_that_was_never_there_is_an_error_at_the_end() -> None:
    """A misspelt name has no effect, which a test should not take for a result."""
    with pytest.raises(ConfigError) as caught, travel(built(), took={"wrok": 1}) as clock:
        clock.forward("1h")
    assert caught.value.problems == (
        "took['wrok']: expected the name of a task, got 'wrok'; did you mean 'work'?",
    )


def test_failed_test_has_a_note_on_a_task_that_was_never_there() -> None:
    """The failure of the test stays the error, and the note may be its reason."""
    with pytest.raises(KeyError) as caught, travel(built(), took={"wrok": 1}):
        raise KeyError("of the test")
    assert caught.value.__notes__ == [
        "took['wrok']: expected the name of a task, got 'wrok'; did you mean 'work'?"
    ]


@pytest.mark.parametrize("name", [None, 7, b"work", ["work"]], ids=repr)
def test_trigger_of_what_is_no_name_is_an_error(name: object) -> None:
    """The handle says the same."""
    with travel(built()) as clock, pytest.raises(UnknownTaskError, match="the name of a task"):
        clock.trigger(name)


@pytest.mark.parametrize("name", [7, b"work", ["work"]], ids=repr)
def test_runs_of_what_is_no_name_are_an_error(name: object) -> None:
    """A list is no name, and cannot be looked up."""
    with travel(built()) as clock, pytest.raises(UnknownTaskError, match="the name of a task"):
        clock.runs(name)


@pytest.mark.parametrize("scope", ["fleet", "host", "process"])
def test_jitter_is_the_same_in_every_test(scope: str) -> None:
    """A tick of a host or a process is spread by its name, which differs in reality."""
    task = Task(action="/work", interval="1h", jitter="30m", scope=scope)
    found = []
    for _ in range(3):
        with travel(built(tasks={"work": task})) as clock:
            clock.forward("5h")
            assert [member.host for member in clock.scheduler.members()] == ["test"]
        found.append([run.started_at for run in clock.runs()])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 4


STRICT = [
    {"grace": 0},
    {"grace": "1us"},
    {"grace": 0, "misfire": "skip"},
    {"grace": 0, "misfire": "all"},
    {"grace": 0, "jitter": "30m"},
]
"""Settings under which a tick that begins a millisecond late is missed."""


def first_outcome(settings: dict[str, object]) -> str | None:
    """Return the outcome of the first tick of an hourly task; None if the settings are refused."""
    try:
        task = Task(action="work", interval="1h", **settings)
    except ConfigError:
        return None
    with travel(built(tasks={"work": task})) as clock:
        clock.forward("2h")
        return clock.runs("work")[0].outcome


@pytest.mark.parametrize("settings", STRICT, ids=str)
def test_tick_a_millisecond_late_is_missed_with_a_grace_of_zero(
    settings: dict[str, object],
) -> None:
    """No real process starts a tick at its exact microsecond."""
    definition = build_definition("work", Task(action="work", interval="1h", **settings))
    cursor = first_cursor(definition, instant_of(NOON))
    planned = plan(definition, cursor, 0, due_at(cursor) + 1_000)
    assert (planned.opened, planned.missed.count) == (None, 1)


@pytest.mark.parametrize("settings", STRICT, ids=str)
def test_time_travel_shows_no_run_that_a_grace_of_zero_forbids(settings: dict[str, object]) -> None:
    """A tick that is always missed in reality is missed, or its declaration is refused."""
    assert first_outcome(settings) in {"missed", None}


def test_lateness_of_claims_moves_no_instant() -> None:
    """Nothing starts early, and runs and requests have the instants of the virtual clock."""
    with travel(built()) as clock:
        clock.forward(timedelta(minutes=59, seconds=59, microseconds=999_500))
        early = clock.runs()
        clock.forward("500us")
        (tick,) = clock.runs()
        manual = clock.trigger("work")
    an_hour_later = NOON + timedelta(hours=1)
    assert early == []
    assert (tick.fire_time, tick.started_at) == (an_hour_later, an_hour_later)
    assert (manual.fire_time, manual.started_at) == (an_hour_later, an_hour_later)


def test_time_travel_runs_ticks_with_a_grace_of_a_second() -> None:
    """The default and any usual grace let a tick run on time."""
    assert first_outcome({"grace": "1s", "misfire": "skip", "jitter": "30m"}) == "succeeded"
