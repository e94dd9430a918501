"""A store whose calls leave the hub free, and are refused in a forked child."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.policies import Scope
    from pulse.core.records import TaskRecords
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.run_query import RunPage, RunQuery
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.forks import ForkMark
    from pulse.store.base import (
        Claimed,
        HeartbeatResult,
        Look,
        Member,
        PostedRun,
        ReturnedRun,
        Store,
        SyncResult,
    )
    from pulse.store.lease_watch import Observations
    from pulse.store.steering import (
        AuditEntry,
        DeletedRuns,
        MemberState,
        Pause,
        StopRequest,
        TaskState,
    )

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

    def open(self, member: Member, *, report: Callable[[], MemberReport] = MemberReport) -> None:
        """Take part as *member*."""
        self._call(partial(self._store.open, member, report=report))
        self.notice = self._store.notice  # some stores learn only now what a person should know

    def open_as_client(self, member: Member) -> None:
        """Open the store from a child process of *member*."""
        self._call(partial(self._store.open_as_client, member))

    def open_as_worker(
        self, member: Member, *, report: Callable[[], MemberReport] = MemberReport
    ) -> None:
        """Take part as a process that takes posted runs alone."""
        self._call(partial(self._store.open_as_worker, member, report=report))
        self.notice = self._store.notice

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

    def keep_alive(self, reports: Mapping[str, MemberReport | None]) -> list[str]:
        """Record that other processes of this machine live, for which this one looks."""
        return self._call(partial(self._store.keep_alive, reports))

    def rest(self) -> None:
        """Close connections to a server that no call uses."""
        self._call(self._store.rest)

    def now(self) -> Instant:
        """Return the store's clock."""
        return self._call(self._store.now)

    def members(self) -> list[MemberState]:
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

    def pause(self, name: str | None, pause: Pause | None, *, by: str = "") -> Sequence[Run]:
        """Pause or resume a task, or all tasks."""
        return self._call(partial(self._store.pause, name, pause, by=by))

    def pause_of_all(self) -> Pause | None:
        """Return the pause of all tasks; None if there is none."""
        return self._call(self._store.pause_of_all)

    def tasks(self, name: str | None = None) -> list[TaskState]:
        """Return the rows of all tasks, or of one."""
        return self._call(partial(self._store.tasks, name))

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

    def post(self, posted: Sequence[PostedRun]) -> list[bool]:
        """Hand claimed runs over to the workers of a queue."""
        return self._call(partial(self._store.post, posted))

    def take(
        self, ident: str, attempt: int, *, poster: str, definition: TaskDefinition
    ) -> Claim | None:
        """Claim a run that *poster* has posted; None where there is nothing to run."""
        take = partial(self._store.take, ident, attempt, poster=poster, definition=definition)
        return self._call(take)

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:
        """Make claimed runs pending again."""
        return self._call(partial(self._store.give_back, returned))

    def runtime_definition(self, task: str) -> TaskDefinition | None:
        """Return the definition of a task that was added at run time; None if there is none."""
        return self._call(partial(self._store.runtime_definition, task))

    def trigger(
        self, name: str, *, body: bytes | None = None, by: str = "", ident: str | None = None
    ) -> Run | None:
        """Add a pending manual run, due now; None when overlap refuses it."""
        return self._call(partial(self._store.trigger, name, body=body, by=by, ident=ident))

    def begin(
        self,
        name: str,
        definition: TaskDefinition | None,
        *,
        body: bytes | None = None,
        by: str = "",
        at_once: bool = False,
    ) -> Claim | None:
        """Create a manual run that the caller has claimed; None when overlap refuses it."""
        begin = partial(self._store.begin, name, definition, body=body, by=by, at_once=at_once)
        return self._call(begin)

    def stop_request(self, run: Run) -> StopRequest | None:
        """Return the request to stop a run that the caller has claimed; None if there is none."""
        return self._call(partial(self._store.stop_request, run))

    def stop(self, ident: str, *, by: str = "", note: str = "") -> Run:
        """Ask for a run to be stopped; return the run as it is."""
        return self._call(partial(self._store.stop, ident, by=by, note=note))

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first."""
        return self._call(partial(self._store.audit, before=before, limit=limit))

    def records(self, task: str) -> TaskRecords:
        """Return everything that is recorded about a task beside its runs."""
        return self._call(partial(self._store.records, task))

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return self._call(partial(self._store.runs, task=task, limit=limit))

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first."""
        return self._call(partial(self._store.history, query))

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if there is none."""
        return self._call(partial(self._store.run, ident))

    def delete_runs(self, query: RunQuery, *, by: str = "", note: str = "") -> DeletedRuns:
        """Delete those runs of a page of the history that have ended, and count them."""
        return self._call(partial(self._store.delete_runs, query, by=by, note=note))
