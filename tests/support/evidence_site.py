"""A site of gunicorn masters over the evidence app, and visitors who ask it for pages.

site = Site(tmp_path, ["gevent", "sync"], store="redis://127.0.0.1:6379/0")
with site.serving(), site.visited() as visits:
    site.await_run()
assert visits.statuses == {200}
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from signal import SIGTERM
from typing import TYPE_CHECKING

from tests.support.probe_log import begins, read_notes
from tests.support.servers import ROOT, Server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    from tests.support.probe_log import Note

    T = TypeVar("T")

EACH_SECOND = {"action": "now", "interval": "1s", "run_at_start": "true"}
PAUSE_S = 0.05


class Site:
    """Gunicorn masters that share a store; the evidence of all is in one file.

    Args:
        folder: where their evidence and their logs are.
        classes: gunicorn's word for the workers of each master; the mode follows from it.
        store: what `pulse.config.store` says.
        workers: how many each master has.
        tasks: settings by task.
        environ: entries added to the environment.
        config: further settings of `pulse.config`.

    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        *,
        store: str,
        workers: int = 2,
        tasks: Mapping[str, Mapping[str, str]] | None = None,
        environ: Mapping[str, str] | None = None,
        **config: str,
    ) -> None:
        self.evidence = folder / "evidence.jsonl"
        self.workers = workers * len(classes)
        self.servers: list[Server] = []
        self._folder = folder
        self._classes = classes
        self._environ = {"EVIDENCE": str(self.evidence)} | dict(environ or {})
        self._each = ["-w", str(workers), "--no-control-socket", "--pythonpath", str(ROOT)]
        words = {"context": "tick", "store": store, "lease": "3s"} | config
        self._settings = {f"pulse.config.{key}": word for key, word in words.items()}
        for name, settings in (tasks or {"now": EACH_SECOND}).items():
            self._settings |= {f"pulse.task.{name}.{key}": word for key, word in settings.items()}

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve during a `with` block."""
        with ExitStack() as stack:
            self.servers = [stack.enter_context(self._server(one)) for one in self._classes]
            yield
            for server in self.servers:
                server.signal(SIGTERM)
            for server in self.servers:
                server.wait_ended()

    def _server(self, worker_class: str) -> Server:
        port = free_port()
        words = ["-k", worker_class, "-b", f"127.0.0.1:{port}", *self._each]
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            *words,
            "tests.support.evidence_app:application",
        ]
        mode = "gevent" if worker_class == "gevent" else "threading"
        settings = json.dumps(self._settings | {"pulse.config.mode": mode})
        environ = self._environ | {"SETTINGS": settings}
        return Server(command, port=port, folder=self._folder, environ=environ)

    @contextmanager
    def visited(self) -> Iterator[Visits]:
        """Send requests to every master during a `with` block."""
        visits = Visits(self.servers)
        with visits.going_on():
            yield visits

    def get(self, path: str) -> int:
        """Return the status of a page of the first master."""
        return self.servers[0].get(path).status

    def log_text(self) -> str:
        """Return all that the masters and their workers have written."""
        return "".join(server.log_text() for server in self.servers)

    def wait_for(self, predicate: Callable[[], T], within: float, what: str) -> T:
        """Return the first true result of *predicate*."""
        return wait_until(predicate, within, what, log=self.log_text)

    # Evidence ----------------------------------------------------------------------------

    def notes(self, what: str) -> list[Note]:
        """Return the notes of the app with that word."""
        return [note for note in read_notes(self.evidence) if note.what == what]

    def await_notes(self, what: str, *, of: int, within: float = 15) -> list[Note]:
        """Return the notes with that word once there are so many."""
        self.wait_for(lambda: len(self.notes(what)) >= of, within, f"{of} times {what}")
        return self.notes(what)

    def await_all(self, what: str) -> list[Note]:
        """Return the notes with that word once each worker has written one."""
        return self.await_notes(what, of=self.workers)

    def runs_since(self, instant: float, task: str = "now") -> list[Note]:
        """Return the runs of a task that started after that instant."""
        notes = begins(read_notes(self.evidence))
        return [note for note in notes if note.task == task and note.at > instant]

    def await_run(self, task: str = "now", *, since: float | None = None) -> Note:
        """Return the first run of a task that starts after an instant, by default from now on."""
        start = time.time() if since is None else since
        return self.wait_for(lambda: self.runs_since(start, task), 15, f"a run of {task}")[0]

    def await_due(self, task: str = "now") -> None:
        """Wait until the next fire time after the last run of a task that runs each second."""
        due = fire_time_of(self.runs_since(0, task)[-1]) + 1
        self.wait_for(lambda: time.time() > due, 15, f"{task} is due")

    def twice(self) -> list[str]:
        """Return the fire times that were requested twice."""
        seen = [note.fire_time for note in self.runs_since(0)]
        return sorted({one for one in seen if seen.count(one) > 1})


def fire_time_of(note: Note) -> float:
    """Return the fire time of a run in seconds since the epoch."""
    return datetime.fromisoformat(note.fire_time).timestamp()


class Visits:
    """What was answered to visitors who ask each server for a page twenty times a second.

    Attributes:
        statuses: what was answered, 0 where nothing was.
        longest_s: how long the slowest answer took.

    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.statuses: set[int] = set()
        self.longest_s = 0.0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(one,)) for one in servers]

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Send requests during a `with` block."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join()

    def _visit(self, server: Server) -> None:
        while not self._over.wait(PAUSE_S):
            began = time.monotonic()
            try:
                status = server.get("/").status
            except OSError:
                status = 0
            self.statuses.add(status)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
