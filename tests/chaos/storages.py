"""The stores of chaos runs, and the faults that each supports."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


AWAY_S = 1.0
"""For how long a server that is restarted is not there."""

FOR_EVER = 1e6
"""Until the process goes on."""


class Storage(Protocol):
    """The storage of a fleet, seen from outside."""

    word: str
    """What `pulse.config.store` says."""
    kinds: tuple[str, ...]
    """The faults of stores that it can be given."""

    def pause(self, seconds: float) -> None:
        """Let nobody write for so long."""

    def restart(self) -> None:
        """End it and start it again; return once it answers."""

    def held_s(self) -> float:
        """Return for how long a process that is stopped just now keeps all others from writing."""

    def close(self) -> None:
        """End it."""


class SqliteStorage:
    """A file on this machine, without a server that could be restarted."""

    kinds = ("store-pause",)

    def __init__(self, folder: Path) -> None:
        self._path = folder / "pulse.db"
        self.word = f"sqlite:///{self._path}"

    def pause(self, seconds: float) -> None:
        """Hold the lock of writers."""
        with closing(sqlite3.connect(self._path, timeout=5, isolation_level=None)) as link:
            link.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            link.execute("ROLLBACK")

    def restart(self) -> None:
        """A file cannot be restarted."""
        raise AssertionError("SQLite has no server")

    def held_s(self) -> float:
        """Try for the lock of writers for a while; who is stopped with it keeps it."""
        with closing(sqlite3.connect(self._path, timeout=0.5, isolation_level=None)) as link:
            try:
                link.execute("BEGIN IMMEDIATE")
                link.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return FOR_EVER
        return 0.0

    def close(self) -> None:
        """Nothing has to be ended."""


class RedisStorage:
    """A Redis server that loses nothing that it acknowledged."""

    kinds = ("store-pause", "store-restart")

    def __init__(self, folder: Path) -> None:
        from tests.support.redis_servers import RedisServer

        data = folder / "redis"
        data.mkdir()
        self._server = RedisServer(data)
        self.word = self._server.url

    def pause(self, seconds: float) -> None:
        """Let it accept and never answer."""
        self._server.pause()
        time.sleep(seconds)
        self._server.resume()

    def restart(self) -> None:
        """Kill it, and start it again from its log."""
        self._server.kill()
        time.sleep(AWAY_S)
        self._server.start()

    def held_s(self) -> float:
        """A script runs to its end whoever has sent it."""
        return 0.0

    def close(self) -> None:
        """Kill it."""
        self._server.kill()


class PostgresStorage:
    """A PostgreSQL server that waits for the disk."""

    kinds = ("store-pause", "store-restart")

    def __init__(self, folder: Path) -> None:  # noqa: ARG002 - its folder belongs to another user
        from tests.support.postgres import PostgresCluster

        self._cluster = PostgresCluster(fsync=True)
        self.word = self._cluster.url()

    def pause(self, seconds: float) -> None:
        """Stop the server and its children: all of it accepts and never answers."""
        stopped = self._processes()
        for pid in stopped:
            os.kill(pid, SIGSTOP)
        time.sleep(seconds)
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, SIGCONT)

    def restart(self) -> None:
        """End it at once, and start it again from its log."""
        self._cluster.stop()
        time.sleep(AWAY_S)
        self._cluster.start()

    def held_s(self) -> float:
        """Look for a transaction that nobody goes on with; the server ends it after 2 s."""
        idle = "SELECT 1 FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
        return 2.5 if self._cluster.run(idle) else 0.0

    def close(self) -> None:
        """End it and delete its data."""
        self._cluster.close()

    def _processes(self) -> list[int]:
        lines = (self._cluster.folder / "data" / "postmaster.pid").read_text().splitlines()
        children = Path(f"/proc/{lines[0]}/task/{lines[0]}/children").read_text().split()
        return [int(lines[0]), *map(int, children)]


STORAGES: dict[str, Callable[[Path], Storage]] = {
    "postgres": PostgresStorage,
    "redis": RedisStorage,
    "sqlite": SqliteStorage,
}
"""By the word of `make chaos STORE=`."""
