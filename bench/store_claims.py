"""Ticks a second through a store, claimed and finished, beside the bare statement in a loop.

    python bench/store_claims.py [seconds] [--json]

Every task is always due. The bare row of SQLite inserts rows if they are absent and asks for the
winners, one transaction a batch, with the same settings: a tick of pulse is two transactions, a
read before each claim, a cursor that moves, a run that opens and the same run that ends. The bare
row of memory moves a heap and fills a set. Several processes share one file, and compete for the
same rows.
"""

from __future__ import annotations

import argparse
import heapq
import json
import multiprocessing
import os
import sqlite3
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.task import Task, build_definition
from pulse.store.memory.store import MemoryStore
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import NOON, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.store.base import Store

TASKS = 400
BATCHES = (1, 10, 100)
WORDS = {"misfire": "all", "overlap": "allow", "max_running": 1000}


def definitions() -> dict:
    names = [f"task {number}" for number in range(TASKS)]
    return {
        name: build_definition(name, Task(action="/work", interval=1, **WORDS)) for name in names
    }


def run_store(store: Store, clock: FakeClock, *, batch: int, seconds: float) -> int:
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync(definitions())
    settle(store)
    clock.set_wall(NOON + timedelta(days=365))
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        claims = store.claim_due(batch).claims
        result = Result(Outcome.SUCCEEDED, clock.wall(), 5)
        done += len(store.finish([CompletedRun(claim, result) for claim in claims]))
    store.close()
    return done


def settle(store: Store) -> None:
    """Date the folder of a file back, as that of a store which has been in use for a while.

    For three seconds after a change of its folder, a store looks for its files in each call.
    """
    if store.name != "memory:":
        os.utime(Path(store.name.removeprefix("sqlite://")).parent, (time.time() - 60,) * 2)


def memory_ticks(_path: str, batch: int, seconds: float) -> int:
    clock = FakeClock()
    return run_store(MemoryStore(clock), clock, batch=batch, seconds=seconds)


def sqlite_ticks(path: str, batch: int, seconds: float) -> int:
    clock = FakeClock()
    return run_store(SqliteStore(path, clock), clock, batch=batch, seconds=seconds)


def bare_memory(_path: str, batch: int, seconds: float) -> int:
    heap = [(number, number) for number in range(TASKS)]
    seen, done, end = set(), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(batch):
            fire_time, number = heap[0]
            heapq.heapreplace(heap, (fire_time + TASKS, number))
            seen.add((fire_time, number))
        done += batch
        seen.clear()
    return done


def bare_sqlite(path: str, batch: int, seconds: float) -> int:
    raw = sqlite3.connect(path, isolation_level=None, timeout=30)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE IF NOT EXISTS won (id INTEGER PRIMARY KEY, holder INTEGER)")
    rows = ", ".join("(?, 1)" for _ in range(batch))
    text = f"INSERT INTO won VALUES {rows} ON CONFLICT DO NOTHING RETURNING id"
    done, first, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        raw.execute("BEGIN IMMEDIATE")
        done += len(raw.execute(text, range(first, first + batch)).fetchall())
        raw.execute("COMMIT")
        first += batch
    raw.close()
    return done


def rate(work: Callable[[str, int, float], int], *, processes: int, batch: int, s: float) -> float:
    with tempfile.TemporaryDirectory() as folder:
        words = (str(Path(folder) / "bench.db"), batch, s)
        if processes == 1:
            return work(*words) / s
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            return sum(pool.starmap(work, [words] * processes)) / s


ROWS = (
    ("memory, bare heap and set", bare_memory, 1),
    ("memory", memory_ticks, 1),
    ("sqlite, bare insert if absent", bare_sqlite, 1),
    ("sqlite", sqlite_ticks, 1),
    ("sqlite, bare, 4 processes", bare_sqlite, 4),
    ("sqlite, 4 processes", sqlite_ticks, 4),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seconds", type=float, nargs="?", default=2.0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = parser.parse_args()
    figures = []
    if not asked.json:
        print(f"{'ticks a second, in batches of':34}" + "".join(f"{one:>12}" for one in BATCHES))
    for name, work, processes in ROWS:
        rates = [rate(work, processes=processes, batch=one, s=asked.seconds) for one in BATCHES]
        figures += [
            {"name": f"{name}, batches of {batch}", "unit": "ticks/s", "value": found}
            for batch, found in zip(BATCHES, rates, strict=True)
        ]
        if not asked.json:
            print(f"{name:34}" + "".join(f"{found:>12,.0f}" for found in rates), flush=True)
    if asked.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
