"""What an idle fleet costs its store and its hosts, beside bare gunicorn and an older checkout.

    python bench/idle_fleet.py [store ...] [--old CHECKOUT] [--workers 4 24 100] [--hosts 50]
                               [--seconds 20] [--json]

Stores are sqlite, postgres and redis; PostgreSQL and Redis are private servers. No task is due
while a fleet is measured: 10 tasks run once an hour. A row is one fleet, measured for *seconds*
after it has settled:

workers: one gunicorn with so many gevent workers. Two configurations: two gunicorns with half of
the workers each, whose tasks differ in number. Scope = process: each worker has tasks of its own.
Hosts: processes that are alone in namespaces for processes and host names, as in containers.

Traffic is transactions on PostgreSQL (`pg_stat_database`) and commands on Redis (`INFO stats`,
which counts the commands within scripts too). Sent is what clients send to Redis: commands, of
which a script is one (read events of `INFO stats`). Neither counts what this script asks.
Connections are those that the server counts; on SQLite, the open files of the database. CPU, in
percent of a core, and wake-ups (voluntary context switches of all threads) are means of a worker;
the rows of bare gunicorn are printed first, to be subtracted. Needs root for the namespaces of
hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from parts.grounds import Postgres, Redis, Sqlite

PARTS = Path(__file__).parent / "parts"
ROOT = PARTS.parents[1]
SETTLE_S = 45.0
"""Longer than a connection is kept without use, and than 50 processes join on two cores."""
START_S = 60.0
GROUNDS = {"sqlite": Sqlite, "postgres": lambda: Postgres(connections=500), "redis": Redis}
OWN_PROC = 'mount --make-private /proc && mount -t proc proc /proc && hostname "$0" && exec "$@"'
HOST = [
    *("unshare", "--pid", "--uts", "--mount", "--propagation", "unchanged", "--fork"),
    *("--kill-child", "sh", "-c", OWN_PROC),
]


_SWITCHES = re.compile(r"^voluntary_ctxt_switches:\s(\d+)$", re.MULTILINE)


class Use(NamedTuple):
    """What processes have used since they started: seconds of CPU, and wake-ups."""

    cpu: float
    wakeups: int


class Counts(NamedTuple):
    """What a server has counted: its transactions or commands; what clients have sent to Redis."""

    traffic: int | None = None
    sent: int | None = None


# Redis reads the question of a count, and the end of the connection of the count before.
OWN = Counts(1, 2)


class Row(NamedTuple):
    """The figures of one fleet."""

    name: str
    traffic: float | None
    sent: float | None
    connections: int | None
    cpu: float
    wakeups: float


# Fleets ----------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """Return the processes below *pid*, those of other namespaces included."""
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    except OSError:
        return []  # it has ended
    return found


def use_of(pids: list[int]) -> Use:
    cpu, wakeups = 0, 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            cpu += int((task / "schedstat").read_text().split()[0])
            (switches,) = _SWITCHES.findall((task / "status").read_text())
            wakeups += int(switches)
    return Use(cpu / 1e9, wakeups)


@contextmanager
def fleet(commands: list[list[str]], environ: list[dict[str, str]], count: int):
    """Start programs, wait until *count* processes run Python below them; yield those."""
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        programs = []
        for command, more in zip(commands, environ, strict=True):
            programs.append(
                subprocess.Popen(command, env=os.environ | more, cwd=PARTS, stdout=log, stderr=log)
            )
            stack.callback(end, programs[-1])
        deadline = time.monotonic() + START_S
        while len(workers := leaves([one.pid for one in programs])) < count:
            if time.monotonic() > deadline or any(one.poll() is not None for one in programs):
                log.seek(0)
                raise SystemExit(
                    f"{len(workers)} of {count} workers have started\n{log.read()[-2000:]}"
                )
            time.sleep(0.2)
        time.sleep(SETTLE_S)
        # A program may have had other children while it started.
        yield leaves([one.pid for one in programs])


def leaves(programs: list[int]) -> list[int]:
    """Return the processes below the programs that have no children: the workers."""
    below = [pid for program in programs for pid in descendants(program)]
    return [pid for pid in below if not descendants(pid)]


def end(program: subprocess.Popen) -> None:
    for pid in [*descendants(program.pid), program.pid]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    program.wait()


def gunicorn(python: str, workers: int, settings: dict[str, object]) -> tuple[list[str], dict]:
    from tests.support.servers import free_port

    command = [python, "-m", "gunicorn", "-k", "gevent", "-w", str(workers), "--no-control-socket"]
    command += ["-b", f"127.0.0.1:{free_port()}", "--log-level", "warning", "--preload"]
    return [*command, "idle_site:application"], {"IDLE_SITE": json.dumps(settings)}


def host(python: str, number: int, settings: dict[str, object]) -> tuple[list[str], dict]:
    command = [*HOST, f"host-{number}", python, str(PARTS / "idle_site.py")]
    return command, {"IDLE_SITE": json.dumps(settings)}


# Counters --------------------------------------------------------------------------------


def redis_figures(ground, section: str) -> dict[str, str]:
    lines = ground.server.ask("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def counts_of(ground, word: str) -> Counts:
    """Return what the server of a store has counted; nothing for SQLite."""
    if ground.name == "postgres":
        database = word.rpartition("/")[2]
        ((count,),) = ground.cluster.run(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", database
        )
        return Counts(int(count))
    if ground.name == "redis":
        figures = redis_figures(ground, "stats")
        commands, reads = figures["total_commands_processed"], figures["total_reads_processed"]
        return Counts(int(commands), int(reads))
    return Counts()


def rate(first: int | None, last: int | None, own: int, seconds: float) -> float | None:
    return None if first is None else (last - first - own) / seconds


def connections_of(ground, word: str, workers: list[int]) -> int:
    if ground.name == "postgres":
        database = word.rpartition("/")[2]
        ((count,),) = ground.cluster.run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", database
        )
        return int(count)
    if ground.name == "redis":
        connected = redis_figures(ground, "clients")["connected_clients"]
        return int(connected) - 1  # that of the question
    path = word.removeprefix("sqlite:///")
    files = (file for pid in workers for file in Path(f"/proc/{pid}/fd").iterdir())
    return sum(str(file.readlink()) == path for file in files)


# Rows ------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where fleets meet: a store's server, and the address of a new store on it."""

    ground: object
    word: str

    def counts(self) -> Counts:
        return counts_of(self.ground, self.word)


def measure(name: str, programs: list, count: int, seconds: float, place: Place | None) -> Row:
    commands, environ = [one[0] for one in programs], [one[1] for one in programs]
    with fleet(commands, environ, count) as workers:
        if len(workers) != count:
            raise SystemExit(f"{name}: {len(workers)} workers are left")
        counted, before = place.counts() if place else Counts(), use_of(workers)
        time.sleep(seconds)
        after, count_after = use_of(workers), place.counts() if place else Counts()
        traffic, sent = map(rate, counted, count_after, OWN, [seconds] * 2)
        connections = place and connections_of(place.ground, place.word, workers)
    each = seconds * count
    cpu, wakeups = after.cpu - before.cpu, after.wakeups - before.wakeups
    return Row(name, traffic, sent, connections, cpu / each * 100, wakeups / each)


def fleets(store: str, python: str, asked: argparse.Namespace):
    """Yield name, number of processes, and a function that returns the programs for a store."""

    def workers(count: int, word: str, **settings: object) -> tuple[list[str], dict]:
        return gunicorn(python, count, {"store": word, **settings})

    for count in asked.workers:
        yield f"{count} workers", count, lambda word, count=count: [workers(count, word)]
    mixed, half = asked.mixed, asked.mixed // 2
    if mixed:
        yield (
            f"{2 * half} workers, two configurations",
            2 * half,
            lambda word: [workers(half, word, tasks=tasks) for tasks in (10, 11)],
        )
        yield (
            f"{mixed} workers, scope = process",
            mixed,
            lambda word: [workers(mixed, word, scope="process")],
        )
    if asked.hosts and store != "sqlite":  # a file belongs to one host
        yield (
            f"{asked.hosts} hosts",
            asked.hosts,
            lambda word: [host(python, number, {"store": word}) for number in range(asked.hosts)],
        )


def show(row: Row) -> None:
    traffic = "" if row.traffic is None else f"{row.traffic:.1f}"
    sent = "" if row.sent is None else f"{row.sent:.1f}"
    connections = "" if row.connections is None else f"{row.connections}"
    print(
        f"{row.name:56}{traffic:>12}{sent:>9}{connections:>13}{row.cpu:>10.3f}{row.wakeups:>12.1f}",
        flush=True,
    )


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", metavar="store", nargs="*", default=list(GROUNDS))
    parser.add_argument("--old", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 24, 100])
    parser.add_argument("--mixed", type=int, default=24, help="workers of mixed fleets; 0: none")
    parser.add_argument("--hosts", type=int, default=50, help="simulated hosts; 0 for none")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args()


def rows(asked: argparse.Namespace):
    for count in asked.workers:
        program = gunicorn(sys.executable, count, {})
        yield measure(f"{count} workers of bare gunicorn", [program], count, asked.seconds, None)
    checkouts = {"now": sys.executable}
    if asked.old:
        checkouts["old"] = str(asked.old.resolve() / ".venv" / "bin" / "python")
    for store in asked.stores:
        with closing(GROUNDS[store]()) as ground:
            for label, python in checkouts.items():
                for name, count, build in fleets(store, python, asked):
                    place = Place(ground, ground.fresh())
                    title = f"{store}, {name}, {label}"
                    yield measure(title, build(place.word), count, asked.seconds, place)


def main() -> None:
    asked = read_arguments()
    if not asked.json:
        titles = f"{'traffic/s':>12}{'sent/s':>9}{'connections':>13}{'CPU %':>10}{'wake-ups/s':>12}"
        print(f"{'':56}{titles}")
    found = []
    for row in rows(asked):
        found.append(row._asdict())
        if not asked.json:
            show(row)
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
