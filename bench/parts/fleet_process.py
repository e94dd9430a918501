"""One process of the fleet that `bench/fleet.py` measures; it says what it has done as JSON.

    python fleet_process.py KIND '{"word": "sqlite:///x.db", ...}'

It writes `ready` when it takes part, reads from its standard input when the window opens and how
long it is, and writes its figures when that has closed. CPU is the process's, all threads.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from datetime import UTC, datetime, timedelta

CONCURRENCY = 100


class Window:
    """The time that counts: ends of runs and lateness inside it, and what the process used."""

    def __init__(self) -> None:
        self.ticks = 0
        self.late: list[int] = []
        self.claimed: list[int] = []
        self.opens = self.closes = 0.0

    def note(self, fire_time_us: int) -> None:
        self.ticks += 1
        now = time.time()
        if self.opens <= now < self.closes:
            self.late.append(round(now * 1e6) - fire_time_us)

    def measure(self, readline, sleep) -> None:
        print("ready", flush=True)
        opens, seconds = map(float, readline().split())
        self.opens, self.closes = opens, opens + seconds
        sleep(max(0.0, self.opens - time.time()))
        ticks, looks, before = self.ticks, len(self.claimed), resource.getrusage(0)
        sleep(max(0.0, self.closes - time.time()))
        after, claimed = resource.getrusage(0), self.claimed[looks:]
        found = {
            "ticks": self.ticks - ticks,
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "switches": after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
            "won": [count for count in claimed if count],
            "nothing": claimed.count(0),
            "late": self.late,
        }
        print(json.dumps(found), flush=True)


def run_pulse(*, word: str, tasks: int, starts: float, spread: bool) -> None:
    from gevent import get_hub, monkey

    monkey.patch_all()
    from pulse.core.task import Task
    from pulse.middleware import PulseMiddleware
    from pulse.scheduler.completer import Completer

    window = Window()
    hold = Completer.track

    def noted(completed, claims):
        window.claimed.append(len(claims))
        hold(completed, claims)

    def app(environ, start_response):
        window.note(environ["pulse.run"].fire_time)
        start_response("200 OK", [])
        return []

    Completer.track = noted  # each look at the store that claims passes here, whatever it won
    words = {"interval": 1, "misfire": "all", "overlap": "allow", "max_running": 10}
    first = datetime.fromtimestamp(starts, UTC)
    steps = [timedelta(seconds=number / tasks if spread else 0) for number in range(tasks)]
    PulseMiddleware(
        app,
        store=word,
        name="bench",
        mode="gevent",
        start="eager",
        concurrency=CONCURRENCY,
        tasks={
            f"task-{number}": Task(action=f"/t/{number}", start=first + step, **words)
            for number, step in enumerate(steps)
        },
    )
    window.measure(lambda: get_hub().threadpool.apply(sys.stdin.readline), time.sleep)


def run_bare_memory(*, word: str) -> None:
    import heapq

    heap, seen = [(number, number) for number in range(1_000)], set()

    def batch(_first: int) -> int:
        for _ in range(CONCURRENCY):
            fire_time, number = heap[0]
            heapq.heapreplace(heap, (fire_time + 1_000, number))
            seen.add((fire_time, number))
        seen.clear()
        return CONCURRENCY

    _insert(batch)


def run_bare_sqlite(*, word: str) -> None:
    import sqlite3

    raw = sqlite3.connect(word.removeprefix("sqlite:///"), isolation_level=None, timeout=30)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE IF NOT EXISTS won (id INTEGER PRIMARY KEY, holder INTEGER)")
    rows = ", ".join(["(?, 1)"] * CONCURRENCY)
    text = f"INSERT INTO won VALUES {rows} ON CONFLICT DO NOTHING RETURNING id"

    def batch(first: int) -> int:
        raw.execute("BEGIN IMMEDIATE")
        won = raw.execute(text, range(first, first + CONCURRENCY)).fetchall()
        raw.execute("COMMIT")
        return len(won)

    _insert(batch)


def run_bare_postgres(*, word: str) -> None:
    import psycopg

    raw = psycopg.connect(word, autocommit=True)
    raw.execute("SELECT pg_advisory_lock(1)")  # IF NOT EXISTS alone is no guard against a race
    raw.execute("CREATE TABLE IF NOT EXISTS won (id bigint PRIMARY KEY, holder int)")
    raw.execute("SELECT pg_advisory_unlock(1)")
    text = "INSERT INTO won SELECT unnest(%s::bigint[]), 1 ON CONFLICT DO NOTHING RETURNING id"
    _insert(lambda first: len(raw.execute(text, [[*range(first, first + CONCURRENCY)]]).fetchall()))


def run_bare_redis(*, word: str) -> None:
    import redis

    script = redis.Redis.from_url(word).register_script(
        "local won = 0 for _, id in ipairs(ARGV) do"
        " won = won + redis.call('HSETNX', KEYS[1], id, 1) end return won"
    )
    _insert(lambda first: script(keys=["won"], args=[*range(first, first + CONCURRENCY)]))


def _insert(batch) -> None:
    """Insert what is absent as fast as can be; all who do it compete for the same rows."""
    window, first = Window(), 0

    def go_on(span: float) -> None:
        nonlocal first
        until = time.time() + span
        while time.time() < until:
            won = batch(first)
            window.ticks += won
            window.claimed.append(won)
            first += CONCURRENCY

    window.measure(sys.stdin.readline, go_on)


KINDS = {
    "pulse": run_pulse,
    "bare memory": run_bare_memory,
    "bare sqlite": run_bare_sqlite,
    "bare postgres": run_bare_postgres,
    "bare redis": run_bare_redis,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](**json.loads(sys.argv[2]))
    os._exit(0)
