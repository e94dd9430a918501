"""What the contract of carriers rejects."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.carrier.base import CarrierDownError
from pulse.clock import SystemClock
from pulse.testing.carrier_contract import QUEUE, CarrierContract
from pulse.testing.memory_carrier import MemoryBroker, MemoryCarrier

if TYPE_CHECKING:
    from pulse.carrier.base import Carrier, Parcel

PASSWORD = "S3CRETPW"  # noqa: S105 - a secret of this test alone


class ContractOf(CarrierContract):
    """The contract of a carrier over a broker in memory."""

    password = PASSWORD
    bound_s = 0.5

    def __init__(self, kind: type[MemoryCarrier]) -> None:
        self.broker = MemoryBroker(SystemClock(), name="memory://shop:***@broker")
        self.kind = kind

    def make(self) -> Carrier:
        """Return a carrier of the kind under test."""
        return self.kind(self.broker)

    def receive(self, queue: str) -> list[Parcel]:
        """Take the parcels of a queue."""
        taken = [sent.parcel for sent in self.broker.sent if sent.queue == queue]
        self.broker.sent = [sent for sent in self.broker.sent if sent.queue != queue]
        return taken

    def stop_broker(self) -> None:
        """Let the broker not answer."""
        self.broker.is_down = True

    def start_broker(self) -> None:
        """Let the broker answer."""
        self.broker.is_down = False


class Connecting(MemoryCarrier):
    """Opens a socket when it is made."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.connection = socket.socket()

    def close(self) -> None:
        """Close the socket."""
        self.connection.close()


class Twice(MemoryCarrier):
    """Sends each parcel twice."""

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Send it twice."""
        super().send(parcel, queue=queue)
        super().send(parcel, queue=queue)


class Losing(MemoryCarrier):
    """Loses every second parcel."""

    count = 0

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Send every other parcel."""
        self.count += 1
        if self.count % 2:
            super().send(parcel, queue=queue)


class Misled(MemoryCarrier):
    """Sends all parcels to one queue."""

    def send(self, parcel: Parcel, *, queue: str) -> None:  # noqa: ARG002 - that is its fault
        """Send it to a queue of its own choice."""
        super().send(parcel, queue=QUEUE)


class Ascii(MemoryCarrier):
    """Drops letters that it does not know."""

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Send another parcel."""
        task = parcel.task.encode("ascii", "replace").decode()
        parcel = msgspec.structs.replace(parcel, task=task)
        super().send(parcel, queue=queue)


class Slow(MemoryCarrier):
    """Waits for a broker that does not answer."""

    def _connect(self) -> None:
        if self._broker.is_down:
            threading.Event().wait(0.6)
        super()._connect()


class Quiet(MemoryCarrier):
    """Reports no broker that does not answer."""

    def _connect(self) -> None:
        return


class Talkative(MemoryCarrier):
    """Shows the password in an error."""

    def _connect(self) -> None:
        if self._broker.is_down:
            raise CarrierDownError(f"memory://shop:{PASSWORD}@broker does not answer")


class Named(MemoryCarrier):
    """Shows the password in its name."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.name = f"memory://shop:{PASSWORD}@broker"


class Final(MemoryCarrier):
    """Is not usable any more once the broker was down."""

    def _connect(self) -> None:
        if self._broker.is_down:
            self.closed = 99
        if self.closed == 99:
            raise CarrierDownError("closed for ever")


EXTRA: dict[str, dict[str, object]] = {
    "test_texts_come_as_they_were_sent": {"text": "caf\u00e9"},
    "test_a_carrier_is_usable_after_the_broker_is_back": {"had_connection": True},
}


def run(kind: type[MemoryCarrier], test: str) -> None:
    """Run a test of the contract over a carrier."""
    contract = ContractOf(kind)
    keywords = EXTRA.get(test, {})
    if test != "test_building_a_carrier_opens_nothing":
        keywords = {"carrier": contract.make(), **keywords}
    getattr(contract, test)(**keywords)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Connecting, "test_building_a_carrier_opens_nothing"),
        (Twice, "test_a_parcel_comes_as_it_was_sent"),
        (Misled, "test_a_parcel_comes_as_it_was_sent"),
        (Ascii, "test_texts_come_as_they_were_sent"),
        (Losing, "test_every_parcel_comes"),
        (Twice, "test_every_parcel_comes"),
        (Slow, "test_a_broker_that_is_down_is_reported_within_the_bound"),
        (Quiet, "test_a_broker_that_is_down_is_reported_within_the_bound"),
        (Quiet, "test_a_broker_that_stops_is_reported_within_the_bound"),
        (Final, "test_a_carrier_is_usable_after_the_broker_is_back"),
        (Talkative, "test_no_password_is_shown"),
        (Named, "test_no_password_is_shown"),
    ],
)
def test_carrier_with_a_fault_breaks_its_contract(kind: type[MemoryCarrier], test: str) -> None:
    """The test of the promise fails, and passes for the carrier without the fault."""
    run(MemoryCarrier, test)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run(kind, test)
