"""The entry point of a child process: `python -m pulse.child`, started by its parent.

Its standard input is the connection to the parent, and its standard output the lifeline: a pipe
that hangs up when the parent ends.

It loads the application, then performs one claim after the other in the main thread, as an
ordinary synchronous worker does. When its parent ends, its whole process group is killed, whatever
it is doing.
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
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.child.discovery import discovery
from pulse.child.store_access import StoreAccess
from pulse.clock import SystemClock
from pulse.core.error_text import message_of, traceback_text
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
from pulse.forks import ForkMark, ForkSignals, sever
from pulse.handle.handle import SchedulerHandle
from pulse.serving.references import reachable
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from wsgiref.types import WSGIApplication

    from pulse.child.discovery import BuiltMiddleware, Discovery
    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.child_protocol import ChildSetup

_CHECK_EVERY_MS = 1_000
_TERMINATED = 128 + signal.SIGTERM


class ChildMain:
    """The main loop of a child process: load, then perform runs until the connection is closed.

    SIGTERM interrupts the run in progress, so that the app's `finally` blocks and `close()` run
    and the parent gets the result; then the process ends. SIGTERM counts only after the parent has
    closed its half of the connection: when a service manager sends SIGTERM to every process of a
    service, the server still has its time to drain.

    A process that the app forks is not such a child: it answers nothing, and SIGTERM ends it.
    """

    def __init__(self, connection: socket.socket, clock: Clock) -> None:
        self._mark = ForkMark()
        self.fork_signals: ForkSignals = ForkSignals(signal.SIGTERM)
        self._pid = os.getpid()
        self._connection = connection
        self._hang_up = select.poll()
        self._hang_up.register(connection, select.POLLRDHUP)
        self._clock = clock
        self._claim: Claim | None = None
        self._overdue_at: Span = 0
        self._ending = False

    def serve(self, setup: ChildSetup) -> None:
        """Load, report that, and perform requested runs until the connection closes or SIGTERM."""
        runner = self._load(setup)
        while runner is not None and not self._ending:
            self._perform(runner, receive(self._connection, RunRequest))

    def terminate(self, _: int, __: FrameType | None) -> None:
        """Interrupt the run in progress, or end the process if none is; the handler of SIGTERM."""
        # A signal may arrive in a forked process before the hooks of the fork have set the mark.
        if self._mark.in_child or os.getpid() != self._pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        if self._ending or not self._hang_up.poll(0) or self.fork_signals.defers(signal.SIGTERM):
            return
        self._ending = True
        claim = self._claim
        if claim is None:
            raise SystemExit(_TERMINATED)
        overdue = self._clock.boot() >= self._overdue_at
        raise Interruption(claim, Outcome.TIMED_OUT if overdue else Outcome.INTERRUPTED)

    def forked(self) -> None:
        """Leave the connection to the parent: called in a process that the app has forked."""
        self._mark.set()
        sever(self._connection.fileno())

    def _load(self, setup: ChildSetup) -> Runner | None:
        try:
            runner = Runner(find_dispatcher(setup), self._clock, self._mark)
        # Every failure to load is reported to the parent, also a sys.exit() of the application.
        except BaseException as error:
            if self._ending:
                raise
            send(self._connection, failed_to_load(error, setup))
            return None
        send(self._connection, Ready())
        return runner

    def _perform(self, runner: Runner, request: RunRequest) -> None:
        claim = requested_claim(request)
        self._overdue_at = request.overdue_at
        self._claim = claim
        result = runner.perform(claim)
        self._claim = None
        if self._mark.in_child:  # the app forked and returned in both processes
            self._mark.outlast_forker()
            raise SystemExit
        send(self._connection, result)


def failed_to_load(error: BaseException, setup: ChildSetup) -> Ready:
    """Return the message for the parent: the traceback of the failure, and one sentence."""
    problem, summary = f"{traceback_text(error)}\n", message_of(error)
    if KEY not in summary:
        got = " ".join(f"{type(error).__name__}: {summary}".split())
        summary = (
            f"{KEY}: expected {setup.where} to be an application that can be loaded, got {got}"
        )
        problem = f"{problem}{summary}"
    return Ready(encodable(problem), encodable(summary))


def find_dispatcher(setup: ChildSetup) -> Dispatcher:
    """Load the application, and return a dispatcher that calls what the middleware wraps.

    An application that holds no `PulseMiddleware` is called as it is.

    Raises:
        EngineError: the application holds middlewares, but none or several that are the parent's.

    """
    with discovery() as found:
        app = load_app(setup)
    chosen = choose_middleware(found, app, setup)
    extra = {} if chosen is None else chosen.extra
    environ = {"pulse.scheduler": SchedulerHandle(setup.defaults), **extra}
    handle = environ["pulse.scheduler"]
    if setup.store is not None and isinstance(handle, SchedulerHandle):
        handle.attach(StoreAccess(setup.store, SystemClock()))
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
    found: Discovery, app: WSGIApplication, setup: ChildSetup
) -> BuiltMiddleware | None:
    """Return the parent's middleware among those built with *app*, or None for a bare app.

    Of several that are alike, the one that *app* refers to is the parent's: one that was only
    built, or is kept elsewhere, is not served. Nothing else is guessed.
    """
    alike = _alike(found, setup)
    if not reachable(app, alike):
        del alike
        gc.collect()  # a dropped middleware may lie in a reference cycle
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


def _alike(found: Discovery, setup: ChildSetup) -> list[BuiltMiddleware]:
    return [each for each in found.in_use() if setup.fingerprint.resembles(each.fingerprint)]


def _expectation(
    alike: Sequence[BuiltMiddleware], others: Sequence[BuiltMiddleware], setup: ChildSetup
) -> str:
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

    The kernel kills the group when the lifeline hangs up. No Python code has to run for that, so
    even a native call that holds the interpreter's lock does not outlive the parent. A fork of the
    parent may hold the other end of the lifeline, so a thread also checks for the parent.
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
        if poll.poll(_CHECK_EVERY_MS):
            break
    os.killpg(os.getpgrp(), signal.SIGKILL)


def prepare_process(hello: Hello) -> None:
    """Give the application the parent's `sys.path` and PYTHONPATH; PULSE_START is off."""
    sys.path[:] = hello.search_path
    os.environ["PULSE_START"] = "off"
    if hello.pythonpath is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = hello.pythonpath


def take_standard_files() -> tuple[socket.socket, int]:
    """Return connection and lifeline, and replace standard input and output for the application.

    What the application prints goes to standard error, because standard output is the server's.
    Every other inherited file is closed; the files of this process are close-on-exec.
    """
    connection, lifeline = socket.socket(fileno=os.dup(0)), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with suppress(OSError):
        os.dup2(2, 1)
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):  # noqa: PLR2004 - the standard files
                os.close(number)
    connection.settimeout(None)
    return connection, lifeline


def main() -> None:
    """Run the child process that the parent has started."""
    connection, lifeline = take_standard_files()
    child = ChildMain(connection, SystemClock())
    signal.signal(signal.SIGTERM, child.terminate)
    os.register_at_fork(after_in_child=child.forked)
    child.fork_signals.register()
    with suppress(ConnectionClosedError, Interruption):
        hello = receive(connection, Hello)
        exit_with_parent(lifeline, hello.parent)
        prepare_process(hello)
        child.serve(hello.setup)


if __name__ == "__main__":
    main()
