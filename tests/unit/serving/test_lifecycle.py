"""The lifecycle of one service in this process, without any server around it."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Start
from pulse.errors import EngineError
from pulse.serving import gunicorn, install, installation
from pulse.serving import lifecycle as lifecycle_module
from tests.support.forks import in_child, status_of

if TYPE_CHECKING:
    from collections.abc import Callable


class RecordingService:
    """A service that records each call; its start fails if the test wants that."""

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
    """Make this process look like one that pytest does not run."""
    monkeypatch.delitem(sys.modules, "pytest")


@pytest.mark.usefixtures("no_test_run")
def test_the_first_request_starts_the_service_once() -> None:
    """Building starts nothing, the first request starts it, the second changes nothing."""
    service = RecordingService()
    lifecycle = install(service)
    before = (lifecycle.pending, lifecycle.is_started(), list(service.calls))

    lifecycle.first_request({})
    lifecycle.first_request({})

    assert before == (True, False, [])
    assert (lifecycle.pending, lifecycle.is_started(), service.calls) == (False, True, ["start"])


def test_under_pytest_no_request_is_awaited() -> None:
    """A process that pytest runs ignores its requests."""
    assert install(RecordingService()).pending is False


@pytest.mark.usefixtures("no_test_run")
def test_a_request_of_a_test_client_starts_nothing() -> None:
    """A request with the mark paste.testing shows no server; a real request may follow."""
    service = RecordingService()
    lifecycle = install(service)

    lifecycle.first_request({"paste.testing": True})

    assert (lifecycle.pending, service.calls) == (True, [])


@pytest.mark.usefixtures("no_test_run")
def test_a_request_in_a_shell_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request in an interactive interpreter shows no server."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    service = RecordingService()

    install(service).first_request({})

    assert service.calls == []


def test_eager_starts_at_once_even_under_pytest() -> None:
    """`eager` overrides the exclusion of test runs."""
    service = RecordingService()

    install(service, start=Start.EAGER)

    assert service.calls == ["start"]


def test_off_awaits_no_request_but_can_be_started_by_a_call() -> None:
    """With `off` no request starts it; the hooks of `pulse.gunicorn` do."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    before = lifecycle.pending

    lifecycle.start()

    assert (before, service.calls) == (False, ["start"])


@pytest.mark.parametrize("word", ["off", " OFF "])
def test_the_environment_variable_overrides_every_setting(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PULSE_START=off neither `eager` nor a call starts the service."""
    monkeypatch.setenv("PULSE_START", word)
    service = RecordingService()

    install(service, start=Start.EAGER).start()

    assert service.calls == []


@pytest.mark.usefixtures("no_test_run")
def test_first_request_reports_that_off_starts_nothing() -> None:
    """The line says why no task runs; further requests cost nothing."""
    service, reasons = RecordingService(), []
    lifecycle = install(service, start=Start.OFF, disabled=reasons.append)
    lifecycle.first_request({"paste.testing": True})
    before = (lifecycle.pending, list(reasons))
    lifecycle.first_request({})
    assert before == (True, [])
    assert (lifecycle.pending, service.calls, len(reasons)) == (False, [], 1)
    assert reasons[0].startswith("pulse.config.start is off")


@pytest.mark.usefixtures("no_test_run")
@pytest.mark.parametrize("start", list(Start))
def test_first_request_reports_the_environment_variable(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable overrides each value of the setting."""
    monkeypatch.setenv("PULSE_START", "off")
    reasons: list[str] = []
    lifecycle = install(RecordingService(), start=start, disabled=reasons.append)
    assert lifecycle.pending
    lifecycle.first_request({})
    assert (lifecycle.pending, reasons) == (False, ["the environment variable PULSE_START is off"])


@pytest.mark.usefixtures("no_test_run")
def test_off_with_a_hook_that_starts_it_reports_nothing() -> None:
    """The hooks of `pulse.gunicorn` start it before the first request."""
    reasons: list[str] = []
    lifecycle = install(RecordingService(), start=Start.OFF, disabled=reasons.append)
    lifecycle.start()
    assert (lifecycle.pending, reasons) == (False, [])


def test_a_service_is_shut_down_once() -> None:
    """A second stop_claiming and a second shutdown do not reach the service."""
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER)

    for _ in range(2):
        lifecycle.stop_claiming()
        lifecycle.shutdown()

    assert service.calls == ["start", "stop_claiming", ("shutdown", None)]


def test_a_service_that_was_not_started_is_not_shut_down() -> None:
    """Neither stop_claiming nor shutdown reaches it before its start."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)

    lifecycle.stop_claiming()
    lifecycle.shutdown()

    assert service.calls == []


def test_the_service_gets_the_check_to_call_before_each_claim() -> None:
    """Without a known server the process accepts work."""
    service = RecordingService()
    kept = install(service, start=Start.OFF)

    assert service.accepts_work is not None
    assert service.accepts_work() is kept.accepts_work() is True


def test_a_failed_start_before_any_request_is_raised() -> None:
    """The server must not come up without pulse."""
    with pytest.raises(EngineError, match="no"):
        install(RecordingService(EngineError("no")), start=Start.EAGER)


@pytest.mark.usefixtures("no_test_run")
def test_a_failed_start_at_a_request_is_only_reported() -> None:
    """The request is answered, a notice names the reason, and the start is not repeated."""
    notes: list[str] = []
    lifecycle = install(RecordingService(EngineError("no engine here")), notice=notes.append)

    lifecycle.first_request({})

    assert notes == ["no engine here"]
    assert lifecycle.pending is False


@pytest.mark.usefixtures("no_test_run")
def test_a_failed_detection_only_delays_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the detection raises, the first request starts the service."""

    def broken() -> None:
        raise LookupError("frames")

    monkeypatch.setattr(installation, "DETECTORS", (broken,))
    notes: list[str] = []
    service = RecordingService()

    lifecycle = install(service, notice=notes.append)
    lifecycle.first_request({})

    assert service.calls == ["start"]
    assert "LookupError('frames')" in notes[0]


def test_a_notice_without_a_receiver_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a notice is a RuntimeWarning."""
    monkeypatch.setattr(installation, "DETECTORS", (lambda: 1 // 0,))

    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        install(RecordingService(), start=Start.OFF)


def test_a_fork_resets_the_state_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child starts from nothing, even if the detection after the fork raises."""
    notes: list[str] = []
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER, notice=notes.append)
    monkeypatch.setattr(gunicorn, "detect_forked", lambda: 1 // 0)

    lifecycle.forked()

    assert (lifecycle.is_started(), lifecycle.pending) == (False, True)
    assert "ZeroDivisionError" in notes[0]


def test_a_real_fork_resets_the_child_only() -> None:
    """The at-fork callback resets the child's state and keeps the parent's."""
    lifecycle = install(RecordingService(), start=Start.EAGER)

    status = status_of(in_child(lambda: not lifecycle.is_started() and lifecycle.pending))

    assert (status, lifecycle.is_started()) == (0, True)


def test_only_its_owner_keeps_a_lifecycle_alive() -> None:
    """The registry of lifecycles, which forks need, holds only weak references."""
    kept = weakref.ref(install(RecordingService(), start=Start.OFF))
    gc.collect()

    assert kept() is None


# In a forked child ----------------------------------------------------------------------------


class DetectedServer:
    """A server that was detected."""

    def attach(self, lifecycle: lifecycle_module.ServiceLifecycle) -> None:
        """Start the lifecycle."""
        lifecycle.set_server(self)
        lifecycle.start_automatically()

    def accepts_work(self) -> bool:
        """Return True."""
        return True

    def time_left_s(self) -> None:
        """Return None."""


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process look like one that gevent has patched."""
    monkeypatch.setattr(lifecycle_module, "process_is_patched", lambda: True)


def test_the_service_is_called_in_each_fork() -> None:
    """It is called before its start too, because a start may be in progress."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    lifecycle.forked()
    lifecycle.start()
    lifecycle.forked()
    assert service.calls == ["forked", "start", "forked"]


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_starts_a_copy_of_a_process_that_serves() -> None:
    """The greenlets that accept connections are copied into its children."""
    service = RecordingService()
    lifecycle = install(service)
    lifecycle.first_request({})
    lifecycle.forked()
    assert (lifecycle.pending, lifecycle.is_started()) == (False, False)
    assert service.calls == ["start", "forked"]


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_starts_a_copy_of_a_copy() -> None:
    """A fork of a forked child accepts connections by accident too."""
    lifecycle = install(RecordingService())
    lifecycle.first_request({})
    lifecycle.forked()
    lifecycle.forked()
    assert lifecycle.pending is False


@pytest.mark.usefixtures("no_test_run", "patched")
@pytest.mark.parametrize("start", [Start.AUTO, Start.EAGER])
def test_no_request_starts_a_copy_of_a_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detected server needs no request to show that it serves."""
    monkeypatch.setattr(installation, "DETECTORS", (DetectedServer,))
    lifecycle = install(RecordingService(), start=start)
    lifecycle.forked()
    assert lifecycle.pending is False


def test_a_start_that_waits_during_a_fork_starts_nothing_in_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may wait for the drain of a dropped middleware, in a greenlet that is copied."""
    service = RecordingService()
    lifecycle = install(service, start=Start.OFF)
    with monkeypatch.context() as patch:
        patch.setattr(
            type(lifecycle_module.REGISTRY), "shutdown_dropped", lambda _: lifecycle.forked()
        )
        lifecycle.start()
    assert (lifecycle.is_started(), service.calls) == (False, ["forked"])


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_worker_in_a_copy_starts() -> None:
    """If the child is detected as a worker, the service starts."""
    service = RecordingService()
    lifecycle = install(service)
    lifecycle.first_request({})
    lifecycle.forked()
    DetectedServer().attach(lifecycle)
    assert lifecycle.is_started()


@pytest.mark.usefixtures("no_test_run")
def test_a_child_of_an_ordinary_process_starts_at_its_first_request() -> None:
    """In such a child only a server of its own accepts connections."""
    lifecycle = install(RecordingService())
    lifecycle.first_request({})
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_child_of_a_process_that_has_not_started_starts_at_its_first_request() -> None:
    """The children of an undetected master serve."""
    lifecycle = install(RecordingService())
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("patched")
def test_a_child_of_an_eager_master_starts_at_its_first_request() -> None:
    """`eager` starts in any process; one without a request may be a master."""
    lifecycle = install(RecordingService(), start=Start.EAGER)
    lifecycle.forked()
    assert lifecycle.pending is True


@pytest.mark.usefixtures("patched")
def test_no_request_starts_a_copy_of_an_eager_process_that_has_answered_one() -> None:
    """An eager service observes its first request only to learn that it serves."""
    service = RecordingService()
    lifecycle = install(service, start=Start.EAGER)
    awaited = lifecycle.pending
    lifecycle.first_request({})
    lifecycle.first_request({})
    looked = lifecycle.pending
    lifecycle.forked()
    assert (awaited, looked, lifecycle.pending) == (True, False, False)
    assert service.calls == ["start", "forked"]
