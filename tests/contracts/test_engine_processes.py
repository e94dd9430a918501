"""The process engine keeps the contract of engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.engine.child_protocol import ChildSetup
from pulse.engine.processes import ProcessEngine
from pulse.testing.slot_contract import SlotContract

if TYPE_CHECKING:
    from pulse.clock import Clock
    from pulse.core.run import Claim


class TestProcessEngine(SlotContract):
    """Runs are executed in child processes that load the application of the contract."""

    concurrency = 2

    def make(self, clock: Clock) -> ProcessEngine:
        """Return the engine under test, not started."""
        return ProcessEngine(clock, child=ChildSetup(application="pulse.testing.sample_runs:app"))

    def brief_claims(self) -> list[Claim]:
        """Return no claims: each would cost a child that has just loaded."""
        return []
