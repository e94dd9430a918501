"""Clients of redis-py whose connections can be severed after a fork; imported by `open` alone.

redis-py itself opens new connections in a forked child. But in a process that gevent has patched, a
greenlet may be in the middle of a call while another greenlet forks, and its copy continues in the
child: there it must neither read the reply nor continue the handshake.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from redis import Redis, connection
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as LostError
from redis.retry import Retry

from pulse.forks import sever, stay

if TYPE_CHECKING:
    import socket
    from weakref import WeakSet

__all__ = ["REFUSED", "UNREACHABLE", "NoScriptError", "make_client"]

REFUSED = (ResponseError, AuthenticationError, AuthorizationError)
UNREACHABLE = (RedisError, OSError)
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")


class Severable:
    """The common part of the three connection classes.

    Args:
        known: the set of connections that are severed after a fork; this one is added.

    """

    pid: int
    _sock: Any  # a socket or None; untyped in redis-py
    _descriptor = -1

    def __init__(self, *, known: WeakSet[Severable], **options: Any) -> None:  # noqa: ANN401 - those of redis-py
        super().__init__(**options)
        known.add(self)

    def forked(self) -> None:
        """Sever this copy of the connection in a forked child."""
        sever(self._descriptor if self._sock is None else self._sock.fileno())

    def _connect(self) -> socket.socket:
        sock: socket.socket = super()._connect()  # type: ignore[misc] # a mixin: the base is redis-py's
        self._stop_in_child()
        return sock

    def _stop_in_child(self) -> None:
        """Raise in a forked child: the greenlet that waited for the server is a copy there."""
        if os.getpid() != self.pid:
            stay()
            raise LostError("this process was forked while it waited for the server")


class TcpConnection(Severable, connection.Connection):
    """A TCP connection."""


class UnixConnection(Severable, connection.UnixDomainSocketConnection):
    """A connection through a Unix socket."""


class TlsConnection(Severable, connection.SSLConnection):
    """A TLS connection: its handshake waits for the server before `_sock` is set."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        self._stop_in_child()
        self._descriptor = sock.fileno()
        try:
            wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        finally:
            self._descriptor = -1
        return wrapped


_CLASSES: dict[type | None, type[Severable]] = {
    None: TcpConnection,
    connection.UnixDomainSocketConnection: UnixConnection,
    connection.SSLConnection: TlsConnection,
}
"""The severable class for the one that redis-py chooses by the URL; None is TCP."""


def make_client(
    url: str, known: WeakSet[Severable], timeout_s: float, *, limit_s: float | None = None
) -> Any:  # noqa: ANN401 - redis-py declares few types
    """Return a client that repeats no call, and adds its connections to *known*.

    A connection and a reply take *timeout_s* each at most, or what the URL says; with *limit_s* no
    longer than that, whatever the URL says.
    """
    options = connection.parse_url(url)  # type: ignore[no-untyped-call] # untyped in redis-py
    limits = {} if limit_s is None else dict.fromkeys(_TIMEOUTS, limit_s)
    arguments: dict[str, Any] = {
        **dict.fromkeys(_TIMEOUTS, timeout_s),
        **options,
        **limits,
        "connection_class": _CLASSES[options.get("connection_class")],
        "known": known,
        "decode_responses": False,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
    }
    return Redis(connection_pool=connection.ConnectionPool(**arguments))
