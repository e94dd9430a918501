"""Makes SQLite safe across forks.

A forked child must neither use nor close a connection of its parent: see "Carrying an open database
connection across a fork()" in https://sqlite.org/howtocorrupt.html. While it has such a connection,
SQLite in the child takes the parent's locks for its own, but the kernel does not: POSIX locks are
not inherited. A connection that the child opens to the same file would write without a lock. So the
child leaves an inherited connection untouched until it opens the same file itself, and closes the
inherited one first.

A connection that is in use at the fork can never be closed in the child: the thread that uses it
does not exist there, and may hold a mutex of SQLite. So a fork waits up to `LONGEST_WAIT` for calls
to end; if a call has not ended by then, the child cannot use the file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.forks import import_for_fork, never_free
from pulse.patching import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pulse.clock import Span
    from pulse.store.sqlite.connection import SqliteConnection
    from pulse.store.sqlite.log import Identity

LONGEST_WAIT: Span = SECOND // 10
"""How long a fork waits for calls to end; a longer call waits for the lock of the file."""

_POLL_EVERY_S = 0.0005


class ForkSafety:
    """The calls that are running in this process, and the connections that it has inherited.

    Attributes:
        calls: the running calls, and the file of each. A call adds an object before it takes a
            connection, and removes the object when it has given the connection back.

    """

    __slots__ = ("_clock", "_inherited", "_registered", "_unusable", "calls")

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.calls: dict[object, Identity | None] = {}
        self._inherited: list[SqliteConnection] = []
        self._unusable: set[Identity | None] = set()
        self._registered = False

    def watch(self) -> None:
        """Let each later fork wait for running calls."""
        if not self._registered:
            self._registered = True
            import_for_fork()
            os.register_at_fork(before=self.await_calls)

    def await_calls(self) -> None:
        """Return when no call is running, or after `LONGEST_WAIT`."""
        sleep = cast("Callable[[float], None]", native("time", "sleep"))
        until = self._clock.boot() + LONGEST_WAIT
        while self.calls and self._clock.boot() < until:
            sleep(_POLL_EVERY_S)

    def inherit(self, connections: Iterable[SqliteConnection], origin: Identity | None) -> None:
        """In a forked child, keep the parent's idle connections to the file *origin* alive.

        The interpreter would close a connection that it frees.
        """
        for connection in connections:
            never_free(connection.raw)
            self._inherited.append(connection)
        for call in [call for call, file in self.calls.items() if file == origin]:
            del self.calls[call]
            self._unusable.add(origin)

    def release(self, path: Path, origin: Identity) -> None:
        """Close the inherited connections to a file that this process is about to open.

        Raises:
            StoreUnavailableError: a connection to the file was in use when this process was forked.

        """
        if origin in self._unusable:
            raise StoreUnavailableError(
                f"{path}: this process was forked in the middle of a call to SQLite, so it cannot"
                " use the file; restart it"
            )
        for connection in [
            connection for connection in self._inherited if connection.origin == origin
        ]:
            self._inherited.remove(connection)
            connection.raw.close()


FORK_SAFETY = ForkSafety()
"""The one instance of the process: SQLite's locks belong to the process as well."""
