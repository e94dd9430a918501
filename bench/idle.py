"""What 100,000 idle tasks cost: registration, bytes a task, CPU; and what the import costs.

    python bench/idle.py

Registration is from the first `Task(...)` to the scheduler's start, in memory mode. Bytes are the
growth of the resident set, divided by the tasks. CPU is the process's share over ten seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

COUNT = 100_000
WATCH_S = 10.0


def app(environ, start_response):
    start_response("200 OK", [])
    return []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def idle() -> None:
    from pulse.core.task import Task
    from pulse.middleware import PulseMiddleware

    before, began = resident_bytes(), time.perf_counter()
    tasks = {f"task-{i}": Task(action=f"t/{i}", interval=86_400) for i in range(COUNT)}
    PulseMiddleware(app, store="memory:", start="eager", tasks=tasks)
    del tasks
    registered = time.perf_counter() - began
    grown = resident_bytes() - before
    time.sleep(1)
    cpu = time.process_time()
    time.sleep(WATCH_S)
    cpu = time.process_time() - cpu
    print(f"tasks registered          {COUNT:>12,}")
    print(f"registration              {registered:>12.2f} s")
    print(f"memory                    {grown / COUNT:>12,.0f} bytes a task")
    print(f"CPU while idle            {cpu / WATCH_S * 100:>12.2f} %")


def seconds_of(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def importing() -> None:
    bare = min(seconds_of("pass") for _ in range(15))
    full = min(seconds_of("import pulse.middleware") for _ in range(15))
    print(f"import pulse.middleware   {(full - bare) * 1e3:>12.0f} ms over the bare interpreter")


if __name__ == "__main__":
    importing()
    idle()
