"""Each tick runs once across the workers of gunicorn, by the log that the app itself writes."""

import json
import os
import sys
import time
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM

import pytest

from tests.support.probe_log import (
    begins,
    grid_between,
    overlapping,
    read_notes,
    stored_runs,
    unfinished,
)
from tests.support.servers import ROOT, Server, free_port
from tests.support.variants import combinations, long_variant

pytestmark = pytest.mark.server

WATCH_S = 20.0
CLASSES = ["sync", "gthread", "gevent"]
PRELOAD = ["lazy", "preload"]


class Fleet:
    """A gunicorn master with four workers over the evidence app."""

    def __init__(
        self, folder: Path, worker_class: str, *, preload: bool, nap: float, workers: int = 4
    ) -> None:
        self.evidence = folder / "evidence.jsonl"
        self.store = folder / "pulse.db"
        self._folder = folder
        self._arguments = ["-k", worker_class, *(["--preload"] if preload else [])]
        self._mode = "gevent" if worker_class == "gevent" else "threading"
        self._nap = nap
        self._workers = workers
        self.killed: set[int] = set()

    def server(self, **tasks: dict[str, object]) -> Server:
        """Return the server, not yet started, that requests *tasks*."""
        port = free_port()
        bind = [
            "-w",
            str(self._workers),
            "-b",
            f"127.0.0.1:{port}",
            "--pythonpath",
            str(ROOT),
        ]
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket", *bind]
        command += self._arguments
        environ = {
            "EVIDENCE": str(self.evidence),
            "NAP": str(self._nap),
            "SETTINGS": json.dumps(self._settings(tasks)),
        }
        return Server(
            [*command, "tests.support.evidence_app:application"],
            port=port,
            folder=self._folder,
            environ=environ,
        )

    def begins(self, task: str) -> list:
        """Return the runs of a task that have started."""
        return [note for note in begins(read_notes(self.evidence)) if note.task == task]

    def abandoned(self) -> dict[str, int]:
        """Return fire times of abandoned runs, by run id."""
        rows = stored_runs(self.store)
        return {row["id"]: row["fire_time"] for row in rows if row["outcome"] == "abandoned"}

    def settle(self, server: Server) -> None:
        """Wait until every worker has joined: gunicorn loses a signal to a starting worker."""

        def all_started() -> bool:
            started = {note.pid for note in read_notes(self.evidence) if note.what == "start"}
            workers = server.workers()
            return len(workers) >= self._workers and started.issuperset(workers)

        server.wait_for(all_started, what="every worker takes part")

    def reload(self, server: Server) -> None:
        """Send HUP, and wait until as many new workers have joined; old ones may still be busy."""
        old = set(server.workers())
        server.signal(SIGHUP)

        def renewed() -> bool:
            started = {note.pid for note in read_notes(self.evidence) if note.what == "start"}
            new = set(server.workers()) - old
            return len(new) >= self._workers and started.issuperset(new)

        try:
            server.wait_for(renewed, what="as many new workers take part")
        except AssertionError as error:
            error.add_note(users_of(self.store))
            raise

    def await_another(self, server: Server, task: str) -> list:
        """Return the runs of *task* that start from now on, once there is one."""
        self.settle(server)
        known = len(self.begins(task))
        return server.wait_for(lambda: self.begins(task)[known:], 15, f"a run of {task}")

    def kill_holder(self, server: Server, task: str) -> str:
        """Kill a worker with SIGKILL during a run of *task*; return the run's id."""
        victim = self.await_another(server, task)[0]
        server.signal(SIGKILL, victim.pid)
        self.killed.add(victim.pid)
        return victim.run

    def _settings(self, tasks: dict[str, dict[str, object]]) -> dict[str, str]:
        words = {
            f"pulse.task.{name}.{key}": str(value)
            for name, task in tasks.items()
            for key, value in task.items()
        }
        return words | {
            "pulse.config.context": "tick",
            "pulse.config.mode": self._mode,
            "pulse.config.store": f"sqlite:///{self.store}",
            "pulse.config.lease": "3s",
        }


def users_of(path: Path) -> str:
    """Return which processes have a file or its log open, and all locks of files."""
    found = [f"{path.parent}: {sorted(one.name for one in path.parent.iterdir())}"]
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # closed meanwhile
        if target.startswith(str(path)):
            found.append(f"{descriptor}: {target}")
    return "\n".join([*found, Path("/proc/locks").read_text()])


def micros(fire_time: str) -> int:
    """Return a header's instant in microseconds."""
    from datetime import UTC, datetime, timedelta

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return (datetime.fromisoformat(fire_time) - epoch) // timedelta(microseconds=1)


def unexplained(fleet: Fleet, task: str, every_s: float) -> list[str]:
    """Return the ticks of the schedule that neither ran nor are recorded as abandoned."""
    seen = {note.fire_time for note in fleet.begins(task)}
    excused = set(fleet.abandoned().values())
    grid = grid_between(min(seen, key=micros), max(seen, key=micros), every_s)
    return [tick for tick in grid if tick not in seen and micros(tick) not in excused]


@pytest.mark.parametrize(("preload", "worker_class"), combinations(PRELOAD, CLASSES))
def test_each_tick_is_dispatched_once_across_a_kill_and_a_reload(
    tmp_path: Path, worker_class: str, preload: str
) -> None:
    """In twenty seconds with a worker killed during a run and a HUP no tick is doubled or lost."""
    fleet = Fleet(tmp_path, worker_class, preload=preload == "preload", nap=1.0)
    tick = {"action": "now", "interval": "1s", "misfire": "all"}
    slow = {"action": "nap", "interval": "4s", "misfire": "all"}
    with fleet.server(tick=tick, slow=slow) as server:
        fleet.settle(server)
        server.wait_for(lambda: fleet.begins("tick"), 10, "the first tick")
        began = time.monotonic()
        victim = fleet.kill_holder(server, "slow")
        time.sleep(max(0.0, began + WATCH_S / 2 - time.monotonic()))
        fleet.settle(server)
        fleet.reload(server)
        time.sleep(max(0.0, began + WATCH_S - time.monotonic()))
        server.wait_for(lambda: victim in fleet.abandoned(), 5, "the killed run is abandoned")
        fleet.settle(server)
        server.stop()
    ticks = [note.fire_time for note in fleet.begins("tick")]
    assert len(ticks) == len(set(ticks))
    assert len(ticks) >= WATCH_S - 1
    assert unexplained(fleet, "tick", 1) == []
    assert unexplained(fleet, "slow", 4) == []
    naps = [note.run for note in fleet.begins("slow")]
    assert len(naps) == len(set(naps))


@pytest.mark.parametrize("worker_class", [long_variant("sync"), "gthread", "gevent"])
def test_runs_in_progress_finish_across_reloads(tmp_path: Path, worker_class: str) -> None:
    """HUPs arrive during runs: each run finishes, none overlap, none is abandoned."""
    fleet = Fleet(tmp_path, worker_class, preload=False, nap=1.5)
    with fleet.server(nap={"action": "nap", "interval": "1s"}) as server:
        for _ in range(3):
            fleet.await_another(server, "nap")
            fleet.reload(server)
        fleet.await_another(server, "nap")
        server.stop()
    notes = read_notes(fleet.evidence)
    assert unfinished(notes, killed=set()) == []
    assert overlapping(notes) == []
    assert processes_holding(fleet.evidence) == []


def test_interval_longer_than_the_life_of_a_worker_fires(tmp_path: Path) -> None:
    """A task with an interval of five seconds fires although no worker lives longer than three."""
    fleet = Fleet(tmp_path, "sync", preload=False, nap=0, workers=2)
    with fleet.server(five={"action": "now", "interval": "5s"}) as server:
        deadline = time.monotonic() + 40
        while len(fleet.begins("five")) < 3 and time.monotonic() < deadline:
            time.sleep(1.5)  # each of two workers in its turn: both live for three seconds
            fleet.settle(server)
            server.signal(SIGTERM, server.workers()[0])
        fleet.settle(server)
        server.stop()
    ticks = [note.fire_time for note in fleet.begins("five")]
    assert len(ticks) >= 3
    assert ticks == grid_between(ticks[0], ticks[-1], 5)


def processes_holding(evidence: Path) -> list[int]:
    """Return the living processes whose environment names the evidence file."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                content = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(evidence).encode() in content:
                found.append(int(entry.name))
    return found
