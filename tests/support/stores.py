"""Fleets on each kind of store; `KINDS` are the parameters of the fixture `fleet`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pulse.store.base import StoreOptions
from tests.contracts.suite.store_harness import Fleet
from tests.support.redis_servers import empty_redis
from tests.support.setups import setting_up

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Clock
    from pulse.store.base import Store
    from tests.contracts.suite.store_harness import MakeStore

POSTGRES = pytest.param("postgres", marks=pytest.mark.server)
REDIS = pytest.param("redis", marks=pytest.mark.server)
SHARED: tuple[Any, ...] = ("sqlite", POSTGRES, REDIS)
"""The stores that several processes share."""

KINDS: tuple[Any, ...] = ("memory", *SHARED)


def open_fleet(request: pytest.FixtureRequest, folder: Path) -> Fleet:
    """Return an empty fleet on an empty store of the kind that the parameter names."""
    match request.param:
        case "memory":
            return Fleet(_make_memory)
        case "sqlite":
            return Fleet(_sqlite_in(folder), url=f"sqlite:///{folder}/pulse.db")
        case "postgres":
            cluster = request.getfixturevalue("postgres_cluster")
            cluster.empty_applications()
            return Fleet(_postgres_at(cluster.url()), url=cluster.url())
        case _:
            with setting_up():
                url = empty_redis().url
            return Fleet(_redis_at(url), url=url)


def _make_memory(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
    from pulse.store.memory.store import MemoryStore

    return MemoryStore(clock, StoreOptions(name=name, keep_runs=keep_runs))


def _sqlite_in(folder: Path) -> MakeStore:
    from pulse.store.sqlite.store import SqliteStore

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        return SqliteStore(
            folder / "pulse.db", clock, StoreOptions(name=name, keep_runs=keep_runs), opened={}
        )

    return make


def _postgres_at(url: str) -> MakeStore:
    from pulse.store.postgres.store import PostgresStore

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        return PostgresStore(
            url,
            clock,
            StoreOptions(name=name, keep_runs=keep_runs),
            server_clock=clock.wall,
            opened={},
        )

    return make


def _redis_at(url: str) -> MakeStore:
    from pulse.store.redis.store import RedisStore

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        return RedisStore(
            url, clock, StoreOptions(name=name, keep_runs=keep_runs), stand_in=clock, opened={}
        )

    return make
