"""What tasks that were added at run time cost: nothing at start, and as much a tick as one would.

    python bench/runtime_tasks.py [store ...] [--tasks 100000]

Stores are sqlite, postgres and redis. Each holds that many tasks, due once a day at a time of their
own, and ten that are due every second. It is filled in batches, or without fsync, and measured
with fsync on. Start-up is opening, syncing and the first look of a process that knows none of the
tasks. A tick is claimed, its definition made and its end recorded, alone or with idle processes
that look when it is due. PostgreSQL is measured once more when its statistics are up to date.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from parts.grounds import Postgres, Redis, Sqlite

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.runtime_task import TaskDefaults, cached_loader, make_runtime_task
from pulse.core.task import Task
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.store.shared.backend import Transaction, Written
from pulse.store.shared.rows import Caller
from pulse.store.shared.sync import add_task
from pulse.store.sql.backend import SqlBackend
from pulse.store.sqlite.database import SqliteDatabase
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.runtime_task import RuntimeTask
    from pulse.store.base import Store
    from pulse.store.shared.backend import Session
    from pulse.store.sql.database import Database

QUICK = 10
TICKS = 200
BATCH = 1_000
MEMBER = this_member("inline", "digest", 30 * SECOND)


class OnSqlite:
    title = "SQLite"

    def __init__(self, clock: FakeClock) -> None:
        self._ground, self._clock = Sqlite(), clock
        self._path = self._ground.fresh().removeprefix("sqlite:///")
        self.analyse = None

    def store(self) -> Store:
        return SqliteStore(self._path, self._clock, opened={})

    def fill(self, additions: Iterable[RuntimeTask]) -> None:
        file = SqliteDatabase(Path(self._path), self._clock, space="", patience_us=5 * SECOND)
        add_in_batches(file, list(additions))

    def close(self) -> None:
        self._ground.close()


class OnPostgres:
    title = "PostgreSQL"

    def __init__(self, clock: FakeClock) -> None:
        self._ground, self._clock = Postgres(), clock
        self._url = self._ground.fresh()

    def store(self) -> Store:
        return PostgresStore(self._url, self._clock, server_clock=self._clock.wall, opened={})

    def fill(self, additions: Iterable[RuntimeTask]) -> None:
        server = PostgresDatabase(
            self._url, space="", limit_us=60 * SECOND, server_clock=self._clock.wall
        )
        add_in_batches(server, list(additions))

    def analyse(self) -> None:
        self._ground.cluster.run("VACUUM ANALYZE", database=self._url.rpartition("/")[2])

    def close(self) -> None:
        self._ground.close()


class OnRedis:
    title = "Redis"

    def __init__(self, clock: FakeClock) -> None:
        self._ground, self._clock = Redis(), clock
        self._url = self._ground.fresh()
        self.analyse = None

    def store(self) -> Store:
        return RedisStore(self._url, self._clock, stand_in=self._clock, opened={})

    def fill(self, additions: Iterable[RuntimeTask]) -> None:
        self._ground.server.ask("CONFIG", "SET", "appendfsync", "no")
        with closing(join(self.store())) as filler:
            for addition in additions:
                filler.add(addition)
        self._ground.server.ask("CONFIG", "SET", "appendfsync", "always")

    def close(self) -> None:
        self._ground.close()


STORES = {"sqlite": OnSqlite, "postgres": OnPostgres, "redis": OnRedis}


def add_in_batches(storage: Database, additions: list[RuntimeTask]) -> None:
    """Add tasks as the store does, but many in one transaction."""
    caller = Caller(MEMBER, "", {}, cached_loader(), frozenset({""}), "", 1_000)
    backend = SqlBackend(storage, space="")
    backend.open(MEMBER)
    for start in range(0, len(additions), BATCH):
        batch = additions[start : start + BATCH]
        backend.run(Transaction.EXCLUSIVE, partial(add_batch, caller=caller, batch=batch))
    backend.close()


def add_batch(session: Session, caller: Caller, batch: list[RuntimeTask]) -> None:
    for addition in batch:
        add_task(session, caller, addition, replace=False, written=Written())


def join(store: Store) -> Store:
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync({})
    return store


def milliseconds_a_tick(store: Store, clock: FakeClock, idle: list[Store]) -> float:
    lengths = []
    for _ in range(TICKS // QUICK):
        clock.forward(1)
        while True:
            began = time.perf_counter()
            claims = store.claim_due(1).claims
            result = Result(Outcome.SUCCEEDED, clock.wall(), 5)
            store.finish([CompletedRun(claim, result) for claim in claims])
            if not claims:
                break
            lengths.append(time.perf_counter() - began)
        for other in idle:
            other.claim_due(10)
    return statistics.median(lengths) * 1_000


def quick() -> list[RuntimeTask]:
    tasks = [Task(action="/work", interval=1) for _ in range(QUICK)]
    return [
        make_runtime_task(f"quick {number}", task, TaskDefaults())
        for number, task in enumerate(tasks)
    ]


def reports(held: int, count: int) -> Iterable[RuntimeTask]:
    for number in range(held, count):
        at = f"{number % 60} {number // 60 % 12} * * *"  # not while the benchmark looks
        task = Task(action=f"/reports/send?user={number}", cron=at)
        yield make_runtime_task(f"report {number}", task, TaskDefaults())


def measure(place, count: int, clock: FakeClock, note: str = "") -> None:
    began = time.perf_counter()
    store = join(place.store())
    store.claim_due(0)
    started = (time.perf_counter() - began) * 1_000
    alone = milliseconds_a_tick(store, clock, [])
    idle = [join(place.store()) for _ in range(4)]
    together = milliseconds_a_tick(store, clock, idle)
    fresh = [
        make_runtime_task(
            f"new {note}{count} {n}", Task(action="/new", cron="0 1 * * *"), TaskDefaults()
        )
        for n in range(50)
    ]
    began = time.perf_counter()
    for addition in fresh:
        store.add(addition)
    added = (time.perf_counter() - began) / len(fresh) * 1_000
    print(
        f"{count:>9,} {started:>14.1f} {alone:>12.2f} {together:>23.2f} {added:>17.2f}  {note}",
        flush=True,
    )
    for one in [store, *idle]:
        one.close()


def measure_store(kind, most: int) -> None:
    print(kind.title)
    print("    tasks   start-up, ms   a tick, ms   with 4 idle processes    added, ms each")
    clock, held = FakeClock(), 0
    with closing(kind(clock)) as place:
        place.fill(quick())
        for count in sorted({max(most // 1_000, 1), max(most // 10, 1), most}):
            place.fill(reports(held, count))
            held = count
            measure(place, count, clock)
        if place.analyse is not None:
            place.analyse()
            measure(place, most, clock, "analysed")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("stores", metavar="store", nargs="*", default=list(STORES))
    asked = parser.parse_args()
    for store in asked.stores:
        measure_store(STORES[store], asked.tasks)


if __name__ == "__main__":
    main()
