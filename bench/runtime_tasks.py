"""What tasks that were added at run time cost: nothing at start, and as much a tick as one would.

    python bench/runtime_tasks.py [tasks]

The store holds that many tasks, each due once a day at a time of its own, and ten that are due
every second. They are filled in memory and measured on a disk, with fsync on. Start-up is opening,
syncing and the first look of a process that knows none of them. A tick is claimed, its
definition made and its end recorded, alone or with idle processes that look when it is due.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.addition import Usual, complete
from pulse.clock import SECOND
from pulse.run import Ending, Outcome, Result
from pulse.store.member import this_member
from pulse.store.sqlite import SqliteStore
from pulse.task import Task
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from pulse.clock import Clock
    from pulse.store.base import Store

QUICK = 10
TICKS = 200
FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None


def join(path: Path, clock: Clock) -> Store:
    store = SqliteStore(path, clock, opened={})
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
            store.finish([Ending(claim, result) for claim in claims])
            if not claims:
                break
            lengths.append(time.perf_counter() - began)
        for other in idle:
            other.claim_due(10)
    return statistics.median(lengths) * 1_000


def fill(store: Store, held: int, count: int) -> float:
    began = time.perf_counter()
    for number in range(held, count):
        at = f"{number % 60} {number // 60 % 12} * * *"  # not while the benchmark looks
        task = Task(action=f"/reports/send?user={number}", cron=at)
        store.add(complete(f"report {number}", task, Usual()))
    return (time.perf_counter() - began) / (count - held)


def measure(path: Path, count: int, clock: FakeClock) -> None:
    began = time.perf_counter()
    store = join(path, clock)
    store.claim_due(0)
    started = (time.perf_counter() - began) * 1_000
    alone = milliseconds_a_tick(store, clock, [])
    idle = [join(path, clock) for _ in range(4)]
    together = milliseconds_a_tick(store, clock, idle)
    added = fill(store, count, count + 50) * 1_000
    print(
        f"{count:>9,} {started:>14.1f} {alone:>12.2f} {together:>23.2f} {added:>17.2f}", flush=True
    )
    for one in [store, *idle]:
        one.close()


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print("SQLite")
    print("    tasks   start-up, ms   a tick, ms   with 4 idle processes    added, ms each")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=FAST) as fast:
        clock, held = FakeClock(), 0
        for count in sorted({max(most // 1_000, 1), max(most // 10, 1), most}):
            filler = join(Path(fast) / "pulse.db", clock)
            if not held:
                for number in range(QUICK):
                    task = Task(action="/work", interval=1)
                    filler.add(complete(f"quick {number}", task, Usual()))
            fill(filler, held, count)
            filler.close()
            held = count
            path = Path(folder) / f"{count}.db"
            shutil.copy(Path(fast) / "pulse.db", path)
            measure(path, count, clock)


if __name__ == "__main__":
    main()
