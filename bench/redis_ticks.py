"""Ticks a second of a fleet on one Redis server: claimed, run by a trivial app, finished, recorded.

    python bench/redis_ticks.py [seconds]

A server of its own keeps an append-only file with `appendfsync always`. Each process has the whole
of pulse but the web server: a scheduler's loop, a threading engine without threads (`inline`), 100
runs at a time. Every task is always due, so that the loop claims as much as it has room for.
"""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from pulse import events
from pulse.clock import SECOND, SystemClock
from pulse.dispatch import Dispatcher
from pulse.engine.registry import EngineSetup, load_engine
from pulse.runner import Runner
from pulse.scheduler import Plant, Scheduler
from pulse.store.member import this_member
from pulse.store.redis import RedisStore
from pulse.task import Task, define

TASKS = 400
ROOM = 100
WORDS = {"misfire": "all", "overlap": "allow", "max_running": 1000}


def app(_environ, start_response):
    start_response("200 OK", [])
    return [b""]


class Ahead:
    """A server's clock that is so far ahead that every task is always due."""

    def __init__(self, since: int) -> None:
        self.clock, self.since = SystemClock(), since

    def wall(self) -> int:
        return self.clock.wall() + self.since

    def boot(self) -> int:
        return self.clock.boot()


def make(url: str, stand_in=None) -> RedisStore:
    return RedisStore(url, SystemClock(), keep_runs=1_000, stand_in=stand_in)


def definitions() -> dict:
    names = [f"task {number}" for number in range(TASKS)]
    return {name: define(name, Task(action="/work", interval=1, **WORDS)) for name in names}


def take_part(url: str, seconds: float, gate, done) -> None:
    clock = SystemClock()
    engine = load_engine("inline", EngineSetup(clock=clock, child=None))
    ended = [0]
    bus = events.Bus()
    bus.subscribe(events.RunEnded, lambda _: ended.__setitem__(0, ended[0] + 1))
    plant = Plant(
        definitions=definitions(),
        member=this_member("inline", "digest", 30 * SECOND),
        store=make(url, Ahead(365 * 86_400 * SECOND)),
        engine=engine,
        bus=bus,
        clock=clock,
        perform=Runner(
            Dispatcher(app, base_url="http://localhost", multithread=True, environ={}), clock
        ).perform,
        concurrency=ROOM,
    )
    scheduler = Scheduler(plant)
    scheduler.open()
    gate.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pause = scheduler.step()
        if pause > 300:
            time.sleep(pause / SECOND)
    done.put(ended[0])
    scheduler.stop(0)


def start_server(folder: str) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = f"--port {port} --bind 127.0.0.1 --dir {folder} --appendonly yes --appendfsync always"
    server = subprocess.Popen(
        [shutil.which("redis-server"), *words.split(), "--save", ""], stdout=subprocess.DEVNULL
    )
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server, f"redis://127.0.0.1:{port}/0"
        time.sleep(0.02)


def measure(processes: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        server, url = start_server(folder)
        store = make(url)
        store.open(this_member("inline", "digest", 30 * SECOND))
        store.sync(definitions())
        gate, done = context.Barrier(processes), context.Queue()
        children = [
            context.Process(target=take_part, args=(url, seconds, gate, done))
            for _ in range(processes)
        ]
        for child in children:
            child.start()
        total = sum(done.get() for _ in children)
        for child in children:
            child.join()
        store.close()
        server.kill()
        server.wait()
    return total / seconds


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0
    for processes in (1, 2, 4, 8):
        print(
            f"{processes} processes {measure(processes, seconds):>10,.0f} ticks a second",
            flush=True,
        )


if __name__ == "__main__":
    main()
