"""Injects faults on the way from the web processes of a fleet to its Celery workers."""

from __future__ import annotations

import time
from signal import SIGKILL
from threading import Lock
from typing import TYPE_CHECKING

from kombu import Connection, Producer

from tests.chaos.celery_workers import QUEUE
from tests.chaos.fleet import now
from tests.chaos.scenario import LEASE_S
from tests.support.broker_proxy import Mode
from tests.support.servers import is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu import Message

    from tests.chaos.celery_workers import Post, WorkerHost
    from tests.chaos.fleet import Fleet
    from tests.chaos.inject import Processes
    from tests.chaos.scenario import Planned

STOPPED_S = 2.0 * LEASE_S
RUN_S = 5.0
"""How long to wait for a run in progress."""

HELD_S = 2.0
"""How long the main processes of the workers are stopped before the queue is changed: messages wait
meanwhile, and no lease is over."""

BROKER_S = (2.0, 6.0)
PROXY_S = (2.0, 8.0)
"""How long the broker is away at least and at most, without the time that RabbitMQ's own command
takes, and how long web processes cannot reach it."""


class QueueInjector:
    """Performs these faults; `ways` has what performs each kind."""

    def __init__(self, fleet: Fleet, post: Post, processes: Processes) -> None:
        self._fleet = fleet
        self._post = post
        self._processes = processes
        self._broker = Lock()
        self._proxy = Lock()
        self._ending = Lock()
        self.ways: dict[str, Callable[[Planned], None]] = {
            "kill-child": self._kill_child,
            "kill-worker": self._kill_worker,
            "term-worker": self._end_worker,
            "stop-child": self._stop_child,
            "broker-stop": self._stop_broker,
            "proxy-deaf": lambda one: self._switch(one, Mode.DEAF),
            "proxy-stall": lambda one: self._switch(one, Mode.STALL),
            "proxy-cut": lambda one: self._switch(one, Mode.CUT),
            "purge": lambda one: self._hold(one, lambda: self._post.broker.purge(QUEUE)),
            "copies": lambda one: self._hold(one, lambda: send_again(self._post.broker.url, QUEUE)),
        }

    # A worker ----------------------------------------------------------------------------

    def _worker(self, one: Planned) -> WorkerHost:
        workers = self._fleet.celery
        return workers[int(one.dice * len(workers))]

    def _executing(self) -> int:
        """Return a process that executes a run, once there is one; 0 for none."""

        def found() -> int:
            going: dict[tuple[str, int], int] = {}
            for line in self._fleet.lines():
                if line.what == "begin":
                    going[line.run, line.attempt] = line.pid
                elif line.what == "end":
                    going.pop((line.run, line.attempt), None)
            alive = {pid for worker in self._fleet.celery for pid in worker.family()}
            return next((pid for pid in reversed(going.values()) if pid in alive), 0)

        try:
            return wait_until(found, RUN_S, "a run in progress", every=0.1)
        except AssertionError:
            return 0

    def _kill_child(self, one: Planned) -> None:
        """Kill the process of a run; that is the whole worker where it has no child processes."""
        pid, began = self._executing(), now()
        if pid and self._processes.send(pid, SIGKILL):
            self._processes.note(one.kind, began, (pid,))

    def _kill_worker(self, one: Planned) -> None:
        with self._ending:
            worker, began = self._worker(one), now()
            family = worker.family()
            worker.kill(all_of_it=one.host == 0)
            self._processes.note(one.kind, began, family)

    def _end_worker(self, one: Planned) -> None:
        with self._ending:
            worker, began = self._worker(one), now()
            family = worker.family()
            worker.end()
            self._processes.note(one.kind, began, family)

    def _stop_child(self, one: Planned) -> None:
        """Stop the process of a run for longer than its lease."""
        pid, began = self._executing(), now()
        if stopped := self._processes.suspend([pid] if pid else []):
            time.sleep(STOPPED_S)
            ended = self._processes.resume(stopped)
            self._processes.note(one.kind, began, tuple(stopped), ended=ended)

    # The broker --------------------------------------------------------------------------

    def _stop_broker(self, one: Planned) -> None:
        with self._broker:
            began = now()
            self._post.broker.stop()
            time.sleep(_between(BROKER_S, one.dice))
            self._post.broker.start()
            self._processes.note(one.kind, began)

    def _switch(self, one: Planned, mode: Mode) -> None:
        with self._proxy:
            began = now()
            self._post.proxy.switch(mode)
            time.sleep(_between(PROXY_S, one.dice))
            self._post.proxy.switch(Mode.PASS)
            self._processes.note(one.kind, began)

    def _hold(self, one: Planned, change: Callable[[], object]) -> None:
        """Keep the workers from taking messages until some wait, and change the queue."""
        with self._ending, self._broker:
            began = now()
            mains = [worker.server.pid for worker in self._fleet.celery]
            stopped = self._processes.suspend([pid for pid in mains if is_alive(pid)])
            time.sleep(HELD_S)
            change()
            ended = self._processes.resume(stopped)
            self._processes.note(one.kind, began, tuple(stopped), ended=ended)


def send_again(url: str, queue: str, *, copies: int = 3) -> int:
    """Replace each message that waits in a queue by copies; return how many waited."""
    with Connection(url, connect_timeout=10) as link:
        channel = link.channel()
        found: list[Message] = []
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            found.append(message)
        producer = Producer(channel, auto_declare=False)
        for message in found * copies:
            producer.publish(
                message.body,
                exchange="",
                routing_key=queue,
                headers=message.headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.properties["correlation_id"],
                reply_to=message.properties["reply_to"],
            )
    return len(found)


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + share * (limits[1] - limits[0])
