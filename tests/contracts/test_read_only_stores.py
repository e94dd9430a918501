"""Stores that can be read and not written count as away until they can be written."""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, Protocol

import pytest

from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store_harness import make_task
from tests.support.setups import require
from tests.support.stepped import redis_at

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.store.base import Store
    from pulse.testing.clock import FakeClock
    from tests.support.databases import Database
    from tests.support.redis_servers import RedisServer
    from tests.support.stepped import Stepped

    Lines = Callable[[int], list[str]]

MINUTE = 60
MOST_REASONS = (1, 2)
"""The possible numbers of ERROR lines: closed connections may be logged as a first reason."""


class ReadOnly(Protocol):
    """A store whose storage can be made read-only."""

    def make(self, clock: FakeClock) -> Store:
        """Return a store of this storage, on the clock of the test."""

    def set_read_only(self, *, read_only: bool) -> None:
        """Make the storage refuse writes, or accept them again."""


class Replica:
    """A Redis server that becomes a replica of a server that does not exist."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.make = redis_at(server.url)

    def set_read_only(self, *, read_only: bool) -> None:
        """Make the server a replica, or a primary again."""
        words = ("127.0.0.1", "1") if read_only else ("NO", "ONE")
        self._server.ask("REPLICAOF", *words)


class Full:
    """A Redis server that reaches its memory limit."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.make = redis_at(server.url)

    def set_read_only(self, *, read_only: bool) -> None:
        """Limit the memory to one byte, or remove the limit."""
        self._server.ask("CONFIG", "SET", "maxmemory", str(int(read_only)))


class File:
    """An SQLite file whose connections are set to read-only."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self._connect = sqlite3.connect
        self._made: list[sqlite3.Connection] = []
        self._read_only = False
        monkeypatch.setattr(sqlite3, "connect", self._connect_limited)

    def make(self, clock: FakeClock) -> SqliteStore:
        """Return a store of the file."""
        return SqliteStore(self._path, clock, opened={})

    def set_read_only(self, *, read_only: bool) -> None:
        """Set the mode of all open connections, and of later ones."""
        self._read_only = read_only
        for raw in self._made.copy():
            self._limit(raw)

    def _connect_limited(self, *words: object, **more: object) -> sqlite3.Connection:
        raw = self._connect(*words, **more)  # type: ignore[call-overload] # whatever was given
        self._made.append(raw)
        self._limit(raw)
        return raw

    def _limit(self, raw: sqlite3.Connection) -> None:
        try:
            raw.execute(f"PRAGMA query_only = {int(self._read_only)}")
        except sqlite3.ProgrammingError:
            self._made.remove(raw)  # it was closed meanwhile


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.server),
        pytest.param("replica", marks=pytest.mark.server),
        pytest.param("full", marks=pytest.mark.server),
    ]
)
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ReadOnly:
    """Return a writable storage of each kind."""
    match request.param:
        case "sqlite":
            return File(tmp_path / "pulse.db", monkeypatch)
        case "postgres":
            database: Database = request.getfixturevalue("database")
            return database
        case "replica":
            return Replica(request.getfixturevalue("redis"))
        case _:
            return Full(request.getfixturevalue("redis"))


def test_outage_of_writes_is_logged_once_and_its_end_once(
    storage: ReadOnly, begin: Callable[..., Stepped], lines: Lines
) -> None:
    """A successful read does not end the outage."""
    process = begin(storage.make, work=make_task(interval="1d"))
    process.forward(5)
    require(not lines(logging.ERROR), "a store that can be written")
    storage.set_read_only(read_only=True)
    process.forward(MINUTE)
    during = lines(logging.ERROR), again(lines)
    storage.set_read_only(read_only=False)
    process.forward(5)
    assert (len(during[0]) in MOST_REASONS, during[1], len(again(lines))) == (True, [], 1)


def again(lines: Lines) -> list[str]:
    """Return the lines that report the end of an outage."""
    return [line for line in lines(logging.INFO) if "again" in line]


def test_no_task_runs_while_the_store_cannot_be_written(
    storage: ReadOnly, begin: Callable[..., Stepped]
) -> None:
    """The newest tick of the outage runs after it."""
    process = begin(storage.make, work=make_task())
    storage.set_read_only(read_only=True)
    process.forward(MINUTE)
    during = list(process.ran)
    storage.set_read_only(read_only=False)
    process.forward(2)
    assert (during, process.ran) == ([], ["work"])
