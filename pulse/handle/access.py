"""What a handle calls: the scheduler of its process, or the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pulse.core.runtime_task import TaskDefaults
from pulse.errors import NotServingError
from pulse.forks import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pulse import events
    from pulse.clock import Clock
    from pulse.core.run import Run
    from pulse.store.base import Store


class Access(Protocol):
    """What a handle calls: the scheduler of the process, or the store access of a child process."""

    @property
    def store(self) -> Store:
        """The store, open; a call stalls no other thread or greenlet."""

    def close(self) -> None:
        """Close the store, unless a scheduler uses it."""

    def wake(self) -> None:
        """Let the scheduler claim soon."""

    @property
    def clock(self) -> Clock:
        """The clock by which a call waits."""

    def emit(self, event: events.Event, passed: Iterable[Run] = ()) -> None:
        """Emit an event of the handle, and those of the fire times that the call missed."""


def _no_client() -> None:
    """Return no access."""


class HandleBase:
    """Finds the scheduler of this process, or opens the store.

    Args:
        defaults: the settings of the configuration that apply to tasks that are added.
        make_client: returns access to the store for a process without a scheduler; None if there
            is none.

    """

    __slots__ = ("_access", "_client", "_defaults", "_make_client", "_pid")

    def __init__(
        self,
        defaults: TaskDefaults | None = None,
        *,
        make_client: Callable[[], Access | None] | None = None,
    ) -> None:
        self._defaults = defaults or TaskDefaults()
        self._make_client = make_client or _no_client
        self._access: Access | None = None
        self._client: Access | None = None
        self._pid = 0

    def attach(self, access: Access | None) -> None:
        """Use *access* for calls after this one; None means that this process has none."""
        self._access = access
        self._pid = os.getpid()
        self.close()

    def close(self) -> None:
        """Close what the handle has opened in a process without a scheduler; a call opens it again.

        A program that ends need not do this; one that goes on gives its connections back.
        """
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def refuse_clients(self) -> None:
        """Reach no store from now on but that of a scheduler: a test steps one of this handle."""
        self._make_client = _no_client

    def forked(self) -> None:
        """Refuse all calls: this is a copy, in a forked child."""
        self._access = self._client = None

    def _reached(self) -> Access:
        here = os.getpid()
        if self._pid not in {0, here}:
            raise refusal(self._pid)
        if self._access is not None:
            return self._access
        if self._client is None:
            self._client = self._make_client()
        if self._client is None:
            raise NotServingError(
                "pulse.scheduler: expected a process in which the scheduler has started, got"
                f" process {here}, in which it has not, or has ended, and whose store memory: no"
                " other process can reach; the scheduler starts with the server, or at the first"
                " request that is served: see the setting start, and the log if it could not start"
            )
        self._pid = here
        return self._client
