"""The brokers of the tests, and the proxy before them, do what other tests rely on."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError

from tests.support import brokers
from tests.support.broker_proxy import BrokerProxy, Mode
from tests.support.brokers import RabbitMQ, depth, purge
from tests.support.servers import free_port, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kombu.simple import SimpleQueue

    from tests.support.brokers import Broker

pytestmark = pytest.mark.server

QUEUE = "pulse"
SOON_S = 10.0
SILENCE_S = 0.5
"""How long a test listens for what must not arrive."""

PUBLISH_S = 20.0
"""The bound of a publish to a broker that is silent: several waits of 3 s."""

BROKERS = ["rabbitmq", "redis_broker"]
GREETINGS = {"amqp": b"AMQP\x00\x00\x09\x01", "redis": b"PING\r\n"}
"""What a client sends first, and what a broker answers to."""


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Return each broker, which accepts connections."""
    found: Broker = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def vhost(broker: Broker) -> str:
    """Return a new vhost of each broker."""
    return broker.vhost()


@pytest.fixture
def proxy(vhost: str) -> Iterator[BrokerProxy]:
    """Return a proxy before that vhost."""
    with BrokerProxy(vhost) as proxy:
        yield proxy


def connection(url: str, *, limit_s: int = 3) -> Connection:
    """Return a connection that publishes with confirms, and that waits for so long at most."""
    options = dict.fromkeys(("read_timeout", "write_timeout", "socket_timeout"), limit_s)
    options |= {"confirm_publish": True}
    return Connection(url, connect_timeout=limit_s, transport_options=options)


@contextmanager
def opened(url: str, *, limit_s: int = 3) -> Iterator[SimpleQueue]:
    """Yield a durable queue over a connection of its own."""
    with connection(url, limit_s=limit_s) as link, closing(link.SimpleQueue(QUEUE)) as queue:
        yield queue


def publish(url: str, word: str = "tick") -> None:
    """Publish one message, and wait until the broker confirms it."""
    with opened(url) as queue:
        queue.put(word)


def consume(url: str) -> Any:
    """Consume one message."""
    with opened(url) as queue:
        message = queue.get(timeout=SOON_S)
        message.ack()
        return message.payload


def failed_publish_s(queue: SimpleQueue) -> float:
    """Publish a message, which must fail as the connection does; return how long it took."""
    begun = time.monotonic()
    with pytest.raises(errors(queue.channel.connection.client)):
        queue.put("late")
    return time.monotonic() - begun


def errors(link: Connection) -> tuple[type[BaseException], ...]:
    """Return what operations on a broken connection raise."""
    return (*link.connection_errors, *link.channel_errors, OperationalError)


# Brokers ----------------------------------------------------------------------------------


def test_published_message_is_consumed(broker: Broker) -> None:
    """It waits in the queue in between."""
    url = broker.vhost()
    publish(url)
    assert depth(url, QUEUE) == 1
    assert consume(url) == "tick"
    assert depth(url, QUEUE) == 0


def test_vhosts_are_isolated(broker: Broker) -> None:
    """A queue of the same name in another vhost is another queue."""
    one, other = broker.vhost(), broker.vhost()
    publish(one)
    assert (depth(one, QUEUE), depth(other, QUEUE), depth(broker.url, QUEUE)) == (1, 0, 0)


def test_purged_queue_is_empty(broker: Broker) -> None:
    """Purge returns how many messages it has deleted."""
    url = broker.vhost()
    with opened(url) as queue:
        for _ in range(3):
            queue.put("tick")
    assert (purge(url, QUEUE), depth(url, QUEUE)) == (3, 0)


def test_queue_that_was_never_declared_is_empty(broker: Broker) -> None:
    """Neither look at it declares it or fails."""
    url = broker.vhost()
    assert (depth(url, QUEUE), purge(url, QUEUE), depth(url, QUEUE)) == (0, 0, 0)


def test_default_vhost_holds_queues(broker: Broker) -> None:
    """The URL of the broker itself can be used, too."""
    publish(broker.url)
    assert (broker.depth(QUEUE), broker.purge(QUEUE), broker.depth(QUEUE)) == (1, 1, 0)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restarted_broker_has_its_durable_message(broker: Broker, end: str) -> None:
    """It refuses connections in between."""
    url = broker.vhost()
    publish(url)
    getattr(broker, end)()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address_of(url), timeout=5)
    broker.start()
    assert consume(url) == "tick"


def test_application_of_rabbitmq_stops_and_starts(rabbitmq: RabbitMQ) -> None:
    """Its connections are closed, it refuses new ones, and its process goes on."""
    url = rabbitmq.vhost()
    with opened(url) as queue:
        queue.put("tick")
        before = rabbitmq.processes()
        rabbitmq.stop_app()
        assert failed_publish_s(queue) < SOON_S
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address_of(url), timeout=5)
    rabbitmq.start_app()
    assert set(before) & set(rabbitmq.processes())
    assert consume(url) == "tick"


def test_closed_rabbitmq_leaves_no_process(rabbitmq: RabbitMQ) -> None:
    """Its epmd and its helpers end with it, and those of another node do not."""
    with RabbitMQ() as broker:
        publish(broker.url)
        pids, elsewhere = broker.processes(), rabbitmq.processes()
        names = [program_name(pid) for pid in pids]
    assert {"beam.smp", "epmd", "inet_gethost"} <= set(names)
    assert [pid for pid in pids if is_alive(pid)] == []
    assert not broker.folder.exists()
    assert [pid for pid in elsewhere if not is_alive(pid)] == []
    publish(rabbitmq.vhost())


def test_rabbitmq_that_does_not_start_shows_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The port of its distribution is in use; neither a process nor a file is left of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as used:
        distribution = used.getsockname()[1]
        ports = iter([free_port(), free_port(), distribution])
        monkeypatch.setattr(brokers, "free_port", lambda: next(ports))
        with pytest.raises(AssertionError, match=f"port {distribution}"):
            RabbitMQ()
    assert list(tmp_path.iterdir()) == []


# The proxy --------------------------------------------------------------------------------


def test_passing_proxy_forwards_both_ways(proxy: BrokerProxy) -> None:
    """A message is published and consumed through it."""
    publish(proxy.url)
    assert consume(proxy.url) == "tick"
    wait_until(lambda: proxy.connections == 0, SOON_S, "the proxy closes its connections")
    assert proxy.accepted >= 2


def test_publish_through_a_deaf_proxy_arrives_and_fails(rabbitmq_vhost: str) -> None:
    """The publisher gets no confirmation, and ends with an error within its own bounds."""
    with BrokerProxy(rabbitmq_vhost) as proxy, opened(proxy.url) as queue:
        queue.put("tick")
        proxy.switch(Mode.DEAF)
        assert 2 < failed_publish_s(queue) < PUBLISH_S
        assert depth(rabbitmq_vhost, QUEUE) == 2
        proxy.switch(Mode.PASS)
        publish(proxy.url)


def test_publish_through_a_stalled_proxy_fails_and_arrives_late(rabbitmq_vhost: str) -> None:
    """What the client had sent is forwarded when the proxy passes bytes again."""
    with BrokerProxy(rabbitmq_vhost) as proxy, opened(proxy.url, limit_s=1) as queue:
        queue.put("tick")
        proxy.switch(Mode.STALL)
        assert failed_publish_s(queue) < PUBLISH_S
        assert depth(rabbitmq_vhost, QUEUE) == 1
        proxy.switch(Mode.PASS)
        wait_until(lambda: depth(rabbitmq_vhost, QUEUE) == 2, SOON_S, "the message arrives")


@pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
def test_publish_to_a_silent_redis_fails(redis_vhost: str, mode: Mode) -> None:
    """The client asks for the bindings of the exchange first, so that no message is on its way."""
    with BrokerProxy(redis_vhost) as proxy, opened(proxy.url, limit_s=1) as queue:
        queue.put("tick")
        proxy.switch(mode)
        assert failed_publish_s(queue) < PUBLISH_S
        proxy.switch(Mode.PASS)
        publish(proxy.url)
        assert depth(redis_vhost, QUEUE) == 2


def test_cut_proxy_closes_and_refuses_connections(vhost: str, proxy: BrokerProxy) -> None:
    """The client notices at once, and connects again when the proxy passes bytes again."""
    with opened(proxy.url) as queue:
        queue.put("tick")
        proxy.switch(Mode.CUT)
        assert proxy.connections == 0
        assert failed_publish_s(queue) < SOON_S
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert depth(vhost, QUEUE) == 1
    proxy.switch(Mode.PASS)
    publish(proxy.url)
    assert depth(vhost, QUEUE) == 2


@pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
def test_silent_proxy_accepts_connections_and_holds_the_answer(
    proxy: BrokerProxy, mode: Mode
) -> None:
    """A new client waits for its first answer, as before a host that has died."""
    proxy.switch(mode)
    with connect(proxy) as client:
        client.sendall(GREETINGS[urlsplit(proxy.url).scheme])
        client.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(16)
        proxy.switch(Mode.PASS)
        client.settimeout(SOON_S)
        assert client.recv(16)


@pytest.mark.parametrize("mode", [Mode.DEAF, Mode.STALL])
def test_held_answer_arrives_late(mode: Mode) -> None:
    """It is not lost, and what is sent after it comes after it."""
    with peers() as (proxy, client, server):
        proxy.switch(mode)
        server.sendall(b"one ")
        client.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(16)
        proxy.switch(Mode.PASS)
        client.settimeout(SOON_S)
        assert client.recv(4, socket.MSG_WAITALL) == b"one "
        server.sendall(b"two")
        assert client.recv(3, socket.MSG_WAITALL) == b"two"


def test_deaf_proxy_hides_the_end_of_the_broker_and_passes_that_of_the_client() -> None:
    """Whatever the broker does, the client gets no answer."""
    with peers() as (proxy, client, server):
        proxy.switch(Mode.DEAF)
        server.shutdown(socket.SHUT_WR)
        client.settimeout(SILENCE_S)
        with pytest.raises(TimeoutError):
            client.recv(16)
        client.shutdown(socket.SHUT_WR)
        assert server.recv(16) == b""
        proxy.switch(Mode.PASS)
        assert client.recv(16) == b""
        wait_until(lambda: proxy.connections == 0, SOON_S, "the proxy closes the connection")


def test_bytes_stay_in_order_while_modes_change() -> None:
    """Much more than the buffers hold goes both ways."""
    data = os.urandom(20_000_000)
    with peers() as (proxy, client, server):
        received: dict[str, bytes] = {}

        def receive(name: str, end: socket.socket) -> None:
            received[name] = end.recv(len(data), socket.MSG_WAITALL)

        threads = [
            threading.Thread(target=client.sendall, args=(data,), daemon=True),
            threading.Thread(target=server.sendall, args=(data,), daemon=True),
            threading.Thread(target=receive, args=("client", client), daemon=True),
            threading.Thread(target=receive, args=("server", server), daemon=True),
        ]
        for end in (client, server):
            end.settimeout(None)
        for thread, mode in zip(
            threads, (Mode.STALL, Mode.PASS, Mode.DEAF, Mode.PASS), strict=True
        ):
            proxy.switch(mode)
            thread.start()
            time.sleep(0.05)  # the buffers become full, or empty
        for thread in threads:
            thread.join(SOON_S)
    assert {name: found == data for name, found in received.items()} == {
        "client": True,
        "server": True,
    }


@pytest.mark.parametrize("mode", list(Mode))
def test_proxy_closes_at_once_beside_clients_that_never_read(mode: Mode) -> None:
    """Nothing that either side does blocks it."""
    with peers() as (proxy, client, server):
        for end in (client, server):
            end.settimeout(SILENCE_S)
            with pytest.raises(TimeoutError):
                end.sendall(bytes(50_000_000))
        begun = time.monotonic()
        proxy.switch(mode)
        proxy.close()
        proxy.close()
        assert time.monotonic() - begun < 2
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)


def test_proxy_closes_connections_to_a_broker_that_refuses_them() -> None:
    """The proxy itself accepts them."""
    with BrokerProxy(f"amqp://127.0.0.1:{free_port()}//") as proxy:
        with connect(proxy) as client:
            assert client.recv(16) == b""
        wait_until(lambda: proxy.connections == 0, SOON_S, "the proxy closes the connection")


def test_url_of_a_proxy_differs_in_its_port_alone() -> None:
    """User, vhost and query stay."""
    with BrokerProxy("amqp://guest:a%3Ab@127.0.0.1:5672//shop?heartbeat=5") as proxy:
        assert proxy.url == f"amqp://guest:a%3Ab@127.0.0.1:{proxy.port}//shop?heartbeat=5"


@contextmanager
def peers() -> Iterator[tuple[BrokerProxy, socket.socket, socket.socket]]:
    """Yield a proxy, and the two ends of a connection through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        BrokerProxy(f"amqp://127.0.0.1:{listening.getsockname()[1]}//") as proxy,
        connect(proxy) as client,
    ):
        server, _ = listening.accept()
        with server:
            server.settimeout(SOON_S)
            yield proxy, client, server


def connect(proxy: BrokerProxy) -> socket.socket:
    """Return a connection to a proxy."""
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SOON_S)


def address_of(url: str) -> tuple[str, int]:
    """Return the address of a server."""
    return "127.0.0.1", urlsplit(url).port or 0


def program_name(pid: int) -> str:
    """Return the name of the program of a process, of at most 15 characters."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
