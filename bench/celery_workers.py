"""What runs on Celery workers cost, beside plain Celery tasks on the same broker.

    python bench/celery_workers.py [--parts latency rate requests restart] [--seconds 20]

All servers are private: RabbitMQ, Redis and PostgreSQL.

latency: from the claim of a tick to the start of its call, of 5 tasks that run each second at
instants of their own, on each broker, with the store in an SQLite file.
rate: 200 tasks that run each second, from 2 web processes to 2 children on PostgreSQL; ticks a
second, and CPU of all these processes a tick. Plain Celery: one process sends tasks that do
nothing, 2 children execute them, on the same broker and in turn.
requests: how long ordinary pages take while the broker is deaf, stalls or refuses connections,
beside the time before each fault, in turn.
restart: how long the stop of the web processes takes while a run of theirs is in progress on a
worker, beside a stop without one, in turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.broker_proxy import BrokerProxy, Mode  # noqa: E402 - found by the line above
from tests.support.brokers import RabbitMQ, RedisBroker  # noqa: E402
from tests.support.celery_site import CelerySite  # noqa: E402
from tests.support.postgres import PostgresCluster  # noqa: E402
from tests.support.servers import Server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ["latency", "rate", "requests", "restart"]
TICKS_HZ = os.sysconf("SC_CLK_TCK")
FAULTS = [Mode.DEAF, Mode.STALL, Mode.CUT]


@contextmanager
def folder() -> Iterator[Path]:
    """Return a folder that is deleted after a `with` block."""
    with tempfile.TemporaryDirectory(prefix="pulse-bench-") as path:
        yield Path(path)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def line(name: str, **figures: float | str) -> None:
    words = [
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in figures.items()
    ]
    print(f"{name:<34}{'   '.join(words)}", flush=True)


def cpu_of(servers: list[Server]) -> float:
    """Return the seconds of CPU that all living processes of some servers have used."""
    used = 0
    for server in servers:
        for pid in server.family():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
    return used / TICKS_HZ


# Latency -----------------------------------------------------------------------------------


def latency(name: str, broker: RabbitMQ | RedisBroker, seconds: float) -> None:
    """Print how long it takes from claims to calls."""
    tasks = {f"t{n}": {"action": "quick", "interval": "1s"} for n in range(5)}
    with folder() as place:
        site = CelerySite(
            place, broker=broker.vhost(), store=f"sqlite:///{place}/pulse.db", tasks=tasks
        )
        with site.serving():
            site.await_notes(20)
            begun = time.time_ns() // 1000
            time.sleep(seconds)
            found = [run for run in site.runs() if run.started_at and run.fire_time > begun]
    waits = [(run.started_at - run.claimed_at) / 1000 for run in found]
    line(
        f"claim to start, {name}",
        p50_ms=statistics.median(waits),
        p99_ms=quantile(waits, 0.99),
        runs=str(len(waits)),
    )


# Rate --------------------------------------------------------------------------------------


def rate(broker: RabbitMQ, cluster: PostgresCluster, seconds: float) -> None:
    """Print ticks a second and CPU a tick; plain Celery in turn."""
    for _ in range(2):
        pulse_rate(broker, cluster, seconds)
        celery_rate(broker)


def pulse_rate(broker: RabbitMQ, cluster: PostgresCluster, seconds: float) -> None:
    cluster.empty_applications()
    tasks = {f"t{n}": {"action": "quick", "interval": "1s"} for n in range(200)}
    with folder() as place:
        site = CelerySite(place, broker=broker.vhost(), store=cluster.url(), tasks=tasks)
        with site.serving() as (web, workers):
            site.await_notes(400)
            servers = [web, *workers]
            begun, used, before = time.monotonic(), cpu_of(servers), len(site.notes("end"))
            time.sleep(seconds)
            took = time.monotonic() - begun
            ticks, cpu = len(site.notes("end")) - before, cpu_of(servers) - used
            twice = len(site.twice())
    line(
        "200 ticks/s wanted, PostgreSQL",
        ticks_s=ticks / took,
        cpu_ms_a_tick=1000 * cpu / ticks,
        twice=str(twice),
    )


def celery_rate(broker: RabbitMQ, number: int = 4_000) -> None:
    """Print how fast plain Celery executes tasks that do nothing."""
    url = broker.vhost()
    with folder() as place:
        (place / "plain.py").write_text(
            "from celery import Celery\n"
            f"app = Celery('plain', broker={url!r})\n"
            "app.conf.task_ignore_result = True\n"
            "@app.task\n"
            "def nothing(): pass\n"
            "@app.task\n"
            "def last(path): open(path, 'w').close()\n"
        )
        sys.path.insert(0, str(place))
        import plain

        for _ in range(number):
            plain.nothing.delay()
        plain.last.delay(str(place / "last"))
        command = [sys.executable, "-m", "celery", "-A", "plain", "worker", "-c", "2"]
        worker = Server(command, port=None, folder=place)
        worker.start()
        worker.wait_for(lambda: " ready." in worker.log_text() or plain_has_begun(worker))
        begun, used = time.monotonic(), cpu_of([worker])
        worker.wait_for((place / "last").exists)
        took, cpu = time.monotonic() - begun, cpu_of([worker]) - used
        worker.close()
        sys.path.remove(str(place))
        del sys.modules["plain"]
    line("plain Celery, no result", tasks_s=number / took, cpu_ms_a_task=1000 * cpu / number)


def plain_has_begun(worker: Server) -> bool:
    return len(worker.workers()) >= 2


# Requests ----------------------------------------------------------------------------------


def requests(broker: RabbitMQ, seconds: float) -> None:
    """Print how long pages take during faults of the broker, beside the time before each."""
    with folder() as place, BrokerProxy(broker.vhost()) as proxy:
        site = CelerySite(
            place,
            broker=proxy.url,
            store=f"sqlite:///{place}/pulse.db",
            tasks={f"t{n}": {"action": "quick", "interval": "1s"} for n in range(5)},
        )
        with site.serving() as (web, _):
            site.await_notes(10)
            for _ in range(2):
                for mode in FAULTS:
                    before = pages(web, seconds)
                    proxy.switch(mode)
                    during = pages(web, seconds)
                    proxy.switch(Mode.PASS)
                    line(
                        f"pages, broker {mode}",
                        before_p999_ms=quantile(before, 0.999),
                        during_p999_ms=quantile(during, 0.999),
                        before_p50_ms=statistics.median(before),
                        during_p50_ms=statistics.median(during),
                    )
                    ended = len(site.notes("end"))
                    site.wait_for(lambda known=ended: len(site.notes("end")) > known + 5, "runs")


def pages(web: Server, seconds: float) -> list[float]:
    """Return how many milliseconds each page took, at 200 a second."""
    found = []
    end = time.monotonic() + seconds
    link = HTTPConnection("127.0.0.1", web.port or 0)
    while (asked := time.monotonic()) < end:
        link.request("GET", "/")
        link.getresponse().read()
        found.append(1000 * (time.monotonic() - asked))
        time.sleep(max(0.0, 0.005 - (time.monotonic() - asked)))
    link.close()
    return found


# Restart -----------------------------------------------------------------------------------


def restart(broker: RabbitMQ) -> None:
    """Print how long web processes stop, with and without a run on a worker."""
    for task, name in 3 * [
        ({"action": "nap?8", "interval": "1s"}, "with a run"),
        (None, "without"),
    ]:
        with folder() as place:
            tasks = {"t": task or {"action": "quick", "interval": "1h"}}
            site = CelerySite(
                place,
                broker=broker.vhost(),
                store=f"sqlite:///{place}/pulse.db",
                tasks=tasks,
            )
            with site.serving() as (web, _):
                if task:
                    site.await_notes(1)
                time.sleep(1)
                begun = time.monotonic()
                web.stop(SIGTERM)
                line(f"stop of the web processes, {name}", seconds=time.monotonic() - begun)


def main() -> None:
    """Measure the parts that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--seconds", type=float, default=20.0)
    asked = parser.parse_args()
    with ExitStack() as stack:
        rabbitmq, redis = stack.enter_context(RabbitMQ()), stack.enter_context(RedisBroker())
        if "latency" in asked.parts:
            for _ in range(2):
                latency("RabbitMQ", rabbitmq, asked.seconds)
                latency("Redis", redis, asked.seconds)
        if "rate" in asked.parts:
            cluster = PostgresCluster(fsync=True)
            stack.callback(cluster.close)
            rate(rabbitmq, cluster, asked.seconds)
        if "requests" in asked.parts:
            requests(rabbitmq, asked.seconds)
        if "restart" in asked.parts:
            restart(rabbitmq)


if __name__ == "__main__":
    main()
