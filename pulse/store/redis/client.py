"""The client of the Redis server: connections, timeouts, and calls of commands and scripts.

A call takes a free connection from a pool, or opens one, and returns it; so calls may come from
threads and from greenlets. No call is repeated: a call whose reply was lost may have been executed.
"""

from __future__ import annotations

import contextlib
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import msgspec

from pulse.clock import SECOND
from pulse.errors import StoreRefusedError, StoreUnavailableError, missing_extra, shown_url
from pulse.store.backoff import PROBE_TIMEOUT, ReconnectProbe, chance
from pulse.store.redis.refusals import hint_of, is_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from pulse.clock import Clock, Instant, Span
    from pulse.store.redis.connections import Severable

A = TypeVar("A")

SCRIPTS = (
    "read_due",
    "apply",
    "batch",
    "read_tasks",
    "last_runs",
    "audit",
    "end_pause",
    "remove_members",
    "begin_prune",
    "delete_runs",
    "read_done",
    "served",
    "prune",
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

_BATCH_REPLY = msgspec.msgpack.Decoder(tuple[int, list[Any]])
_encode = msgspec.msgpack.Encoder().encode


class DamagedDataError(StoreRefusedError):
    """A call met a value that is no data of this store."""


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
        self._client: Any = None  # of redis-py, which declares few types
        self._connections: WeakSet[Severable] = WeakSet()

    def open(self) -> None:
        """Read the scripts and open a first connection."""
        self._driver = _driver()
        self._scripts = {name: _script(name) for name in SCRIPTS}
        limit_s = min(self._timeout_s, PROBE_TIMEOUT / SECOND)
        self._client = self._driver.make_client(self._url, self._connections, self._timeout_s)
        self._probe_client = self._driver.make_client(
            self._url, self._connections, self._timeout_s, limit_s=limit_s
        )
        self.command("PING")

    def close(self) -> None:
        """Close every connection."""
        client, self._client = self._client, None
        if client is not None:
            client.connection_pool.disconnect()

    def rest(self) -> None:
        """Close the connections that no call uses; the next call opens one again."""
        if self._client is not None:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def forked(self) -> None:
        """Sever this copy of the connections in a forked child."""
        self._client = None
        for connection in list(self._connections):
            connection.forked()

    def key(self, name: str) -> str:
        """Return the full name of a key of this application."""
        return self._prefix + name

    def command(self, *arguments: str | int | bytes) -> Any:  # noqa: ANN401 - each command has its own type
        """Run one command, and return its reply."""
        with self._calling() as client:
            return client.execute_command(*arguments)

    def now(self) -> Instant:
        """Return the present on the server's clock."""
        return self.batch()[0]

    def batch(self, *commands: Sequence[str | int]) -> tuple[Instant, list[Any]]:
        """Run commands in one step; return the present on the server's clock, and their replies.

        The first argument of each is the name of a key without the prefix. A reply that is empty is
        False.
        """
        return self.run("batch", _BATCH_REPLY, commands=commands)

    def run(self, name: str, decoder: msgspec.msgpack.Decoder[A], **request: object) -> A:
        """Run a script with *request*, which the script describes; return its decoded reply."""
        if self._stand_in is not None:
            request["clock"] = self._stand_in.wall()
        arguments = (1, self._prefix, _encode(request))
        with self._calling() as client:
            text, digest = self._scripts[name]
            try:
                reply = client.execute_command("EVALSHA", digest, *arguments)
            except self._driver.NoScriptError:
                reply = client.execute_command("EVAL", text, *arguments)
        return decoder.decode(reply)

    @contextlib.contextmanager
    def _calling(self) -> Iterator[Any]:
        """Yield the client for one call; after failures the server is probed first."""
        client = self._client
        if client is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")
        try:
            if self._reconnect_probe.is_due():
                self._probe()
            yield client
        except self._driver.REFUSED as error:
            self._reconnect_probe.failed()
            raise self._refusal(str(error)) from error
        except self._driver.UNREACHABLE as error:
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
    """Return the module that imports redis-py: it is imported when a store is opened."""
    try:
        import redis  # noqa: F401 - names what is missing

        from pulse.store.redis import connections
    except ImportError as error:
        raise missing_extra("pulse.config.store", "redis", "redis", cause=error) from error
    return connections


def _script(name: str) -> tuple[str, str]:
    """Return the text of a script and its SHA-1 digest, by which EVALSHA names it."""
    folder = files("pulse.store.redis")
    text = "\n".join((folder / f"{part}.lua").read_text() for part in ("common", name))
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
