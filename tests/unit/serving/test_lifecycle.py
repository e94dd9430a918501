"""One middleware's part in this process, without any server around it."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Start
from pulse.errors import EngineError
from pulse.serving import gunicorn, install, installation
from pulse.serving import lifecycle as lifecycle_module

if TYPE_CHECKING:
    from collections.abc import Callable


class RecordingService:
    """Writes down what it is told, and fails to begin if it is to."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.calls: list[object] = []
        self.accepts_work: Callable[[], bool] | None = None
        self._fault = fault

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Keep the function."""
        self.accepts_work = accepts_work

    def start(self) -> RecordingService:
        """Record it, or fail."""
        if self._fault is not None:
            raise self._fault
        self.calls.append("start")
        return self

    def stop_claiming(self) -> None:
        """Record it."""
        self.calls.append("stop_claiming")

    def shutdown(self, limit_s: float | None) -> None:
        """Record it."""
        self.calls.append(("shutdown", limit_s))

    def forked(self) -> None:
        """Record it."""
        self.calls.append("forked")


@pytest.fixture
def no_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look as one that pytest does not run."""
    monkeypatch.delitem(sys.modules, "pytest")


@pytest.mark.usefixtures("no_test_run")
def test_the_first_request_begins_once() -> None:
    """Building begins nothing, the first request begins, the second changes nothing."""
    service = RecordingService()
    lifecycle = install(service)
    before = (lifecycle.pending, lifecycle.is_started(), list(service.calls))

    lifecycle.first_request({})
    lifecycle.first_request({})

    assert before == (True, False, [])
    assert (lifecycle.pending, lifecycle.is_started(), service.calls) == (False, True, ["start"])


def test_under_pytest_nothing_is_pending() -> None:
    """A process that pytest runs does not even look at its requests."""
    assert install(RecordingService()).pending is False


@pytest.mark.usefixtures("no_test_run")
def test_a_test_client_leaves_it_pending() -> None:
    """A request marked by paste.testing shows nothing; a real one may still come."""
    service = RecordingService()
    lifecycle = install(service)

    lifecycle.first_request({"paste.testing": True})

    assert (lifecycle.pending, service.calls) == (True, [])


@pytest.mark.usefixtures("no_test_run")
def test_a_shell_leaves_it_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interactive interpreter may request what it likes."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    service = RecordingService()

    install(service).first_request({})

    assert service.calls == []


def test_eager_begins_at_once_even_under_pytest() -> None:
    """`eager` asks nobody."""
    service = RecordingService()

    install(service, start=Start.EAGER)

    assert service.calls == ["start"]


def test_off_is_never_pending_but_can_be_begun_by_hand() -> None:
    """With `off` no request begins it; the hooks of `pulse.gunicorn` do."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    before = lifecycle.pending

    lifecycle.start()

    assert (before, service.calls) == (False, ["start"])


@pytest.mark.parametrize("word", ["off", " OFF "])
def test_the_environment_overrides_everything(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PULSE_START=off keeps even `eager` and a call by hand from beginning."""
    monkeypatch.setenv("PULSE_START", word)
    service = RecordingService()

    install(service, start=Start.EAGER).start()

    assert service.calls == []


def test_the_end_comes_once() -> None:
    """A second quiet and a second end tell it nothing."""
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER)

    for _ in range(2):
        lifecycle.stop_claiming()
        lifecycle.shutdown()

    assert service.calls == ["start", "stop_claiming", ("shutdown", None)]


def test_what_has_not_begun_does_not_end() -> None:
    """Neither quiet nor end reaches it before it has begun."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)

    lifecycle.stop_claiming()
    lifecycle.shutdown()

    assert service.calls == []


def test_the_question_is_handed_over_and_answered() -> None:
    """Outside every known server the answer is yes."""
    service = RecordingService()
    kept = install(service, start=Start.OFF)

    assert service.accepts_work is not None
    assert service.accepts_work() is kept.accepts_work() is True


def test_a_start_that_fails_is_an_error_where_the_server_starts() -> None:
    """Before any request the error is raised: the server must not come up without pulse."""
    with pytest.raises(EngineError, match="no"):
        install(RecordingService(EngineError("no")), start=Start.EAGER)


@pytest.mark.usefixtures("no_test_run")
def test_a_start_that_fails_at_a_request_is_only_noted() -> None:
    """The request is answered, a notice says why nothing runs, and nothing is tried again."""
    notes: list[str] = []
    lifecycle = install(RecordingService(EngineError("no engine here")), notice=notes.append)

    lifecycle.first_request({})

    assert notes == ["no engine here"]
    assert lifecycle.pending is False


@pytest.mark.usefixtures("no_test_run")
def test_detection_that_fails_only_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks for the server may break: the first request begins all the same."""

    def broken() -> None:
        raise LookupError("frames")

    monkeypatch.setattr(installation, "DETECTORS", (broken,))
    notes: list[str] = []
    service = RecordingService()

    lifecycle = install(service, notice=notes.append)
    lifecycle.first_request({})

    assert service.calls == ["start"]
    assert "LookupError('frames')" in notes[0]


def test_a_notice_nobody_takes_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a taker a notice shows as a warning."""
    monkeypatch.setattr(installation, "DETECTORS", (lambda: 1 // 0,))

    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        install(RecordingService(), start=Start.OFF)


def test_a_fork_forgets_the_parent_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork it is as new, even where looking at the stack fails."""
    notes: list[str] = []
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER, notice=notes.append)
    monkeypatch.setattr(gunicorn, "detect_forked", lambda: 1 // 0)

    lifecycle.forked()

    assert (lifecycle.is_started(), lifecycle.pending) == (False, True)
    assert "ZeroDivisionError" in notes[0]


def test_a_real_fork_reaches_a_living_arrangement() -> None:
    """The at-fork callback resets the child's state and leaves the parent's."""
    lifecycle = install(RecordingService(), start=Start.EAGER)
    child = os.fork()
    if not child:
        os._exit(0 if not lifecycle.is_started() and lifecycle.pending else 1)

    _, status = os.waitpid(child, 0)

    assert (status, lifecycle.is_started()) == (0, True)


def test_nothing_else_keeps_it_alive() -> None:
    """An arrangement ends with its owner, although forks would be told to it."""
    kept = weakref.ref(install(RecordingService(), start=Start.OFF))
    gc.collect()

    assert kept() is None


# In a forked child ----------------------------------------------------------------------------


class DetectedServer:
    """A server that was recognised."""

    def attach(self, lifecycle: lifecycle_module.ServiceLifecycle) -> None:
        """Take the member in, and begin."""
        lifecycle.set_server(self)
        lifecycle.start_automatically()

    def accepts_work(self) -> bool:
        """Return True."""
        return True

    def time_left_s(self) -> None:
        """Return None."""


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look as one that gevent has patched."""
    monkeypatch.setattr(lifecycle_module, "process_is_patched", lambda: True)


def test_what_is_served_hears_of_each_fork() -> None:
    """Whether it has begun or not: it may be about to."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    lifecycle.forked()
    lifecycle.start()
    lifecycle.forked()
    assert service.calls == ["forked", "start", "forked"]


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_begins_a_copy_of_a_process_that_serves() -> None:
    """The greenlets that accept connections are copied into its children, which wait for others."""
    service = RecordingService()
    lifecycle = install(service)
    lifecycle.first_request({})
    lifecycle.forked()
    assert (lifecycle.pending, lifecycle.is_started()) == (False, False)
    assert service.calls == ["start", "forked"]


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_begins_a_copy_of_a_copy() -> None:
    """A fork of a fork accepts by accident as well."""
    lifecycle = install(RecordingService())
    lifecycle.first_request({})
    lifecycle.forked()
    lifecycle.forked()
    assert lifecycle.pending is False


@pytest.mark.usefixtures("no_test_run", "patched")
@pytest.mark.parametrize("start", [Start.AUTO, Start.EAGER])
def test_no_request_begins_a_copy_of_a_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was recognised needs no request to show that it serves."""
    monkeypatch.setattr(installation, "DETECTORS", (DetectedServer,))
    lifecycle = install(RecordingService(), start=start)
    lifecycle.forked()
    assert lifecycle.pending is False


def test_a_beginning_that_waited_as_the_fork_came_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may wait for the drain of a middleware that was dropped, in a greenlet that is copied."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    with monkeypatch.context() as patch:
        patch.setattr(
            type(lifecycle_module.REGISTRY), "shutdown_dropped", lambda _: lifecycle.forked()
        )
        lifecycle.start()
    assert (lifecycle.is_started(), service.calls) == (False, ["forked"])


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_worker_of_a_copy_begins() -> None:
    """What recognises the child as a worker, or asks for it, begins it all the same."""
    service = RecordingService()
    lifecycle = install(service)
    lifecycle.first_request({})
    lifecycle.forked()
    DetectedServer().attach(lifecycle)
    assert lifecycle.is_started()


@pytest.mark.usefixtures("no_test_run")
def test_a_child_of_an_ordinary_process_begins_at_its_first_request() -> None:
    """There nothing accepts in the child but what the application starts in it."""
    lifecycle = install(RecordingService())
    lifecycle.first_request({})
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_child_of_a_process_that_has_not_begun_begins_at_its_first_request() -> None:
    """A master that nobody recognises has children that serve."""
    lifecycle = install(RecordingService())
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("patched")
def test_a_child_of_an_eager_master_begins_at_its_first_request() -> None:
    """`eager` begins in any process; one that has answered nothing may be a master."""
    lifecycle = install(RecordingService(), start=Start.EAGER)
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("patched")
def test_no_request_begins_a_copy_of_an_eager_process_that_has_answered_one() -> None:
    """The first request is looked at for this alone: it begins nothing again."""
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER)
    awaited = lifecycle.pending
    lifecycle.first_request({})
    lifecycle.first_request({})
    looked = lifecycle.pending
    lifecycle.forked()
    assert (awaited, looked, lifecycle.pending) == (True, False, False)
    assert service.calls == ["start", "forked"]
