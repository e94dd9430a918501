"""The client of the Redis server: connections, timeouts, and calls of commands and scripts.

A call takes a free connection from a pool, or opens one, and returns it; so calls may come from
threads and from greenlets. No call is repeated: a call whose reply was lost may have been executed.
"""

from __future__ import annotations

import contextlib
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

import msgspec

from pulse.backoff import PROBE_TIMEOUT, ReconnectProbe, chance
from pulse.clock import SECOND
from pulse.errors import StoreRefusedError, StoreUnavailableError, missing_extra, shown_url
from pulse.store.redis.refusals import hint_of, is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import ModuleType

    from pulse.clock import Clock, Instant, Span
    from pulse.store.redis.connections import Severable

A = TypeVar("A")

SCRIPTS = (
    "read_due",
    "apply",
    "read_tasks",
    "heartbeat",
    "read_members",
    "read_leases",
    "find_missing",
    "read_orphans",
    "remove_members",
    "prune",
    "reindex",
    "rebuild",
)
_ARGUMENTS = ", with args beginning with:"
"""What follows in an error reply to an unknown command; of AUTH, a password."""

_DAMAGE = (
    "WRONGTYPE",
    "is not an integer",
    "is not a valid float",
    "attempt to ",
    "bad argument",
    "Expected ",
)
"""Parts of the error replies to calls that met a value of another type or form than expected."""

_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_encode = msgspec.msgpack.Encoder().encode


class DamagedDataError(StoreRefusedError):
    """A call met a value that is no data of this store."""


class _Pool(Protocol):
    def disconnect(self, inuse_connections: bool = ...) -> None: ...  # noqa: FBT001 - the signature of redis-py


class _Pipeline(Protocol):
    def execute_command(self, *arguments: str | int | bytes) -> object: ...
    def execute(self) -> Sequence[Any]: ...


class _Client(Protocol):
    """The part of redis-py's client that is used here; redis-py declares few types."""

    connection_pool: _Pool

    def execute_command(self, *arguments: str | int | bytes) -> Any: ...  # noqa: ANN401 - see `RedisClient.command`
    def pipeline(self) -> AbstractContextManager[_Pipeline]: ...


class RedisClient:
    """Calls a Redis server for the keys of one application.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        prefix: the beginning of the names of all keys.
        patience_us: the time limit of a call, for connection and reply together.
        stand_in: a clock that replaces the server's, for tests.

    """

    def __init__(
        self, url: str, *, prefix: str, patience_us: Span, stand_in: Clock | None = None
    ) -> None:
        self.name: str = shown_url(url)
        self._url = url
        self._prefix = prefix
        self._timeout_s = patience_us / 2 / SECOND  # half for the connection, half for the reply
        self._stand_in = stand_in
        self._reconnect_probe = ReconnectProbe(chance)
        self._client: _Client | None = None
        self._connections: WeakSet[Severable] = WeakSet()

    def open(self) -> None:
        """Read the scripts and open a first connection."""
        driver = _driver()
        self._unreachable: tuple[type[Exception], ...] = (driver.exceptions.RedisError, OSError)
        self._refused: tuple[type[Exception], ...] = (
            driver.exceptions.ResponseError,
            driver.exceptions.AuthenticationError,
            driver.exceptions.AuthorizationError,
        )
        self._unknown_script: type[Exception] = driver.exceptions.NoScriptError
        self._scripts = {name: _script(name) for name in SCRIPTS}
        self._client = self._make_client(driver)
        probe_s = min(self._timeout_s, PROBE_TIMEOUT / SECOND)
        self._probe_client = self._make_client(driver, **dict.fromkeys(_TIMEOUTS, probe_s))
        self.command("PING")

    def _make_client(self, driver: ModuleType, **limits: float) -> _Client:
        from redis.backoff import NoBackoff
        from redis.connection import parse_url
        from redis.retry import Retry

        from pulse.store.redis.connections import severable_class

        options = parse_url(self._url)  # type: ignore[no-untyped-call] # untyped in redis-py
        arguments: dict[str, Any] = {
            **dict.fromkeys(_TIMEOUTS, self._timeout_s),
            **options,
            **limits,
            "connection_class": severable_class(options.get("connection_class")),
            "known": self._connections,
            "decode_responses": False,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
        }
        client: _Client = driver.Redis(connection_pool=driver.ConnectionPool(**arguments))
        return client

    def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def forked(self) -> None:
        """Sever this copy of the connections in a forked child."""
        self._client = None
        for connection in list(self._connections):
            connection.forked()

    def is_open(self) -> bool:
        """Return whether `open` was called, and `close` was not."""
        return self._client is not None

    def key(self, name: str) -> str:
        """Return the full name of a key of this application."""
        return self._prefix + name

    def command(self, *arguments: str | int | bytes) -> Any:  # noqa: ANN401 - each command has its own type
        """Run one command, and return its reply."""
        with self._calling() as client:
            return client.execute_command(*arguments)

    def commands(self, *commands: tuple[str | int | bytes, ...]) -> list[Any]:
        """Run several commands as one transaction, and return their replies."""
        with self._calling() as client, client.pipeline() as pipe:
            for arguments in commands:
                pipe.execute_command(*arguments)
            return list(pipe.execute())

    def now(self) -> Instant:
        """Return the present on the server's clock."""
        if self._stand_in is not None:
            return self._stand_in.wall()
        seconds, microseconds = self.command("TIME")
        return int(seconds) * SECOND + int(microseconds)

    def run(self, name: str, decoder: msgspec.msgpack.Decoder[A], **request: object) -> A:
        """Run a script with *request*, which the script describes; return its decoded reply."""
        if self._stand_in is not None:
            request["clock"] = self._stand_in.wall()
        text, digest = self._scripts[name] if self.is_open() else ("", "")
        arguments = (1, self._prefix, _encode(request))
        with self._calling() as client:
            try:
                reply = client.execute_command("EVALSHA", digest, *arguments)
            except self._unknown_script:
                reply = client.execute_command("EVAL", text, *arguments)
        return decoder.decode(reply)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[_Client]:
        """Yield the client for one call; after failures the server is probed first."""
        client = self._client
        if client is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")
        try:
            if self._reconnect_probe.is_due():
                self._probe()
            yield client
        except self._refused as error:
            self._reconnect_probe.failed()
            raise self._refusal(str(error)) from error
        except self._unreachable as error:
            self._reconnect_probe.failed()
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._reconnect_probe.answered()

    def _refusal(self, reply: str) -> StoreUnavailableError:
        """Return the error to raise for an error reply of the server."""
        reply = reply.partition(_ARGUMENTS)[0]
        text = f"{self.name}: {reply}"
        if not is_refusal(reply):
            return StoreUnavailableError(text)
        if any(part in reply for part in _DAMAGE):
            return DamagedDataError(text)
        hint = hint_of(reply, self._prefix)
        return StoreRefusedError(f"{text}; {hint}" if hint else text)

    def _probe(self) -> None:
        try:
            self._probe_client.execute_command("PING")
        finally:
            self._probe_client.connection_pool.disconnect(inuse_connections=False)


def _driver() -> ModuleType:
    try:
        import redis
    except ImportError as error:
        raise missing_extra("pulse.config.store", "redis", "redis", cause=error) from error
    return redis


def _script(name: str) -> tuple[str, str]:
    """Return the text of a script and its SHA-1 digest, by which EVALSHA names it."""
    folder = files("pulse.store.redis")
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("common", name))
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
