"""A child process that holds the application: how it is made, spoken to and ended.

Theory of operation
-------------------
A child is a fresh interpreter, never a fork: a fork of a server's worker runs the worker's own
signal handlers, exit hooks and greenlets. Two things tie it to its parent:

* the line, a private socket pair, on which errands and results travel (`pulse.engine.wire`);
* the lifeline, a pipe in which nothing is ever written. The parent alone holds its writing end,
  so that the child's end reports a hang-up the moment the parent is gone, however it went.

The child leads a session and a process group of its own, with which all that the app starts in it
is ended: TERM, a short grace, KILL. Nothing of it is the owner's concern but `perform`, which
returns a result or raises what became of the child, and `dismiss`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pulse.application import KEY
from pulse.clock import SECOND
from pulse.engine.spawned import Spawned
from pulse.engine.wire import (
    ChildSetup,
    LineClosedError,
    Opening,
    Readiness,
    errand_of,
    receive,
    send,
)
from pulse.errors import EngineError
from pulse.forks import sever
from pulse.run import Result

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.run import Claim

M = TypeVar("M", Readiness, Result)

GRACE: Span = 2 * SECOND
"""How long a child has between TERM and KILL."""

LOADING: Span = 60 * SECOND
"""How long a child may take to load the application."""

_LOOK_EVERY: Span = SECOND // 2
_LAST_WORDS: Span = SECOND


class ChildLostError(Exception):
    """A child ended, or could not begin; the message is what its run is recorded with.

    Attributes:
        summary: the same in one sentence.

    """

    def __init__(self, message: str, *, summary: str = "") -> None:
        self.summary: str = summary or message
        super().__init__(message)


class ChildOvertimeError(Exception):
    """A child has not answered in time, and goes on."""


class Child:
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
            self._let_go()
            raise ChildLostError(f"no child process could be made: {error}") from error
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
            self._allow(LOADING)
            send(self._line, _opening(self._setup))
            answer = self._hear(Readiness)
        except LineClosedError:
            fate = f"the child process ended while it loaded the application: {self._fate()}"
            answer = Readiness(fate, self._summary(fate))
        except ChildOvertimeError:
            late = f"the child process did not load the application in {LOADING // SECOND} s"
            answer = Readiness(late, self._summary(late))
        if answer.problem:
            raise ChildLostError(answer.problem, summary=answer.summary)

    def _summary(self, problem: str) -> str:
        return f"{KEY}: expected {self._setup.where} to be an application that loads: {problem}"

    def is_well(self) -> bool:
        """Return whether the idle child is still there; somebody may have killed it."""
        return not self._process.has_ended()

    def perform(self, claim: Claim) -> Result:
        """Return what came of the claim, in the child's own words.

        Raises:
            ChildLostError: the child ended before it answered.
            ChildOvertimeError: the claim's timeout has passed.

        """
        try:
            overdue_at = self._allow(claim.definition.timeout_us)
            send(self._line, errand_of(claim, overdue_at=overdue_at))
            return self._hear(Result)
        except LineClosedError:
            raise ChildLostError(
                f"the child process ended during the run: {self._fate()}"
            ) from None

    def interrupt(self) -> None:
        """Stop whatever goes on in the child; may be called beside `open` and `perform`.

        They return what the child still says of it, or raise once it is gone or the grace is over.
        """
        self._interrupted = True
        self._until = min(self._until, self._clock.boot() + GRACE)
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)
        self._signal(signal.SIGTERM)

    def last_words(self) -> Result | None:
        """Interrupt a run that is past its timeout; return what the child still says of it."""
        self.interrupt()
        self._allow(GRACE)
        try:
            return self._hear(Result)
        except (LineClosedError, ChildOvertimeError):
            return None

    def dismiss(self, grace_us: Span = GRACE) -> None:
        """End the child and its whole group; an idle child ends by itself within the grace."""
        self._line.close()
        self._process.wait(grace_us, self._clock)
        self._signal(signal.SIGKILL)
        self._process.wait(_LAST_WORDS, self._clock)
        self._let_go()

    def forked(self) -> None:
        """Leave the child to the parent: this is a copy, in a forked child of the parent's.

        What waits for an answer here takes it from nobody, and the lifeline is the parent's alone.
        """
        if not self._dismissed:
            sever(self._line.fileno())
            sever(self._lifeline)

    def _allow(self, time_us: Span) -> Span:
        """Let the child be silent for that long; return until when on the boot clock."""
        self._until = self._clock.boot() + time_us
        if self._interrupted:
            self._until = self._clock.boot() + min(time_us, GRACE)
        return self._until

    def _hear(self, kind: type[M]) -> M:
        while not self._speaks():
            if self._clock.boot() >= self._until:
                raise ChildOvertimeError
        return receive(self._line, kind)

    def _speaks(self) -> bool:
        """Return whether the child says something soon; raise `LineClosedError` if it is gone.

        The end of the line is not enough to know: what the app left behind may hold it open.
        """
        gone = self._process.has_ended()
        left = self._until - self._clock.boot()
        self._line.settimeout(max(min(left, _LOOK_EVERY), 1) / SECOND)
        try:
            self._line.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            if gone:
                raise LineClosedError from None
            return False
        except ConnectionResetError:
            raise LineClosedError from None
        return True

    def _fate(self) -> str:
        """Say how the process ended, once it has."""
        ended = self._process.wait(_LAST_WORDS, self._clock)
        return self._process.fate() if ended else "it closed its line"

    def _signal(self, number: signal.Signals) -> None:
        if not self._dismissed:
            self._process.signal_group(number)

    def _let_go(self) -> None:
        self._dismissed = True
        self._line.close()
        os.close(self._lifeline)


def find_python() -> str:
    """Return the Python interpreter that this process runs in, also where a server embeds it.

    `sys.executable` may be the server, or the Python that a virtual environment was made from:
    the environment's own goes before it.

    Raises:
        EngineError: there is none.

    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    homes = dict.fromkeys([sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix])
    found = [Path(home, "bin", name) for home in homes for name in (version, "python3", "python")]
    told = Path(sys.executable or "")
    if sys.prefix == sys.base_prefix and told.name.startswith(("python", "pypy")):
        found.insert(0, told)
    for path in found:
        if os.access(path, os.X_OK):
            return str(path)
    raise EngineError(f"expected a Python interpreter below {sys.prefix}, found none")


def _launch(line: int, lifeline: int) -> Spawned:
    search_path = os.pathsep.join(entry or str(Path.cwd()) for entry in _search_path())
    environ = {**os.environ, "PYTHONPATH": search_path}
    return Spawned([find_python(), "-P", "-m", "pulse.child"], environ, stdin=line, stdout=lifeline)


def _opening(setup: ChildSetup) -> Opening:
    return Opening(
        setup=setup,
        parent=os.getpid(),
        search_path=_search_path(),
        pythonpath=os.environ.get("PYTHONPATH"),
    )


def _search_path() -> list[str]:
    return [entry for entry in sys.path if isinstance(entry, str)]
