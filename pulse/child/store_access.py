"""The access of a child process to its parent's store, for the views that run in the child.

In `mode = processing` a view runs in a process without a scheduler. Everything that
`environ["pulse.scheduler"]` reads or changes is in the store, which the child opens itself.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND
from pulse.core.policies import StoreFallback
from pulse.events import EventBus
from pulse.forks import ForkMark
from pulse.log.messages import subscribe_log
from pulse.scheduler.offloaded_store import OffloadedStore
from pulse.scheduler.reporter import Reporter
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Clock
    from pulse.core.run import Run
    from pulse.engine.child_protocol import StoreSetup
    from pulse.events import Event
    from pulse.store.base import Store


class ChildStoreAccess:
    """Opens the store at its first use, as a client: it is no member and claims nothing.

    Make it in the process that uses it, after any fork. What a view changes is logged by this
    process; listeners of the application are in the parent process, and are not called.
    """

    def __init__(self, setup: StoreSetup, clock: Clock) -> None:
        self._setup = setup
        self._clock = clock
        self._mark = ForkMark()
        bus = EventBus()
        subscribe_log(bus, clock)
        self._bus = bus.until_fork(self._mark)
        self._reporter = Reporter(self._bus, clock)
        self._lock = threading.Lock()
        self._store: OffloadedStore | None = None

    @property
    def store(self) -> Store:
        """The parent's store, open.

        Raises:
            NotServingError: no other process can reach the parent's store.
            StoreError: the store cannot be opened; the next use tries again.

        """
        with self._lock:
            if self._store is None:
                self._store = self._open()
            return self._store

    def forked(self) -> None:
        """Leave the store to its process: this is a copy, in a process that the app has forked."""
        self._mark.set()
        if self._store is not None:
            self._store.forked()

    def wake(self) -> None:
        """Do nothing: the members of the fleet claim at least every second."""

    def emit(self, event: Event, passed: Iterable[Run] = ()) -> None:
        """Log an event of the handle, and those of the fire times that the call missed."""
        self._bus.emit(event)
        self._reporter.not_run(passed)

    def _open(self) -> OffloadedStore:
        setup = self._setup
        store, _ = choose_store(
            setup.url,
            StoreOptions(name=setup.name or ""),
            clock=self._clock,
            origin=setup.origin,
            fallback=StoreFallback.MEMORY,  # which no child can open: its error says so
        )
        me = this_member("processing", "", SECOND)
        store.open_as_client(msgspec.structs.replace(me, holder=setup.holder))
        atexit.register(store.close)
        os.register_at_fork(after_in_child=self.forked)
        return OffloadedStore(store, self._mark)
