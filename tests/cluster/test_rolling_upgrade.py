"""A fleet of an earlier release and this one, through an upgrade, restarts and a roll-back.

The earlier release is the wheel beside the data that it has stored. It was built of that commit:

    git archive 418fe14 | tar x -C /tmp/release && pip wheel --no-deps /tmp/release
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.store.accounts import account
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from tests.support.probe_log import grid_between, read_notes
from tests.support.redis_servers import empty_redis
from tests.support.servers import ROOT, Server, free_port, wait_until
from tests.support.variants import long_variant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.accounting.ledger import Ledger
    from tests.support.probe_log import Note

pytestmark = pytest.mark.server

WHEEL = Path(__file__).parents[1] / "contracts/stored/418fe14/pulse-1.0.0.dev0-py3-none-any.whl"
EARLIER, THIS = "earlier", "this"
TASKS = ("all", "each")
WORKERS = 2


class Fleet:
    """Gunicorn masters of both releases on one store."""

    def __init__(self, folder: Path, store: str) -> None:
        self.store = store
        self._folder = folder
        self._evidence = folder / "evidence.jsonl"
        self._settings = {
            "pulse.config.context": "tick",
            "pulse.config.store": store,
            "pulse.config.name": "shop",
            "pulse.config.lease": "3s",
            "pulse.task.each.action": "each",
            "pulse.task.each.interval": "1s",
            "pulse.task.all.action": "all",
            "pulse.task.all.interval": "1s",
            "pulse.task.all.misfire": "all",
        }

    def server(self, release: str) -> Server:
        """Return a master of a release, not yet started."""
        port = free_port()
        command = [sys.executable, "-m", "gunicorn", "--no-control-socket", "-k", "gthread"]
        command += ["-w", f"{WORKERS}", "-b", f"127.0.0.1:{port}", "--graceful-timeout", "5"]
        path = [str(WHEEL), str(ROOT)] if release == EARLIER else [str(ROOT)]
        environ: dict[str, str | None] = {
            "EVIDENCE": str(self._evidence),
            "SETTINGS": json.dumps(self._settings),
            "RELEASE": release,
            "PYTHONPATH": ":".join(path),
        }
        site = "tests.support.upgrade_site:application"
        return Server([*command, site], port=port, folder=self._folder, environ=environ)

    def calls(self, task: str) -> list[Note]:
        """Return the calls of a task, by whichever process."""
        return [note for note in read_notes(self._evidence) if note.task == task]

    def await_calls(self, number: int) -> list[Note]:
        """Wait for so many more calls of each task, and return all of them.

        Where both releases serve, either may make all of them.
        """
        before = {task: len(self.calls(task)) for task in TASKS}
        wait_until(
            lambda: all(len(self.calls(task)) >= before[task] + number for task in TASKS),
            what=f"{number} calls of each task",
            log=lambda: "".join(file.read_text() for file in self._folder.glob("*.log")),
        )
        return [note for task in TASKS for note in self.calls(task)[before[task] :]]

    def ledgers(self) -> list[Ledger]:
        """Return the ledgers of both tasks."""
        store = choose_store(
            self.store, StoreOptions(name="shop"), clock=SystemClock(), origin="/"
        ).store
        store.open_as_client(this_member("inline", "", 30 * SECOND))
        try:
            return [account(store, task) for task in TASKS]
        finally:
            store.close()


@pytest.fixture(params=["sqlite", "postgres", long_variant("redis")])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Fleet:
    """Return a fleet without processes, on an empty store of each kind."""
    match request.param:
        case "sqlite":
            return Fleet(tmp_path, f"sqlite:///{tmp_path / 'pulse.db'}")
        case "postgres":
            cluster = request.getfixturevalue("postgres_cluster")
            cluster.empty_applications()
            return Fleet(tmp_path, cluster.url())
        case _:
            return Fleet(tmp_path, empty_redis().url)


@contextmanager
def ended(server: Server) -> Iterator[Server]:
    """Serve during a `with` block, and end as a deploy ends a server."""
    with server:
        yield server
        server.signal(SIGTERM)
        server.wait_ended()


def restart(server: Server) -> None:
    """Replace the workers of a server."""
    old = set(server.workers())
    server.signal(SIGHUP)
    wait_until(lambda: len(set(server.workers()) - old) >= WORKERS, what="new workers")


def test_upgrade_and_roll_back_lose_nothing_and_run_nothing_twice(fleet: Fleet) -> None:
    """Processes of both releases start, run and restart, before, during and after the migration."""
    with ended(fleet.server(EARLIER)) as earlier:
        assert earlier.get("/").text == EARLIER
        fleet.await_calls(3)
        with ended(fleet.server(THIS)) as this:
            assert this.get("/").text == THIS
            fleet.await_calls(3)
            restart(earlier)
            fleet.await_calls(3)
            restart(this)
            fleet.await_calls(3)
        rolled_back = fleet.await_calls(4)
        assert {note.pid for note in rolled_back[-1:]} <= {*earlier.workers()}
    with ended(fleet.server(THIS)):
        fleet.await_calls(3)
    for ledger in fleet.ledgers():
        assert (ledger.unexplained_ticks, ledger.twice) == ((), ())
        assert ledger.fire_times >= 8
    for task in TASKS:
        planned = {"schedule", "catch_up"}
        times = [note.fire_time for note in fleet.calls(task) if note.trigger in planned]
        assert [one for one, number in Counter(times).items() if number > 1] == []
        if task == "all":
            assert sorted(times) == grid_between(min(times), max(times), 1)
