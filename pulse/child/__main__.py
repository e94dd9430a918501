"""The door of a child process: `python -m pulse.child`, called by its parent.

Its standard input is the line to the parent, and its standard output the lifeline.

It loads the application, then performs one claim after the other in the main thread, as an
ordinary synchronous worker does. It ends with its parent, whatever it is doing, and takes its
whole process group along.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.child.discovery import discovery
from pulse.child.store_access import ChildStoreAccess
from pulse.clock import SystemClock
from pulse.core.run import Outcome
from pulse.engine.base import Interruption
from pulse.engine.child_application import KEY, load_named
from pulse.engine.child_protocol import (
    ConnectionClosedError,
    Hello,
    Ready,
    RunRequest,
    encodable,
    receive,
    requested_claim,
    send,
)
from pulse.errors import EngineError, shown
from pulse.forks import ForkMark, sever
from pulse.handle import SchedulerHandle
from pulse.serving.references import reachable
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from wsgiref.types import WSGIApplication

    from pulse.child.discovery import Announced, Gathering
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.child_protocol import ChildSetup

_LOOK_EVERY_MS = 1_000
_TERMINATED = 128 + signal.SIGTERM


class ChildMain:
    """One process's life: it loads, then performs until its line is closed.

    SIGTERM interrupts the run that goes on, so that the app's `finally` blocks and `close()` run
    and the parent learns where it was; then the process ends. The parent says beforehand, by
    closing its half of the line, that it means it: when a service manager sends SIGTERM to every
    process of a service, the server still has its time to drain.

    A process that the app forks is no such child: it answers nothing, and SIGTERM ends it.
    """

    def __init__(self, line: socket.socket, clock: Clock) -> None:
        self._mark = ForkMark()
        self._line = line
        self._hang_up = select.poll()
        self._hang_up.register(line, select.POLLRDHUP)
        self._clock = clock
        self._claim: Claim | None = None
        self._overdue_at: Span = 0
        self._ending = False

    def serve(self, setup: ChildSetup) -> None:
        """Load, say so, and answer errands until the parent closes the line or says TERM."""
        runner = self._load(setup)
        while runner is not None and not self._ending:
            self._perform(runner, receive(self._line, RunRequest))

    def terminate(self, _: int, __: FrameType | None) -> None:
        """Interrupt the run, as the handler of SIGTERM; where there is none, end the process."""
        if self._mark.in_child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if self._ending or not self._hang_up.poll(0):
            return
        self._ending = True
        claim = self._claim
        if claim is None:
            raise SystemExit(_TERMINATED)
        overdue = self._clock.boot() >= self._overdue_at
        raise Interruption(claim, Outcome.TIMED_OUT if overdue else Outcome.INTERRUPTED)

    def forked(self) -> None:
        """Leave the line to this process: called in a process that the app has forked."""
        self._mark.set()
        sever(self._line.fileno())

    def _load(self, setup: ChildSetup) -> Runner | None:
        try:
            runner = Runner(find_dispatcher(setup), self._clock, self._mark)
        # Whatever keeps an application from loading is told to the parent, its sys.exit() too.
        except BaseException as error:
            if self._ending:
                raise
            send(self._line, unready(error, setup))
            return None
        send(self._line, Ready())
        return runner

    def _perform(self, runner: Runner, errand: RunRequest) -> None:
        claim = requested_claim(errand)
        self._overdue_at = errand.overdue_at
        self._claim = claim
        result = runner.perform(claim)
        self._claim = None
        if self._mark.in_child:  # the app forked, and came back in both processes
            self._mark.outlast_forker()
            raise SystemExit
        send(self._line, result)


def unready(error: BaseException, setup: ChildSetup) -> Ready:
    """Return what kept the application from loading, as a traceback and in a sentence."""
    problem, summary = traceback.format_exc(), str(error)
    if KEY not in summary:
        got = " ".join(f"{type(error).__name__}: {error}".split())
        summary = (
            f"{KEY}: expected {setup.where} to be an application that can be loaded, got {got}"
        )
        problem = f"{problem}{summary}"
    return Ready(encodable(problem), encodable(summary))


def find_dispatcher(setup: ChildSetup) -> Dispatcher:
    """Load the application, and return what dispatches into it below the parent's middleware.

    An application without any `PulseMiddleware` in it is called as it is.

    Raises:
        EngineError: there are middlewares in it, but not the parent's, or it cannot be recognised.

    """
    with discovery() as found:
        app = load_app(setup)
    chosen = choose_middleware(found, app, setup)
    extra = {} if chosen is None else chosen.extra
    environ = {"pulse.scheduler": SchedulerHandle(setup.defaults), **extra}
    handle = environ["pulse.scheduler"]
    if setup.store is not None and isinstance(handle, SchedulerHandle):
        handle.attach(ChildStoreAccess(setup.store, SystemClock()))
    return Dispatcher(
        app if chosen is None else chosen.app,
        base_url=setup.base_url,
        multithread=False,
        multiprocess=True,
        environ=environ,
    )


def load_app(setup: ChildSetup) -> WSGIApplication:
    """Return the application that *setup* names."""
    if setup.application:
        return load_named(setup.application)
    from paste.deploy import loadapp

    loaded: WSGIApplication = loadapp(
        setup.paste_uri,
        name=setup.paste_section,
        relative_to=setup.relative_to or None,
        global_conf=dict(setup.global_conf),
    )
    return loaded


def choose_middleware(
    found: Gathering, app: WSGIApplication, setup: ChildSetup
) -> Announced | None:
    """Return the parent's middleware among those that *app* has brought, or None for a bare app.

    Several that are alike are told apart by what *app* refers to: what was only built, or is kept
    beside it, is not what the parent serves. No other guess is made.
    """
    alike = _alike(found, setup)
    if not reachable(app, alike):
        del alike
        gc.collect()  # what was dropped may lie in a reference cycle
        alike = _alike(found, setup)
    if len(alike) > 1:
        alike = reachable(app, alike) or alike
    if len(alike) > 1:
        alike = [each for each in alike if each.fingerprint == setup.fingerprint] or alike
    if len(alike) == 1:
        return alike[0]
    others = found.in_use()
    if others or not setup.application:
        raise EngineError(f"{KEY}: {_expectation(alike, others, setup)}")
    return None


def _alike(found: Gathering, setup: ChildSetup) -> list[Announced]:
    return [each for each in found.in_use() if setup.fingerprint.resembles(each.fingerprint)]


def _expectation(alike: Sequence[Announced], others: Sequence[Announced], setup: ChildSetup) -> str:
    name = setup.fingerprint.name
    whose = f"named {shown(name)}" if name else "without a name"
    expected = f"expected {setup.where} to hold the PulseMiddleware of the parent process, {whose}"
    if alike:
        return (
            f"{expected}, got {len(alike)} with its name and its tasks; give each its own"
            " pulse.config.name"
        )
    if not others:
        return f"{expected}, got none"
    names = ", ".join(sorted({shown(each.fingerprint.name) for each in others}))
    return f"{expected}, got {len(others)} with other settings (pulse.config.name: {names})"


def exit_with_parent(lifeline: int, parent: int) -> None:
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


def prepare_process(opening: Hello) -> None:
    """Make this process look to the application as its parent does, but for starting pulse."""
    sys.path[:] = opening.search_path
    os.environ["PULSE_START"] = "off"
    if opening.pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = opening.pythonpath


def take_standard_files() -> tuple[socket.socket, int]:
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
    line, lifeline = take_standard_files()
    child = ChildMain(line, SystemClock())
    signal.signal(signal.SIGTERM, child.terminate)
    os.register_at_fork(after_in_child=child.forked)
    with suppress(ConnectionClosedError, Interruption):
        opening = receive(line, Hello)
        exit_with_parent(lifeline, opening.parent)
        prepare_process(opening)
        child.serve(opening.setup)


if __name__ == "__main__":
    main()
