"""The engine of a trip keeps what an engine promises that performs in its caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.testing.engine_contract import StepContract
from pulse.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestVirtualEngine(StepContract):
    """Runs happen in the call of `submit`, and take no time unless they are told to."""

    def make(self, clock: Clock) -> VirtualEngine:
        """Return the engine under test, not started."""
        return VirtualEngine(clock, {})
