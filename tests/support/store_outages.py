"""Stores that a test takes away and gives back: stopped, moved away, or behind a black hole.

with open_ground("redis-silent", tmp_path, find) as ground:
    ground.leave()
    returned = ground.come_back()
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pulse.clock import SECOND, SystemClock
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from tests.support.black_hole import BlackHole
from tests.support.redis_servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.core.run import Run
    from tests.support.postgres import PostgresCluster


class Ground(Protocol):
    """A store that a fleet agrees in, from outside."""

    word: str
    """What `pulse.config.store` says."""

    def leave(self) -> None:
        """Take it away."""

    def come_back(self) -> float:
        """Give it back; return the instant since which it answers."""


class Stopped:
    """A server that is ended at once, and started again from its log."""

    def __init__(self, server: PostgresCluster | RedisServer, word: str) -> None:
        self.word = word
        self._server = server

    def leave(self) -> None:
        """End it; connections are refused."""
        self._server.stop()

    def come_back(self) -> float:
        """Start it; it says itself since when it answers."""
        self._server.start()
        return self._server.ready_at()


class Silent:
    """A server behind a black hole: it accepts, and never answers."""

    def __init__(self, hole: BlackHole, word: str) -> None:
        self.word = word
        self._hole = hole

    def leave(self) -> None:
        """Swallow what comes, in either direction."""
        self._hole.swallows = True

    def come_back(self) -> float:
        """Pass on what comes from now on; what was swallowed is gone."""
        now = time.time()
        self._hole.swallows = False
        return now


class Moved:
    """An SQLite file whose folder is away, with something else in its place.

    The folder is a link, which is turned in one step: in between a worker would make another one.
    """

    def __init__(self, folder: Path) -> None:
        self._link = folder / "state"
        self._here, self._away = folder / "here", folder / "in the way"
        self._here.mkdir(mode=0o700)
        self._away.write_text("no folder")
        self._link.symlink_to(self._here)
        self.path = self._link / "pulse.db"
        self.word = f"sqlite:///{self.path}"

    def leave(self) -> None:
        """Put something else in its place."""
        self._turn(self._away)

    def come_back(self) -> float:
        """Put it back, as it was."""
        now = time.time()
        self._turn(self._here)
        return now

    def _turn(self, target: Path) -> None:
        turned = self._link.with_name("turned")
        turned.symlink_to(target)
        turned.replace(self._link)


@contextmanager
def open_ground(
    kind: str, folder: Path, cluster: Callable[[], PostgresCluster]
) -> Iterator[Ground]:
    """Give the store of a kind: `postgres`, `redis` or `sqlite`, a dash, and how it goes away.

    Args:
        kind: such as `redis-silent`.
        folder: where it may keep its data.
        cluster: gives a PostgreSQL server that nobody else uses now, running.

    """
    store, _, way = kind.partition("-")
    match store:
        case "sqlite":
            yield Moved(folder)
        case "redis":
            data = folder / "redis"
            data.mkdir()
            with RedisServer(data) as redis:
                yield from _leaving(way, redis, lambda port: f"redis://127.0.0.1:{port}/0")
        case _:
            server = cluster()
            server.forget_applications()
            yield from _leaving(way, server, lambda port: server.url(port=port))


def _leaving(
    way: str, server: PostgresCluster | RedisServer, url: Callable[[int], str]
) -> Iterator[Ground]:
    if way == "stopped":
        yield Stopped(server, url(server.port))
        return
    with BlackHole(server.port) as hole:
        yield Silent(hole, url(hole.port))


def read_history(word: str) -> list[Run]:
    """Return what the store that a word names has on record, newest first."""
    store, _ = choose_store(word, StoreOptions(), clock=SystemClock(), origin="/")
    store.open_as_client(this_member("inline", "", 30 * SECOND))
    try:
        return store.runs(limit=1_000)
    finally:
        store.close()
