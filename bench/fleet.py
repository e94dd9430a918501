"""Ticks a second for the whole cycle: claimed, run by a trivial app, finished and on record.

    python bench/fleet.py [store ...] [--seconds 5] [--processes 1 4 8] [--part totals|lateness]
                          [--json]

Stores are memory, sqlite, postgres and redis. Each process is a gevent-patched pulse with
`concurrency = 100`. A private PostgreSQL with fsync and a Redis with `appendfsync always` are
started from the machine's binaries. Memory is shared by nobody: its processes tick by themselves.

Totals: every task is due each second, more of them than can be run, so that all processes compete
for the same rows. CPU is that of all processes for each tick, and that of the database's server;
a batch is what one look claims that wins anything. The bare rows insert what is absent, 100 a
transaction or script, in a loop: the limit. APScheduler 4 has PostgreSQL as its shared data store,
and as many schedules, due each second, as it cannot run; see `parts/apscheduler4_process.py`. As it
cannot be installed beside APScheduler 3, it is put into an environment of its own in a temporary
folder, unless `--apscheduler` names a Python that has it, or says `none`.

Lateness: half of what is asked of each store, fire times spread evenly over each second. Of a tick
it is the start of its run less its fire time; a tick that comes late counts as any other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import closing
from pathlib import Path

from parts.grounds import GROUNDS

TASKS = {"memory": 100_000, "sqlite": 24_000, "postgres": 24_000, "redis": 24_000}
"""Each is due every second: more than that store can do, so that rows are always due."""
HALF = {"memory": 5_000, "sqlite": 2_500, "postgres": 5_000, "redis": 5_000}
"""Half of the ticks a second that are asked of a store, with 4 processes."""
SCHEDULES = 2_000
SETTLE_S = 3.0
PARTS = Path(__file__).parent / "parts"
APSCHEDULER = (
    "apscheduler>=4.0.0a6,<5",
    "anyio<4.10",
    "asyncpg>=0.30",
    "sniffio",
    "sqlalchemy[asyncio]>=2,<2.1",
)
"""What APScheduler 4.0.0a6 was made with: newer releases of two of them break it."""
ERRORS = None if os.environ.get("PULSE_BENCH_ERRORS") else subprocess.DEVNULL
HEAD = (
    f"{'':24}{'processes':>10}{'ticks/s':>10}{'CPU us/tick':>13}{'server us':>11}"
    f"{'switches':>10}{'batch mean':>12}{'median':>8}{'empty looks/s':>15}"
)


def together(command: list[str], processes: int, seconds: float, cpu) -> dict:
    """Return what processes did together, once all of them take part and have settled."""
    children = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=ERRORS, text=True
        )
        for _ in range(processes)
    ]
    if any(child.stdout.readline() != "ready\n" for child in children):
        raise SystemExit("a process has failed; PULSE_BENCH_ERRORS=1 shows why")
    opens = time.time() + SETTLE_S
    for child in children:
        child.stdin.write(f"{opens} {seconds}\n")
        child.stdin.flush()
    time.sleep(opens - time.time())
    used = cpu()
    time.sleep(opens + seconds - time.time())
    used = cpu() - used
    found = [json.loads(child.communicate()[0]) for child in children]
    lists = {name: [item for one in found for item in one[name]] for name in ("won", "late")}
    sums = {name: sum(one[name] for one in found) for name in found[0] if name not in lists}
    return lists | sums | {"server": used}


def pulse_on(word: str, *, tasks: int, spread: bool) -> list[str]:
    words = {"word": word, "tasks": tasks, "starts": int(time.time()), "spread": spread}
    return [sys.executable, str(PARTS / "fleet_process.py"), "pulse", json.dumps(words)]


def bare_on(word: str, store: str) -> list[str]:
    words = json.dumps({"word": word})
    return [sys.executable, str(PARTS / "fleet_process.py"), f"bare {store}", words]


class Report:
    """Prints rows as they are measured, or all of their figures as JSON in the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._figures: list[dict[str, object]] = []

    def line(self, text: str) -> None:
        if not self._as_json:
            print(text, flush=True)

    def totals(self, name: str, processes: int, seconds: float, found: dict) -> None:
        ticks, won = max(found["ticks"], 1), found["won"]
        mean, median = (statistics.fmean(won), statistics.median(won)) if won else (0, 0)
        cpu, server = found["cpu"] / ticks * 1e6, found["server"] / ticks * 1e6
        row = f"{name}, {_counted(processes)}"
        self._keep(f"{row}, rate", "ticks/s", ticks / seconds)
        self._keep(f"{row}, CPU a tick", "us", cpu)
        self._keep(f"{row}, CPU of the server a tick", "us", server)
        self.line(
            f"{name:24}{processes:>10}{ticks / seconds:>10,.0f}{cpu:>13.1f}"
            f"{server:>11.1f}{found['switches'] / ticks:>10.3f}"
            f"{mean:>12.1f}{median:>8.0f}{found['nothing'] / seconds:>15.1f}"
        )

    def lateness(self, name: str, asked: int, seconds: float, late: list[int]) -> None:
        parts = {part: late[(len(late) - 1) * part // 100] / 1e3 for part in (50, 99, 100)}
        for part, ms in parts.items():
            self._keep(f"{name}, lateness, percentile {part}", "ms", ms)
        columns = "".join(f"{ms:>10.1f}" for ms in parts.values())
        self.line(f"{name:24}{asked:>10,}{len(late) / seconds:>10,.0f}{columns}")

    def _keep(self, name: str, unit: str, value: float) -> None:
        self._figures.append({"name": name, "unit": unit, "value": value})

    def end(self) -> None:
        if self._as_json:
            print(json.dumps(self._figures))


def _counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def totals(report: Report, store: str, ground, counts: list[int], seconds: float) -> None:
    for processes in counts:
        found = together(bare_on(ground.fresh(), store), processes, seconds, ground.cpu)
        report.totals(f"{store}, bare", processes, seconds, found)
    for processes in counts:
        command = pulse_on(ground.fresh(), tasks=TASKS[store], spread=False)
        found = together(command, processes, seconds, ground.cpu)
        report.totals(store, processes, seconds, found)


def rival_totals(report: Report, ground, counts: list[int], seconds: float, python: str) -> None:
    script = str(PARTS / "apscheduler4_process.py")
    for processes in counts:
        word = ground.fresh()
        fill = json.dumps({"word": word, "schedules": SCHEDULES})
        subprocess.run([python, script, "fill", fill], check=True, stderr=ERRORS)
        command = [python, script, "run", json.dumps({"word": word})]
        found = together(command, processes, seconds, ground.cpu)
        report.totals("postgres, APScheduler 4", processes, seconds, found)


def lateness(report: Report, store: str, ground, seconds: float) -> None:
    command = pulse_on(ground.fresh(), tasks=HALF[store], spread=True)
    found = together(command, 4, seconds, ground.cpu)
    report.lateness(ground.name, HALF[store], seconds, sorted(found["late"]))


def environment_of_apscheduler(folder: str) -> str:
    """Return the Python of a new environment that holds APScheduler 4."""
    venv.create(folder, with_pip=True)
    python = str(Path(folder) / "bin" / "python")
    install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--pre"]
    if subprocess.run([*install, *APSCHEDULER], check=False).returncode:
        raise SystemExit("APScheduler 4 cannot be installed; --apscheduler none goes without it")
    return python


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--part", choices=("totals", "lateness"))
    parser.add_argument("--apscheduler", metavar="PYTHON")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("stores", metavar="store", nargs="*", default=list(GROUNDS))
    return parser.parse_args()


def measure_totals(report: Report, asked: argparse.Namespace) -> None:
    report.line(HEAD)
    for store in asked.stores:
        with closing(GROUNDS[store]()) as ground:
            totals(report, store, ground, asked.processes, asked.seconds)
            if store == "postgres" and asked.apscheduler != "none":
                with tempfile.TemporaryDirectory() as folder:
                    python = asked.apscheduler or environment_of_apscheduler(folder)
                    rival_totals(report, ground, asked.processes, asked.seconds, python)


def measure_lateness(report: Report, asked: argparse.Namespace) -> None:
    report.line(
        f"\n{'4 processes':24}{'asked/s':>10}{'ticks/s':>10}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'most ms':>10}"
    )
    for store in asked.stores:
        with closing(GROUNDS[store]()) as ground:
            lateness(report, store, ground, asked.seconds)


def main() -> None:
    asked = read_arguments()
    report = Report(as_json=asked.json)
    if asked.part != "lateness":
        measure_totals(report, asked)
    if asked.part != "totals":
        measure_lateness(report, asked)
    report.end()


if __name__ == "__main__":
    main()
