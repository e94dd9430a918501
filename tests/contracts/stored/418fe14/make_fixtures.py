"""Make the data in this folder, as pulse at commit 418fe14 writes it.

    git worktree add --detach ../old 418fe14
    cd ../old
    python3 -m venv .venv
    .venv/bin/python -m pip install -e '.[test]'
    .venv/bin/python THIS_FOLDER/make_fixtures.py [sqlite] [postgres] [redis]

This program imports the package as that commit has it, and nothing later: names that have changed
since stay as they are here. It also needs the programs postgres, pg_dump and redis-server.

`tasks.json` has the settings of the tasks. One scenario, on a clock that is moved by hand, puts
everything into a store that a store can hold; it ends in the middle of things, without closing a
store. What is then kept is written beside this file: `sqlite.db` is the file, `postgres.sql` a
plain dump, `redis.jsonl` one key a line. `sqlite.json` and so on say what that commit itself
answers: the clock, the tasks, the runs and the processes, of both applications in the store.

`tests/contracts/test_stored_data.py` opens the data with the code of today.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import redis

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

sys.path.insert(0, str(Path.cwd() / "tests" / "harness"))

from pulse.clock import SECOND, moment_of
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.task import Task
from pulse.store.base import Member, Store
from pulse.store.postgres.store import PostgresStore
from pulse.store.redis.store import RedisStore
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import Process
from tests.support.postgres import PostgresCluster, find_binary
from tests.support.redis_servers import RedisServer

if TYPE_CHECKING:
    from pulse.core.run import Claim

    How = tuple[Outcome, int | None]

HERE = Path(__file__).parent
SPACE = "Läden, 1"
NAMELESS = ""
LEASE_US = 30 * SECOND
NONE: Mapping[str, How] = {}
HELD = {"waiting", "ready", "skipped", "all", "allow", "abandoned", "rerun"}
"""Tasks whose runs go on from one o'clock to the end."""


def tasks_of(*parts: str) -> dict[str, Task]:
    """Return tasks of `tasks.json`, those of later parts instead of earlier ones."""
    settings = json.loads((HERE / "tasks.json").read_text())
    return {name: Task(**words) for part in parts for name, words in settings[part].items()}


class Scenario:
    """Processes of two hosts, and all that happens to them on the fifth of January 2026.

    Args:
        make: makes a store for the application of a name.
        clock: the clock of all of them, at noon.

    """

    def __init__(self, make: Callable[[str], Store], clock: FakeClock) -> None:
        self._make = make
        self._clock = clock
        self._live: list[Process] = []
        self._held: list[Claim] = []
        self._joined = 100

    def play(self) -> dict[str, Process]:
        """Do all of it; return a process of each application, by the application's name."""
        worker = self._begin()
        self._until_one(worker)
        self._at_one(worker)
        now = self._end(worker)
        nameless = self._join(tasks_of("nameless"), host="alpha", space=NAMELESS)
        nameless.store.trigger("interval")
        self._until("13:21:00")
        return {SPACE: now, NAMELESS: nameless}

    def _begin(self) -> Process:
        """Let three processes come, and one go; what it alone declares is archived."""
        first = self._join(tasks_of("first"), host="alpha")
        worker = self._join(tasks_of("before"), host="alpha")
        self._join(tasks_of("before"), host="beta")
        for name, task in tasks_of("added").items():
            worker.add(name, task)
        self._live.remove(first)
        first.store.close()
        for second in range(5, 115, 5):
            self._until(f"12:{second // 60:02}:{second % 60:02}")
        return worker

    def _until_one(self, worker: Process) -> None:
        """Pause tasks, run what is due and what is asked for, and remove a task."""
        self._run_due(worker)  # the run at the start of an added task
        for name in ("paused", "resumed", "resuming", "added, paused"):
            worker.store.pause(name, paused=True)
        for text in ("12:31:00", "12:46:00"):
            self._until(text)
            self._run_due(worker)
        worker.store.remove("added, removed")
        self._run_by_hand(worker, "outcomes", Outcome.SUCCEEDED, 204)
        self._run_by_hand(worker, "outcomes", Outcome.FAILED, 500)
        self._run_by_hand(worker, "outcomes", Outcome.TIMED_OUT, None)
        self._run_by_hand(worker, "outcomes", Outcome.INTERRUPTED, None)
        self._run_by_hand(worker, "outcomes", Outcome.ABANDONED, None)
        self._run_by_hand(worker, "recovered", Outcome.FAILED, 503)
        self._until("12:46:05")
        self._run_due(worker)

    def _at_one(self, worker: Process) -> None:
        """Begin the runs that go on, resume a task, and fail twice with one that is retried."""
        self._until("13:00:21")
        for process in (worker, self._live[1]):
            self._run_due(process)
        worker.store.pause("resumed", paused=False)
        self._until("13:01:45")
        self._run_due(worker)
        for text in ("13:10:01", "13:20:45"):
            self._until(text)
            self._run_due(worker)

    def _end(self, worker: Process) -> Process:
        """Leave work behind that nobody has taken; return a process with newer definitions."""
        worker.store.trigger("manual", body=b"\xff\0 of the trigger")
        worker.store.pause("resuming", paused=False)
        self._finish_held(worker, "ready")
        return self._join(tasks_of("before", "now"), host="alpha")

    def _join(self, tasks: dict[str, Task], *, host: str, space: str = SPACE) -> Process:
        """Return a new process on a host, which holds these tasks."""
        self._joined += 1
        store = self._make(space)
        member = Member(
            holder=f"{host}:{self._joined}:stored",
            host=host,
            machine=f"the boot of {host}:{self._joined}",  # each in a container of its own
            pid=1,  # which is alive wherever this program runs
            pid_started=0,
            mode="threading",
            digest=f"settings {len(tasks)}",
            lease_us=LEASE_US,
        )
        store.open(member)
        process = Process(store, member)
        process.sync(tasks)
        self._live.append(process)
        return process

    def _until(self, text: str) -> None:
        """Let time pass until a time of day; holders renew, and everybody lives."""
        moment = datetime.fromisoformat(f"2026-01-05T{text}+00:00")
        self._clock.forward(moment - moment_of(self._clock.wall()))
        for process in self._live:
            held = [one for one in self._held if one.run.holder == process.member.holder]
            assert all(process.store.renew(held))
        for process in self._live:
            assert not process.store.heartbeat().abandoned

    def _run_due(self, process: Process, by_hand: Mapping[str, How] = NONE) -> None:
        """Run what is due: with success, or as is said for a task; some runs go on."""
        now = self._clock.wall()
        for claim in process.claim().claims:
            name = claim.run.task
            if name in HELD and moment_of(now).hour >= 13:
                self._held.append(claim)
            elif name == "retried":
                asked = 25 * 60 * SECOND if claim.run.attempt > 1 else None
                process.fail(claim, message="busy: ü", retry_after_us=asked)
            else:
                outcome, status = by_hand.get(name, (Outcome.SUCCEEDED, 200))
                result = Result(outcome, now, 1_234_567, status, f"it has {outcome}: ü")
                assert process.store.finish([CompletedRun(claim, result)])[0].recorded

    def _run_by_hand(
        self, process: Process, name: str, outcome: Outcome, status: int | None
    ) -> None:
        """Trigger a task, and end its run so."""
        process.store.trigger(name)
        self._run_due(process, {name: (outcome, status)})

    def _finish_held(self, process: Process, name: str) -> None:
        (claim,) = [one for one in self._held if one.run.task == name]
        self._held.remove(claim)
        assert process.finish(claim)


def record(kind: str, processes: dict[str, Process], clock: FakeClock) -> None:
    """Write down what the stores answer, one answer a line."""
    found = {"now": clock.wall(), "applications": {}}
    for space, process in processes.items():
        found["applications"][space] = {
            "tasks": process.store.tasks(),
            "runs": process.store.runs(limit=1_000),
            "members": process.store.members(),
        }
    text = json.dumps(msgspec.to_builtins(found), ensure_ascii=False)
    text = text.replace('[{"', '[\n{"').replace(', {"', ',\n{"')
    (HERE / f"{kind}.json").write_text(text + "\n")


def make_sqlite(folder: Path) -> None:
    """Write `sqlite.db`; small pages keep it small."""
    path, clock = folder / "pulse.db", FakeClock()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA page_size = 1024")
        raw.execute("VACUUM")
    path.chmod(0o600)
    processes = Scenario(lambda name: SqliteStore(path, clock, name=name, opened={}), clock).play()
    record("sqlite", processes, clock)
    target = HERE / "sqlite.db"
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as raw, closing(sqlite3.connect(target)) as copy:
        raw.backup(copy)


def make_postgres(_folder: Path) -> None:
    """Write `postgres.sql`, without what psql alone understands."""
    cluster, clock = PostgresCluster(), FakeClock()
    with closing(cluster):
        url = cluster.url()
        processes = Scenario(
            lambda name: PostgresStore(url, clock, name=name, server_clock=clock.wall, opened={}),
            clock,
        ).play()
        record("postgres", processes, clock)
        words = ["--no-owner", "--inserts", "--schema=pulse_*", f"--dbname={url}"]
        dump = subprocess.run(
            [find_binary("pg_dump"), *words], check=True, capture_output=True, text=True
        ).stdout
    lines = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\"))]
    (HERE / "postgres.sql").write_text("\n".join(lines) + "\n")


def make_redis(folder: Path) -> None:
    """Write `redis.jsonl`."""
    clock = FakeClock()
    with RedisServer(folder) as server:
        processes = Scenario(
            lambda name: RedisStore(server.url, clock, name=name, stand_in=clock, opened={}), clock
        ).play()
        record("redis", processes, clock)
        client = redis.Redis.from_url(server.url, decode_responses=True)
        kept = [kept_key(client, key) for key in sorted(client.keys())]
    lines = [json.dumps(one, ensure_ascii=False) for one in kept]
    (HERE / "redis.jsonl").write_text("\n".join(lines) + "\n")


def kept_key(client: redis.Redis, key: str) -> dict[str, object]:
    """Return a key with its type and its value."""
    assert client.ttl(key) == -1, f"{key}: expected a key that does not expire"
    kind = client.type(key)
    match kind:
        case "string":
            value = client.get(key)
        case "hash":
            value = dict(sorted(client.hgetall(key).items()))
        case "set":
            value = sorted(client.smembers(key))
        case "zset":
            value = client.zrange(key, 0, -1, withscores=True)
        case _:
            raise AssertionError(f"{key}: expected a type that is known here, got {kind}")
    return {"key": key, "type": kind, "value": value}


MAKERS = {"sqlite": make_sqlite, "postgres": make_postgres, "redis": make_redis}


def main() -> None:
    """Make the data of the stores that are named, or of all."""
    for kind in sys.argv[1:] or MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            MAKERS[kind](Path(folder))
    os._exit(0)  # no store is closed: the processes of the scenario just end


if __name__ == "__main__":
    main()
