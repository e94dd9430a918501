"""The brokers and the Celery workers of a fleet."""

from __future__ import annotations

import sys
from contextlib import suppress
from signal import SIGKILL, SIGTERM
from threading import Event, Thread
from typing import TYPE_CHECKING

from tests.support.broker_proxy import BrokerProxy
from tests.support.brokers import RabbitMQ, RedisBroker
from tests.support.servers import Server, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.chaos.scenario import Posting

QUEUE = "pulse"
WAIT_S = 5
PATIENCE_S = 30.0
"""How long a worker may take to end before it is killed."""

END_S = 60.0
"""How long the processes of a worker may take to end after the death of its main process."""

BROKERS: dict[str, Callable[[], RabbitMQ | RedisBroker]] = {
    "rabbitmq": RabbitMQ,
    "redis": RedisBroker,
}
"""By the word of `make chaos BROKER=`."""


class Post:
    """The broker of a fleet, and the proxy through which its web processes reach the broker."""

    def __init__(self, word: str) -> None:
        self.broker = BROKERS[word]()
        try:
            self.proxy = BrokerProxy(self.broker.url)
        except BaseException:
            self.broker.close()
            raise

    def settings(self) -> dict[str, str]:
        """Return the settings of the web processes."""
        return {
            "pulse.config.mode": "celery",
            "pulse.config.broker": self.proxy.url,
            "pulse.config.queue": QUEUE,
            "pulse.config.wait": f"{WAIT_S}s",
        }

    def close(self) -> None:
        """End the proxy and the broker."""
        self.proxy.close()
        self.broker.close()


class WorkerHost:
    """A Celery worker, which is started again whenever it has ended."""

    def __init__(self, folder: Path, posting: Posting, environ: Mapping[str, str]) -> None:
        folder.mkdir()
        command = [
            *(sys.executable, "-m", "pulse", "worker", "tests.chaos.chaos_app:application", "--"),
            *("-P", posting.pool, "-c", str(posting.slots), "-l", "info"),
            *("--include", "tests.chaos.worker_hooks"),
        ]
        own = {"WORKER": folder.name, "POOL": posting.pool, "SLOTS": str(posting.slots)}
        self.server = _Worker(command, port=None, folder=folder, environ={**environ, **own})
        self.starts = 0
        self._closing = Event()
        self._thread = Thread(target=self._keep_up, daemon=True)

    def start(self) -> None:
        """Start the worker, and watch it from now on."""
        self._start()
        self._thread.start()

    def family(self) -> tuple[int, ...]:
        """Return the processes of the worker."""
        return tuple(self.server.family())

    def end(self) -> None:
        """Send SIGTERM to its main process, and return once another worker is being started.

        A worker that has not ended after a while is killed; the checker reports how long it took.
        """
        known = self.starts
        self.server.signal(SIGTERM)
        try:
            self._await_start(known, PATIENCE_S)
        except AssertionError:
            self.kill(all_of_it=True)

    def kill(self, *, all_of_it: bool) -> None:
        """Kill all its processes, or its main process alone; return once another one is started."""
        family, known = self.family(), self.starts
        for pid in family if all_of_it else (self.server.pid,):
            self.server.signal(SIGKILL, pid)
        self._await_start(known, END_S)

    def _await_start(self, known: int, within: float) -> None:
        self.server.wait_for(lambda: self.starts > known, within, "another worker is started")

    def stop(self) -> None:
        """Let runs in progress end, and end the worker, or kill it after a while."""
        self._watch_no_more()
        if not self.server.has_ended():
            self.server.signal(SIGTERM)
            with suppress(AssertionError):
                self.server.wait_ended(PATIENCE_S)
        self.server.close()

    def close(self) -> None:
        """End all of it."""
        self._watch_no_more()
        self.server.close()

    def _watch_no_more(self) -> None:
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(END_S)

    def _start(self) -> None:
        self.server.start()
        self.starts += 1

    def _keep_up(self) -> None:
        while not self._closing.wait(0.05):
            if self.server.has_ended():
                # Children of a main process that was killed end by themselves.
                wait_until(lambda: not self.family(), END_S, "the children end")
                self._start()


class _Worker(Server):
    """A server without a port."""

    def has_ended(self) -> bool:
        """Return whether the main process has ended."""
        return self._running().poll() is not None
