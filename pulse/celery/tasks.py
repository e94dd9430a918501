"""The Celery task that executes posted runs, and the processes that it happens in.

Each process that executes runs loads the application itself, after the fork. Celery's prefork and
solo pools announce such a process by `worker_process_init`; in the pools of threads and greenlets
it is the main process of the worker, which `worker_init` announces.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from celery import signals

from pulse.carrier.base import CarrierDownError, CarrierError, Parcel
from pulse.celery.carrier import TASK, CeleryCarrier
from pulse.clock import SECOND
from pulse.core.error_text import message_of
from pulse.errors import ConfigError, PulseError
from pulse.log.format import escape_control_characters
from pulse.logger import log
from pulse.store.backoff import chance
from pulse.worker.process import ParcelResult, Pool, WorkerProcess
from pulse.worker.settings import target_of

if TYPE_CHECKING:
    from types import FrameType

    from celery import Celery
    from celery.app.task import Task

    from pulse.worker.settings import WorkerTarget

RETRY_AFTER_S = 1.5
"""After how many seconds a parcel that was left to another worker is sent again, at least; it takes
up to twice as long at random. Workers ask Redis for messages each second, one after the other, so
that after a fixed time the same worker would get the parcel each time."""

PAUSES_S = (0.2, 1.0)
"""The pauses before a message that the broker did not take is sent once more."""

_POOLS = {
    "celery.concurrency.prefork": Pool.PREFORK,
    "celery.concurrency.thread": Pool.THREADS,
    "celery.concurrency.solo": Pool.THREADS,
    "celery.concurrency.gevent": Pool.GEVENT,
}


def install(app: Celery, target: str, *, name: str | None = None) -> Celery:
    """Add the task of pulse to a Celery application, whose workers then execute posted runs.

    The workers have to read the queue: `celery -A ... worker -Q celery,pulse`.

    Args:
        app: the Celery application of the site.
        target: `config:/srv/production.ini`, with `#section` if that is not `main`, or
            `package.module:app`; the application whose runs are executed.
        name: `pulse.config.name` of its middleware, where it has several.

    """
    return install_target(app, target_of(target, name=name))


def install_target(app: Celery, target: WorkerTarget) -> Celery:
    """Add the task for a target.

    Raises:
        ConfigError: the Celery application has the task already, for another target.

    """
    if is_installed(app, target):
        return app
    host = _Host(app, target)

    @app.task(
        name=TASK,
        shared=False,  # otherwise each other Celery application of the process has it too
        bind=True,
        acks_late=False,
        ignore_result=True,
        max_retries=0,
        serializer="json",
        pulse_target=target,
    )
    def run(task: Task, parcel: object) -> None:
        host.execute(task, parcel)

    signals.worker_process_init.connect(host.start_child, weak=False)
    signals.worker_process_shutdown.connect(host.stop, weak=False)
    signals.worker_init.connect(host.start_main, weak=False)
    signals.worker_ready.connect(host.watch_signals, weak=False)
    signals.worker_shutdown.connect(host.stop, weak=False)
    return app


def is_installed(app: Celery, target: WorkerTarget) -> bool:
    """Return whether the Celery application has the task for a target.

    Raises:
        ConfigError: it has the task for another target.

    """
    task = app.tasks.get(TASK)
    if task is None:
        return False
    installed: WorkerTarget = task.pulse_target
    if installed.serves_as(target):
        return True
    expected = f"expected the application that its Celery application serves, {installed}"
    raise ConfigError([f"install: {expected}, got {target}"])


class _Host:
    """Has the process of pulse in a process of Celery, once it has started."""

    def __init__(self, app: Celery, target: WorkerTarget) -> None:
        self._app = app
        self._target = target
        self.pool: Pool | None = None
        self._slots = 1
        self._process: WorkerProcess | None = None
        self._problem = "it has not started"
        self._carriers: list[CeleryCarrier] = []

    def start_main(self, sender: Any = None, **_: object) -> None:  # noqa: ANN401 - a worker of Celery
        """Start in the main process of a worker whose pool has no processes.

        Celery calls it for the workers of other applications, too.
        """
        if sender.app != self._app:  # one of them may be a proxy
            return
        module = getattr(sender.pool_cls, "__module__", "")
        self.pool = _POOLS.get(module)
        if self.pool is None:
            known = "prefork, gevent, threads or solo"
            self._problem = f"expected the pool {known}, got {module.rpartition('.')[2]}"
            log(logging.ERROR, f"this worker executes no runs: {self._problem}")
        elif self.pool is not Pool.PREFORK:
            self._slots = int(sender.concurrency or 1)
            self._start(self.pool)

    def start_child(self, **_: object) -> None:
        """Start in a child of the prefork pool."""
        if self.pool is Pool.PREFORK:
            self._start(self.pool)

    def _start(self, pool: Pool) -> None:
        try:
            os.register_at_fork(after_in_child=self._forked)
            self._process = process = WorkerProcess(self._target, pool, slots=self._slots)
            process.start()
        except PulseError as error:
            self._problem = message_of(error)
            log(logging.ERROR, f"this worker executes no runs: {self._problem}")

    def watch_signals(self, **_: object) -> None:
        """Let SIGQUIT interrupt the runs of a pool without processes, and then end the worker.

        Celery's own handler drops the tasks in progress; in the pool of greenlets it fails.
        """
        if self._process is not None:
            signal.signal(signal.SIGQUIT, self._quit)

    def _quit(self, _: int, __: FrameType | None) -> None:
        from celery.worker import state

        if self._process is not None:
            threading.Thread(target=self._process.interrupt_all, daemon=True).start()
        state.should_stop = os.EX_SOFTWARE

    def stop(self, **_: object) -> None:
        """Leave the fleet."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def execute(self, task: Task, content: object) -> None:
        """Execute the run that a message names, or leave it to another worker."""
        try:
            parcel = msgspec.convert(content, Parcel)
        except msgspec.ValidationError as error:
            log(logging.WARNING, f"a message for {TASK} names no run: {error}")
            return
        process = self._process
        if process is None:
            name = escape_control_characters(parcel.task)
            log(logging.WARNING, f"{name}: left to another worker: {self._problem}")
        result = ParcelResult.LEFT if process is None else process.perform(parcel)
        if result is ParcelResult.LEFT:
            self._leave(task, parcel)

    def _leave(self, task: Task, parcel: Parcel) -> None:
        """Send a parcel to its queue again, until the run has waited for as long as it may."""
        if parcel.left * RETRY_AFTER_S >= parcel.wait_us / SECOND:
            return
        carrier = CeleryCarrier(task.app)
        self._carriers.append(carrier)
        try:
            _send(
                carrier,
                msgspec.structs.replace(parcel, left=parcel.left + 1),
                queue=task.request.delivery_info["routing_key"],
            )
        except CarrierError as error:
            name = escape_control_characters(parcel.task)
            log(logging.WARNING, f"{name}: not left to another worker: {message_of(error)}")
        finally:
            self._carriers.remove(carrier)
            carrier.close()

    def _forked(self) -> None:
        """Leave the connections to the parent: this is a copy, in a forked child."""
        for carrier in self._carriers:
            carrier.forked()


def _send(carrier: CeleryCarrier, parcel: Parcel, *, queue: str) -> None:
    """Send a parcel for later, and once more after each pause if the broker does not answer.

    Raises:
        CarrierError: it was not sent.

    """
    delay_s = RETRY_AFTER_S * (1 + chance())
    for pause_s in PAUSES_S:
        with suppress(CarrierDownError):
            carrier.send(parcel, queue=queue, delay_s=delay_s)
            return
        threading.Event().wait(pause_s)
    carrier.send(parcel, queue=queue, delay_s=delay_s)
