"""What the engine of greenlets refuses; the rest is proved in a patched process."""

from __future__ import annotations

import pytest

from pulse.engine.base import EngineCallbacks
from pulse.engine.greenlets import GreenletEngine
from pulse.errors import EngineError
from pulse.testing.clock import FakeClock
from pulse.testing.sample_runs import perform


def test_it_does_not_start_in_an_unpatched_process() -> None:
    """Where gevent has not patched, the app would block the hub: the start is refused."""
    engine = GreenletEngine(FakeClock())
    with pytest.raises(EngineError, match="expected a process patched by gevent"):
        engine.start(EngineCallbacks(perform, print, print), concurrency=1)
