"""The hooks for gunicorn.conf.py, called as gunicorn calls them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pulse import gunicorn
from pulse.serving.gunicorn import GunicornWorker
from pulse.serving.process_registry import ProcessRegistry
from tests.support.recording_lifecycle import RecordingLifecycle


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> RecordingLifecycle:
    """Return the only lifecycle in the registry."""
    registry, lifecycle = ProcessRegistry(), RecordingLifecycle()
    registry.add(lifecycle)
    monkeypatch.setattr(gunicorn, "REGISTRY", registry)
    return lifecycle


def test_post_worker_init_starts_a_lifecycle_once(listed: RecordingLifecycle) -> None:
    """It starts what was not started, with the worker that is passed as the server."""
    worker = SimpleNamespace(pid=os.getpid())

    gunicorn.post_worker_init(worker)
    gunicorn.post_worker_init(worker)

    assert listed.calls == ["set_server", "start"]
    assert isinstance(listed.server, GunicornWorker)


@pytest.mark.parametrize("hook", [gunicorn.worker_int, gunicorn.worker_abort])
def test_a_worker_that_has_to_stop_at_once_stops_claiming(
    hook: object, listed: RecordingLifecycle
) -> None:
    """INT, QUIT and ABRT stop all claims."""
    hook(SimpleNamespace(pid=os.getpid()))

    assert listed.calls == ["stop_claiming"]


@pytest.mark.parametrize(
    ("pid", "calls"),
    [(os.getpid(), ["stop_claiming", "shutdown"]), (1, [])],
    ids=["worker", "master"],
)
def test_worker_exit_shuts_down_only_its_own_process(
    pid: int, calls: list[str], listed: RecordingLifecycle
) -> None:
    """The master also calls the hook, for a worker that vanished, and shuts down nothing."""
    gunicorn.worker_exit(object(), SimpleNamespace(pid=pid))

    assert listed.calls == calls
