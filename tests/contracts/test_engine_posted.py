"""The engine that posts runs keeps the contract of such engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.engine.posted import PostedEngine
from pulse.testing.posted_contract import PostedContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.carrier.base import Carrier, CarrierSetup
    from pulse.clock import Clock


class TestPostedEngine(PostedContract):
    """Parcels are sent by a thread."""

    many = 1_000

    def make_posted(
        self, clock: Clock, *, make_carrier: Callable[[], Carrier], setup: CarrierSetup
    ) -> PostedEngine:
        """Return the engine under test, not started."""
        return PostedEngine("posted", clock, make_carrier=make_carrier, setup=setup)
