"""Keeps SQLite right over forks: what it says of them, and what its locks need.

A child must neither use nor close a connection of its parent's. But while it has one, SQLite takes
the parent's locks for this process's own, although the child has none of them: a connection that
the child makes to the same file is not protected, and what it writes may be lost. So a child keeps
what it has inherited, untouched, and closes it when it opens the same file for itself.

A connection that is in use as the fork comes cannot be closed at all: the thread that uses it is
not in the child, and may hold locks there. So a fork waits a moment for calls to end. Where one did
not, the child cannot use the file.
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
    from pulse.store.sqlite.connection import Identity, SqliteConnection

LONGEST_WAIT: Span = SECOND // 10
"""How long a fork waits for calls to end; one lasts longer only while others hold the file."""

_LOOK_EVERY_S = 0.0005


class ForkSafety:
    """Knows the calls that are under way in this process, and what it has inherited.

    Attributes:
        calls: the calls that are under way, and the file of each. A call is an object that adds
            itself before it uses a connection and removes itself afterwards.

    """

    __slots__ = ("_clock", "_links", "_unusable", "_watches", "calls")

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.calls: dict[object, Identity | None] = {}
        self._links: list[SqliteConnection] = []
        self._unusable: set[Identity | None] = set()
        self._watches = False

    def watch(self) -> None:
        """Let forks wait for calls from now on."""
        if not self._watches:
            self._watches = True
            import_for_fork()
            os.register_at_fork(before=self.await_calls)

    def await_calls(self) -> None:
        """Return when no call is under way, or after a moment."""
        sleep = cast("Callable[[float], None]", native("time", "sleep"))
        until = self._clock.boot() + LONGEST_WAIT
        while self.calls and self._clock.boot() < until:
            sleep(_LOOK_EVERY_S)

    def inherit(self, links: Iterable[SqliteConnection], origin: Identity | None) -> None:
        """Keep the idle connections of a forked child to the file *origin*, never to be freed."""
        for connection in links:
            never_free(connection.raw)
            self._links.append(connection)
        for call in [call for call, file in self.calls.items() if file == origin]:
            del self.calls[call]
            self._unusable.add(origin)

    def release(self, path: Path, origin: Identity) -> None:
        """Close what was inherited of a file that this process is about to open.

        Raises:
            StoreUnavailableError: a connection to it was in use as this process was forked.

        """
        if origin in self._unusable:
            raise StoreUnavailableError(
                f"{path}: this process was forked in the middle of a call to SQLite, so it cannot"
                " use the file; restart it"
            )
        for connection in [connection for connection in self._links if connection.origin == origin]:
            self._links.remove(connection)
            connection.raw.close()


FORK_SAFETY = ForkSafety()
"""One for the process, as the locks of SQLite are."""
