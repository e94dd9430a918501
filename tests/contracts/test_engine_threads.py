"""The thread engine keeps the contract of engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.engine.threads import ThreadEngine
from pulse.testing.slot_contract import SlotContract

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestThreadEngine(SlotContract):
    """Runs are executed in native threads."""

    many = 10_000

    def make(self, clock: Clock) -> ThreadEngine:
        """Return the engine under test, not started."""
        return ThreadEngine(clock)
