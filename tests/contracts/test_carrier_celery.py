"""The carrier of Celery keeps the contract of carriers, on RabbitMQ and on Redis.

A proxy between carrier and broker closes connections and refuses new ones, as a broker that stops.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest
from kombu import Connection

from pulse.carrier.base import CarrierDownError, CarrierSetup, Parcel
from pulse.celery.carrier import make_carrier
from pulse.errors import ConfigError
from pulse.testing.carrier_contract import PARCEL, QUEUE, CarrierContract
from pulse.testing.sample_runs import read_seconds
from tests.support.broker_proxy import BrokerProxy, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.carrier.base import Carrier

pytestmark = pytest.mark.server

LONGEST_S = 10.0
"""How long a broker that does not answer may keep the publisher."""


class CeleryCarrierContract(CarrierContract):
    """The broker is behind a proxy."""

    vhost: str
    proxy: BrokerProxy

    @pytest.fixture(autouse=True)
    def _proxy(self, vhost: str) -> Iterator[None]:
        self.vhost = vhost
        with BrokerProxy(vhost) as self.proxy:
            yield

    def make(self) -> Carrier:
        """Return another carrier of the broker."""
        return make_carrier(CarrierSetup(broker=self.proxy.url))

    def receive(self, queue: str) -> list[Parcel]:
        """Take the arguments of the tasks in a queue."""
        found = []
        with Connection(self.vhost) as connection:
            simple = connection.SimpleQueue(queue)
            with suppress(simple.Empty):
                while True:
                    message = simple.get_nowait()
                    message.ack()
                    (content,), _, _ = message.payload
                    found.append(msgspec.convert(content, Parcel))
            simple.close()
        return found

    def stop_broker(self) -> None:
        """Refuse connections."""
        self.proxy.switch(Mode.CUT)

    def start_broker(self) -> None:
        """Accept connections."""
        self.proxy.switch(Mode.PASS)

    @pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
    def test_a_silent_broker_is_reported_within_the_bound(
        self, carrier: Carrier, mode: Mode
    ) -> None:
        """Connected or not; the carrier is usable as soon as the broker answers."""
        self.send(carrier)
        self.proxy.switch(mode)
        for call in (lambda: carrier.send(PARCEL, queue=QUEUE), carrier.probe):
            before = read_seconds()
            with pytest.raises(CarrierDownError):
                call()
            assert read_seconds() - before < LONGEST_S
        self.proxy.switch(Mode.PASS)
        self.bounded(carrier.probe)
        self.send(carrier)
        assert PARCEL in self.received(QUEUE, 1)


class TestRabbitMQ(CeleryCarrierContract):
    """Messages are confirmed."""

    password = "guest"  # noqa: S105 - that of every new RabbitMQ

    @pytest.fixture
    def vhost(self, rabbitmq_vhost: str) -> str:
        """Return an empty vhost."""
        return rabbitmq_vhost

    def test_no_password_is_shown(self, carrier: Carrier) -> None:
        """The user has the same name as the password, so the name of the carrier decides."""
        assert ":***@127.0.0.1:" in carrier.name


class TestRedis(CeleryCarrierContract):
    """Messages are elements of a list."""

    @pytest.fixture
    def vhost(self, redis_vhost: str) -> str:
        """Return an empty database."""
        return redis_vhost


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tests.nowhere:app", "expected a module that can be imported, got ModuleNotFoundError"),
        ("json:decoder", "expected a Celery application, got <module 'json.decoder'"),
        ("json:dumb", "expected a Celery application, got None; did you mean 'dump'?"),
    ],
)
def test_broker_that_is_no_celery_application_is_refused(word: str, expected: str) -> None:
    """The error names the setting and what was found."""
    with pytest.raises(ConfigError) as caught:
        make_carrier(CarrierSetup(broker=word))
    assert str(caught.value).startswith(f"pulse.config.broker = {word}: {expected}")
