"""The access to the store from a process without a scheduler.

In `mode = processing` a view runs in a child process; with `start = off`, in a shell or in a
command no scheduler starts. Everything that `environ["pulse.scheduler"]` reads or changes is in the
store, which such a process opens itself.
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
from pulse.patching import process_is_patched
from pulse.scheduler.offloaded_store import OffloadedStore
from pulse.scheduler.reporter import Reporter
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.clock import Clock, Span
    from pulse.core.run import Run
    from pulse.engine.child_protocol import StoreSetup
    from pulse.events import Event
    from pulse.scheduler.offloaded_store import Offload
    from pulse.store.base import Store


class StoreAccess:
    """Opens the store at its first use, as a client: it is no member and claims nothing.

    Make it in the process that uses it, after any fork.

    Args:
        setup: the store, and the parent of a child process.
        clock: the clock by which calls wait.
        lease_us: the length of the leases of runs that this process begins.
        bus: takes the events of changes; None for one that only logs them: the listeners of the
            application are in the parent process, and are not called.

    """

    def __init__(
        self,
        setup: StoreSetup,
        clock: Clock,
        *,
        bus: EventBus | None = None,
        lease_us: Span = SECOND,
    ) -> None:
        self._setup = setup
        self._lease_us = lease_us
        self.clock: Clock = clock
        self._clock = clock
        self._mark = ForkMark()
        if bus is None:
            from pulse.log.messages import subscribe_log  # which a command on a store does not need

            bus = EventBus()
            subscribe_log(bus, clock)
        self._bus = bus.until_fork(self._mark)
        self._reporter = Reporter(self._bus, clock)
        self._lock = threading.Lock()
        self._store: OffloadedStore | None = None

    @property
    def store(self) -> Store:
        """The store, open.

        Raises:
            NotServingError: no other process can reach it.
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

    def close(self) -> None:
        """Close the store; the next use opens it again."""
        with self._lock:
            store, self._store = self._store, None
        if store is not None:
            store.close()

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
            StoreOptions(name=setup.name or "", creates=setup.creates),
            clock=self._clock,
            origin=setup.origin,
            fallback=StoreFallback.MEMORY,  # which no child can open: its error says so
        )
        me = this_member("processing", "", self._lease_us)
        if setup.holder:
            me = msgspec.structs.replace(me, holder=setup.holder)
        offloaded = OffloadedStore(store, self._mark, offload=_offload())
        offloaded.open_as_client(me)  # which may wait for a server
        atexit.register(store.close)
        os.register_at_fork(after_in_child=self.forked)
        return offloaded


def _offload() -> Offload | None:
    """Return what calls a blocking store beside the hub of a process that gevent has patched."""
    if not process_is_patched():
        return None
    from pulse.engine.gevent_bridge import NativeThread

    return NativeThread().call
