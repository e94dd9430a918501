"""The stores that a chaos run is held against, and what can be done to each."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


FOR_EVER = 1e6
"""Until the process goes on."""


class Storage(Protocol):
    """Where a fleet agrees, from outside."""

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
    """A file on this machine; it has no server that could be restarted."""

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


STORAGES = {"sqlite": SqliteStorage}
"""By the word of `make chaos STORE=`."""
