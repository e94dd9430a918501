"""The way of a child process to its parent's store, for the views that run in it.

In `mode = processing` a view runs where no scheduler does. What it asks of
`environ["pulse.scheduler"]` is all in the store, which other processes may reach too.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND
from pulse.forks import ForkMark
from pulse.store.factory import choose_store
from pulse.store.offloaded import OffloadedStore
from pulse.store.process_identity import this_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Clock
    from pulse.core.run import Run
    from pulse.engine.child_protocol import StoreSetup
    from pulse.events import Event
    from pulse.store.base import Store


class ChildStoreAccess:
    """Opens the store at its first use, and takes no part: it is no member and claims nothing.

    Make it in the process that uses it, after any fork.
    """

    def __init__(self, setup: StoreSetup, clock: Clock) -> None:
        self._setup = setup
        self._clock = clock
        self._mark = ForkMark()
        self._lock = threading.Lock()
        self._store: OffloadedStore | None = None

    @property
    def store(self) -> Store:
        """The parent's store, open.

        Raises:
            NotServingError: the parent keeps its store to itself.
            StoreError: the store cannot be opened; the next use tries again.

        """
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def forked(self) -> None:
        """Leave the store to this process: called in a process that the app has forked."""
        self._mark.set()
        if self._store is not None:
            self._store.forked()

    def wake(self) -> None:
        """Leave it to those who take part: they look at the store every second."""

    def emit(self, event: Event, passed: Iterable[Run] = ()) -> None:
        """Leave it to the store's record: listeners live in the parent."""

    def _open(self) -> OffloadedStore:
        setup = self._setup
        store, _ = choose_store(
            setup.url,
            clock=self._clock,
            name=setup.name,
            origin=setup.origin,
            keep_runs=1,  # a visitor trims nothing
            keep_for_us=SECOND,
        )
        me = this_member("processing", "", SECOND)
        store.open_as_client(msgspec.structs.replace(me, holder=setup.holder))
        atexit.register(store.close)
        os.register_at_fork(after_in_child=self.forked)
        return OffloadedStore(store, self._mark)
