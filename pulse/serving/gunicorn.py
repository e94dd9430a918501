"""A gunicorn worker: found on the stack, begun by `post_worker_init`, ended by `worker_exit`.

The hooks are set on the worker's own copy of the configuration, after its fork, by the public
`Config.set`, around the user's own. So a reload of the configuration in the master loses nothing,
and the master's own configuration stays as it was.

What ends a worker, and when (read in gunicorn 27, and tested):

    TERM, INT, QUIT to the master    the master kills after `graceful_timeout`
    HUP, TTOU                        the worker gets TERM; it is aborted when it has not
                                     notified the master for `timeout`, killed a second later
    max_requests                     as HUP, from the last notification before that request

A worker that leaves its loop closes the file by which it notifies before `worker_exit` runs, so
it cannot ask for more time there. The limit is therefore the lesser of what is left of both.
"""

from __future__ import annotations

import gc
import os
import weakref
from typing import TYPE_CHECKING, Protocol

from pulse.clock import SECOND, SystemClock
from pulse.serving.call_stack import frames_out, module_of, within
from pulse.serving.process_registry import end_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from pulse.clock import Clock, Instant, Span
    from pulse.serving.base import ManagedLifecycle

FUZZ: Span = 2 * SECOND
"""The longest time that a healthy loop takes to notice that its worker was told to stop."""


class HookConfig(Protocol):
    """What pulse uses of `gunicorn.config.Config`: its settings are read as attributes."""

    def set(self, name: str, value: object) -> None:
        """Set the setting *name*."""


class WorkerHeartbeat(Protocol):
    """By what a worker shows the master that it is alive."""

    def last_update(self) -> float:
        """Return a figure that changes with each notification; raises once it is closed."""


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

    KNOWS_THE_SERVER = True

    __slots__ = ("_aborted", "_asked_at", "_beat", "_beat_at", "_clock", "_told_at", "_worker")

    def __init__(self, worker: Worker, clock: Clock | None = None) -> None:
        self._worker = worker
        self._clock = clock or SystemClock()
        self._aborted = False
        self._asked_at: Instant | None = None
        self._told_at: Instant | None = None
        self._beat = 0.0
        self._beat_at: Instant | None = None

    def enter(self, member: ManagedLifecycle) -> None:
        """Begin *member* once the worker has loaded its application, and hook its end."""
        member.belong(self)
        config = self._worker.cfg
        run_before_exit(config, weak_call(member, lambda still: end_all([still])))
        run_before(config, "worker_int", weak_call(member, lambda still: still.quiet()))
        run_before(config, "worker_abort", weak_call(member, self._abort))
        if self._worker.booted:
            member.enter()
        else:
            run_after(
                config, "post_worker_init", weak_call_if_used(member, lambda still: still.enter())
            )

    def serving(self) -> bool:
        """Return whether the worker has not been told to stop."""
        now = self._clock.boot()
        if not self._worker.alive:
            self._stopping_since(now)
            return False
        self._listen(now)
        self._asked_at = now
        return True

    def limit_s(self) -> float:
        """Return what is left until the master kills this worker, at the least."""
        now = self._clock.boot()
        config = self._worker.cfg
        left = config.graceful_timeout * SECOND - (now - self._stopping_since(now))
        if config.timeout:
            left = min(left, config.timeout * SECOND - self._silence(now))
        return 0.0 if self._aborted else max(0, left) / SECOND

    def application(self) -> object:
        """Return the application that the worker has loaded, or None before it has."""
        return getattr(self._worker, "wsgi", None)

    def _abort(self, member: ManagedLifecycle) -> None:
        self._aborted = True
        member.quiet()

    def _stopping_since(self, now: Instant) -> Instant:
        """Return when the worker was told to stop: at the earliest when it last was not."""
        if self._told_at is None:
            self._told_at = max(self._asked_at or now, now - FUZZ)
        return self._told_at

    def _listen(self, now: Instant) -> None:
        """Notice a heartbeat: it came after the last time that somebody asked."""
        try:
            beat = self._worker.tmp.last_update()
        except (OSError, ValueError):
            return
        if beat != self._beat:
            self._beat = beat
            self._beat_at = self._asked_at or now

    def _silence(self, now: Instant) -> Span:
        """Return for how long the master has heard nothing; a loop is silent half its timeout."""
        if self._beat_at is None:
            return self._worker.cfg.timeout * SECOND // 2
        return now - self._beat_at


def find() -> GunicornWorker | None:
    """Return the worker that builds the application or handles the request, if one does."""
    for frame in frames_out():
        name = module_of(frame)
        if within(name, "gunicorn.arbiter") or within(name, "gunicorn.dirty"):
            return None
        if within(name, "gunicorn.workers") and (worker := _own_worker(frame)) is not None:
            return GunicornWorker(worker)
    return None


def find_forked() -> GunicornWorker | None:
    """Return the worker that gunicorn's arbiter has just forked, if this is one.

    Forks come from elsewhere too: a dirty arbiter, a re-exec, an application's own child.
    """
    for frame in frames_out():
        name = module_of(frame)
        if within(name, "gunicorn"):
            spawns = name == "gunicorn.arbiter" and frame.f_code.co_name == "spawn_worker"
            return GunicornWorker(frame.f_locals["worker"]) if spawns else None
    return None


def weak_call(
    member: ManagedLifecycle, action: Callable[[ManagedLifecycle], None]
) -> Callable[[], None]:
    """Return a call of *action* on *member*, which it does not keep alive."""
    known = weakref.ref(member)

    def tell() -> None:
        still = known()
        if still is not None:
            action(still)

    return tell


def weak_call_if_used(
    member: ManagedLifecycle, action: Callable[[ManagedLifecycle], None]
) -> Callable[[], None]:
    """Return the same, which first collects a member that was dropped but is in a cycle."""
    known = weakref.ref(member)
    call = weak_call(member, action)

    def call_if_used() -> None:
        still = known()
        if still is not None and still.may_be_dropped():
            del still
            gc.collect()
        call()

    return call_if_used


def run_after(config: HookConfig, name: str, ours: Callable[[], None]) -> None:
    """Let the hook *name*, which takes a worker, go on to *ours*."""
    theirs = getattr(config, name)

    # gunicorn checks how many positional parameters a hook has.
    def hook(worker: object) -> None:
        theirs(worker)
        ours()

    config.set(name, hook)


def run_before(config: HookConfig, name: str, ours: Callable[[], None]) -> None:
    """Let *ours* run before the hook *name*, which takes a worker and runs whatever happens."""
    theirs = getattr(config, name)

    def hook(worker: object) -> None:
        try:
            ours()
        finally:
            theirs(worker)

    config.set(name, hook)


def run_before_exit(config: HookConfig, ours: Callable[[], None]) -> None:
    """Let *ours* run before the hook `worker_exit`, which runs whatever happens."""
    theirs = getattr(config, "worker_exit")  # noqa: B009 - as the others; no type knows it

    def hook(server: object, worker: object) -> None:
        try:
            ours()
        finally:
            theirs(server, worker)

    config.set("worker_exit", hook)


def _own_worker(frame: FrameType) -> Worker | None:
    from gunicorn.workers.base import Worker as AnyWorker

    found = frame.f_locals.get("self")
    if isinstance(found, AnyWorker) and found.pid == os.getpid():
        return found  # type: ignore[no-any-return] # gunicorn has no types
    return None
