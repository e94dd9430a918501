"""How the whole is put together, begun and ended in this process."""

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
from pulse.core.runtime_task import Usual
from pulse.core.task import Task
from pulse.handle import NotServingError
from pulse.runtime import Assembly, drain_within, usual_of
from pulse.testing.recorder import Recorder

AT_ONCE = Task(action="cleanup", interval=3600, run_at_start=True)


def view(_: dict, start_response: Callable) -> list[bytes]:
    """Answer that all is well."""
    start_response("200 OK", [])
    return [b"done"]


@pytest.fixture
def assembly() -> Iterator[Assembly]:
    """Return a whole in memory mode that is ended after the test."""
    made = Assembly(
        view, load({}, {"store": "memory:", "tasks": {"cleanup": AT_ONCE}}), clock=SystemClock()
    )
    yield made
    made.end(None)


def test_begun_it_runs_what_is_due(assembly: Assembly) -> None:
    """A task with `run_at_start` is requested soon after the beginning."""
    seen = Recorder(assembly.bus)
    assembly.begin()
    (ended,) = seen.wait_for(events.RunEnded)
    assert ended.result.outcome is Outcome.SUCCEEDED
    assert ended.claim.run.trigger is Trigger.STARTUP


def test_before_the_beginning_the_handle_says_so(assembly: Assembly) -> None:
    """Building starts nothing: there is no scheduler to ask yet."""
    with pytest.raises(NotServingError):
        assembly.handle.tasks()


def test_after_the_end_the_handle_says_so(assembly: Assembly) -> None:
    """A process that has ended its part answers no more questions about it."""
    assembly.begin()
    assembly.end(None)
    with pytest.raises(NotServingError):
        assembly.handle.tasks()


def test_a_triggered_run_is_performed_at_once(assembly: Assembly) -> None:
    """The handle wakes the loop: a manual run does not wait for the next look."""
    seen = Recorder(assembly.bus)
    assembly.begin()
    seen.wait_for(events.RunEnded)
    assembly.handle.trigger("cleanup")
    manual = seen.wait_for(
        events.RunEnded, where=lambda event: event.claim.run.trigger is Trigger.MANUAL
    )
    assert len(manual) == 1


def test_a_server_that_wants_no_work_gets_none(assembly: Assembly) -> None:
    """The question that the server's part hands over is asked before each claim."""
    asked = []
    assembly.ask(lambda: bool(asked.append(None)))
    seen = Recorder(assembly.bus)
    assembly.begin()
    seen.wait_for(events.SchedulerStarted)
    assembly.handle.trigger("cleanup")
    assembly.end(None)
    assert seen.of(events.RunClaimed) == []
    assert asked


def test_quiet_and_end_before_the_beginning_are_harmless(assembly: Assembly) -> None:
    """A server may stop a process that never took part."""
    assembly.quiet()
    assembly.end(5.0)
    assert assembly.handle is not None


def test_quiet_claims_nothing_more(assembly: Assembly) -> None:
    """After `quiet` a triggered run stays in the store."""
    seen = Recorder(assembly.bus)
    assembly.begin()
    seen.wait_for(events.RunEnded)
    assembly.quiet()
    assembly.handle.trigger("cleanup")
    assembly.end(None)
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
    """Runs get the drain time, but never so long that the server kills the process."""
    assert drain_within(25 * SECOND, limit_s) == expected


def test_in_an_unpatched_process_mode_gevent_warns_and_runs_threads() -> None:
    """One ini serves gunicorn's gevent workers and waitress: there it is told and goes on."""
    assembly = Assembly(
        view,
        load({}, {"mode": "gevent", "store": "memory:", "tasks": {"cleanup": AT_ONCE}}),
        clock=SystemClock(),
    )
    seen = Recorder(assembly.bus)
    assembly.begin()
    started = seen.wait_for(events.SchedulerStarted)
    assembly.end(None)
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
def test_the_start_tells_what_the_configuration_says_of_store_and_name(
    words: dict[str, str],
    expected: tuple[str, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a name, all that use a store that was chosen are one application."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = Assembly(view, load({}, {**words, "tasks": {"cleanup": AT_ONCE}}), clock=SystemClock())
    seen = Recorder(made.bus)
    made.begin()
    (started,) = seen.wait_for(events.SchedulerStarted)
    made.end(None)
    assert (started.name, started.chosen) == expected


def test_importing_and_building_load_nothing_that_is_not_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The threading mode with an SQLite store brings in neither gevent nor WebOb nor paste."""
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


def test_what_a_configuration_says_of_added_tasks_is_gathered() -> None:
    """All that a task may leave open, and the paths that the guard covers."""
    words = {"context": "sessions", "timeout": 7, "timezone": "Asia/Tokyo", "guard": True}
    settings = load({}, {**words, "guarded": "/reports", "tasks": {"cleanup": AT_ONCE}})
    assert usual_of(settings) == Usual(
        context="sessions",
        timeout_us=7 * SECOND,
        timezone="Asia/Tokyo",
        guarded=("/reports", "/sessions/cleanup"),
    )


def test_without_a_guard_no_path_is_asked_for() -> None:
    """A task may be added wherever it lies."""
    assert usual_of(load({}, {})).guarded is None


def test_a_path_that_is_guarded_beside_those_of_tasks_is_refused() -> None:
    """Before a task is added that lies there."""
    settings = load({}, {"guard": True, "guarded": "/reports", "store": "memory:"})
    guard = Assembly(view, settings, clock=SystemClock()).guard
    assert guard is not None
    assert guard.refuses({"PATH_INFO": "/reports/send"})
