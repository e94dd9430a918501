"""A TCP proxy before a message broker, which interrupts its connections and restores them.

    with BrokerProxy(broker.url) as proxy:
        connect(proxy.url)
        proxy.switch(Mode.DEAF)

Bytes are held, never lost, as TCP holds them while a network is down: they wait in the proxy and
in the buffers of the kernel, and arrive late, in order, once the mode lets them pass. One thread
serves all connections on sockets that do not block, so the proxy works beside any client, and
changes its mode and ends at once whatever the two sides do.
"""

from __future__ import annotations

import contextlib
import enum
import selectors
import socket
import threading
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from tests.support.servers import free_port

if TYPE_CHECKING:
    from types import TracebackType

BOUND_S = 10.0
CHUNK = 65_536


class Mode(enum.StrEnum):
    """What a proxy does with connections and bytes."""

    PASS = "pass"  # noqa: S105 - a mode
    """Forward in both directions."""

    DEAF = "deaf"
    """Accept connections, forward what the client sends, and hold all answers."""

    STALL = "stall"
    """Accept connections, and hold what either side sends."""

    CUT = "cut"
    """Close all connections, and refuse new ones."""


class BrokerProxy:
    """A proxy on a free port of 127.0.0.1, in mode `PASS` at first.

    Where the broker itself refuses connections, the proxy accepts them and closes them at once.

    Args:
        url: of the broker, with a host and a port; user, path and query stay as they are.

    Attributes:
        port: where the proxy listens.
        url: of the broker through the proxy.
        accepted: how many connections it has accepted.

    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self.port: int = free_port()
        address = f"{parts.netloc.rpartition(':')[0]}:{self.port}"
        self.url: str = parts._replace(netloc=address).geturl()
        self.accepted: int = 0
        self._listening: socket.socket | None = None
        self._mode = Mode.CUT
        self._wanted: Mode | None = Mode.PASS
        self._switching = threading.Lock()
        self._switched = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._woken.settimeout(0)
        self._links: set[_Link] = set()
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._woken, EVENT_READ, data=lambda: self._woken.recv(CHUNK))
        self._thread = threading.Thread(target=self._serve, name="broker-proxy", daemon=True)
        self._thread.start()
        self.switch(Mode.PASS)

    @property
    def connections(self) -> int:
        """The number of open connections of clients."""
        return len(self._links)

    def switch(self, mode: Mode) -> None:
        """Change the mode; return when it applies to all connections."""
        with self._switching:
            self._order(mode)
            if not self._switched.wait(BOUND_S):
                raise AssertionError(f"the proxy is not in mode {mode} after {BOUND_S} s")

    def close(self) -> None:
        """Close all connections and the port; without effect on a closed proxy."""
        with self._switching:
            if not self._thread.is_alive():
                return
            self._order(None)
            self._thread.join(BOUND_S)
            assert not self._thread.is_alive(), f"the proxy has not ended after {BOUND_S} s"
            for each in (self._ready, self._wake, self._woken):
                each.close()

    def _order(self, mode: Mode | None) -> None:
        self._wanted = mode  # first: the thread reads it when it finds the event cleared
        self._switched.clear()
        self._wake.send(b"!")

    def _serve(self) -> None:
        while (wanted := self._wanted) is not None:
            if not self._switched.is_set():
                self._apply(wanted)
                self._switched.set()
            for key, events in self._ready.select():
                if isinstance(key.data, _Link):
                    self._move(key.data, events, key.fileobj)
                else:
                    key.data()
        self._apply(Mode.CUT)

    def _apply(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.CUT:
            for link in tuple(self._links):
                self._close(link)
            self._stop_listening()
        elif self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port))
            self._listening.settimeout(0)
            self._ready.register(self._listening, EVENT_READ, data=self._accept)
        for link in self._links:
            self._watch(link)

    def _stop_listening(self) -> None:
        if self._listening is not None:
            self._ready.unregister(self._listening)
            self._listening.close()
            self._listening = None

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            near, _ = self._listening.accept()
        except OSError:  # the client has gone already
            return
        self.accepted += 1
        far = socket.socket()
        for each in (near, far):
            each.settimeout(0)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.connect_ex(self._target)  # a failure is what the first use of the socket reports
        link = _Link(near, far)
        self._links.add(link)
        self._watch(link)

    def _move(self, link: _Link, events: int, found: object) -> None:
        if link not in self._links:  # an event of the same round has closed it
            return
        for way in self._flowing(link):
            if events & EVENT_READ and way.source is found:
                way.read()
            if events & EVENT_WRITE and way.sink is found:
                way.write()
        if all(way.is_over() for way in link.ways):
            self._close(link)
        else:
            self._watch(link)

    def _flowing(self, link: _Link) -> tuple[_Way, ...]:
        match self._mode:
            case Mode.PASS:
                return link.ways
            case Mode.DEAF:
                return link.ways[:1]
            case _:
                return ()

    def _watch(self, link: _Link) -> None:
        """Wait for what the ways that flow need, and for nothing else."""
        flowing = self._flowing(link)
        for each in link.sockets:
            reads = any(way.source is each and way.can_read() for way in flowing)
            writes = any(way.sink is each and way.data for way in flowing)
            events = EVENT_READ * reads | EVENT_WRITE * writes
            known = self._ready.get_map().get(each)
            if known is not None and known.events == events:
                continue
            if known is not None:
                self._ready.unregister(each)
            if events:
                self._ready.register(each, events, data=link)

    def _close(self, link: _Link) -> None:
        self._links.discard(link)
        for each in link.sockets:
            if each in self._ready.get_map():
                self._ready.unregister(each)
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Way:
    """One direction of a connection, with at most one chunk that has been read and not sent."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.data = b""
        self._has_ended = False

    def can_read(self) -> bool:
        return not self.data and not self._has_ended

    def is_over(self) -> bool:
        return self._has_ended and not self.data

    def read(self) -> None:
        try:
            self.data = self.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:  # refused or reset
            self.data = b""
        if self.data:
            self.write()
        else:
            self._end()

    def write(self) -> None:
        try:
            self.data = self.data[self.sink.send(self.data) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            self.data = b""
            self._end()

    def _end(self) -> None:
        self._has_ended = True
        with contextlib.suppress(OSError):
            self.sink.shutdown(socket.SHUT_WR)


class _Link:
    """A connection of a client, and the one to the broker: first the client's way, then back."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.sockets = (near, far)
        self.ways = (_Way(near, far), _Way(far, near))
