"""A site whose runs happen on Celery workers: gunicorn, workers, and what both have written.

site = CelerySite(tmp_path, broker=broker.url, store="postgresql://...", pool="gevent")
with site.serving():
    site.await_runs(3)
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pulse.child.client import make_client_handle
from pulse.clock import SystemClock
from pulse.config.loader import load
from pulse.errors import StoreUnavailableError
from tests.support.probe_log import begins, read_notes
from tests.support.servers import PATIENCE_S, Server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import TypeVar

    from pulse.core.run import Outcome, Run
    from pulse.handle.handle import SchedulerHandle
    from tests.support.probe_log import Note

    T = TypeVar("T")

EACH_SECOND = {"action": "quick", "interval": "1s"}
APP = "tests.support.celery_app:application"


class CelerySite:
    """A gunicorn that posts runs, and Celery workers that execute them.

    Args:
        folder: where their evidence and their logs are.
        broker: `pulse.config.broker` of all; *web_broker* that of the web processes alone.
        store: `pulse.config.store`.
        web: gunicorn's word for its workers.
        pool: Celery's word for the pool of its workers.
        slots: how many runs a worker executes at once.
        tasks: settings by task.
        environ: entries added to the environment.
        shop: whether the workers are those of a Celery application of the site.
        config: further settings of `pulse.config`.

    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: str,
        store: str,
        web: str = "gthread",
        web_broker: str = "",
        pool: str = "prefork",
        slots: int = 2,
        tasks: Mapping[str, Mapping[str, str]] | None = None,
        environ: Mapping[str, str] | None = None,
        shop: bool = False,
        **config: str,
    ) -> None:
        self.folder = folder
        self.evidence = folder / "evidence.jsonl"
        self.web_class = web
        self.pool = pool
        self.slots = slots
        self._environ = {"EVIDENCE": str(self.evidence)} | dict(environ or {})
        words = {"context": "tick", "store": store, "lease": "3s", "mode": "celery"} | config
        self._config = {f"pulse.config.{key}": word for key, word in words.items()}
        self._tasks: dict[str, str] = {}
        for name, settings in (tasks or {"now": EACH_SECOND}).items():
            self._tasks |= {f"pulse.task.{name}.{key}": word for key, word in settings.items()}
        self._brokers = {"worker": broker, "web": web_broker or broker}
        self._is_shop = shop
        self.servers: list[Server] = []

    # Processes ---------------------------------------------------------------------------

    @contextmanager
    def serving(self, *, workers: int = 1) -> Iterator[tuple[Server, list[Server]]]:
        """Run one gunicorn and some workers during a `with` block; all are ended after it."""
        with self.cleaned_up():
            found = [self.start_worker() for _ in range(workers)]
            web = self.start_web()
            for one in found:
                self.await_worker(one)
            yield web, found

    @contextmanager
    def cleaned_up(self) -> Iterator[None]:
        """End every process that was started, after a `with` block; add the logs to a failure."""
        try:
            yield
        except BaseException as error:
            for server in self.servers:
                error.add_note(f"--- {server.log_path.name} ---\n{server.log_text()[-8000:]}")
            raise
        finally:
            for server in self.servers:
                server.close()

    def start_web(self, *, processes: int = 2) -> Server:
        """Return a gunicorn that listens."""
        port = free_port()
        words = ["-w", str(processes), "-k", self.web_class, "-b", f"127.0.0.1:{port}"]
        command = [sys.executable, "-m", "gunicorn", *words, "--no-control-socket", APP]
        server = self._start(command, port=port, part="web")
        server.wait_ready()
        return server

    def start_worker(
        self, *options: str, environ: Mapping[str, str] | None = None, **tasks: Mapping[str, str]
    ) -> Server:
        """Return a worker that is being started; *tasks* replace those of the site."""
        command = [sys.executable, "-m", "pulse", "worker", APP, "--"]
        if self._is_shop:
            command = [sys.executable, "-m", "celery", "-A", "tests.support.celery_shop", "worker"]
            command += ["-n", f"shop-{len(self.servers)}@%h"]
        command += ["-P", self.pool, "-c", str(self.slots), "-l", "info", *options]
        return self._start(command, port=None, part="worker", environ=environ, tasks=tasks)

    def await_worker(self, worker: Server) -> None:
        """Wait until a worker takes messages."""
        worker.wait_for(lambda: " ready." in worker.log_text(), what="the worker is ready")

    def _start(
        self,
        command: list[str],
        *,
        port: int | None,
        part: str,
        environ: Mapping[str, str] | None = None,
        tasks: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Server:
        settings = {"pulse.config.broker": self._brokers[part]} | self._config
        own = {
            f"pulse.task.{name}.{key}": word
            for name, values in (tasks or {}).items()
            for key, word in values.items()
        }
        content = json.dumps(settings | (own or self._tasks))
        given = self._environ | {"SETTINGS": content, "SHOP_BROKER": self._brokers["worker"]}
        given |= dict(environ or {})
        server = Server(command, port=port, folder=self.folder, environ=given)
        server.start()
        self.servers.append(server)
        return server

    # What happened -----------------------------------------------------------------------

    @property
    def config(self) -> dict[str, str]:
        """The settings of the web processes."""
        return {"pulse.config.broker": self._brokers["web"]} | self._config | self._tasks

    @contextmanager
    def handle(self) -> Iterator[SchedulerHandle]:
        """Return a handle on the store of the site, during a `with` block."""
        settings = load(self.config, {})
        found = make_client_handle(settings, clock=SystemClock())
        try:
            yield found
        finally:
            found.close()

    def log_text(self) -> str:
        """Return all that the processes have written."""
        return "".join(server.log_text() for server in self.servers)

    def wait_for(self, predicate: Callable[[], T], what: str, within: float = PATIENCE_S) -> T:
        """Return the first true result of *predicate*."""
        return wait_until(predicate, within, what)

    def notes(self, what: str = "begin", task: str | None = None) -> list[Note]:
        """Return the notes of the app with that word."""
        found = read_notes(self.evidence)
        return [one for one in found if one.what == what and task in {None, one.task}]

    def await_notes(
        self,
        number: int,
        *,
        what: str = "begin",
        task: str | None = None,
        within: float = PATIENCE_S,
    ) -> list[Note]:
        """Return the notes with that word once there are so many."""
        self.wait_for(
            lambda: len(self.notes(what, task)) >= number, f"{number} times {what}", within
        )
        return self.notes(what, task)

    def await_run(self, task: str, outcome: Outcome, within: float = PATIENCE_S) -> Run:
        """Return a run of a task that has ended in this way, once there is one."""

        def found() -> list[Run]:
            return [run for run in self.runs(task) if run.outcome is outcome]

        return self.wait_for(found, f"a run of {task} that {outcome.value}", within)[-1]

    def runs(self, task: str | None = None) -> list[Run]:
        """Return the recorded runs, oldest first."""
        with self.handle() as handle, suppress(StoreUnavailableError):  # no process has used it yet
            return [*handle.runs(task=task, limit=1000)][::-1]
        return []

    def problems(self) -> list[str]:
        """Return the kinds of problems that the health of the fleet has."""
        with self.handle() as handle:
            return [one.kind for one in handle.health().problems]

    def twice(self) -> list[str]:
        """Return the runs that were requested twice as the same attempt."""
        seen = [one.run for one in begins(read_notes(self.evidence))]
        return sorted({one for one in seen if seen.count(one) > 1})


def children_of(server: Server) -> list[int]:
    """Return the processes in which a worker executes runs: its children, or the worker itself."""
    return server.workers() or [server.pid]
