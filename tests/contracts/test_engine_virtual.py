"""The engine of time travel keeps the contract of engines that run claims in their caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.testing.engine_contract import StepContract
from pulse.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestVirtualEngine(StepContract):
    """Runs are executed in the call of `submit`, and take no time unless a test sets one."""

    def make(self, clock: Clock) -> VirtualEngine:
        """Return the engine under test, not started."""
        return VirtualEngine(clock, {})
