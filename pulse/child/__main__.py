"""The door of a child process: `python -m pulse.child`, called by its parent.

Its standard input is the line to the parent, and its standard output the lifeline.

It loads the application, then performs one claim after the other in the main thread, as an
ordinary synchronous worker does. It ends with its parent, whatever it is doing, and takes its
whole process group along.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.child.discovery import Announcement, gathering
from pulse.child.store_access import Visitor
from pulse.clock import SystemClock
from pulse.core.run import Outcome
from pulse.engine.base import Interruption
from pulse.engine.child_protocol import (
    Errand,
    LineClosedError,
    Opening,
    Readiness,
    claim_of,
    receive,
    send,
    speakable,
)
from pulse.errors import EngineError
from pulse.handle import Handle
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from wsgiref.types import WSGIApplication

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.child_protocol import ChildSetup

_LOOK_EVERY_MS = 1_000
_TERMINATED = 128 + signal.SIGTERM


class Child:
    """One process's life: it loads, then performs until its line is closed.

    SIGTERM interrupts the run that goes on, so that the app's `finally` blocks and `close()` run
    and the parent learns where it was; then the process ends. The parent says beforehand, by
    closing its half of the line, that it means it: when a service manager sends SIGTERM to every
    process of a service, the server still has its time to drain.
    """

    def __init__(self, line: socket.socket, clock: Clock) -> None:
        self._line = line
        self._hang_up = select.poll()
        self._hang_up.register(line, select.POLLRDHUP)
        self._clock = clock
        self._claim: Claim | None = None
        self._overdue_at: Span = 0
        self._ending = False

    def live(self, setup: ChildSetup) -> None:
        """Load, say so, and answer errands until the parent closes the line or says TERM."""
        runner = self._load(setup)
        while runner is not None and not self._ending:
            self._perform(runner, receive(self._line, Errand))

    def terminate(self, _: int, __: FrameType | None) -> None:
        """Interrupt the run, as the handler of SIGTERM; where there is none, end the process."""
        if self._ending or not self._hang_up.poll(0):
            return
        self._ending = True
        claim = self._claim
        if claim is None:
            raise SystemExit(_TERMINATED)
        overdue = self._clock.boot() >= self._overdue_at
        raise Interruption(claim, Outcome.TIMED_OUT if overdue else Outcome.INTERRUPTED)

    def _load(self, setup: ChildSetup) -> Runner | None:
        try:
            runner = Runner(find_dispatcher(setup), self._clock)
        # Whatever keeps an application from loading is told to the parent, its sys.exit() too.
        except BaseException:
            if self._ending:
                raise
            send(self._line, Readiness(speakable(traceback.format_exc())))
            return None
        send(self._line, Readiness())
        return runner

    def _perform(self, runner: Runner, errand: Errand) -> None:
        claim = claim_of(errand)
        self._overdue_at = errand.overdue_at
        self._claim = claim
        result = runner.perform(claim)
        self._claim = None
        send(self._line, result)


def find_dispatcher(setup: ChildSetup) -> Dispatcher:
    """Load the application, and return what dispatches into it below the parent's middleware.

    An application without any `PulseMiddleware` in it is called as it is.

    Raises:
        EngineError: there are middlewares in it, but none with the parent's settings.

    """
    with gathering() as found:
        app = load_app(setup)
    chosen = choose(found, app, setup)
    environ = {"pulse.scheduler": Handle(setup.usual), **chosen.environ}
    handle = environ["pulse.scheduler"]
    if setup.store is not None and isinstance(handle, Handle):
        handle.attach(Visitor(setup.store, SystemClock()))
    return Dispatcher(
        chosen.app,
        base_url=setup.base_url,
        multithread=False,
        multiprocess=True,
        environ=environ,
    )


def load_app(setup: ChildSetup) -> WSGIApplication:
    """Return the application that *setup* names."""
    if setup.application:
        module, _, name = setup.application.partition(":")
        named: WSGIApplication = attrgetter(name)(import_module(module))
        return named
    from paste.deploy import loadapp

    loaded: WSGIApplication = loadapp(
        setup.paste_uri, name=setup.paste_section, global_conf=dict(setup.global_conf)
    )
    return loaded


def choose(found: Sequence[Announcement], app: WSGIApplication, setup: ChildSetup) -> Announcement:
    """Return the announcement of the parent's middleware, or one of the bare *app*."""
    for announcement in found:
        if announcement.digest == setup.digest:
            return announcement
    where = setup.application or f"{setup.paste_uri}, section {setup.paste_section},"
    if found:
        raise EngineError(
            f"pulse.config.application: expected {where} to hold the PulseMiddleware of the "
            f"parent process, got {len(found)} with other settings"
        )
    if not setup.application:
        raise EngineError(f"expected {where} to hold a PulseMiddleware, got none")
    return Announcement(setup.digest, app, {})


def tie_to_parent(lifeline: int, parent: int) -> None:
    """Make sure that this process group ends when the parent does.

    The kernel kills the group when the lifeline hangs up: no Python code has to run for that, so
    that even a native call which holds the interpreter's lock does not outlive the parent. A fork
    of the parent may hold the lifeline's other end; so a thread looks for the parent, too.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    watch = threading.Thread(target=_watch, args=(lifeline, parent), daemon=True)
    watch.name = "pulse-watch"
    watch.start()


def _watch(lifeline: int, parent: int) -> None:
    poll = select.poll()
    poll.register(lifeline, 0)
    while os.getppid() == parent:
        if poll.poll(_LOOK_EVERY_MS):
            break
    os.killpg(os.getpgrp(), signal.SIGKILL)


def settle_in(opening: Opening) -> None:
    """Make this process look to the application as its parent does, but for starting pulse."""
    sys.path[:] = opening.search_path
    os.environ["PULSE_START"] = "off"
    if opening.pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = opening.pythonpath


def take_over() -> tuple[socket.socket, int]:
    """Return line and lifeline, and leave to the application what it may expect instead.

    What it writes to standard output goes to standard error: the server's output is not its own.
    Every other file that was inherited is closed; those of this process are close-on-exec.
    """
    line, lifeline = socket.socket(fileno=os.dup(0)), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with suppress(OSError):
        os.dup2(2, 1)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):  # noqa: PLR2004 - the standard files
                os.close(number)
    line.settimeout(None)
    return line, lifeline


def main() -> None:
    """Live as the child that the parent has started."""
    line, lifeline = take_over()
    child = Child(line, SystemClock())
    signal.signal(signal.SIGTERM, child.terminate)
    with suppress(LineClosedError, Interruption):
        opening = receive(line, Opening)
        tie_to_parent(lifeline, opening.parent)
        settle_in(opening)
        child.live(opening.setup)


if __name__ == "__main__":
    main()
