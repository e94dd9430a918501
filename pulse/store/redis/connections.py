"""Connections of redis-py that can be severed after a fork; imported when the store is opened.

redis-py itself opens new connections in a forked child. But in a process that gevent has patched, a
greenlet may be in the middle of a call while another greenlet forks, and its copy continues in the
child: there it must neither read the reply nor continue the handshake.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from redis import connection
from redis.exceptions import ConnectionError as LostError

from pulse.forks import sever, stay

if TYPE_CHECKING:
    import socket
    from weakref import WeakSet


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


def severable_class(original: type | None) -> type[Severable]:
    """Return the severable class for the one that redis-py chose by the URL; None is TCP."""
    return _CLASSES[original]
