"""Ticks a second for the whole cycle: claimed, run by a trivial app, finished and on record.

    python bench/fleet.py [seconds] [store ...]

Stores are memory, sqlite, postgres and redis. Each of 1, 4 or 8 processes is a gevent-patched
pulse with `concurrency = 100`; every task is always due, so that all of them compete for the same
rows. Memory is shared by nobody: its processes tick by themselves. A private PostgreSQL with fsync
and a Redis with `appendfsync always` are started from the machine's binaries. The bare rows insert
what is absent, 100 a transaction or script, in a loop. CPU is that of the processes for each tick,
without the database.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "harness"))

TASKS = 24_000
"""Each is due every second: more than any store but memory can do, so that rows are always due."""
CONCURRENCY = 100
PROCESSES = tuple(map(int, os.environ.get("PULSE_BENCH_PROCESSES", "1 4 8").split()))
STORES = ("memory", "sqlite", "postgres", "redis")
SETTLE_S = 6.0
ERRORS = None if os.environ.get("PULSE_BENCH_ERRORS") else subprocess.DEVNULL


def work_pulse(word: str, begins: float, seconds: float) -> dict[str, float]:
    from gevent import monkey

    monkey.patch_all()
    from pulse.middleware import PulseMiddleware
    from pulse.task import Task

    done = 0

    def app(environ, start_response):
        nonlocal done
        done += 1
        start_response("200 OK", [])
        return []

    words = {"interval": 1, "misfire": "all", "overlap": "allow", "max_running": 10}
    tasks = {f"task-{i}": Task(action=f"/t/{i}", **words) for i in range(TASKS)}
    wrapped = PulseMiddleware(
        app,
        store=word,
        name="bench",
        mode="gevent",
        start="eager",
        concurrency=CONCURRENCY,
        tasks=tasks,
    )
    time.sleep(max(0, begins - time.time()))
    before, cpu = done, time.process_time()
    time.sleep(seconds)
    found = {"ticks": done - before, "cpu": time.process_time() - cpu}
    del wrapped
    return found


def work_bare(url: str, begins: float, seconds: float) -> dict[str, float]:
    import psycopg

    raw = psycopg.connect(url, autocommit=True)
    text = "INSERT INTO won SELECT unnest(%s::bigint[]), 1 ON CONFLICT DO NOTHING RETURNING id"
    time.sleep(max(0, begins - time.time()))
    done, first, end = 0, 0, time.time() + seconds
    while time.time() < end:
        done += len(raw.execute(text, [list(range(first, first + 100))]).fetchall())
        first += 100
    return {"ticks": done, "cpu": 0.0}


def work_bare_redis(url: str, begins: float, seconds: float) -> dict[str, float]:
    import redis

    client = redis.Redis.from_url(url)
    script = client.register_script(
        "local won = 0 for _, id in ipairs(ARGV) do"
        " won = won + redis.call('HSETNX', KEYS[1], id, 1) end return won"
    )
    time.sleep(max(0, begins - time.time()))
    done, first, end = 0, 0, time.time() + seconds
    while time.time() < end:
        done += script(keys=["won"], args=list(range(first, first + 100)))
        first += 100
    return {"ticks": done, "cpu": 0.0}


WORK = {"pulse": work_pulse, "bare": work_bare, "bare redis": work_bare_redis}


def together(kind: str, word: str, processes: int, seconds: float) -> tuple[float, float]:
    begins = time.time() + SETTLE_S + processes * 0.7
    command = [sys.executable, __file__, "--work", kind, word, str(begins), str(seconds)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=ERRORS) for _ in range(processes)
    ]
    found = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
    cpu = sum(one["cpu"] for one in found)
    return sum(one["ticks"] for one in found) / seconds, cpu


def row(name: str, kind: str, word_of, seconds: float, counts=PROCESSES) -> None:
    print(f"{name:34}", end="", flush=True)
    for processes in counts:
        rate, cpu = together(kind, word_of(processes), processes, seconds)
        each = f"{cpu / seconds / rate * 1e6:.0f} us" if cpu and rate else ""
        print(f"{rate:>12,.0f} {each:>8}", end="", flush=True)
    print()


def on_postgres(seconds: float) -> None:
    from postgres import PostgresCluster

    cluster = PostgresCluster(fsync=True)
    try:
        for number in PROCESSES:
            cluster.run(f"CREATE DATABASE bench_{number}")
            cluster.run(f"CREATE DATABASE bare_{number}")
            cluster.run(
                "CREATE TABLE won (id bigint PRIMARY KEY, holder int)", database=f"bare_{number}"
            )
        row("postgres, bare insert", "bare", lambda n: cluster.url(f"bare_{n}"), seconds)
        row("postgres", "pulse", lambda n: cluster.url(f"bench_{n}"), seconds)
    finally:
        cluster.close()


def on_redis(seconds: float) -> None:
    from redis_servers import RedisServer

    with tempfile.TemporaryDirectory() as folder, RedisServer(Path(folder)) as server:
        base = server.url.rpartition("/")[0]
        numbers = {count: number for number, count in enumerate(PROCESSES)}
        row("redis, bare HSETNX", "bare redis", lambda n: f"{base}/{numbers[n]}", seconds)
        row("redis", "pulse", lambda n: f"{base}/{8 + numbers[n]}", seconds)


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        _, _, kind, word, begins, seconds = sys.argv
        print(json.dumps(WORK[kind](word, float(begins), float(seconds))), flush=True)
        os._exit(0)
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    stores = sys.argv[2:] or list(STORES)
    print(
        f"{'ticks a second, processes':34}"
        + "".join(f"{count:>12} {'CPU':>8}" for count in PROCESSES)
    )
    if "memory" in stores:
        row("memory, each by itself", "pulse", lambda _: "memory:", seconds)
    if "sqlite" in stores:
        with tempfile.TemporaryDirectory() as folder:
            row("sqlite", "pulse", lambda n: f"sqlite:///{folder}/{n}.db", seconds)
    if "postgres" in stores:
        on_postgres(seconds)
    if "redis" in stores:
        on_redis(seconds)


if __name__ == "__main__":
    main()
