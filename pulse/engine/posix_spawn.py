"""A process started by `posix_spawn`, which runs no at-fork hooks of Python or gevent.

`subprocess` cannot be used: gevent's `Popen` runs the at-fork hooks of the whole process in each
child and needs the default event loop, which a uWSGI worker lacks; and in a patched process it
replaces the one of the standard library.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from pulse.clock import SECOND
from pulse.patching import native

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.clock import Clock, Span

_LOOK_FIRST: Span = 1_000
_LOOK_LAST: Span = 20_000


class SpawnedProcess:
    """A process that leads its own session.

    Args:
        command: the program's path, and its arguments.
        environ: its environment.
        stdin: the file that it has as its standard input.
        stdout: the file that it has as its standard output.

    Raises:
        OSError: it could not be started.

    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], *, stdin: int, stdout: int
    ) -> None:
        self._waitpid = cast("Callable[[int, int], tuple[int, int]]", native("os", "waitpid"))
        self._status: int | None = None
        self._ended = False
        self._parent = os.getpid()
        spawn = cast("Callable[..., int]", native("os", "posix_spawn"))
        self.pid: int = spawn(
            command[0],
            command,
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGTERM],
        )

    def has_ended(self) -> bool:
        """Return whether it has ended; only its owner may call this."""
        if self._ended:
            return True
        try:
            pid, status = self._waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._ended = True
            return True
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
            self._ended = True
        return self._ended

    def wait(self, timeout_us: Span, clock: Clock) -> bool:
        """Wait until it has ended; return False if it has not within the time."""
        until = clock.boot() + timeout_us
        pause, never = _LOOK_FIRST, threading.Event()
        while not self.has_ended():
            left = until - clock.boot()
            if left <= 0:
                return False
            never.wait(min(pause, left) / SECOND)
            pause = min(pause * 2, _LOOK_LAST)
        return True

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to its process group.

        A copy of this object, in a forked child, sends none: the process is the parent's.
        """
        if os.getpid() != self._parent:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def exit_description(self) -> str:
        """Return how it ended."""
        if self._status is None:
            return "exit status unknown: other code in this process has read it"
        if self._status >= 0:
            return f"exit status {self._status}"
        return f"signal {_name_of(-self._status)}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
