"""The inline engine keeps the contract of engines that run claims in their caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.engine.inline import InlineEngine
from pulse.testing.engine_contract import StepContract

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestInlineEngine(StepContract):
    """Runs are executed in the call of `submit`."""

    def make(self, clock: Clock) -> InlineEngine:
        """Return the engine under test, not started."""
        return InlineEngine(clock)
