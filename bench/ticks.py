"""Ticks a second, CPU a tick and lateness: pulse beside a bare loop and APScheduler 3.

    python bench/ticks.py                        the whole table
    python bench/ticks.py gevent pulse 10000     one measurement, as JSON

Each measurement runs in a process of its own, one after the other. Every tick is one call of the
same trivial WSGI app. A rate of R is R tasks with an interval of one second, their first fire
times spread evenly over a second. CPU is the whole process's, during the window measured.
The rate of 100,000 is saturation: 1,000 tasks of 10 ms, `misfire = all`, ask for more than can be
done, and what was done is counted; lateness has no meaning there.
"""

from __future__ import annotations

import heapq
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

SETTLE_S = 2.0
WINDOW_S = 6.0
SATURATION_RATE = 100_000
CONCURRENCY = 100


class Meter:
    """Counts calls and keeps how late each was, inside the window."""

    def __init__(self, begins: float) -> None:
        self.opens = begins + SETTLE_S
        self.closes = self.opens + WINDOW_S
        self.lateness: list[float] = []
        self.cpu = 0.0

    def note(self, fire_time: float) -> None:
        now = time.time()
        if self.opens <= now < self.closes:
            self.lateness.append(now - fire_time)

    def watch(self, sleep) -> dict[str, float]:
        sleep(max(0.0, self.opens - time.time()))
        cpu = time.process_time()
        sleep(max(0.0, self.closes - time.time()))
        cpu = time.process_time() - cpu
        late = sorted(self.lateness)
        count = len(late)
        return {
            "ticks_s": count / WINDOW_S,
            "cpu_us": cpu / count * 1e6 if count else float("nan"),
            "p50_ms": late[count // 2] * 1e3 if count else float("nan"),
            "p99_ms": late[count * 99 // 100] * 1e3 if count else float("nan"),
        }


def trivial_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def interval_of(rate: int) -> float:
    return 0.01 if rate == SATURATION_RATE else 1.0


def starts(rate: int, begins: float) -> list[float]:
    interval = interval_of(rate)
    count = round(rate * interval)
    return [begins + i * interval / count for i in range(count)]


def run_pulse(flavour: str, rate: int, begins: float, meter: Meter, sleep) -> dict[str, float]:
    from pulse import PulseMiddleware, Task

    def app(environ, start_response):
        meter.note(environ["pulse.run"].fire_time / 1e6)
        return trivial_app(environ, start_response)

    tasks = {
        f"task-{i}": Task(
            action=f"/t/{i}",
            interval=interval_of(rate),
            start=datetime.fromtimestamp(at, UTC),
            misfire="all" if rate == SATURATION_RATE else "latest",
        )
        for i, at in enumerate(starts(rate, begins))
    }
    PulseMiddleware(
        app,
        mode="gevent" if flavour == "gevent" else "threading",
        store="memory:",
        start="eager",
        concurrency=CONCURRENCY if flavour == "gevent" else 10,
        tasks=tasks,
    )
    return meter.watch(sleep)


def run_bare(flavour: str, rate: int, begins: float, meter: Meter, sleep) -> dict[str, float]:
    if flavour == "gevent":
        import gevent
        from gevent.queue import SimpleQueue

        spawn = gevent.spawn
    else:
        import threading
        from queue import SimpleQueue

        def spawn(target):
            threading.Thread(target=target, daemon=True).start()

    queue = SimpleQueue()
    interval = interval_of(rate)
    heap = [(at, i) for i, at in enumerate(starts(rate, begins))]
    heapq.heapify(heap)

    def reply(status, headers):
        return None

    def work():
        while True:
            fire_time = queue.get()
            meter.note(fire_time)
            for _ in trivial_app({}, reply):
                pass

    def loop():
        while True:
            now = time.time()
            room = 1_000
            while heap[0][0] <= now and room:
                at, i = heap[0]
                queue.put(at)
                heapq.heapreplace(heap, (at + interval, i))
                room -= 1
            sleep(max(0.0, heap[0][0] - time.time()))

    for _ in range(CONCURRENCY if flavour == "gevent" else 10):
        spawn(work)
    spawn(loop)
    return meter.watch(sleep)


def run_apscheduler(
    flavour: str, rate: int, begins: float, meter: Meter, sleep
) -> dict[str, float]:
    import logging

    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    if flavour == "gevent":
        from apscheduler.schedulers.gevent import GeventScheduler as Kind
    else:
        from apscheduler.schedulers.background import BackgroundScheduler as Kind
    from apscheduler.triggers.interval import IntervalTrigger

    def reply(status, headers):
        return None

    def job(offset: float) -> None:
        # APScheduler does not tell a job its fire time; the newest grid instant stands for it.
        now = time.time()
        meter.note(now - (now - offset) % 1)
        for _ in trivial_app({}, reply):
            pass

    scheduler = Kind(timezone=UTC)
    for at in starts(rate, begins):
        first = datetime.fromtimestamp(at, UTC)
        trigger = IntervalTrigger(seconds=1, start_date=first - timedelta(seconds=1), timezone=UTC)
        scheduler.add_job(job, trigger, args=(at,), misfire_grace_time=None, max_instances=10)
    scheduler.start()
    return meter.watch(sleep)


RUNNERS = {"pulse": run_pulse, "bare loop": run_bare, "APScheduler 3": run_apscheduler}


def measure(flavour: str, contender: str, rate: int) -> dict[str, float]:
    if flavour == "gevent":
        from gevent import monkey

        monkey.patch_all()
    lead = 3.0 + rate / 4_000 if contender == "APScheduler 3" else 3.0 + rate / 20_000
    begins = time.time() + lead
    return RUNNERS[contender](flavour, rate, begins, Meter(begins), time.sleep)


def in_own_process(flavour: str, contender: str, rate: int) -> dict[str, float]:
    command = [sys.executable, __file__, flavour, contender, str(rate)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
        return
    print(f"{'flavour':10}{'contender':16}{'asked/s':>10}{'ticks/s':>10}", end="")
    print(f"{'CPU us/tick':>13}{'p50 ms':>10}{'p99 ms':>10}")
    for flavour in ("gevent", "threading"):
        for rate in (1_000, 10_000, SATURATION_RATE):
            for contender in RUNNERS:
                if contender == "APScheduler 3" and rate == SATURATION_RATE:
                    continue
                found = in_own_process(flavour, contender, rate)
                print(f"{flavour:10}{contender:16}{rate:>10,}{found['ticks_s']:>10,.0f}", end="")
                print(f"{found['cpu_us']:>13.1f}{found['p50_ms']:>10.2f}{found['p99_ms']:>10.2f}")


if __name__ == "__main__":
    main()
