"""A gunicorn worker: found on the call stack; hooks start and shut down what it serves.

`post_worker_init` starts, `worker_exit` shuts down. The hooks are set on the worker's own copy of
the configuration, after its fork, by the public `Config.set`, around the user's own hooks. So a
reload of the configuration in the master loses nothing, and the master's configuration is
unchanged.

What ends a worker, and when (read in gunicorn 27, and tested):

    TERM, INT, QUIT to the master    the master kills after `graceful_timeout`
    HUP, TTOU                        the worker gets TERM; it is aborted when it has not
                                     notified the master for `timeout`, killed a second later
    max_requests                     as HUP, from the last notification before that request

A worker that leaves its loop closes the file by which it notifies before `worker_exit` runs, so
it cannot ask for more time there. The time left is therefore the lesser of what both leave.
"""

from __future__ import annotations

import gc
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from pulse.clock import SECOND, SystemClock
from pulse.serving.call_stack import frames_out, module_of, within

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pulse.clock import Clock, Instant, Span
    from pulse.serving.lifecycle import ServiceLifecycle

MAX_STOP_DELAY: Span = 2 * SECOND
"""The longest time after which a healthy loop notices that its worker has to stop."""


class HookConfig(Protocol):
    """What pulse uses of `gunicorn.config.Config`: its settings are read as attributes."""

    def set(self, name: str, value: object) -> None:
        """Set the setting *name*."""


class WorkerHeartbeat(Protocol):
    """The file by which a worker shows the master that it is alive."""

    def last_update(self) -> float:
        """Return a number that changes with each notification; raises once the file is closed."""


class Limits(HookConfig, Protocol):
    """The settings that bound a worker's end, in seconds."""

    graceful_timeout: int
    timeout: int


class Worker(Protocol):
    """What pulse reads of `gunicorn.workers.base.Worker`."""

    alive: bool
    booted: bool
    pid: int
    tmp: WorkerHeartbeat
    cfg: Limits


class GunicornWorker:
    """The worker that this process is, or is about to become."""

    REFERS_TO_SERVER = True

    __slots__ = (
        "_aborted",
        "_beat",
        "_beat_at",
        "_checked_at",
        "_clock",
        "_stopping_at",
        "_worker",
    )

    def __init__(self, worker: Worker, clock: Clock | None = None) -> None:
        self._worker = worker
        self._clock = clock or SystemClock()
        self._aborted = False
        self._checked_at: Instant | None = None
        self._stopping_at: Instant | None = None
        self._beat = 0.0
        self._beat_at: Instant | None = None

    def attach(self, lifecycle: ServiceLifecycle) -> None:
        """Start *lifecycle* once the worker has loaded its application, and hook its shutdown."""
        lifecycle.set_server(self)
        config = self._worker.cfg
        run_before_exit(config, weak_call(lifecycle, _stop))
        run_before(config, "worker_int", weak_call(lifecycle, lambda alive: alive.stop_claiming()))
        run_before(config, "worker_abort", weak_call(lifecycle, self._abort))
        if self._worker.booted:
            lifecycle.start_automatically()
        else:
            start = weak_call_if_used(lifecycle, lambda alive: alive.start_automatically())
            run_after(config, "post_worker_init", start)

    def accepts_work(self) -> bool:
        """Return whether the worker has no order to stop."""
        now = self._clock.boot()
        if not self._worker.alive:
            self._stopping_since(now)
            return False
        self._check_heartbeat(now)
        self._checked_at = now
        return True

    def time_left_s(self) -> float:
        """Return a lower bound of the seconds until the master kills this worker."""
        now = self._clock.boot()
        config = self._worker.cfg
        left = config.graceful_timeout * SECOND - (now - self._stopping_since(now))
        if config.timeout:
            left = min(left, config.timeout * SECOND - self._since_heartbeat(now))
        return 0.0 if self._aborted else max(0, left) / SECOND

    def application(self) -> object:
        """Return the application that the worker has loaded, or None before it has."""
        return getattr(self._worker, "wsgi", None)

    def _abort(self, lifecycle: ServiceLifecycle) -> None:
        self._aborted = True
        lifecycle.stop_claiming()

    def _stopping_since(self, now: Instant) -> Instant:
        """Return a lower bound for when the worker was ordered to stop.

        That is the last time at which it was seen without the order.
        """
        if self._stopping_at is None:
            self._stopping_at = max(self._checked_at or now, now - MAX_STOP_DELAY)
        return self._stopping_at

    def _check_heartbeat(self, now: Instant) -> None:
        """Record a new heartbeat: it came after the previous check."""
        try:
            beat = self._worker.tmp.last_update()
        except (OSError, ValueError):
            return
        if beat != self._beat:
            self._beat = beat
            self._beat_at = self._checked_at or now

    def _since_heartbeat(self, now: Instant) -> Span:
        """Return an upper bound of the time since the master got the last heartbeat.

        Before any was seen that is half the timeout: a worker's loop sleeps no longer.
        """
        if self._beat_at is None:
            return self._worker.cfg.timeout * SECOND // 2
        return now - self._beat_at


def detect() -> GunicornWorker | None:
    """Return the worker that builds the application or handles the request, or None."""
    for frame in frames_out():
        name = module_of(frame)
        if within(name, "gunicorn.arbiter") or within(name, "gunicorn.dirty"):
            return None
        if within(name, "gunicorn.workers") and (worker := _own_worker(frame)) is not None:
            return GunicornWorker(worker)
    return None


def detect_forked() -> GunicornWorker | None:
    """Return the worker that gunicorn's arbiter has just forked, or None.

    Other code forks too: a dirty arbiter, a re-exec, the application.
    """
    for frame in frames_out():
        name = module_of(frame)
        if within(name, "gunicorn"):
            spawns = name == "gunicorn.arbiter" and frame.f_code.co_name == "spawn_worker"
            return GunicornWorker(frame.f_locals["worker"]) if spawns else None
    return None


def weak_call(
    lifecycle: ServiceLifecycle, action: Callable[[ServiceLifecycle], None]
) -> Callable[[], None]:
    """Return a function that calls *action* on *lifecycle* and does not keep it alive."""
    known = weakref.ref(lifecycle)

    def call() -> None:
        alive = known()
        if alive is not None:
            action(alive)

    return call


def weak_call_if_used(
    lifecycle: ServiceLifecycle, action: Callable[[ServiceLifecycle], None]
) -> Callable[[], None]:
    """Return the same, but first collect a dropped lifecycle that lies in a reference cycle."""
    known = weakref.ref(lifecycle)
    call = weak_call(lifecycle, action)

    def call_if_used() -> None:
        alive = known()
        if alive is not None and alive.may_be_garbage():
            del alive  # a reference from here would keep it from being collected
            gc.collect()
        call()

    return call_if_used


def run_after(config: HookConfig, name: str, ours: Callable[[], None]) -> None:
    """Run *ours* after the hook *name*, which takes a worker."""
    theirs = getattr(config, name)

    # gunicorn checks how many positional parameters a hook has.
    def hook(worker: object) -> None:
        theirs(worker)
        ours()

    config.set(name, hook)


def run_before(config: HookConfig, name: str, ours: Callable[[], None]) -> None:
    """Run *ours* before the hook *name*, which takes a worker and runs in any case."""
    theirs = getattr(config, name)

    def hook(worker: object) -> None:
        try:
            ours()
        finally:
            theirs(worker)

    config.set(name, hook)


def run_before_exit(config: HookConfig, ours: Callable[[], None]) -> None:
    """Run *ours* before the hook `worker_exit`, which runs in any case."""
    theirs = getattr(config, "worker_exit")  # noqa: B009 - the protocol of the configuration lacks it

    def hook(server: object, worker: object) -> None:
        try:
            ours()
        finally:
            theirs(server, worker)

    config.set("worker_exit", hook)


def _stop(lifecycle: ServiceLifecycle) -> None:
    lifecycle.stop_claiming()
    lifecycle.shutdown()


def _own_worker(frame: FrameType) -> Worker | None:
    from gunicorn.workers.base import Worker as AnyWorker

    found = frame.f_locals.get("self")
    if isinstance(found, AnyWorker) and found.pid == os.getpid():
        return found  # type: ignore[no-any-return] # gunicorn has no types
    return None
