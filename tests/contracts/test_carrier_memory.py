"""The carrier in memory, which tests of engines use, keeps the contract of carriers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SystemClock
from pulse.testing.carrier_contract import CarrierContract
from pulse.testing.memory_carrier import MemoryBroker

if TYPE_CHECKING:
    from pulse.carrier.base import Carrier, Parcel


class TestMemoryCarrier(CarrierContract):
    """The broker is an object of this process."""

    bound_s = 5.0

    @pytest.fixture(autouse=True)
    def _broker(self) -> None:
        self.broker = MemoryBroker(SystemClock())

    def make(self) -> Carrier:
        """Return another carrier of the broker."""
        return self.broker.make_carrier()

    def receive(self, queue: str) -> list[Parcel]:
        """Take the parcels of a queue."""
        taken = [sent for sent in self.broker.sent if sent.queue == queue]
        self.broker.sent = [sent for sent in self.broker.sent if sent.queue != queue]
        return [sent.parcel for sent in taken]

    def stop_broker(self) -> None:
        """Let the broker not answer."""
        self.broker.is_down = True

    def start_broker(self) -> None:
        """Let the broker answer."""
        self.broker.is_down = False
