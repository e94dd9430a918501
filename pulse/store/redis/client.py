"""The server: how it is reached, for how long a call waits, and how scripts are run there.

A call takes a connection that is free, or makes another, and gives it back; so calls may come from
threads and greenlets alike. Nothing is sent twice: a call whose answer was lost may have done all
that it was to do.
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
from pulse.errors import MissingExtraError, StoreUnavailableError
from pulse.store.naming import shown_url

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
    "read_orphans",
    "remove_members",
    "prune",
)
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_encode = msgspec.msgpack.Encoder().encode


class _Pool(Protocol):
    def disconnect(self, inuse_connections: bool = ...) -> None: ...  # noqa: FBT001 - as it is there


class _Pipeline(Protocol):
    def execute_command(self, *words: str | int | bytes) -> object: ...
    def execute(self) -> Sequence[Any]: ...


class _Client(Protocol):
    """What is used of redis-py's client, whose own types are few."""

    connection_pool: _Pool

    def execute_command(self, *words: str | int | bytes) -> Any: ...  # noqa: ANN401 - see `RedisClient.command`
    def pipeline(self) -> AbstractContextManager[_Pipeline]: ...


class ServerCall(msgspec.Struct, kw_only=True):
    """What a script is asked to do; `clock` stands in for the server's own, in tests."""

    clock: Instant | None = None


class RedisClient:
    """A Redis server, of which one application's keys are used.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        prefix: what the names of the keys begin with.
        patience_us: how long a call waits in all, for a connection and for an answer.
        stand_in: a clock that is asked instead of the server's, for tests.

    """

    def __init__(
        self, url: str, *, prefix: str, patience_us: Span, stand_in: Clock | None = None
    ) -> None:
        self.name: str = shown_url(url)
        self._url = url
        self._prefix = prefix
        self._timeout_s = patience_us / 2 / SECOND  # half to connect, half to be answered
        self._stand_in = stand_in
        self._reconnect_probe = ReconnectProbe(chance)
        self._client: _Client | None = None
        self._known: WeakSet[Severable] = WeakSet()

    def open(self) -> None:
        """Read the scripts and try a first connection."""
        driver = _driver()
        self._unreachable: tuple[type[Exception], ...] = (driver.exceptions.RedisError, OSError)
        self._unknown_script: type[Exception] = driver.exceptions.NoScriptError
        self._scripts = {name: _script(name) for name in SCRIPTS}
        self._client = self._make_client(driver)
        knock_s = min(self._timeout_s, PROBE_TIMEOUT / SECOND)
        self._knocking = self._make_client(driver, **dict.fromkeys(_TIMEOUTS, knock_s))
        self.command("PING")

    def _make_client(self, driver: ModuleType, **limits: float) -> _Client:
        from redis.backoff import NoBackoff
        from redis.connection import parse_url
        from redis.retry import Retry

        from pulse.store.redis.connections import kind_of

        told = parse_url(self._url)  # type: ignore[no-untyped-call] # redis-py has none here
        words: dict[str, Any] = {
            **dict.fromkeys(_TIMEOUTS, self._timeout_s),
            **told,
            **limits,
            "connection_class": kind_of(told.get("connection_class")),
            "known": self._known,
            "decode_responses": False,
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "retry_on_timeout": False,
        }
        client: _Client = driver.Redis(connection_pool=driver.ConnectionPool(**words))
        return client

    def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def forked(self) -> None:
        """Leave the connections to the parent: this is a copy, in a forked child."""
        self._client = None
        for connection in list(self._known):
            connection.forked()

    def is_open(self) -> bool:
        """Return whether `open` was called, and `close` was not."""
        return self._client is not None

    def key(self, name: str) -> str:
        """Return the real name of a key of this application."""
        return self._prefix + name

    def command(self, *words: str | int | bytes) -> Any:  # noqa: ANN401 - what the command answers
        """Return what one command answers."""
        with self._asking() as client:
            return client.execute_command(*words)

    def commands(self, *commands: tuple[str | int | bytes, ...]) -> list[Any]:
        """Return what several commands answer, as one step to everybody else."""
        with self._asking() as client, client.pipeline() as pipe:
            for words in commands:
                pipe.execute_command(*words)
            return list(pipe.execute())

    def run(self, name: str, work: ServerCall, decoder: msgspec.msgpack.Decoder[A]) -> A:
        """Return what a script answers to *work*."""
        if self._stand_in is not None:
            work.clock = self._stand_in.wall()
        text, digest = self._scripts[name] if self.is_open() else ("", "")
        words = (1, self._prefix, _encode(work))
        with self._asking() as client:
            try:
                answer = client.execute_command("EVALSHA", digest, *words)
            except self._unknown_script:
                answer = client.execute_command("EVAL", text, *words)
        return decoder.decode(answer)

    @contextlib.contextmanager
    def _asking(self) -> Iterator[_Client]:
        """Give what asks the server; one that has failed is knocked at first."""
        client = self._client
        if client is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")
        try:
            if self._reconnect_probe.is_due():
                self._probe()
            yield client
        except self._unreachable as error:
            self._reconnect_probe.failed()
            raise StoreUnavailableError(f"{self.name}: {error}") from error
        self._reconnect_probe.answered()

    def _probe(self) -> None:
        try:
            self._knocking.execute_command("PING")
        finally:
            self._knocking.connection_pool.disconnect(inuse_connections=False)


def _driver() -> ModuleType:
    try:
        import redis
    except ImportError as error:
        raise MissingExtraError(
            f"Redis comes with the extra pulse[redis], which is not installed: {error}"
        ) from error
    return redis


def _script(name: str) -> tuple[str, str]:
    """Return a script and the digest by which the server knows it."""
    folder = files("pulse.store.redis")
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("common", name))
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
