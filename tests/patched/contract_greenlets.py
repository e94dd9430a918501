"""The engine of greenlets keeps every promise of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.engine.greenlets import GreenletEngine
from pulse.testing.slot_contract import SlotContract

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestGreenletEngine(SlotContract):
    """Runs happen in greenlets of this thread's hub."""

    many = 10_000

    def make(self, clock: Clock) -> GreenletEngine:
        """Return the engine under test, not started."""
        return GreenletEngine(clock)
