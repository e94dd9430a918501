"""Work of a fixed size, whose instructions `bench/instructions.py` counts; prints how much it was.

    python counted.py ticks gevent 5000
    python counted.py claims sqlite 10 BENCH_FOLDER 4.0

Ticks: a whole scheduler on `memory:`, whose tasks are always due. Claims: those of a checkout's own
`store_claims.py`, in so many seconds. Only names that every release has are used.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

TASKS = 2_000


def ticks(mode: str, count: str) -> int:
    if mode == "gevent":
        from gevent import monkey

        monkey.patch_all()
    from pulse import PulseMiddleware, Task

    done = 0

    def app(_environ, start_response):
        nonlocal done
        done += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    served = PulseMiddleware(
        app,
        mode=mode,
        store="memory:",
        start="eager",
        concurrency=100 if mode == "gevent" else 10,
        tasks={
            f"task-{number}": Task(
                action=f"/t/{number}", interval=1, misfire="all", overlap="allow", max_running=10
            )
            for number in range(TASKS)
        },
    )
    while done < int(count):
        time.sleep(0.01)
    del served
    return done


def claims(store: str, batch: str, folder: str, seconds: str) -> int:
    sys.path.insert(0, folder)
    import store_claims as bench

    work = {"memory": bench.memory_ticks, "sqlite": bench.sqlite_ticks}[store]
    with tempfile.TemporaryDirectory() as place:
        return work(f"{place}/bench.db", int(batch), float(seconds))


if __name__ == "__main__":
    print({"ticks": ticks, "claims": claims}[sys.argv[1]](*sys.argv[2:]), flush=True)
    os._exit(0)
