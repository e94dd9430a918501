"""uWSGI's workers, masters and mules, with a fake of the module `uwsgi`."""

from __future__ import annotations

import importlib
import os
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pulse.serving import interpreters
from pulse.serving import lifecycle as lifecycle_module
from pulse.serving.process_registry import shutdown_in_order
from pulse.serving.uwsgi import UwsgiMaster, UwsgiWorker, detect
from tests.support.recording_lifecycle import RecordingLifecycle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Uwsgi(SimpleNamespace):
    """A fake of the module `uwsgi`."""

    def __init__(self, worker: int = 0, mule: int = 0, **opt: object) -> None:
        super().__init__(worker=worker, mule=mule, apps=(), loop=None)
        self.opt = {name.replace("_", "-"): value for name, value in opt.items()}

    def workers(self) -> list[dict[str, object]]:
        """Return the only worker, with the applications that are loaded."""
        return [{"id": 1, "apps": self.apps}]

    def worker_id(self) -> int:
        """Return the worker's number."""
        return self.worker

    def mule_id(self) -> int:
        """Return the mule's number."""
        return self.mule


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Uwsgi], Uwsgi]:
    """Return a function that installs the fake module."""

    def put(uwsgi: Uwsgi) -> Uwsgi:
        monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
        return uwsgi

    return put


class Interpreters(SimpleNamespace):
    """A fake of the functions that run code in other interpreters."""

    def __init__(self, number: int) -> None:
        super().__init__(number=number, after_fork=[], at_exit=[], error=None)

    def this_interpreter(self) -> int:
        """Return the number of the interpreter that the test pretends to run in."""
        return self.number

    def call_after_fork(self, code: str) -> None:
        """Keep the code."""
        if self.error is not None:
            raise self.error
        self.after_fork.append(code)

    def call_at_exit(self, code: str) -> None:
        """Keep the code."""
        if self.error is not None:
            raise self.error
        self.at_exit.append(code)


@pytest.fixture
def another(monkeypatch: pytest.MonkeyPatch) -> Interpreters:
    """Return a fake in which the test runs in the second interpreter of the process."""
    found = Interpreters(number=1)
    for name in ("this_interpreter", "call_after_fork", "call_at_exit"):
        monkeypatch.setattr(interpreters, name, getattr(found, name))
    return found


def test_a_process_outside_uwsgi_is_not_detected() -> None:
    """Without the module `uwsgi` nothing is detected."""
    assert detect() is None


def test_a_lazy_worker_starts_at_once_and_accepts_work_once_loaded(
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With lazy-apps the worker builds the application, so it starts before it serves."""
    install(Uwsgi(worker=1))
    (tmp_path / "lazily_loaded.py").write_text(
        "from pulse.serving.uwsgi import detect\n"
        "server = detect()\n"
        "accepted = server.accepts_work()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = importlib.import_module("lazily_loaded")

    loaded.server.attach(lifecycle)

    assert lifecycle.calls == ["set_server", "start_automatically"]
    assert (loaded.accepted, lifecycle.server.accepts_work()) == (False, True)


def test_a_master_starts_the_lifecycle_in_its_workers(
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hook after a fork starts it in the worker, after the user's own hook."""
    own: list[str] = []
    uwsgi = install(Uwsgi())
    uwsgi.post_fork_hook = lambda: own.append("own")
    detect().attach(lifecycle)
    uwsgi.worker = 2
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)

    uwsgi.post_fork_hook()

    assert (own, lifecycle.calls) == (["own"], ["forked", "set_server", "start_automatically"])
    assert lifecycle.server.accepts_work() is True


def test_a_process_that_becomes_the_only_worker_keeps_its_state(
    install: Callable[[Uwsgi], Uwsgi], lifecycle: RecordingLifecycle
) -> None:
    """Without a master the hook runs in the same process, where no state is reset."""
    uwsgi = install(Uwsgi())
    detect().attach(lifecycle)
    uwsgi.worker = 1

    uwsgi.post_fork_hook()

    assert lifecycle.calls == ["set_server", "start_automatically"]


@pytest.mark.parametrize("mule", [0, 1], ids=["spooler", "mule"])
def test_mules_and_the_spooler_do_not_start(
    mule: int, install: Callable[[Uwsgi], Uwsgi], lifecycle: RecordingLifecycle
) -> None:
    """Mules and the spooler run the same hook, which starts nothing there."""
    uwsgi = install(Uwsgi())
    detect().attach(lifecycle)
    uwsgi.mule = mule

    uwsgi.post_fork_hook()

    assert lifecycle.calls == []


@pytest.mark.parametrize("mule", [0, 1], ids=["spooler", "mule"])
def test_mules_and_the_spooler_discard_what_the_master_has_started(
    mule: int,
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An eager service of the master is copied into them."""
    uwsgi = install(Uwsgi())
    detect().attach(lifecycle)
    uwsgi.mule = mule
    monkeypatch.setattr("os.getpid", lambda: -1)

    uwsgi.post_fork_hook()

    assert lifecycle.calls == ["forked"]


def test_a_mule_that_builds_the_application_is_not_detected(
    install: Callable[[Uwsgi], Uwsgi],
) -> None:
    """A mule may load the application for itself."""
    install(Uwsgi(mule=1))

    assert detect() is None


def test_a_dropped_lifecycle_is_not_started(install: Callable[[Uwsgi], Uwsgi]) -> None:
    """The hook keeps no lifecycle alive."""
    uwsgi = install(Uwsgi())
    detect().attach(RecordingLifecycle())
    uwsgi.worker = 1

    uwsgi.post_fork_hook()

    assert isinstance(detect(), UwsgiWorker)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 60.0),
        ({"worker_reload_mercy": b"7"}, 7.0),
        ({"worker_reload_mercy": b"70", "reload_mercy": b"8"}, 8.0),
        ({"reload_mercy": True}, 60.0),
    ],
)
def test_the_time_left_is_uwsgis_mercy(options: dict[str, object], limit: float) -> None:
    """A stopping worker is killed after the least mercy that is set."""
    assert UwsgiWorker(Uwsgi(worker=1, **options)).time_left_s() == limit


def test_a_master_is_detected(install: Callable[[Uwsgi], Uwsgi]) -> None:
    """A process with worker number 0 that is no mule is the master."""
    install(Uwsgi())

    assert isinstance(detect(), UwsgiMaster)


def second(**more: object) -> Uwsgi:
    """Return a master that has loaded an application, and loads another one."""
    uwsgi = Uwsgi(**more)
    uwsgi.apps = ({"id": 0},)
    return uwsgi


def test_the_first_interpreter_starts_lifecycles_of_another_one(
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    another: Interpreters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The code for the first interpreter starts it; uWSGI's own hook is unchanged."""
    uwsgi = install(second())
    detect().attach(lifecycle)
    assert not hasattr(uwsgi, "post_fork_hook")
    uwsgi.worker = 1
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)

    for code in another.after_fork:
        exec(code, {})  # noqa: S102 - what the first interpreter does

    assert lifecycle.calls == ["forked", "set_server", "start_automatically"]
    assert lifecycle.notes == []


def test_two_lifecycles_of_another_interpreter_start_once_each(
    install: Callable[[Uwsgi], Uwsgi], another: Interpreters
) -> None:
    """The first interpreter gets one hook, which starts both."""
    uwsgi = install(second())
    lifecycles = [RecordingLifecycle(), RecordingLifecycle()]
    for lifecycle in lifecycles:
        detect().attach(lifecycle)
    uwsgi.worker = 1

    for code in another.after_fork:
        exec(code, {})  # noqa: S102 - what the first interpreter does

    assert [each.calls for each in lifecycles] == [["set_server", "start_automatically"]] * 2
    assert len(another.at_exit) == 1


@pytest.mark.parametrize("worker", [0, 1], ids=["master", "lazy-apps"])
def test_lifecycles_of_another_interpreter_are_shut_down_at_exit(
    worker: int,
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    another: Interpreters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The at-exit code for the first interpreter shuts down all lifecycles of this one."""
    install(second(worker=worker))
    detect().attach(lifecycle)
    registry = SimpleNamespace(shutdown_all=lambda: shutdown_in_order([lifecycle]))
    monkeypatch.setattr(lifecycle_module, "REGISTRY", registry)
    lifecycle.calls.clear()

    for code in another.at_exit:
        exec(code, {})  # noqa: S102 - what the first interpreter does

    assert lifecycle.calls == ["stop_claiming", "shutdown"]


@pytest.mark.parametrize("error", [ImportError("no ctypes"), RuntimeError("it failed there")])
def test_an_unreachable_interpreter_is_reported_once(
    error: Exception, install: Callable[[Uwsgi], Uwsgi], another: Interpreters
) -> None:
    """The notice names the reason and both remedies; a request starts the lifecycles."""
    install(second())
    another.error = error
    lifecycles = [RecordingLifecycle(), RecordingLifecycle()]

    for lifecycle in lifecycles:
        detect().attach(lifecycle)

    notes = [note for lifecycle in lifecycles for note in lifecycle.notes]
    assert len(notes) == 1
    assert str(error) in notes[0]
    assert "--single-interpreter or --lazy-apps" in notes[0]
    assert [lifecycle.calls for lifecycle in lifecycles] == [[], []]


def test_a_lazy_worker_in_an_unreachable_interpreter_starts(
    install: Callable[[Uwsgi], Uwsgi], lifecycle: RecordingLifecycle, another: Interpreters
) -> None:
    """With lazy-apps the start needs no other interpreter, and nothing is reported."""
    install(second(worker=1))
    another.error = ImportError("no ctypes")

    detect().attach(lifecycle)

    assert lifecycle.calls == ["set_server", "start_automatically"]
    assert lifecycle.notes == []


def test_an_unknown_number_counts_as_another_interpreter(
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    another: Interpreters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the number cannot be determined, the notice says that the start may be late."""
    uwsgi = install(second())
    another.error = AttributeError("PyInterpreterState_Get")

    def unknown() -> int:
        raise another.error

    monkeypatch.setattr(interpreters, "this_interpreter", unknown)

    detect().attach(lifecycle)

    assert not hasattr(uwsgi, "post_fork_hook")
    assert len(lifecycle.notes) == 1


@pytest.mark.parametrize(
    ("uwsgi", "number"),
    [
        (Uwsgi(), 1),  # the number is not used
        (second(single_interpreter=True), 1),  # likewise
        (second(), 0),
    ],
    ids=["only-application", "single-interpreter", "first"],
)
def test_in_the_first_interpreter_uwsgis_own_hook_is_set(
    uwsgi: Uwsgi,
    number: int,
    install: Callable[[Uwsgi], Uwsgi],
    lifecycle: RecordingLifecycle,
    another: Interpreters,
) -> None:
    """In the interpreter in which uWSGI calls hooks, no other interpreter is used."""
    another.number = number
    uwsgi.loop = b"gevent"
    install(uwsgi)
    detect().attach(lifecycle)
    uwsgi.worker = 1

    uwsgi.post_fork_hook()

    assert lifecycle.calls == ["set_server", "start_automatically"]
    assert (another.after_fork, another.at_exit, lifecycle.notes) == ([], [], [])


@pytest.mark.parametrize("worker", [0, 1], ids=["master", "lazy-apps"])
@pytest.mark.usefixtures("another")
def test_the_gevent_loop_in_another_interpreter_is_reported(
    worker: int, install: Callable[[Uwsgi], Uwsgi], lifecycle: RecordingLifecycle
) -> None:
    """The notice names the only remedy."""
    uwsgi = install(second(worker=worker))
    uwsgi.loop = b"gevent"

    detect().attach(lifecycle)

    assert len(lifecycle.notes) == 1
    assert lifecycle.notes[0].endswith("start uWSGI with --single-interpreter")
