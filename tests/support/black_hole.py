"""A proxy that passes bytes on, late or never: where it swallows them it accepts and is silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

LOOK_S = 0.05


class BlackHole:
    """Stands before a port of this host; what comes while it *swallows* is gone for good.

    Args:
        target: the port.
        delay_s: how long it keeps what it passes on.

    """

    def __init__(self, target: int, *, delay_s: float = 0) -> None:
        self._delay_s = delay_s
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.swallows = False
        self._over = False
        self._peers: dict[socket.socket, socket.socket] = {}
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._listening, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        self._thread.join()
        for each in (*self._peers, self._listening):
            each.close()
        self._ready.close()

    def _serve(self) -> None:
        while not self._over:
            for key, _ in self._ready.select(LOOK_S):
                if key.fileobj is self._listening:
                    self._accept()
                else:
                    self._pass_on(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        near, _ = self._listening.accept()
        far = socket.create_connection(("127.0.0.1", self._target))
        for one, other in ((near, far), (far, near)):
            self._peers[one] = other
            self._ready.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(65_536)
            if data and not self.swallows:
                time.sleep(self._delay_s)
                self._peers[source].sendall(data)
        if not data:
            self._ready.unregister(source)
