"""A child process that has loaded the application: how it is started, called and ended.

Theory of operation
-------------------
A child is a fresh interpreter, never a fork: a fork of a server's worker runs the worker's own
signal handlers, exit hooks and greenlets. Two things tie it to its parent:

* the line, a private socket pair that carries run requests and results
  (`pulse.engine.child_protocol`);
* the lifeline, a pipe into which nothing is written. Only the parent holds its writing end, so that
  the child's end reports a hang-up as soon as the parent is gone, for whatever reason.

The child leads a session and a process group of its own. Signals to that group also end the
processes that the app started: TERM, a short grace, KILL. Its owner calls `perform`, which returns
a result or raises what happened to the child, and `end`.

`ChildStarter` starts the children, and backs off while they fail to load the application.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.core.run import Result
from pulse.engine.child_application import KEY
from pulse.engine.child_protocol import (
    ConnectionClosedError,
    Hello,
    Ready,
    receive,
    run_request,
    send,
)
from pulse.engine.posix_spawn import SpawnedProcess
from pulse.errors import EngineError
from pulse.forks import sever

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.engine.child_protocol import ChildSetup

M = TypeVar("M", Ready, Result)

GRACE: Span = 2 * SECOND
"""How long a child has between TERM and KILL."""

LOADING: Span = 60 * SECOND
"""How long a child may take to load the application."""

FIRST_PAUSE: Span = SECOND
LONGEST_PAUSE: Span = 60 * SECOND
"""How long no child is started after one failed to load the application: at first and at most."""

_LOOK_EVERY: Span = SECOND // 2
_MAX_OUTPUT: Span = SECOND


class ChildLostError(Exception):
    """A child ended, or could not start; the message is recorded with its run.

    Attributes:
        summary: the same in one sentence.

    """

    def __init__(self, message: str, *, summary: str = "") -> None:
        self.summary: str = summary or message
        super().__init__(message)


class ChildTimeoutError(Exception):
    """A child has not answered in time, and still runs."""


class ChildProcess:
    """One child process, which performs one claim at a time.

    Args:
        setup: how it finds the application.
        clock: measures how long it takes.

    """

    def __init__(self, setup: ChildSetup, clock: Clock) -> None:
        self._clock = clock
        self._until: Span = 0
        self._interrupted = self._dismissed = False
        self._line, theirs = socket.socketpair()
        far_end, self._lifeline = os.pipe()
        try:
            self._process = _launch(theirs.fileno(), far_end)
        except OSError as error:
            self._release()
            raise ChildLostError(f"no child process could be started: {error}") from error
        finally:
            theirs.close()
            os.close(far_end)
        self._setup = setup

    def open(self) -> None:
        """Wait until the child has loaded the application.

        Raises:
            ChildLostError: it could not; the message is its traceback.

        """
        try:
            self._set_timeout(LOADING)
            send(self._line, _opening(self._setup))
            answer = self._receive(Ready)
        except ConnectionClosedError:
            reason = self._exit_description()
            fate = f"the child process ended while it loaded the application: {reason}"
            answer = Ready(fate, self._summary(fate))
        except ChildTimeoutError:
            late = f"the child process did not load the application in {LOADING // SECOND} s"
            answer = Ready(late, self._summary(late))
        if answer.problem:
            raise ChildLostError(answer.problem, summary=answer.summary)

    def _summary(self, problem: str) -> str:
        return f"{KEY}: expected {self._setup.where} to be an application that loads: {problem}"

    def is_usable(self) -> bool:
        """Return whether the idle child still runs; another process may have killed it."""
        return not self._process.has_ended()

    def perform(self, claim: Claim) -> Result:
        """Perform the claim in the child, and return its result.

        Raises:
            ChildLostError: the child ended before it answered.
            ChildTimeoutError: the claim's timeout has passed.

        """
        try:
            overdue_at = self._set_timeout(claim.definition.timeout_us)
            send(self._line, run_request(claim, overdue_at=overdue_at))
            return self._receive(Result)
        except ConnectionClosedError:
            raise ChildLostError(
                f"the child process ended during the run: {self._exit_description()}"
            ) from None

    def interrupt(self) -> None:
        """Stop the child's work; may be called during `open` and `perform`.

        These return what the child still answers, or raise once it is gone or the grace is over.
        """
        self._interrupted = True
        self._until = min(self._until, self._clock.boot() + GRACE)
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        self._signal(signal.SIGTERM)

    @property
    def is_interrupted(self) -> bool:
        """Whether its work was stopped."""
        return self._interrupted

    def last_output(self) -> Result | None:
        """Interrupt a run that is past its timeout; return the result that it still sends."""
        self.interrupt()
        self._set_timeout(GRACE)
        try:
            return self._receive(Result)
        except (ConnectionClosedError, ChildTimeoutError):
            return None

    def end(self, grace_us: Span = GRACE) -> None:
        """End the child and its whole group; an idle child ends by itself within the grace."""
        self._line.close()
        self._process.wait(grace_us, self._clock)
        self._signal(signal.SIGKILL)
        self._process.wait(_MAX_OUTPUT, self._clock)
        self._release()

    def forked(self) -> None:
        """Leave the child to the parent: this is a copy, in a forked child of the parent's.

        A copy that waits for an answer receives none, and only the parent holds the lifeline.
        """
        if not self._dismissed:
            sever(self._line.fileno())
            sever(self._lifeline)

    def _set_timeout(self, time_us: Span) -> Span:
        """Let the child take that long to answer; return the deadline on the boot clock."""
        self._until = self._clock.boot() + time_us
        if self._interrupted:
            self._until = self._clock.boot() + min(time_us, GRACE)
        return self._until

    def _receive(self, kind: type[M]) -> M:
        while not self._has_message():
            if self._clock.boot() >= self._until:
                raise ChildTimeoutError
        return receive(self._line, kind)

    def _has_message(self) -> bool:
        """Return whether a message of the child arrives soon.

        Raises `ConnectionClosedError` if the child has ended.

        The line alone does not show that: a process that the app left behind may hold it open.
        """
        gone = self._process.has_ended()
        left = self._until - self._clock.boot()
        self._line.settimeout(max(min(left, _LOOK_EVERY), 1) / SECOND)
        try:
            self._line.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            if gone:
                raise ConnectionClosedError from None
            return False
        except ConnectionResetError:
            raise ConnectionClosedError from None
        return True

    def _exit_description(self) -> str:
        """Return how the process ended, once it has."""
        ended = self._process.wait(_MAX_OUTPUT, self._clock)
        return self._process.exit_description() if ended else "it closed its socket"

    def _signal(self, number: signal.Signals) -> None:
        if not self._dismissed:
            self._process.signal_group(number)

    def _release(self) -> None:
        self._dismissed = True
        self._line.close()
        os.close(self._lifeline)


class ChildStarter:
    """Starts children; after one that failed to load the application it pauses, longer each time.

    A claim during the pause fails with the traceback of that child.
    """

    def __init__(self, setup: ChildSetup, clock: Clock) -> None:
        self._setup = setup
        self._clock = clock
        self._problem = ""
        self._pause: Span = 0
        self._again_at: Span = 0
        self._pid = os.getpid()

    def make(self, adopt: Callable[[ChildProcess], None]) -> ChildProcess:
        """Return a child that has loaded the application; *adopt* gets it before it loads.

        Raises:
            ChildLostError: it could not, or this is the pause after another that could not, or this
                is a copy in a forked child, which makes none.

        """
        if os.getpid() != self._pid:
            raise ChildLostError("a forked child of the serving process starts no child process")
        left = self._again_at - self._clock.boot()
        if left > 0:
            raise ChildLostError(f"{self._problem}\n(tried again in {-(-left // SECOND)} s)")
        child: ChildProcess | None = None
        try:
            child = ChildProcess(self._setup, self._clock)
            adopt(child)
            child.open()
        except ChildLostError as error:
            # One that was stopped meanwhile says nothing about the application.
            if child is None or not child.is_interrupted:
                self._back_off(str(error))
            raise
        self._pause = 0
        return child

    def _back_off(self, problem: str) -> None:
        self._problem = problem
        self._pause = min(self._pause * 2, LONGEST_PAUSE) or FIRST_PAUSE
        self._again_at = self._clock.boot() + self._pause


def check_setup(setup: ChildSetup) -> None:
    """Check that the setup names the application.

    Raises:
        EngineError: neither an import string nor a paste URI is known.

    """
    if not (setup.application or setup.paste_uri):
        raise EngineError(
            "pulse.config.application: expected package.module:name, got none; in mode = "
            "processing each child process loads the application again, and must know where from"
        )


def find_python() -> str:
    """Return the Python interpreter of this process, also if a server embeds it.

    `sys.executable` may be the server, or the Python that a virtual environment was made from:
    the environment's own goes before it.

    Raises:
        EngineError: there is none.

    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    homes = dict.fromkeys([sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix])
    found = [Path(home, "bin", name) for home in homes for name in (version, "python3", "python")]
    running = Path(sys.executable or "")
    if sys.prefix == sys.base_prefix and running.name.startswith(("python", "pypy")):
        found.insert(0, running)
    for path in found:
        if os.access(path, os.X_OK):
            return str(path)
    raise EngineError(f"expected a Python interpreter below {sys.prefix}, found none")


def _launch(line: int, lifeline: int) -> SpawnedProcess:
    search_path = os.pathsep.join(entry or str(Path.cwd()) for entry in _search_path())
    environ = {**os.environ, "PYTHONPATH": search_path}
    return SpawnedProcess(
        [find_python(), "-P", "-m", "pulse.child"], environ, stdin=line, stdout=lifeline
    )


def _opening(setup: ChildSetup) -> Hello:
    return Hello(
        setup=setup,
        parent=os.getpid(),
        search_path=_search_path(),
        pythonpath=os.environ.get("PYTHONPATH"),
    )


def _search_path() -> list[str]:
    return [entry for entry in sys.path if isinstance(entry, str)]
