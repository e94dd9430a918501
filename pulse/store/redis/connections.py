"""Connections of redis-py that a fork can sever; imported when the store is opened.

redis-py itself sees to it that a forked child opens connections of its own. But in a process that
gevent has patched a greenlet may be in the middle of a call as another one forks, and its copy goes
on in the child: there it must neither take the answer nor go on with the handshake.
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
    """What the three kinds of connections have in common.

    Args:
        known: takes the connection in, to be severed after a fork.

    """

    pid: int
    _sock: Any  # a socket, or None; the driver has no types for it
    _descriptor = -1

    def __init__(self, *, known: WeakSet[Severable], **words: Any) -> None:  # noqa: ANN401 - the driver's own
        super().__init__(**words)
        known.add(self)

    def forked(self) -> None:
        """Leave the connection to the parent: this is a copy, in a forked child."""
        sever(self._descriptor if self._sock is None else self._sock.fileno())

    def _connect(self) -> socket.socket:
        sock: socket.socket = super()._connect()  # type: ignore[misc] # the driver's
        self._leave_to_parent()
        return sock

    def _leave_to_parent(self) -> None:
        """Send nothing in a forked child: what waited for the server as the fork came is a copy."""
        if os.getpid() != self.pid:
            stay()
            raise LostError("this process was forked while it waited for the server")


class Plain(Severable, connection.Connection):
    """A connection by TCP."""


class Local(Severable, connection.UnixDomainSocketConnection):
    """A connection by a socket of the file system."""


class Encrypted(Severable, connection.SSLConnection):
    """A connection by TLS, whose handshake waits for the server before there is a socket."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        self._leave_to_parent()
        self._descriptor = sock.fileno()
        try:
            wrapped: socket.socket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        finally:
            self._descriptor = -1
        return wrapped


_KINDS: dict[type | None, type[Severable]] = {
    None: Plain,
    connection.UnixDomainSocketConnection: Local,
    connection.SSLConnection: Encrypted,
}


def kind_of(told: type | None) -> type[Severable]:
    """Return the class of connections for the one that redis-py reads from a URL, if any."""
    return _KINDS[told]
