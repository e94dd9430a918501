"""A middleware that nobody holds any more is gone, without the garbage collector."""

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
def _end_what_goes_on() -> Iterator[None]:
    """End what the test has started and dropped, such as an eager scheduler, which goes on."""
    yield
    for each in [*REGISTRY._started]:
        each.running.shutdown(0)
        REGISTRY.stopped(each.running)


class Site:
    """An app that can be referred to weakly."""

    def __call__(self, _environ: dict, start_response: Callable) -> list[bytes]:
        """Answer nothing."""
        start_response("200 OK", [])
        return []


def make_site(_global_conf: dict, **_local: str) -> Site:
    """Be the factory of the app alone."""
    return Site()


def make_whole(_global_conf: dict, mode: str, start: str) -> PulseMiddleware:
    """Be the factory of an app that wraps itself."""
    return in_code(mode, start)


def keywords(mode: str, start: str) -> dict[str, object]:
    """Return keywords that bring every part of a middleware with them."""
    tasks = {"cleanup": Task(action="/cleanup", interval=300)}
    words = {"mode": mode, "start": start, "guard": True, "tasks": tasks}
    return words | {"application": f"{__name__}:Site"}


def in_code(mode: str, start: str) -> PulseMiddleware:
    """Build one in code."""
    return PulseMiddleware(Site(), **keywords(mode, start))


@pytest.fixture(autouse=True)
def _no_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the collector from helping."""
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
    """However it was built: also one that has begun is not kept by what it began."""
    built = WAYS[way](tmp_path, mode, start)
    known = weakref.ref(built)
    call = weakref.ref(built.__call__)

    del built

    assert (known(), call()) == (None, None)
    REGISTRY.shutdown_dropped()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_dropped_middleware_wraps_is_freed_with_it(
    way: str, mode: str, tmp_path: Path
) -> None:
    """The application, the scheduler's parts, the listeners: none lies in a cycle."""
    built = WAYS[way](tmp_path, mode, "auto")
    kept = [weakref.ref(built.runtime), weakref.ref(built.__call__.__closure__[0].cell_contents)]

    del built

    assert [known() for known in kept] == [None, None]


# Dropped after it has begun ----------------------------------------------------------------


class Gate:
    """An app whose runs go on until they are let go."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, environ: dict, start_response: Callable) -> list[bytes]:
        """Hold a run; answer anybody else."""
        if "pulse.run" in environ:
            self.entered.set()
            self.open.wait(20)
        start_response("200 OK", [])
        return [b"done"]


TASKS = {
    "held": Task(action="/held", interval=300, run_at_start=True),
    "more": Task(action="/more", interval=300),
}


def begun(gate: Gate, **keywords: object) -> tuple[PulseMiddleware, Recorder]:
    """Return a middleware in the middle of its first run, and what its bus says."""
    built = PulseMiddleware(gate, start="off", tasks=TASKS, **keywords)
    seen = Recorder(built.bus)
    built._lifecycle.start()
    assert gate.entered.wait(10)
    return built, seen


@pytest.mark.parametrize("store", ["memory:", None], ids=["memory", "default"])
def test_dropped_in_the_middle_of_a_run_it_ends_by_itself(store: str | None) -> None:
    """The run may end, and is recorded; nothing more is claimed; the store is left."""
    gate = Gate()
    built, seen = begun(gate, store=store)
    handle = built.scheduler

    del built
    handle.trigger("more")
    gate.open.set()
    (stopped,) = seen.wait_for(events.SchedulerStopped)

    assert [event.claim.run.task for event in seen.of(events.RunClaimed)] == ["held"]
    assert [event.result.status for event in seen.of(events.RunEnded)] == [200]
    assert stopped.interrupted == 0


def test_a_run_that_outlasts_the_drain_of_a_dropped_middleware_is_interrupted() -> None:
    """It gets the drain that is configured, as where a process stops."""
    gate = Gate()
    built, seen = begun(gate, store="memory:", drain=0)

    del built
    (stopped,) = seen.wait_for(events.SchedulerStopped)
    gate.open.set()

    assert stopped.interrupted == 1


def test_the_store_of_a_dropped_middleware_is_free_for_the_next() -> None:
    """Whoever begins next waits until it is left."""
    gate = Gate()
    built, seen = begun(gate)
    gate.open.set()

    del built
    following = PulseMiddleware(gate, start="eager", tasks=TASKS)

    assert len(seen.of(events.SchedulerStopped)) == 1
    assert {state.name for state in following.scheduler.tasks()} == {"held", "more"}
    following._lifecycle.shutdown()


def test_an_exit_ends_what_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's exit waits for it as for all others."""
    registered: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", registered.append)
    gate = Gate()
    built, seen = begun(gate, store="memory:")
    gate.open.set()

    del built
    registered[-1]()

    assert len(seen.of(events.SchedulerStopped)) == 1


def eager(gate: Gate, **keywords: object) -> tuple[PulseMiddleware, Recorder]:
    """Return an eager middleware, and what its bus says."""
    gate.open.set()
    built = PulseMiddleware(gate, start="eager", store="memory:", tasks=TASKS, **keywords)
    return built, Recorder(built.bus)


def test_an_eager_one_goes_on_where_it_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was asked to run in this process, whatever serves; the exit ends it."""
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


def test_an_eager_one_that_was_dropped_ends_where_another_of_its_name_begins() -> None:
    """The one that was built last goes on, and others are not disturbed."""
    recorders = [eager(Gate(), name=name)[1] for name in ("a", "b", "a")]

    stopped = [len(seen.of(events.SchedulerStopped)) for seen in recorders]

    assert stopped == [1, 0, 0]
    REGISTRY.shutdown_all()


def test_what_calls_into_a_dropped_middleware_keeps_it_going() -> None:
    """A server that holds the callable alone still serves it."""
    gate = Gate()
    built, seen = begun(gate, store="memory:")
    call, handle = built.__call__, built.scheduler
    gate.open.set()

    del built
    handle.trigger("more")
    seen.wait_for(events.RunEnded, 2)

    del call
    seen.wait_for(events.SchedulerStopped)
