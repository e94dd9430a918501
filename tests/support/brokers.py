"""Message brokers of the tests' own, on free ports of 127.0.0.1: RabbitMQ with its epmd, and Redis.

    with RabbitMQ() as broker:
        url = broker.vhost()
        broker.stop_app()

One broker serves the tests of a session, since RabbitMQ takes about 4 s to start; `vhost` gives
each test an empty place in it. The fixtures of `tests/conftest.py` do both. Where there is no
`rabbitmq-server`, tests that need one are skipped; under CI=true that is an error.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import tempfile
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Protocol, Self

from kombu import Connection
from kombu.exceptions import ChannelError

from tests.support.redis_servers import RedisServer
from tests.support.requires_server import missing
from tests.support.servers import Server, free_port, run_program, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from kombu.transport.virtual import Channel

START_S = 60.0
END_S = 10.0
CTL_S = 60.0
TAIL = 4_000
"""How many characters of a log an error shows."""

VHOSTS = 6
"""How many vhosts are made at once: the time goes into the start of `rabbitmqctl`."""

DATABASES = 1_000
LIMITS = {"read_timeout": 10, "write_timeout": 10, "socket_timeout": 10}
"""Options of kombu's transports: how long `depth` and `purge` wait for an answer."""

_NOT_FOUND = "404"  # kombu's transport for Redis has it as a text
_SCRIPTS = "/usr/lib/rabbitmq/bin"  # Debian's script in PATH drops the environment
_NODE = "pulse@localhost"
_FOREIGN = ("RABBITMQ_", "ERL_", "ERLANG_", "NOTIFY_SOCKET")


class Broker(Protocol):
    """What tests do with either broker."""

    @property
    def url(self) -> str:
        """The default place for queues."""

    def vhost(self) -> str:
        """Return the URL of a place that holds no queues, and that no other call returns."""

    def start(self) -> None:
        """Make the broker accept connections; without effect when it does."""

    def stop(self) -> None:
        """Close connections and refuse new ones, in order."""

    def kill(self) -> None:
        """Kill the server; durable messages are there after `start`."""

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue of the default place."""

    def purge(self, queue: str) -> int:
        """Delete the messages of such a queue; return how many there were."""

    def close(self) -> None:
        """End all processes of the broker, and delete its data."""


def depth(url: str, queue: str) -> int:
    """Return how many messages wait in a queue, 0 if there is none of that name.

    Messages that a consumer has got and not acknowledged do not count.
    """
    with Connection(url, connect_timeout=10, transport_options=LIMITS) as link:
        return _declared(link.channel(), queue)


def purge(url: str, queue: str) -> int:
    """Delete the messages that wait in a queue; return how many there were."""
    with Connection(url, connect_timeout=10, transport_options=LIMITS) as link:
        if not _declared(link.channel(), queue):
            return 0
        return int(link.channel().queue_purge(queue))


def _declared(channel: Channel, queue: str) -> int:
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except ChannelError as error:
        if str(error.reply_code) != _NOT_FOUND:
            raise
        return 0


class RabbitMQ:
    """A RabbitMQ node with its own data, cookie and epmd; it is started at once.

    Queues are in the vhost `/` and in those that `vhost` makes; the user is guest.

    Attributes:
        port: where it speaks AMQP.
        url: of its vhost `/`.

    """

    def __init__(self) -> None:
        scripts = find_scripts()
        self.folder = Path(tempfile.mkdtemp(prefix="pulse-rabbitmq-"))
        self.port: int = free_port()
        self.url: str = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._ctl = str(scripts / "rabbitmqctl")
        self._numbers = itertools.count(1)
        self._vhosts: list[str] = []
        names = free_port()
        self._environ = _environment(self.folder, distribution=free_port(), names=names)
        _configure(self.folder, self.port)
        epmd = ["epmd", "-address", "127.0.0.1", "-port", str(names)]
        self._epmd = _Program(epmd, port=names, folder=self.folder, environ=self._environ)
        self._server = _Program(
            [str(scripts / "rabbitmq-server")],
            port=self.port,
            folder=self.folder,
            environ=self._environ,
        )
        try:
            # Started before the node, which else starts one that outlives it.
            self._epmd.start()
            self._epmd.wait_ready(START_S)
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Make the node accept connections: start its process, or its application after `stop_app`.

        Raises:
            AssertionError: it does not within 60 s; the error shows the end of its log.

        """
        if not self._server.is_running():
            self._server.start()
            self._server.wait_ready(START_S)
        elif not self._accepts():
            self.start_app()

    def stop(self) -> None:
        """Refuse connections until `start`, as after `stop_app`, which is faster than the node."""
        self.stop_app()

    def kill(self) -> None:
        """Kill the node; without effect when it has ended."""
        self._vhosts.clear()  # unused ones may not be on the disk yet
        self._server.kill()

    def stop_app(self) -> None:
        """Close all connections and refuse new ones; the node's process goes on."""
        self.control("stop_app")

    def start_app(self) -> None:
        """Accept connections again, after `stop_app`."""
        self.control("start_app")

    def control(self, *words: str) -> str:
        """Return what `rabbitmqctl` writes; an error of it fails the test."""
        done = run_program(
            [self._ctl, "--quiet", *words],
            folder=self.folder,
            environ=self._environ,
            timeout=CTL_S,
        )
        if done.returncode:
            raise AssertionError(
                f"rabbitmqctl {' '.join(words)}: {done.stdout}\n{self._server.log_text()}"
            )
        return done.stdout

    def vhost(self) -> str:
        """Return the URL of a new vhost."""
        if not self._vhosts:
            self._vhosts = [f"test-{next(self._numbers)}" for _ in range(VHOSTS)]
            self._make_vhosts()
        return f"{self.url.removesuffix('//')}/{self._vhosts.pop()}"

    def _make_vhosts(self) -> None:
        every = {"user": "guest", "configure": ".*", "write": ".*", "read": ".*"}
        file = self.folder / "vhosts.json"
        made = {
            "vhosts": [{"name": name} for name in self._vhosts],
            "permissions": [every | {"vhost": name} for name in self._vhosts],
        }
        file.write_text(json.dumps(made))
        self.control("import_definitions", str(file))

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue of the vhost `/`."""
        return depth(self.url, queue)

    def purge(self, queue: str) -> int:
        """Delete the messages of a queue of the vhost `/`; return how many there were."""
        return purge(self.url, queue)

    def processes(self) -> list[int]:
        """Return the processes of the node, its helpers, its epmd and its `rabbitmqctl`.

        Erlang starts helpers in sessions of their own; all of them have the node's environment.
        """
        mark = f"HOME={self.folder}\0".encode()
        return sorted(pid for pid, environ in _environments() if mark in b"\0" + environ)

    def close(self) -> None:
        """Kill the node, then its epmd, and delete its data."""
        self._server.kill()
        self._epmd.kill()
        # The node's helpers end by themselves when it has ended.
        wait_until(lambda: not self.processes(), END_S, "the helpers of the node end")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RedisBroker(RedisServer):
    """A Redis server as a broker; each of its databases is a vhost."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        folder = Path(tempfile.mkdtemp(prefix="pulse-redis-broker-"))
        super().__init__(folder, databases=str(DATABASES), appendfsync="no")

    def start(self) -> None:
        """Make the server accept connections; without effect when it does."""
        if self._process is None:
            super().start()
        self.resume()

    def vhost(self) -> str:
        """Return the URL of a database that has not been used."""
        return f"{self.url.removesuffix('/0')}/{next(self._numbers)}"

    def depth(self, queue: str) -> int:
        """Return how many messages wait in a queue of database 0."""
        return depth(self.url, queue)

    def purge(self, queue: str) -> int:
        """Delete the messages of a queue of database 0; return how many there were."""
        return purge(self.url, queue)

    def close(self) -> None:
        """Kill the server, and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Program(Server):
    """A program with a long log, whose end is what errors show; `kill` sends no SIGTERM first."""

    def log_text(self) -> str:
        return super().log_text()[-TAIL:]

    def is_running(self) -> bool:
        return self._process is not None and bool(self.family())

    def kill(self) -> None:
        if self._process is None:
            return
        # The script of the node waits for it: until all its threads have ended, and its ports are
        # free, which the state of the process alone does not show.
        for pid in [pid for pid in self.family() if pid != self.pid] or self.family():
            self._kill(pid)
        with contextlib.suppress(TimeoutExpired):
            self._process.wait(END_S)
        self.close()


def find_scripts() -> Path:
    """Return the folder of RabbitMQ's own scripts."""
    found = shutil.which("rabbitmq-server", path=_SCRIPTS) or shutil.which("rabbitmq-server")
    if found is None:
        missing("there is no rabbitmq-server; Debian's package is rabbitmq-server")
    return Path(found).parent


def _environment(folder: Path, *, distribution: int, names: int) -> dict[str, str | None]:
    """Return the environment of a node, whatever other nodes the machine's settings are for."""
    foreign = {name: None for name in os.environ if name.startswith(_FOREIGN)}
    loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
    files = {
        "CONF_ENV_FILE": "rabbitmq-env.conf",
        "CONFIG_FILE": "rabbitmq.conf",
        "ADVANCED_CONFIG_FILE": "advanced.config",
        "ENABLED_PLUGINS_FILE": "enabled_plugins",
        "MNESIA_BASE": "data",
        "LOG_BASE": "log",
        "PLUGINS_EXPAND_DIR": "plugins",
        "GENERATED_CONFIG_DIR": "generated",
        "PID_FILE": "pid",
    }
    return {
        **foreign,
        **{f"RABBITMQ_{name}": str(folder / file) for name, file in files.items()},
        "HOME": str(folder),  # Erlang puts its cookie there
        "LC_ALL": "C.UTF-8",  # rabbitmqctl warns of others
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_LOGS": "-",
        # One scheduler that never spins: an idle node takes no CPU from the tests.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none {loopback}",
        "RABBITMQ_CTL_ERL_ARGS": loopback,
        "RABBITMQ_CTL_DIST_PORT_MIN": "0",
        "RABBITMQ_CTL_DIST_PORT_MAX": "0",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_CRASH_DUMP_SECONDS": "0",
    }


def _configure(folder: Path, port: int) -> None:
    """Write all files that RabbitMQ else looks for in /etc."""
    (folder / "rabbitmq-env.conf").touch()
    (folder / "advanced.config").write_text("[].\n")
    (folder / "enabled_plugins").write_text("[].\n")
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.default = 127.0.0.1:{port}\n"
        "disk_free_limit.absolute = 1MB\n"  # a full disk must not block publishers
    )


def _environments() -> Iterator[tuple[int, bytes]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                yield int(entry.name), Path(entry.path, "environ").read_bytes()
            except OSError:  # it has ended, or belongs to another user
                continue
