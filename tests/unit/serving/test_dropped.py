"""A dropped middleware is freed at once, without the garbage collector."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest
from paste.deploy import loadapp, loadfilter

from pulse import PulseMiddleware, Task, events
from pulse.config.loader import load
from pulse.middleware import pulse_filter_app_factory
from pulse.serving.lifecycle import REGISTRY
from pulse.testing.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODES = ["threading", "gevent", "processing", "auto", "inline"]
STARTS = ["auto", "eager", "off"]
INI = f"""
[pipeline:main]
pipeline = pulse site
[filter:pulse]
use = egg:pulse
pulse.config.mode = MODE
pulse.config.start = START
pulse.config.guard = true
pulse.task.cleanup.action = /cleanup
pulse.task.cleanup.interval = 300
[app:site]
paste.app_factory = {__name__}:make_site
[app:whole]
paste.app_factory = {__name__}:make_whole
mode = MODE
start = START
"""


@pytest.fixture(autouse=True)
def _shut_down_what_runs() -> Iterator[None]:
    """Shut down what the test has started and dropped, such as an eager scheduler."""
    yield
    for each in [*REGISTRY._started]:
        each.running.shutdown(0)
        REGISTRY.stopped(each.running)


class Site:
    """An app that supports weak references."""

    def __call__(self, _environ: dict, start_response: Callable) -> list[bytes]:
        """Return an empty response."""
        start_response("200 OK", [])
        return []


def make_site(_global_conf: dict, **_local: str) -> Site:
    """Return the app without a middleware, as a paste app factory."""
    return Site()


def make_whole(_global_conf: dict, mode: str, start: str) -> PulseMiddleware:
    """Return the app within its middleware, as a paste app factory."""
    return in_code(mode, start)


def keywords(mode: str, start: str) -> dict[str, object]:
    """Return keywords that make a middleware with every part."""
    tasks = {"cleanup": Task(action="/cleanup", interval=300)}
    words = {"mode": mode, "start": start, "guard": True, "tasks": tasks}
    return words | {"application": f"{__name__}:Site"}


def in_code(mode: str, start: str) -> PulseMiddleware:
    """Return a middleware that is built in code."""
    return PulseMiddleware(Site(), **keywords(mode, start))


@pytest.fixture(autouse=True)
def _no_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Disable the garbage collector."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    gc.disable()
    yield
    gc.enable()


def _in_code(_: Path, mode: str, start: str) -> PulseMiddleware:
    return in_code(mode, start)


def _from_settings(_: Path, mode: str, start: str) -> PulseMiddleware:
    return PulseMiddleware(Site(), load(None, keywords(mode, start)))


def _by_paste(section: str) -> Callable[[Path, str, str], PulseMiddleware]:
    def build(folder: Path, mode: str, start: str) -> PulseMiddleware:
        file = folder / "site.ini"
        file.write_text(INI.replace("MODE", mode).replace("START", start))
        return loadapp(f"config:{file}", name=section)

    return build


def _by_filter(folder: Path, mode: str, start: str) -> PulseMiddleware:
    file = folder / "site.ini"
    file.write_text(INI.replace("MODE", mode).replace("START", start))
    return loadfilter(f"config:{file}", name="pulse")(Site())


def _by_factory(folder: Path, mode: str, start: str) -> PulseMiddleware:
    local = {"pulse.config.mode": mode, "pulse.config.start": start}
    local |= {"pulse.task.a.action": "/a", "pulse.task.a.interval": "300"}
    local |= {"pulse.config.application": f"{__name__}:Site"}
    file = {"__file__": str(folder / "site.ini"), "here": str(folder)}
    return pulse_filter_app_factory(Site(), file, **local)


WAYS = {
    "code": _in_code,
    "settings": _from_settings,
    "paste pipeline": _by_paste("main"),
    "paste app": _by_paste("whole"),
    "paste filter": _by_filter,
    "factory": _by_factory,
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_dropped_middleware_is_freed_at_once(
    way: str, mode: str, start: str, tmp_path: Path
) -> None:
    """It does not matter how it was built, nor whether it has started."""
    built = WAYS[way](tmp_path, mode, start)
    known = weakref.ref(built)
    call = weakref.ref(built.__call__)

    del built

    assert (known(), call()) == (None, None)
    REGISTRY.shutdown_dropped()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_the_application_of_a_dropped_middleware_is_freed_with_it(
    way: str, mode: str, tmp_path: Path
) -> None:
    """Neither the application nor the runtime lies in a reference cycle."""
    built = WAYS[way](tmp_path, mode, "auto")
    kept = [weakref.ref(built.runtime), weakref.ref(built.__call__.__closure__[0].cell_contents)]

    del built

    assert [known() for known in kept] == [None, None]


# Dropped after the start ----------------------------------------------------------------


class Gate:
    """An app whose runs last until the test opens it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, environ: dict, start_response: Callable) -> list[bytes]:
        """Block a run until the gate opens; answer other requests at once."""
        if "pulse.run" in environ:
            self.entered.set()
            self.open.wait(20)
        start_response("200 OK", [])
        return [b"done"]


TASKS = {
    "held": Task(action="/held", interval=300, run_at_start=True),
    "more": Task(action="/more", interval=300),
}


def started(gate: Gate, **keywords: object) -> tuple[PulseMiddleware, Recorder]:
    """Return a middleware during its first run, and a recorder of its events."""
    built = PulseMiddleware(gate, start="off", tasks=TASKS, **keywords)
    seen = Recorder(built.bus)
    built._lifecycle.start()
    assert gate.entered.wait(10)
    return built, seen


@pytest.mark.parametrize("store", ["memory:", None], ids=["memory", "default"])
def test_a_middleware_that_is_dropped_during_a_run_shuts_down(store: str | None) -> None:
    """The run finishes and is recorded; nothing more is claimed; the store is closed."""
    gate = Gate()
    built, seen = started(gate, store=store)
    handle = built.scheduler

    del built
    handle.trigger("more")
    gate.open.set()
    (stopped,) = seen.wait_for(events.SchedulerStopped)

    assert [event.claim.run.task for event in seen.of(events.RunClaimed)] == ["held"]
    assert [event.result.status for event in seen.of(events.RunEnded)] == [200]
    assert stopped.interrupted == 0


def test_a_run_that_outlasts_the_drain_of_a_dropped_middleware_is_interrupted() -> None:
    """The run gets the configured drain, as in a process that stops."""
    gate = Gate()
    built, seen = started(gate, store="memory:", drain=0)

    del built
    (stopped,) = seen.wait_for(events.SchedulerStopped)
    gate.open.set()

    assert stopped.interrupted == 1


def test_the_next_middleware_waits_until_a_dropped_one_has_left_the_store() -> None:
    """Then the next one can open the same store."""
    gate = Gate()
    built, seen = started(gate)
    gate.open.set()

    del built
    following = PulseMiddleware(gate, start="eager", tasks=TASKS)

    assert len(seen.of(events.SchedulerStopped)) == 1
    assert {state.name for state in following.scheduler.tasks()} == {"held", "more"}
    following._lifecycle.shutdown()


def test_the_interpreters_exit_shuts_down_a_dropped_middleware(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit waits for it as for all others."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", registered.append)
    gate = Gate()
    built, seen = started(gate, store="memory:")
    gate.open.set()

    del built
    registered[-1]()

    assert len(seen.of(events.SchedulerStopped)) == 1


def eager(gate: Gate, **keywords: object) -> tuple[PulseMiddleware, Recorder]:
    """Return an eager middleware, and a recorder of its events."""
    gate.open.set()
    built = PulseMiddleware(gate, start="eager", store="memory:", tasks=TASKS, **keywords)
    return built, Recorder(built.bus)


def test_an_eager_middleware_continues_after_it_was_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is configured to run in this process; the exit shuts it down."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", registered.append)
    built, seen = eager(Gate(), name="alone")
    handle, known = built.scheduler, weakref.ref(built)

    del built
    handle.trigger("more")
    seen.wait_for(events.RunEnded, where=lambda event: event.claim.run.task == "more")

    assert known() is None
    registered[-1]()
    assert len(seen.of(events.SchedulerStopped)) == 1


def test_a_dropped_eager_middleware_ends_when_another_of_its_name_starts() -> None:
    """The one that was built last runs, and others are not disturbed."""
    recorders = [eager(Gate(), name=name)[1] for name in ("a", "b", "a")]

    stopped = [len(seen.of(events.SchedulerStopped)) for seen in recorders]

    assert stopped == [1, 0, 0]
    REGISTRY.shutdown_all()


def test_a_reference_to_the_callable_of_a_middleware_keeps_it_running() -> None:
    """A server may hold only the callable."""
    gate = Gate()
    built, seen = started(gate, store="memory:")
    call, handle = built.__call__, built.scheduler
    gate.open.set()

    del built
    handle.trigger("more")
    seen.wait_for(events.RunEnded, 2)

    del call
    seen.wait_for(events.SchedulerStopped)
