"""gunicorn's workers while their SQLite file is away or corrupt, and tasks added in one of them."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from evidence import begins, read_notes
from servers import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evidence import Note

pytestmark = pytest.mark.server

CLASSES = ["gthread", "gevent"]
SOON_S = 2.5
"""A second until the loop looks again, a second until the next fire time, and the rest for CI."""


class Site:
    """A gunicorn master with three workers over the evidence app, and a task every second."""

    def __init__(self, folder: Path, worker_class: str) -> None:
        self.evidence = folder / "evidence.jsonl"
        self.store = folder / "state" / "pulse.db"
        self._folder = folder
        self._class = worker_class

    @contextmanager
    def serving(self) -> Iterator[Server]:
        """Serve for the length of a `with`."""
        port = free_port()
        mode = "gevent" if self._class == "gevent" else "threading"
        settings = {
            "pulse.config.context": "tick",
            "pulse.config.mode": mode,
            "pulse.config.store": f"sqlite:///{self.store}",
            "pulse.config.lease": "3s",
            "pulse.task.now.action": "now",
            "pulse.task.now.interval": "1s",
        }
        words = ["-k", self._class, "-w", "3", "-b", f"127.0.0.1:{port}", "--no-control-socket"]
        words += ["--pythonpath", str(Path(__file__).parents[1] / "harness")]
        command = [sys.executable, "-m", "gunicorn", *words, "evidence_app:application"]
        environ = {"EVIDENCE": str(self.evidence), "SETTINGS": json.dumps(settings)}
        with Server(command, port=port, folder=self._folder, environ=environ) as server:
            yield server
            server.stop()

    def runs_since(self, instant: float, task: str = "now") -> list[Note]:
        """Return the runs of a task that began after that instant."""
        notes = begins(read_notes(self.evidence))
        return [note for note in notes if note.task == task and note.at > instant]

    def await_run(self, server: Server, task: str = "now", *, within: float = 15) -> None:
        """Wait for the next run of a task."""
        now = time.time()
        server.wait_for(lambda: self.runs_since(now, task), within, f"a run of {task}")

    def twice(self) -> list[str]:
        """Return the fire times that were requested twice."""
        seen = [note.fire_time for note in self.runs_since(0)]
        return sorted({one for one in seen if seen.count(one) > 1})


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_store_that_is_away_at_the_start_is_joined_when_it_comes(
    tmp_path: Path, worker_class: str
) -> None:
    """The site serves meanwhile, each worker says so once, and then ticks begin."""
    site = Site(tmp_path, worker_class)
    site.store.parent.write_text("in the way")
    with site.serving() as server:
        told = "the store does not answer"
        server.wait_for(lambda: server.log_text().count(told) == 3, 15, "each worker tells")
        assert [server.get("/").status for _ in range(9)] == [200] * 9
        site.store.parent.unlink()
        site.await_run(server, within=1 + SOON_S)
        assert server.log_text().count(told) == 3


def test_a_store_that_is_lost_and_back_costs_ticks_alone(tmp_path: Path) -> None:
    """The site serves throughout, and soon after the return ticks go on, each once."""
    site = Site(tmp_path, "gevent")
    with site.serving() as server:
        site.await_run(server)
        away = site.store.parent.rename(tmp_path / "away")
        site.store.parent.write_text("in the way")
        told = "the store does not answer"
        server.wait_for(lambda: server.log_text().count(told) == 3, 15, "each worker tells")
        assert [server.get("/").status for _ in range(9)] == [200] * 9
        site.store.parent.unlink()
        away.rename(site.store.parent)
        site.await_run(server, within=SOON_S)
    assert site.twice() == []


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_corrupt_store_is_started_anew(tmp_path: Path, worker_class: str) -> None:
    """One worker moves it aside and says where; all go on with the new one, each tick once."""
    site = Site(tmp_path, worker_class)
    with site.serving() as server:
        site.await_run(server)
        with site.store.open("r+b") as file:
            file.write(b"\xa5" * site.store.stat().st_size)
        log = site.store.with_name("pulse.db-wal")
        with log.open("r+b") as file:
            file.write(b"\xa5" * log.stat().st_size)
        server.wait_for(lambda: "was moved to" in server.log_text(), 15, "it is told of")
        assert [server.get("/").status for _ in range(9)] == [200] * 9
        site.await_run(server, within=1 + SOON_S)
        site.await_run(server)
        assert server.log_text().count("was moved to") == 1
    assert site.twice() == []


def test_a_task_that_one_worker_adds_runs_until_one_removes_it(tmp_path: Path) -> None:
    """It is run within a second of its first fire time, and survives the restart of all."""
    site = Site(tmp_path, "gthread")
    with site.serving() as server:
        site.await_run(server)
        assert server.get("/add").status == 200
        site.await_run(server, "added", within=1 + SOON_S)
    with site.serving() as server:
        site.await_run(server, "added")
        assert server.get("/remove").status == 200
        removed = time.time()
        site.await_run(server)
        site.await_run(server)
        site.await_run(server)
        late = site.runs_since(removed + 1, "added")
    assert late == []
