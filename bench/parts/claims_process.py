"""CPU and rate of the ticks that a checkout's `store_claims.py` makes in one process, as JSON.

    python claims_process.py CHECKOUT/bench SECONDS

CPU is the process's own, less that of opening an empty store and closing it again. The seconds
are cut into windows, each with a store of its own, and the best window counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

WINDOWS = 5


def measure(work, batch: int, seconds: float) -> tuple[int, float]:
    """Return how many ticks were made on a new store, and the CPU of all of it."""
    with tempfile.TemporaryDirectory() as folder:
        cpu = time.process_time()
        ticks = work(f"{folder}/bench.db", batch, seconds)
        return ticks, time.process_time() - cpu


def main(folder: str, seconds: float) -> None:
    sys.path.insert(0, folder)
    import store_claims as bench

    figures = []
    for store, work in (("memory", bench.memory_ticks), ("sqlite", bench.sqlite_ticks)):
        measure(work, 1, 0)  # what is imported at first use is imported now
        for batch in bench.BATCHES:
            idle = min(measure(work, batch, 0)[1] for _ in range(WINDOWS))
            found = [measure(work, batch, seconds / WINDOWS) for _ in range(WINDOWS)]
            cpu = min((cpu - idle) / ticks for ticks, cpu in found)
            rate = max(ticks for ticks, _ in found) * WINDOWS / seconds
            name = f"{store}, batches of {batch}"
            figures += [
                {"name": f"{name}, CPU a tick", "unit": "us", "value": cpu * 1e6},
                {"name": f"{name}, rate", "unit": "ticks/s", "value": rate},
            ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
