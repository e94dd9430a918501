"""A handle for a process in which no scheduler runs: a command, a shell, or `start = off`.

Only what a command on the URL of a store needs is imported here: its first output waits for it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.engine.child_protocol import StoreSetup
from pulse.events import EventBus
from pulse.handle.handle import SchedulerHandle

if TYPE_CHECKING:
    from pulse.child.store_access import StoreAccess
    from pulse.clock import Clock
    from pulse.config.settings import Settings


def make_client_handle(settings: Settings, *, clock: Clock) -> SchedulerHandle:
    """Return a handle that works on what the store has; nothing is created, logged or started."""
    client = partial(client_access, settings, clock, EventBus(), creates=False)
    return SchedulerHandle(settings.task_defaults(), make_client=client)


def client_access(
    settings: Settings, clock: Clock, bus: EventBus, *, creates: bool = True
) -> StoreAccess | None:
    """Return access to the store for a process in which no scheduler runs; None for memory."""
    if settings.store == "memory:":
        return None
    from pulse.child.store_access import StoreAccess

    setup = StoreSetup(
        url=settings.store,
        name=settings.name,
        origin=settings.origin,
        holder="",
        creates=creates,
    )
    return StoreAccess(setup, clock, bus=bus, lease_us=settings.lease_us)
