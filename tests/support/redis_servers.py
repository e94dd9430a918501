"""Redis servers of the tests' own, on free ports of 127.0.0.1: stopped, paused, killed at will.

    with RedisServer(tmp_path) as server:
        RedisStore(server.url, clock)

Where there is no `redis-server`, tests that need one are skipped; under CI=true that is an error.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import socket
import subprocess
import tempfile
import time
from datetime import datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import TYPE_CHECKING

from tests.support.requires_server import missing
from tests.support.servers import free_port

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

READY_S = 20.0
_ESTABLISHED = "01"
SAFE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


class RedisServer:
    """One server, its data in *folder*; it is started at once, and again after `kill`.

    Args:
        folder: where it keeps its data and its log.
        settings: what differs from a server that loses nothing.

    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._settings = SAFE | {name.replace("_", "-"): word for name, word in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        words = [
            word for name, value in self._settings.items() for word in (f"--{name}", *value.split())
        ]
        self._process = subprocess.Popen(
            [
                *(_binary(), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--dir", str(self.folder), "--logfile", "redis.log", "--save", "", *words),
            ],
            stdin=subprocess.DEVNULL,
        )
        self._await_answer()

    def kill(self) -> None:
        """Kill the server; without effect when it has ended."""
        self._end(SIGKILL)

    def stop(self) -> None:
        """Stop the server as an administrator does."""
        self._end(SIGTERM)

    def pause(self) -> None:
        """Stop the process: it accepts connections and never answers."""
        self._signal(SIGSTOP)

    def resume(self) -> None:
        """Continue the process: it answers what has arrived meanwhile."""
        self._signal(SIGCONT)

    def ready_at(self) -> float:
        """Return the instant since which the server answers, by its own log."""
        lines = (self.folder / "redis.log").read_text().splitlines()
        ready = [line.split() for line in lines if "Ready to accept connections" in line]
        local = datetime.strptime(" ".join(ready[-1][1:5]), "%d %b %Y %H:%M:%S.%f").astimezone()
        return local.timestamp()

    def ask(self, *words: str) -> bytes:
        """Return the reply to one command, in the wire format."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=READY_S) as link:
            parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
            link.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return link.recv(65536)

    def unread(self) -> int:
        """Return how many received bytes the server has not read, according to the kernel."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here = f"0100007F:{self.port:04X}"
        queues = [row[4] for row in rows if (row[1], row[3]) == (here, _ESTABLISHED)]
        return sum(int(queue.partition(":")[2], 16) for queue in queues)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._signal(SIGCONT)
            self._signal(number)
            self._process.wait(READY_S)
            self._process = None

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _await_answer(self) -> None:
        end = time.monotonic() + READY_S
        while time.monotonic() < end:
            try:
                if self.ask("PING") == b"+PONG\r\n":
                    return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        log = (self.folder / "redis.log").read_text()
        raise AssertionError(f"redis-server does not answer: {log}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


@functools.cache
def shared_redis() -> RedisServer:
    """Return a server for all tests of this process; each empties it first."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-redis-"))
    server = RedisServer(folder, appendfsync="no")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.kill)
    return server


def empty_redis() -> RedisServer:
    """Return the shared server with nothing in it."""
    server = shared_redis()
    assert server.ask("FLUSHALL") == b"+OK\r\n"
    return server


def _binary() -> str:
    found = shutil.which("redis-server")
    if found is None:
        missing("there is no redis-server; Debian's package is redis-server")
    return found
