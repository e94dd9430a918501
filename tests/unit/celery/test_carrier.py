"""What the carrier of `mode = celery` sends, and how it fails, without a real broker."""

from __future__ import annotations

import json
import socket
import sys
import threading
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any

import amqp
import msgspec
import pytest
from celery import Celery

from pulse.carrier.base import CarrierDownError, CarrierSetup, Parcel
from pulse.celery import carrier as celery_carrier
from pulse.celery.carrier import TASK, CeleryCarrier, find_application, make_carrier
from pulse.clock import SECOND
from pulse.errors import ConfigError
from pulse.testing.sample_runs import read_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "S3CRETPW"  # noqa: S105 - a secret of this test alone
PARCEL = Parcel(
    run="0123456789abcdef" * 2,
    attempt=2,
    task="caf\u00e9",
    poster="host:1:nonce",
    digest="00ff",
    timeout_us=60 * SECOND,
    wait_us=7 * SECOND,
)


@pytest.fixture
def app() -> Iterator[Celery]:
    """Return a Celery application whose broker is in memory."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    yield app
    app.close()


def sent(app: Celery, queue: str) -> list[Any]:
    """Return the messages of a queue, without waiting."""
    found = []
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        while message := channel.basic_get(queue, no_ack=True):
            found.append(message)
    return found


def test_a_parcel_is_the_argument_of_a_task(app: Celery) -> None:
    """The message names the task, the run and the attempt, for logs and Flower."""
    carrier = CeleryCarrier(app)
    carrier.send(PARCEL, queue="slow")
    carrier.close()
    (message,) = sent(app, "slow")
    arguments, keywords, _ = json.loads(message.body)
    assert (arguments, keywords) == ([msgspec.to_builtins(PARCEL)], {})
    assert message.headers["task"] == TASK
    assert message.headers["id"] == f"{PARCEL.run}-2"
    assert message.headers["shadow"] == "pulse:caf\u00e9"
    assert message.headers["ignore_result"] is True
    assert message.content_type == "application/json"


def test_a_message_expires_by_the_clock_of_the_broker_alone(app: Celery) -> None:
    """The clocks of two hosts may differ; Celery does not retry it either."""
    carrier = CeleryCarrier(app)
    carrier.send(PARCEL, queue="slow")
    carrier.close()
    (message,) = sent(app, "slow")
    assert message.properties["expiration"] == "7000"
    assert (message.headers["expires"], message.headers["eta"]) == (None, None)
    assert (message.headers["retries"], message.headers["parent_id"]) == (0, None)


def test_a_message_may_be_for_later(app: Celery) -> None:
    """A worker keeps it until then."""
    carrier = CeleryCarrier(app)
    carrier.send(PARCEL, queue="slow", delay_s=2.5)
    carrier.close()
    (message,) = sent(app, "slow")
    left = datetime.fromisoformat(message.headers["eta"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=2.5)


def test_settings_of_a_site_for_its_tasks_do_not_change_a_parcel(app: Celery) -> None:
    """Such as another serializer, or limits of all tasks."""
    app.conf.update(
        task_serializer="pickle",
        accept_content=["pickle"],
        task_soft_time_limit=1,
        task_time_limit=1,
        task_publish_retry=True,
    )
    carrier = CeleryCarrier(app)
    carrier.send(PARCEL, queue="slow")
    carrier.close()
    (message,) = sent(app, "slow")
    hard, soft = message.headers["timelimit"]
    assert message.content_type == "application/json"
    assert hard > PARCEL.timeout_us / SECOND
    assert soft is None or soft > PARCEL.timeout_us / SECOND


def test_a_probe_sends_no_message(app: Celery) -> None:
    """What it publishes has no queue."""
    carrier = CeleryCarrier(app)
    carrier.send(PARCEL, queue="slow")
    carrier.probe()
    carrier.close()
    assert len(sent(app, "slow")) == 1


def test_a_carrier_is_usable_after_it_was_closed(app: Celery) -> None:
    """It connects when it sends."""
    carrier = CeleryCarrier(app)
    carrier.close()
    carrier.send(PARCEL, queue="slow")
    carrier.close()
    carrier.close()
    assert len(sent(app, "slow")) == 1


# Making one -------------------------------------------------------------------------------


def test_a_broker_may_be_a_url() -> None:
    """Its name has no password."""
    carrier = make_carrier(CarrierSetup(broker=f"amqp://shop:{SECRET}@mq//"))
    assert carrier.name == "amqp://shop:***@mq//"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, app: Celery) -> ModuleType:
    """Return the module of a site, with a Celery application and something else."""
    module = ModuleType("shop_celery_site")
    module.app, module.other = app, 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_broker_may_be_a_celery_application(site: ModuleType, app: Celery) -> None:
    """With its own settings of the connection."""
    assert find_application(f"{site.__name__}:app") is app
    carrier = make_carrier(CarrierSetup(broker=f"{site.__name__}:app"))
    carrier.send(PARCEL, queue="slow")
    carrier.close()
    assert len(sent(app, "slow")) == 1


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("no_such_site:app", "expected a module that can be imported, got ModuleNotFoundError: "),
        ("shop_celery_site:ap", "expected a Celery application, got None; did you mean 'app'?"),
        ("shop_celery_site:other", "expected a Celery application, got 5"),
    ],
)
def test_an_application_that_is_not_found_is_an_error(word: str, problem: str) -> None:
    """It names the setting, what was expected and what came."""
    with pytest.raises(ConfigError) as caught:
        find_application(word)
    assert str(caught.value).startswith(f"pulse.config.broker = {word}: {problem}")


# A broker that does not answer ------------------------------------------------------------


def free_port() -> int:
    """Return a port of this host on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_refuses_connections_is_down(scheme: str) -> None:
    """At once; the error shows no password."""
    carrier = make_carrier(
        CarrierSetup(broker=f"{scheme}://shop:{SECRET}@127.0.0.1:{free_port()}/1")
    )
    for call in (carrier.probe, lambda: carrier.send(PARCEL, queue="slow")):
        before = read_seconds()
        with pytest.raises(CarrierDownError) as caught:
            call()
        assert read_seconds() - before < 5
        assert SECRET not in repr(caught.value)
    carrier.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port on which connections are accepted, and nothing is ever answered."""
    server = socket.create_server(("127.0.0.1", 0), backlog=16)
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                accepted.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    thread.join()
    for each in (server, *accepted):
        each.close()


@pytest.mark.parametrize("scheme", ["amqp", "redis"])
def test_a_broker_that_is_silent_is_down(
    silent_port: int, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """It accepts the connection and answers nothing: no call waits without a limit."""
    limits = {"read_timeout", "write_timeout", "socket_timeout", "socket_connect_timeout"}
    options = {
        driver: {name: 0.2 if name in limits else value for name, value in given.items()}
        for driver, given in celery_carrier.OPTIONS.items()
    }
    monkeypatch.setattr(celery_carrier, "OPTIONS", options)
    monkeypatch.setattr(celery_carrier, "ANSWER_S", 0.2)
    carrier = make_carrier(CarrierSetup(broker=f"{scheme}://127.0.0.1:{silent_port}/1"))
    for call in (carrier.probe, lambda: carrier.send(PARCEL, queue="slow")):
        before = read_seconds()
        with pytest.raises(CarrierDownError):
            call()
        assert read_seconds() - before < 5
    carrier.close()


def test_a_refused_login_is_a_broker_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """No parcel can be sent, so nothing is claimed until a probe succeeds."""
    error = amqp.AccessRefused("(403) ACCESS_REFUSED - Login was refused")

    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr("kombu.transport.pyamqp.Transport.establish_connection", refuse)
    carrier = make_carrier(CarrierSetup(broker="amqp://shop:word@127.0.0.1:1//"))
    with pytest.raises(CarrierDownError, match="Login was refused"):
        carrier.send(PARCEL, queue="slow")
