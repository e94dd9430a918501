"""The contract of carriers as a pytest class; a subclass tests a carrier against every promise.

The test module of a carrier says how to make the carrier of a broker that the test may stop and
start, and how to read what has come:

    class TestMyCarrier(CarrierContract):
        password = "the password in the URL of the broker"

        def make(self) -> Carrier: ...
        def receive(self, queue: str) -> list[Parcel]: ...
        def stop_broker(self) -> None: ...
        def start_broker(self) -> None: ...

The broker runs when a test begins, and its queues are empty.
"""

from __future__ import annotations

import threading
import time  # noqa: TID251 - a broker of another process is asked again and again
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import pytest

from pulse.carrier.base import CarrierDownError, CarrierError, CarrierUnknownError, Parcel
from pulse.clock import SECOND
from pulse.testing.sample_runs import read_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.carrier.base import Carrier

QUEUE, OTHER_QUEUE = "pulse-contract", "pulse-contract-2"

PARCEL: Final = Parcel(
    run="0123456789abcdef" * 2,
    attempt=1,
    task="cleanup",
    poster="host:1:nonce",
    digest="00ff",
    timeout_us=60 * SECOND,
    wait_us=300 * SECOND,
)

_AGAIN_S: Final = 0.05


class CarrierContract:
    """The promises of a carrier."""

    password = ""
    """The password of the broker; empty if it has none."""

    bound_s: float = 15.0
    """How many seconds a call may take, and a parcel, and a broker until it answers."""

    def make(self) -> Carrier:
        """Return another carrier of the broker."""
        raise NotImplementedError

    def receive(self, queue: str) -> list[Parcel]:
        """Return the parcels that have come to a queue since the last call, without waiting."""
        raise NotImplementedError

    def stop_broker(self) -> None:
        """Stop the broker: connections end, and new ones are refused."""
        raise NotImplementedError

    def start_broker(self) -> None:
        """Start the broker again after a stop."""
        raise NotImplementedError

    @pytest.fixture
    def carrier(self) -> Iterator[Carrier]:
        """Return a carrier, which is closed after the test."""
        carrier = self.make()
        yield carrier
        carrier.close()

    # What a test does ---------------------------------------------------------------------

    def bounded(self, call: Callable[[], object]) -> None:
        """Make a call; fail if it takes too long."""
        before = read_seconds()
        try:
            call()
        finally:
            assert read_seconds() - before < self.bound_s

    def send(self, carrier: Carrier, parcel: Parcel = PARCEL, queue: str = QUEUE) -> None:
        """Send a parcel; fail if that takes too long."""
        self.bounded(partial(carrier.send, parcel, queue=queue))

    def received(self, queue: str, count: int) -> list[Parcel]:
        """Return the parcels of a queue once there are *count* of them."""
        found: list[Parcel] = []

        def are_there() -> bool:
            found.extend(self.receive(queue))
            return len(found) >= count

        self.until(are_there)
        return found

    def usable(self, call: Callable[[], None]) -> None:
        """Make a call until it succeeds: a broker that was just started may not answer yet."""

        def succeeds() -> bool:
            try:
                call()
            except (CarrierDownError, CarrierUnknownError):
                return False
            return True

        self.until(succeeds)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds; fail if it does not hold within the bound."""
        end = read_seconds() + self.bound_s
        while not condition():
            assert read_seconds() < end, f"expected it to hold within {self.bound_s} s"
            time.sleep(_AGAIN_S)

    # The promises -------------------------------------------------------------------------

    def test_building_a_carrier_opens_nothing(self) -> None:
        """No socket and no thread; so it may be built while the broker is down."""
        self.stop_broker()
        before = _sockets_and_threads()
        carrier = self.make()
        opened = _sockets_and_threads() - before
        carrier.close()
        self.start_broker()
        assert opened == set()

    def test_a_parcel_comes_as_it_was_sent(self, carrier: Carrier) -> None:
        """It comes once, to the queue that is named."""
        self.send(carrier)
        assert self.received(QUEUE, 1) == [PARCEL]
        self.send(carrier, queue=OTHER_QUEUE)
        assert (self.received(OTHER_QUEUE, 1), self.receive(QUEUE)) == ([PARCEL], [])

    @pytest.mark.parametrize(
        "text",
        ["", "caf\u00e9 \u6771\u4eac \U0001f550", "a\"b'c\\d", "<!--%s{}${x}-->", "x" * 200],
        ids=["empty", "other letters", "quotes", "markup", "long"],
    )
    def test_texts_come_as_they_were_sent(self, carrier: Carrier, text: str) -> None:
        """The name of a task has any letters."""
        parcel = msgspec.structs.replace(PARCEL, task=text, poster=f"{text}:1:nonce")
        self.send(carrier, parcel)
        assert self.received(QUEUE, 1) == [parcel]

    def test_every_parcel_comes(self, carrier: Carrier) -> None:
        """None of many is lost, and none comes twice."""
        parcels = [
            msgspec.structs.replace(PARCEL, run=f"{number:032x}", attempt=number)
            for number in range(100)
        ]
        for parcel in parcels:
            self.send(carrier, parcel)
        came = self.received(QUEUE, len(parcels))
        assert sorted(came, key=lambda one: one.attempt) == parcels

    def test_a_parcel_may_be_sent_again(self, carrier: Carrier) -> None:
        """The engine does so whenever it is unknown whether the parcel was sent."""
        self.send(carrier)
        self.send(carrier)
        assert set(self.received(QUEUE, 1)) == {PARCEL}

    def test_carriers_do_not_depend_on_each_other(self, carrier: Carrier) -> None:
        """The end of one does not disturb another one of the same broker."""
        other = self.make()
        self.send(carrier)
        self.send(other)
        other.close()
        self.send(carrier)
        assert len(self.received(QUEUE, 3)) == 3

    def test_probe_returns_while_the_broker_answers(self, carrier: Carrier) -> None:
        """It sends no parcel."""
        self.bounded(carrier.probe)
        self.bounded(carrier.probe)
        self.send(carrier)
        assert self.received(QUEUE, 1) == [PARCEL]

    def test_a_broker_that_is_down_is_reported_within_the_bound(self, carrier: Carrier) -> None:
        """By `send` and by `probe`, of a carrier that never had a connection."""
        self.stop_broker()
        with pytest.raises(CarrierDownError):
            self.send(carrier)
        with pytest.raises(CarrierDownError):
            self.bounded(carrier.probe)
        self.start_broker()

    def test_a_broker_that_stops_is_reported_within_the_bound(self, carrier: Carrier) -> None:
        """By a carrier that had a connection; the first parcel may have been sent or not."""
        self.send(carrier)
        self.stop_broker()
        with pytest.raises((CarrierDownError, CarrierUnknownError)):
            self.send(carrier)
        with pytest.raises(CarrierDownError):
            self.send(carrier)
        with pytest.raises(CarrierDownError):
            self.bounded(carrier.probe)
        self.start_broker()

    @pytest.mark.parametrize("had_connection", [True, False], ids=["connected", "new"])
    def test_a_carrier_is_usable_after_the_broker_is_back(
        self, carrier: Carrier, *, had_connection: bool
    ) -> None:
        """It connects again by itself."""
        if had_connection:
            self.bounded(carrier.probe)
        self.stop_broker()
        with pytest.raises(CarrierError):
            self.send(carrier)
        self.start_broker()
        self.usable(partial(self.bounded, carrier.probe))
        self.send(carrier)
        assert PARCEL in self.received(QUEUE, 1)

    def test_a_restart_between_two_parcels_is_survived(self, carrier: Carrier) -> None:
        """The carrier does not know of it: its connection ends without a call."""
        self.send(carrier)
        assert self.received(QUEUE, 1) == [PARCEL]
        self.stop_broker()
        self.start_broker()
        self.usable(partial(self.send, carrier))
        assert PARCEL in self.received(QUEUE, 1)

    def test_a_carrier_may_be_closed_twice(self) -> None:
        """With a connection, and without one."""
        unused, used = self.make(), self.make()
        self.send(used)
        for carrier in (unused, used):
            self.bounded(carrier.close)
            self.bounded(carrier.close)

    def test_a_carrier_is_closed_without_the_broker(self) -> None:
        """The broker is not waited for."""
        carrier = self.make()
        self.send(carrier)
        self.stop_broker()
        self.bounded(carrier.close)
        self.start_broker()

    def test_no_password_is_shown(self, carrier: Carrier) -> None:
        """Neither in the name nor in an error."""
        self.stop_broker()
        with pytest.raises(CarrierError) as caught:
            self.send(carrier)
        with pytest.raises(CarrierDownError) as probed:
            carrier.probe()
        self.start_broker()
        shown = [carrier.name, str(caught.value), str(probed.value), repr(caught.value)]
        assert carrier.name
        assert not self.password or not [text for text in shown if self.password in text]


def _sockets_and_threads() -> set[str | threading.Thread]:
    """Return the sockets and the threads of this process."""
    links = set[str]()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.add(str(entry.readlink()))
        except OSError:  # it is the descriptor of the folder, or was closed meanwhile
            continue
    return {*threading.enumerate(), *(one for one in links if one.startswith("socket:"))}
