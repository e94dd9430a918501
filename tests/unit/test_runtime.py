"""How a runtime is built, started and shut down in this process."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulse import events
from pulse.clock import SECOND, SystemClock
from pulse.config.loader import load
from pulse.core.run import Outcome, Trigger
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import Task
from pulse.errors import NotServingError
from pulse.runtime import PulseRuntime, drain_within
from pulse.scheduler.loop import Scheduler
from pulse.testing.recorder import Recorder

AT_ONCE = Task(action="cleanup", interval=3600, run_at_start=True)


def view(_: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


@pytest.fixture
def runtime() -> Iterator[PulseRuntime]:
    """Return a runtime with a memory store that is shut down after the test."""
    made = PulseRuntime(
        view, load({}, {"store": "memory:", "tasks": {"cleanup": AT_ONCE}}), clock=SystemClock()
    )
    yield made
    made.shutdown(None)
    for copy in made._inherited:  # forks are simulated: the threads of copies run in this process
        copy._engine.stop(0)


def test_a_started_runtime_runs_due_tasks(runtime: PulseRuntime) -> None:
    """A task with `run_at_start` is requested soon after the start."""
    seen = Recorder(runtime.bus)
    runtime.start()
    (ended,) = seen.wait_for(events.RunEnded)
    assert ended.result.outcome is Outcome.SUCCEEDED
    assert ended.claim.run.trigger is Trigger.STARTUP


def test_before_the_start_the_handle_raises(runtime: PulseRuntime) -> None:
    """Building a runtime starts no scheduler."""
    with pytest.raises(NotServingError):
        runtime.handle.tasks()


def test_after_the_shutdown_the_handle_raises(runtime: PulseRuntime) -> None:
    """The process has no scheduler any more."""
    runtime.start()
    runtime.shutdown(None)
    with pytest.raises(NotServingError):
        runtime.handle.tasks()


def test_a_triggered_run_is_performed_at_once(runtime: PulseRuntime) -> None:
    """The handle wakes the loop, so a manual run does not wait for the next poll."""
    seen = Recorder(runtime.bus)
    runtime.start()
    seen.wait_for(events.RunEnded)
    runtime.handle.trigger("cleanup")
    manual = seen.wait_for(
        events.RunEnded, where=lambda event: event.claim.run.trigger is Trigger.MANUAL
    )
    assert len(manual) == 1


def test_nothing_is_claimed_if_the_server_accepts_no_work(runtime: PulseRuntime) -> None:
    """The function of `set_accepting` is called before each claim."""
    asked = []
    runtime.set_accepting(lambda: bool(asked.append(None)))
    seen = Recorder(runtime.bus)
    runtime.start()
    seen.wait_for(events.SchedulerStarted)
    runtime.handle.trigger("cleanup")
    runtime.shutdown(None)
    assert seen.of(events.RunClaimed) == []
    assert asked


def test_stop_claiming_and_shutdown_before_the_start_have_no_effect(runtime: PulseRuntime) -> None:
    """A server may stop a process in which pulse never started."""
    runtime.stop_claiming()
    runtime.shutdown(5.0)
    assert runtime.handle is not None


def test_after_stop_claiming_nothing_is_claimed(runtime: PulseRuntime) -> None:
    """A triggered run stays in the store."""
    seen = Recorder(runtime.bus)
    runtime.start()
    seen.wait_for(events.RunEnded)
    runtime.stop_claiming()
    runtime.handle.trigger("cleanup")
    runtime.shutdown(None)
    assert len(seen.of(events.RunClaimed)) == 1


@pytest.mark.parametrize(
    ("limit_s", "expected"),
    [
        pytest.param(None, 25 * SECOND, id="no limit"),
        pytest.param(60.0, 25 * SECOND, id="a generous server"),
        pytest.param(10.0, 9 * SECOND, id="a strict server, less a second"),
        pytest.param(0.5, 0, id="no time at all"),
    ],
)
def test_the_drain_is_the_lesser_of_setting_and_server(limit_s: float, expected: int) -> None:
    """The drain ends before the server kills the process."""
    assert drain_within(25 * SECOND, limit_s) == expected


def test_in_an_unpatched_process_mode_gevent_warns_and_runs_threads() -> None:
    """One ini file works under gunicorn's gevent workers and under waitress."""
    runtime = PulseRuntime(
        view,
        load({}, {"mode": "gevent", "store": "memory:", "tasks": {"cleanup": AT_ONCE}}),
        clock=SystemClock(),
    )
    seen = Recorder(runtime.bus)
    runtime.start()
    started = seen.wait_for(events.SchedulerStarted)
    runtime.shutdown(None)
    assert [event.mode for event in started] == ["threading"]
    assert "gevent" in seen.of(events.Notice)[0].text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"store": "sqlite:///pulse.db", "name": "shop"}, ("shop", True)),
        ({"store": "sqlite:///pulse.db"}, ("", True)),
        ({"name": "shop"}, ("shop", False)),
    ],
    ids=["both", "a store", "a name"],
)
def test_the_start_event_has_the_name_and_whether_the_store_was_set(
    words: dict[str, str],
    expected: tuple[str, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a name, all middlewares with one explicit store are one application."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = PulseRuntime(
        view, load({}, {**words, "tasks": {"cleanup": AT_ONCE}}), clock=SystemClock()
    )
    seen = Recorder(made.bus)
    made.start()
    (started,) = seen.wait_for(events.SchedulerStarted)
    made.shutdown(None)
    assert (started.name, started.chosen) == expected


def test_importing_and_building_load_nothing_that_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mode `threading` with an SQLite store imports neither gevent nor WebOb nor paste."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage loads sqlite3
    code = (
        "import sys, json\n"
        "from pulse import PulseMiddleware, Task\n"
        "PulseMiddleware(lambda e, s: [], start='off', tasks={'a': Task(action='a', interval=1)})\n"
        "names = ['gevent', 'webob', 'paste.deploy', 'gunicorn', 'sqlite3', 'subprocess']\n"
        "print(json.dumps([name for name in names if name in sys.modules]))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert json.loads(found.stdout) == []


def test_defaults_of_run_time_tasks_come_from_the_configuration() -> None:
    """They hold what a task may omit, and the paths that the guard covers."""
    words = {"context": "sessions", "timeout": 7, "timezone": "Asia/Tokyo", "guard": True}
    settings = load({}, {**words, "guarded": "/reports", "tasks": {"cleanup": AT_ONCE}})
    assert settings.task_defaults() == TaskDefaults(
        context="sessions",
        timeout_us=7 * SECOND,
        timezone="Asia/Tokyo",
        guarded=("/reports", "/sessions/cleanup"),
    )


def test_without_a_guard_run_time_tasks_may_have_any_path() -> None:
    """No list of guarded paths exists then."""
    assert load({}, {}).task_defaults().guarded is None


def test_an_extra_guarded_path_is_refused() -> None:
    """It is refused even before a task with such a path is added."""
    settings = load({}, {"guard": True, "guarded": "/reports", "store": "memory:"})
    guard = PulseRuntime(view, settings, clock=SystemClock()).guard
    assert guard is not None
    assert guard.refuses({"PATH_INFO": "/reports/send"})


# In a forked child ----------------------------------------------------------------------------


def test_a_copy_refuses_calls(runtime: PulseRuntime) -> None:
    """The handle raises, as in a process in which pulse has not started."""
    runtime.start()
    runtime.forked()
    with pytest.raises(NotServingError):
        runtime.handle.tasks()


def test_a_copy_is_not_shut_down(runtime: PulseRuntime) -> None:
    """Copied hooks and at-exit functions have no effect."""
    seen = Recorder(runtime.bus)
    runtime.start()
    seen.wait_for(events.RunEnded)
    runtime.forked()
    runtime.stop_claiming()
    runtime.shutdown(None)
    assert seen.of(events.SchedulerStopped) == []


def test_a_worker_starts_with_objects_of_its_own(runtime: PulseRuntime) -> None:
    """A master may have started before the fork; the worker uses none of its objects."""
    seen = Recorder(runtime.bus)
    runtime.start()
    seen.wait_for(events.RunEnded)
    runtime.forked()
    seen.events.clear()
    runtime.start()
    (ended,) = seen.wait_for(events.RunEnded)
    assert ended.claim.run.trigger is Trigger.STARTUP
    assert len(runtime.handle.runs()) == 1


def test_a_fork_during_a_start_stops_that_start_in_the_child(
    runtime: PulseRuntime,
) -> None:
    """A greenlet that waits for the store during the start continues in the child."""
    seen = Recorder(runtime.bus)
    scheduler = runtime.build()
    runtime.forked()
    with pytest.raises(NotServingError):
        scheduler.start()
    assert seen.of(events.SchedulerStarted) == []


def test_a_shutdown_that_a_fork_interrupts_does_not_affect_the_child(
    runtime: PulseRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied greenlet may return from the drain after the child has started its own runtime."""

    def fork_meanwhile(_: Scheduler, __: int) -> None:
        runtime.forked()
        runtime.start()

    runtime.start()
    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "stop", fork_meanwhile)
        runtime.shutdown(None)
    assert runtime.handle.tasks() != []
