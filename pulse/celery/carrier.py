"""The carrier of `mode = celery`: each parcel is the argument of a Celery task.

kombu waits for some answers of a broker without a limit, so the sockets have one. A connection that
has failed is dropped without a word to the broker, and the parcel is sent once more over a new one:
the broker may have been restarted since the last parcel. A parcel that comes twice is refused by
the store.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import msgspec
from celery import Celery
from kombu import Producer
from kombu.exceptions import KombuError

from pulse.carrier.base import CarrierDownError, CarrierRefusedError
from pulse.clock import SECOND
from pulse.core.error_text import message_of
from pulse.errors import ConfigError, did_you_mean, missing_extra, shown, shown_url
from pulse.forks import sever

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kombu import Connection

    from pulse.carrier.base import CarrierSetup, Parcel

TASK: Final = "pulse.run"
"""The name of the Celery task that executes posted runs."""

ANSWER_S: Final = 3
"""How many seconds the broker may be silent while an answer is waited for."""

NO_LIMIT_S: Final = 365 * 24 * 3_600
"""A limit of a year, in place of limits that the Celery application of a site has for all tasks:
pulse interrupts runs at their own timeouts (`pulse.worker.main_thread`)."""

OPTIONS: Final[Mapping[str, Mapping[str, int]]] = {
    "amqp": {
        "confirm_publish": True,
        "read_timeout": ANSWER_S,
        "write_timeout": ANSWER_S,
        "max_retries": 0,
    },
    "redis": {"socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S, "max_retries": 0},
}
"""The transport options of kombu by the driver of the broker."""

_PROBE: Final = "pulse.probe"
"""A routing key without a queue: RabbitMQ confirms what it has dropped."""


def make_carrier(setup: CarrierSetup) -> CeleryCarrier:
    """Return the carrier of a broker, or of a Celery application; nothing is opened.

    Raises:
        ConfigError: there is no such Celery application.
        MissingExtraError: the broker needs a package that is not installed.

    """
    broker = setup.broker or ""
    if "://" not in broker:
        return CeleryCarrier(find_application(broker))
    if broker.startswith("redis"):
        for package in ("redis", "packaging"):  # kombu needs both for Redis
            if find_spec(package) is None:
                raise missing_extra(f"pulse.config.broker = {shown_url(broker)}", package, "redis")
    return CeleryCarrier(Celery("pulse", broker=broker, set_as_current=False))


def find_application(word: str) -> Celery:
    """Return the Celery application that `package.module:name` stands for.

    Raises:
        ConfigError: it cannot be imported, or is none.

    """
    key = f"pulse.config.broker = {word}"
    module, _, name = word.partition(":")
    try:
        owner = import_module(module)
    except Exception as error:
        got = f"{type(error).__name__}: {message_of(error)}"
        raise ConfigError([f"{key}: expected a module that can be imported, got {got}"]) from error
    found = getattr(owner, name, None)
    if not isinstance(found, Celery):
        hint = did_you_mean(name, vars(owner)) if found is None else ""
        raise ConfigError([f"{key}: expected a Celery application, got {shown(found)}{hint}"])
    return found


class CeleryCarrier:
    """Sends parcels as Celery tasks, over one connection."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None
        self._producer: Producer | None = None
        self.name: str = shown_url(_url_of(app))

    def send(self, parcel: Parcel, *, queue: str, delay_s: float | None = None) -> None:
        """Send a parcel; a confirmed publication, or one that Redis has executed.

        A worker that reads it executes it after *delay_s* seconds.
        """
        self._with_connection(lambda: self._send(parcel, queue, delay_s))

    def probe(self) -> None:
        """Let the broker confirm a message that it drops, or answer a ping."""
        self._drop()
        self._with_connection(self._probe)

    def close(self) -> None:
        """Drop the connection."""
        self._drop()

    def forked(self) -> None:
        """Leave the connection to the parent: this is a copy, in a forked child."""
        if self._connection is not None:
            for descriptor in _descriptors_of(self._connection):
                sever(descriptor)

    def _send(self, parcel: Parcel, queue: str, delay_s: float | None) -> None:
        """Send a parcel as a Celery task.

        It has no `expires`, which compares the clocks of two hosts; the broker counts `expiration`.
        """
        self._app.send_task(
            TASK,
            args=(msgspec.to_builtins(parcel),),
            queue=queue,
            task_id=f"{parcel.run}-{parcel.attempt}",
            countdown=delay_s,
            expiration=parcel.wait_us / SECOND,
            ignore_result=True,
            shadow=f"pulse:{parcel.task}",
            serializer="json",
            add_to_parent=False,
            time_limit=NO_LIMIT_S,
            soft_time_limit=NO_LIMIT_S,
            producer=self._producer,
            retry=False,
            confirm_timeout=ANSWER_S,
        )

    def _probe(self) -> None:
        connection = self._connection
        if connection is None or self._producer is None:
            return
        if connection.transport.driver_type == "redis":
            connection.default_channel.client.ping()
            return
        self._producer.publish(
            "", exchange="", routing_key=_PROBE, retry=False, confirm_timeout=ANSWER_S
        )

    def _with_connection(self, call: Callable[[], None]) -> None:
        """Make a call, and once more over a new connection if an old one has failed.

        Raises:
            CarrierDownError: the broker does not answer.
            CarrierRefusedError: it answers, and refuses the call.

        """
        is_new = self._connection is None
        if is_new:
            self._connect()
        try:
            call()
        except Exception as error:
            refuses = self._is_refusal(error)
            self._drop()
            if refuses:
                raise CarrierRefusedError(f"the broker refuses it: {message_of(error)}") from error
            if is_new:
                raise CarrierDownError(_reason(error)) from error
            self._with_connection(call)

    def _connect(self) -> None:
        """Connect, once: a broker that refuses the login is one that does not answer.

        Raises:
            CarrierDownError: there is no connection.

        """
        try:
            self._open()
        except Exception as error:
            self._drop()
            raise CarrierDownError(_reason(error)) from error

    def _open(self) -> None:
        driver = _driver_of(self._app)
        self._connection = connection = self._app.connection_for_write(
            transport_options=OPTIONS.get(driver, {}), connect_timeout=ANSWER_S
        )
        connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        self._producer = Producer(connection.default_channel, auto_declare=False)

    def _is_refusal(self, error: Exception) -> bool:
        """Return whether the broker has answered and refused, so that other parcels may go on."""
        connection = self._connection
        if connection is None or isinstance(error, KombuError):
            return False
        refusals: tuple[type[Exception], ...] = connection.channel_errors
        failures: tuple[type[Exception], ...] = connection.connection_errors
        return isinstance(error, refusals) and not isinstance(error, (*failures, OSError))

    def _drop(self) -> None:
        """Forget the connection; the broker is not asked, since it may not answer."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # whatever is left of the connection is not used again
                connection.collect()


def _descriptors_of(connection: Connection) -> Iterator[int]:
    """Yield the descriptors of the sockets of a connection; nothing is opened."""
    made = connection._connection  # noqa: SLF001 - the public attribute would connect
    socket = getattr(made, "sock", None)  # of amqp
    if socket is not None:
        yield socket.fileno()
    for channel in getattr(made, "channels", None) or ():  # of Redis, whose pool is in the channel
        pool = getattr(channel, "_pool", None)
        for link in [
            *getattr(pool, "_in_use_connections", ()),
            *getattr(pool, "_available_connections", ()),
        ]:
            if (socket := getattr(link, "_sock", None)) is not None:
                yield socket.fileno()


def _url_of(app: Celery) -> str:
    return str(app.conf.broker_write_url or "")


def _driver_of(app: Celery) -> str:
    """Return the driver of the broker, which decides about the names of options."""
    scheme = _url_of(app).partition("://")[0].split("+")[-1]
    return "redis" if scheme in {"redis", "rediss", "sentinel"} else "amqp"


def _reason(error: Exception) -> str:
    text = message_of(error)
    return text if type(error).__name__ in text else f"{type(error).__name__}: {text}"
