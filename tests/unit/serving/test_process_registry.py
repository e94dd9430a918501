"""The process registry stops and shuts down the lifecycles of its process."""

from __future__ import annotations

import pytest

from pulse.serving.process_registry import ProcessRegistry, shutdown_in_order
from tests.support.recording_lifecycle import RecordingLifecycle


def test_all_lifecycles_stop_claiming_before_the_first_one_drains() -> None:
    """While one lifecycle drains, no other one claims."""
    calls: list[str] = []
    lifecycles = [RecordingLifecycle(), RecordingLifecycle()]
    for lifecycle in lifecycles:
        lifecycle.calls = calls

    shutdown_in_order(lifecycles)

    assert calls == ["stop_claiming", "stop_claiming", "shutdown", "shutdown"]


def test_a_dropped_lifecycle_is_not_listed() -> None:
    """The registry keeps no lifecycle alive."""
    registry = ProcessRegistry()
    kept = RecordingLifecycle()
    registry.add(kept)
    registry.add(RecordingLifecycle())

    assert registry.lifecycles() == [kept]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_shutdown_at_exit_is_repeated_without_a_traceback(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the exit hook is interrupted, it calls all lifecycles once more."""
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    registry = ProcessRegistry()
    impatient = RecordingLifecycle(interrupts=1, kind=kind)
    registry.add(impatient)
    registry.shutdown_at_exit()

    registered[0]()

    assert impatient.calls == ["stop_claiming", "shutdown"] * 2
