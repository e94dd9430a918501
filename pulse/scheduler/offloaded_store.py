"""A store whose calls leave the hub free, and are refused in a forked child."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.policies import Scope
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.run_query import RunPage, RunQuery
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.forks import ForkMark
    from pulse.store.base import (
        AuditEntry,
        Claimed,
        HeartbeatResult,
        Look,
        Member,
        Store,
        SyncResult,
        TaskState,
    )
    from pulse.store.lease_watch import Observations

T = TypeVar("T")


class Offload(Protocol):
    """Runs a call elsewhere, and returns what it returns."""

    def __call__(self, call: Callable[[], T], /) -> T:
        """Return what *call* returns."""


class OffloadedStore:
    """Passes each call on to a store, through *offload* where the store blocks.

    Every method but `forked` raises `NotServingError` in a forked child, where the store is a
    copy. A greenlet that waited for an answer as the process forked does not continue in the child
    (`pulse.forks`).

    Args:
        store: the store that is called.
        mark: whether this is a copy, in a forked child.
        offload: runs a blocking call beside the hub; without it such calls are made directly.

    """

    blocking: bool = False

    def __init__(self, store: Store, mark: ForkMark, *, offload: Offload | None = None) -> None:
        self._store = store
        self._mark = mark
        self._offload = offload if store.blocking else None
        self.name: str = store.name
        self.reach: Scope = store.reach
        self.notice: str = store.notice

    def _call(self, call: Callable[[], T]) -> T:
        mark = self._mark
        if mark.in_child:
            raise mark.refusal()
        try:
            if self._offload is None:
                return call()
            return self._offload(call)
        finally:
            if self._mark.in_child:
                self._mark.stay()

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child."""
        self._store.forked()

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*."""
        self._call(partial(self._store.open, member))
        self.notice = self._store.notice  # some stores learn only now what a person should know

    def open_as_client(self, member: Member) -> None:
        """Open the store from a child process of *member*."""
        self._call(partial(self._store.open_as_client, member))

    def close(self) -> None:
        """Take part no more."""
        self._call(self._store.close)

    def heartbeat(self) -> HeartbeatResult:
        """Record that this member lives, and abandon the runs of those that do not."""
        return self._call(self._store.heartbeat)

    def look(
        self,
        limit: int,
        *,
        partitions: Collection[str] = (),
        observed: Observations | None = None,
    ) -> Look:
        """Send a heartbeat and claim, in one read where there is nothing to write."""
        look = partial(self._store.look, limit, partitions=partitions, observed=observed)
        return self._call(look)

    def keep_alive(self, holders: Sequence[str]) -> list[str]:
        """Record that other processes of this machine live, for which this one looks."""
        return self._call(partial(self._store.keep_alive, holders))

    def rest(self) -> None:
        """Close connections to a server that no call uses."""
        self._call(self._store.rest)

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        return self._call(self._store.members)

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Add and change rows for the declared tasks; plan with *definitions* from now on."""
        return self._call(partial(self._store.sync, definitions))

    def add(
        self, runtime_task: RuntimeTask, *, replace: bool = False, by: str = ""
    ) -> Sequence[Run]:
        """Add a task that every process may run, until it is removed."""
        return self._call(partial(self._store.add, runtime_task, replace=replace, by=by))

    def remove(self, name: str, *, by: str = "") -> None:
        """Remove a task that was added."""
        self._call(partial(self._store.remove, name, by=by))

    def pause(
        self,
        name: str,
        *,
        paused: bool,
        until: Instant | None = None,
        by: str = "",
        note: str = "",
    ) -> None:
        """Pause or resume a task."""
        pause = partial(self._store.pause, name, paused=paused, until=until, by=by, note=note)
        self._call(pause)

    def tasks(self) -> list[TaskState]:
        """Return the rows."""
        return self._call(self._store.tasks)

    # Runs --------------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process."""
        return self._call(partial(self._store.claim_due, limit))

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended, and return what became of each."""
        return self._call(partial(self._store.finish, completed))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress."""
        return self._call(partial(self._store.renew, claims))

    def trigger(self, name: str, *, body: bytes | None = None, by: str = "") -> Run | None:
        """Add a pending manual run, due now; None when overlap refuses it."""
        return self._call(partial(self._store.trigger, name, body=body, by=by))

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        return self._call(partial(self._store.audit, before=before, limit=limit))

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return self._call(partial(self._store.runs, task=task, limit=limit))

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first."""
        return self._call(partial(self._store.history, query))

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if there is none."""
        return self._call(partial(self._store.run, ident))
