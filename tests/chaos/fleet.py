"""Gunicorn masters that share a store, users who send requests, and a stall detector."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.chaos.artifacts import Fault, read_lines
from tests.chaos.celery_workers import WorkerHost
from tests.chaos.scenario import LEASE_S, settings, specs
from tests.support.servers import ROOT, Server, free_port, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.artifacts import Line
    from tests.chaos.celery_workers import Post
    from tests.chaos.scenario import World
    from tests.chaos.storages import Storage

RECYCLED_AFTER = 120
"""How many requests a worker of the second host serves before it is replaced."""

STALL_US = 150_000
MARK_BYTES = 32


def now() -> int:
    """Return the wall clock in microseconds."""
    return time.time_ns() // 1000


IN_OWN_SPACE = ("unshare", "--mount", "--uts")
OWN_MEMORY = 'mount -t tmpfs tmpfs /dev/shm && hostname "$0" && exec "$@"'
"""Gives a host a name and a file system in memory of its own, as a machine or a container has."""


def can_separate_hosts() -> bool:
    """Return whether this user may give each host a file system in memory of its own."""
    command = [*IN_OWN_SPACE, "sh", "-c", OWN_MEMORY, "host", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Host:
    """A master with workers of its own, in a working directory of its own."""

    def __init__(self, server: Server, evidence: Path, *, workers: int) -> None:
        self.server = server
        self.busy = Lock()
        self._evidence = evidence
        self._count = workers

    def mark(self) -> Path | None:
        """Return the file that says which process of the host looks at the store."""
        for pid in self.server.workers():
            marks = [*Path(f"/proc/{pid}/root/dev/shm").glob("pulse-*/*/mark")]
            if marks:
                return max(marks, key=lambda one: one.stat().st_mtime)
        return None

    def looker(self) -> int | None:
        """Return the worker that looks at the store for the others."""
        mark = self.mark()
        content = b"" if mark is None else mark.read_bytes()
        return int.from_bytes(content[8:16], "little") if len(content) == MARK_BYTES else None

    def settle(self) -> None:
        """Wait until every worker has joined: gunicorn loses a signal to a starting worker."""

        def all_started() -> bool:
            started = {line.pid for line in lines_of(self._evidence) if line.what == "start"}
            workers = self.server.workers()
            return len(workers) >= self._count and started.issuperset(workers)

        self.server.wait_for(all_started, 30, "every worker takes part")

    def reload(self) -> tuple[int, ...]:
        """Send HUP; return the workers that will end."""
        self.settle()
        workers = tuple(self.server.workers())
        self.server.signal(SIGHUP)
        return workers

    def restart(self) -> None:
        """Stop the master gracefully and start it again."""
        self.server.stop(SIGTERM, timeout=30)
        self._start()

    def kill(self) -> None:
        """Kill the master, wait until its orphans have ended, and start it again."""
        self.server.signal(SIGKILL)
        self.server.wait_ended()
        wait_until(lambda: not self.server.family(), 30, "orphans leave")
        self._start()

    def _start(self) -> None:
        self.server.start()
        self.server.wait_ready()


class Users:
    """Send requests to the hosts at a steady rate, and count the responses."""

    def __init__(self, ports: Iterable[int]) -> None:
        self._ports = list(ports)
        self._stopped = Event()
        self._asked: list[tuple[str, float]] = []
        self._thread = Thread(target=self._ask_on, daemon=True)
        self._thread.start()

    def _ask_on(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            while not self._stopped.wait(0.1):
                for port in self._ports:
                    pool.submit(self._ask, port)

    def _ask(self, port: int) -> None:
        began = time.monotonic()
        link = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            link.request("GET", "/", headers={"Connection": "close"})
            said = str(link.getresponse().status)
        except (OSError, HTTPException) as error:
            said = type(error).__name__
        finally:
            link.close()
        self._asked.append((said, time.monotonic() - began))

    def stop(self) -> str:
        """Ask no more, and return in a sentence how it went."""
        self._stopped.set()
        self._thread.join(15)
        asked = list(self._asked)
        took = sorted(span for said, span in asked if said == "200") or [0.0]
        failed = Counter(said for said, _ in asked if said != "200")
        share = sum(failed.values()) / max(len(asked), 1)
        words = ", ".join(f"{count} {said}" for said, count in failed.most_common())
        return (
            f"{len(asked)} requests of users, {share:.2%} failed{f' ({words})' if words else ''},"
            f" median {took[len(took) // 2] * 1000:.1f} ms,"
            f" p99 {took[len(took) * 99 // 100] * 1000:.0f} ms"
        )


class StallDetector:
    """A process that records when the machine stalls."""

    def __init__(self, path: Path) -> None:
        self._path = path
        command = [sys.executable, "-m", "tests.chaos.stall_detector", str(path), str(STALL_US)]
        self._process = subprocess.Popen(command)

    def stop(self) -> list[Fault]:
        """Return when the machine stood still."""
        self._process.terminate()
        self._process.wait()
        pairs = [line.split() for line in self._path.read_text().splitlines()]
        return [Fault("stall", int(began), int(ended)) for began, ended in pairs]


class RunFolder(NamedTuple):
    """The folder of a run, and the files in it."""

    folder: Path

    @property
    def evidence(self) -> Path:
        """The file that the app appends to."""
        return self.folder / "evidence.jsonl"

    @property
    def arms(self) -> Path:
        """The folder of commands to the app."""
        return self.folder / "arms"


class Fleet:
    """The hosts of one combination and its Celery workers; they run inside a `with` block.

    Args:
        world: the combination.
        storage: the store.
        folder: where all is left.
        start: the first tick.
        post: the broker; None without Celery.

    """

    def __init__(
        self,
        world: World,
        storage: Storage,
        folder: Path,
        *,
        start: int,
        post: Post | None = None,
    ) -> None:
        self.ground = RunFolder(folder)
        self.storage = storage
        self.post = post
        self.ground.arms.mkdir(parents=True)
        self.ground.evidence.touch()
        self.world = world
        self._settings = _settings(world, storage, start, post)
        self.separate = can_separate_hosts()
        self.hosts = [self._host(number) for number in range(world.size.hosts)]
        self.celery = self._make_workers()

    def __enter__(self) -> Self:
        for worker in self.celery:
            worker.start()
        for host in self.hosts:
            host.server.start()
        for host in self.hosts:
            host.server.wait_ready(60)
            host.settle()
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.server.close()
        for worker in self.celery:
            worker.close()

    def stop(self) -> list[Fault]:
        """End the web processes, then the workers; return how long each of these took."""
        for host in self.hosts:
            host.server.stop(timeout=40)
        ends: list[Fault] = []
        for worker in self.celery:
            began = now()
            worker.stop()
            ends.append(Fault("term-worker", began, now()))
        return ends

    def _make_workers(self) -> list[WorkerHost]:
        posting, post = self.world.posting, self.post
        if posting is None or post is None:
            return []
        direct = self._settings | {"pulse.config.broker": post.broker.url}
        folders = [self.ground.folder / f"worker{number}" for number in range(posting.workers)]
        return [WorkerHost(one, posting, self._environ(direct)) for one in folders]

    def _environ(self, settings: dict[str, str]) -> dict[str, str]:
        return {
            "EVIDENCE": str(self.ground.evidence),
            "ARMS": str(self.ground.arms),
            "SETTINGS": json.dumps(settings),
        }

    def _host(self, number: int) -> Host:
        folder = self.ground.folder / f"host{number}"
        folder.mkdir()
        port, workers = free_port(), self.world.size.workers
        own = (*IN_OWN_SPACE, "sh", "-c", OWN_MEMORY, f"host{number}")
        command = [
            *(own if self.separate else ()),
            *(sys.executable, "-m", "gunicorn", "--no-control-socket"),
            *("-k", self.world.worker, "-w", str(workers), "-b", f"127.0.0.1:{port}"),
            *("--pythonpath", str(ROOT), "--timeout", "60"),
            *("--config", str(ROOT / "tests" / "chaos" / "gunicorn_hooks.py")),
        ]
        if number == 1:
            command += ["--max-requests", str(RECYCLED_AFTER), "--max-requests-jitter", "40"]
        server = Server(
            [*command, "tests.chaos.chaos_app:application"],
            port=port,
            folder=folder,
            environ=self._environ(self._settings),
        )
        return Host(server, self.ground.evidence, workers=workers)

    def lines(self) -> tuple[Line, ...]:
        """Return what the app has written so far."""
        return lines_of(self.ground.evidence)

    def workers(self) -> list[int]:
        """Return the live workers of all hosts, those of gunicorn."""
        return [pid for host in self.hosts for pid in host.server.workers() if is_alive(pid)]


def lines_of(path: Path) -> tuple[Line, ...]:
    """Return what the app has written so far."""
    return read_lines(path)


def _settings(world: World, storage: Storage, start: int, post: Post | None) -> dict[str, str]:
    words = {
        "pulse.config.context": "tick",
        "pulse.config.name": "chaos",
        "pulse.config.mode": "gevent" if world.worker == "gevent" else "threading",
        "pulse.config.store": storage.word,
        "pulse.config.lease": f"{LEASE_S}s",
        "pulse.config.keep_runs": "1000000",
    }
    posted = post is not None
    for spec in specs(start, posted=posted):
        words |= settings(spec, _rfc3339(spec.start), posted=posted)
    return words | (post.settings() if post is not None else {})


def _rfc3339(instant: int) -> str:
    seconds, rest = divmod(instant, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest:06d}Z"
