"""The keeper of every store that speaks SQL: each call of the port as one read, one short write.

What is kept, and the statements that all databases share, are in the modules beside this one; a
`Database` is the database itself. Leases and deploys lean on no wall clock: see
`pulse.store.lease_watch` and `pulse.store.shared.manifests`.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from pulse.core.policies import Scope
from pulse.core.runtime_task import cached_loader
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.base import Claimed, HeartbeatResult
from pulse.store.rules import partition_of
from pulse.store.shared.manifests import UNKNOWN, manifest_of
from pulse.store.shared.recovery import RecoveryWindow
from pulse.store.sql.caller import SqlCaller
from pulse.store.sql.claims import claims_of, plan_due, write_claims
from pulse.store.sql.database import (
    DatabaseReplacedError,
    DueQuery,
    DuplicateKeyError,
    Transaction,
)
from pulse.store.sql.deploys import SqlReconciler, add_manifest, read_active_definitions
from pulse.store.sql.due_query import DUE, pages_for
from pulse.store.sql.members import (
    FleetWatch,
    abandon_runs,
    drop_member,
    read_live,
    save_member,
)
from pulse.store.sql.pending_runs import PENDING
from pulse.store.sql.runs import (
    all_end,
    end_runs,
    finish_runs,
    newest_runs,
    renew_runs,
    trim_old,
)
from pulse.store.sql.runtime_tasks import add_task, remove_task
from pulse.store.sql.tasks import (
    forget_archived,
    pause_rows,
    read_states,
    sync_rows,
    trigger_run,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member, Reach, SyncResult, TaskState
    from pulse.store.shared.manifests import Manifest, Reconciled
    from pulse.store.sql.claims import ClaimPlan, WrittenClaims
    from pulse.store.sql.database import Attempt, Connection, Database
    from pulse.store.sql.members import SqlFleetState

    Opened = MutableMapping[tuple[int, str, str], "SqlStore"]

CONTENTION_WINDOW = 16
"""For so many claims a process that met others at the same rows looks for some elsewhere."""


class SqlStore:
    """Lets processes agree through one database.

    Args:
        storage: the database.
        clock: tells how long things last; what is due, the storage says.
        name: `pulse.config.name`: applications of different names share a database unseen.
        keep_runs: about how many ended runs of each task are remembered.
        keep_for_us: how long they are remembered at most.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach: Reach
    blocking: bool = True
    notice: str = ""

    # What this process has open: the one fact here that no single store can know. It is keyed by
    # pid, so that a forked child begins with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        storage: Database,
        clock: Clock,
        *,
        name: str,
        keep_runs: int,
        keep_for_us: Span,
        opened: Opened | None = None,
    ) -> None:
        self.name: str = storage.name
        self._database = storage
        self._clock = clock
        self._space = name
        self._keep_runs = keep_runs
        self._keep_for = keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._visits = False
        self._adrift = False
        self._untold: DatabaseReplacedError | None = None
        self._passed: list[Run] = []  # on record, and told by the next beat
        self._recall = cached_loader()
        self._opened = self._all_opened if opened is None else opened

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; makes the storage where it is not there yet."""
        key = self._key_here()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each pulse its own"
                " pulse.config.name"
            )
        self._enter(key, member, visits=False)

    def open_as_client(self, member: Member) -> None:
        """Reach the tables without a row among the members."""
        self._enter(self._key_here(), member, visits=True)

    def _key_here(self) -> tuple[int, str, str]:
        return os.getpid(), self._database.identity(), self._space

    def _enter(self, key: tuple[int, str, str], member: Member, *, visits: bool) -> None:
        self._key, self._visits, self._adrift = key, visits, False
        try:
            self._database.open()
            self._begin(member)
        except BaseException:
            self._leave()
            raise

    def _begin(self, member: Member) -> None:
        self._config = UNKNOWN
        partitions = (
            frozenset(partition_of(scope, member) for scope in Scope) if self._visits else ()
        )
        self._caller = SqlCaller(
            member, self._space, {}, self._recall, frozenset(partitions), self._keep_runs
        )
        self._watches = FleetWatch(member.lease_us)
        self._deploys = SqlReconciler(self._watches.unwanted)
        self._seen_at = self._clock.boot()
        self._contested = 0
        self._company = 1
        self._recovery = RecoveryWindow()
        if not self._visits:
            for attempt in self._attempts(Transaction.EXCLUSIVE):
                with attempt as connection:
                    self._save(connection)

    def _save(self, connection: Connection) -> None:
        wall, boot = connection.now(), self._clock.boot()
        save_member(connection, self._caller.member, self._config.key, wall=wall, boot=boot)

    def close(self) -> None:
        """Take part no more; what cannot be written down now is found by the others."""
        if self._key is None:
            return
        holder = self._caller.member.holder
        if not self._visits:
            with contextlib.suppress(StoreUnavailableError):
                for attempt in self._database.attempts(Transaction.EXCLUSIVE):
                    with attempt as connection:
                        drop_member(connection, holder)
        self._leave()

    def forked(self) -> None:
        """Leave the storage to the parent: this is a copy, in a forked child."""
        self._key = None
        self._database.forked()

    def _leave(self) -> None:
        self._database.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    def _attempts(
        self, transaction: Transaction, *, for_app: bool = False
    ) -> Iterator[Attempt[Connection]]:
        """Yield attempts at a transaction: see `Database.attempts`; keep account of outages.

        Args:
            transaction: what the call needs.
            for_app: whether the application has made the call. If the database was replaced, the
                next heartbeat raises the error again, so that the scheduler loop reports it too.

        """
        self._refuse_closed()
        try:
            if self._adrift:
                self._rejoin()
            yield from self._database.attempts(transaction)
        except StoreUnavailableError as error:
            self._watches.forget()
            self._recovery.failed()
            if isinstance(error, DatabaseReplacedError):
                if for_app:
                    self._untold = error
                self._rejoin()
            raise
        if self._recovery.away:
            self._recovery.answered(self._clock.boot())

    def _refuse_closed(self) -> None:
        if self._key is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")

    def _rejoin(self) -> None:
        """Go on with the storage that is there now; until that has worked, each call begins so."""
        self._adrift = False
        try:
            self._database.open()
            if not self._visits:
                self._passed += self.sync(self._caller.definitions).missed
        except BaseException:
            self._adrift = True
            raise

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Make rows for this process's config tasks, and keep *definitions* to plan with."""
        self._refuse_closed()
        held = dict(definitions)
        config = manifest_of(held)
        caller = self._with_definitions(held)
        for attempt in self._attempts(Transaction.EXCLUSIVE):
            with attempt as connection:
                synced = self._sync(connection, caller, config)
        self._caller, self._config = caller, config
        self._deploys.begin(synced.superseded)
        return synced

    def _with_definitions(self, definitions: Mapping[str, TaskDefinition]) -> SqlCaller:
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        partitions = frozenset(partition_of(scope, self._caller.member) for scope in scopes)
        return self._caller._replace(definitions=definitions, partitions=partitions)

    def _sync(self, connection: Connection, caller: SqlCaller, config: Manifest) -> SyncResult:
        wall, boot = connection.now(), self._clock.boot()
        save_member(connection, caller.member, config.key, wall=wall, boot=boot)
        add_manifest(connection, config)
        live = read_live(connection, caller.member, wall=wall, boot=boot)
        active = read_active_definitions(connection, [(one.config, one.member) for one in live])
        return sync_rows(connection, caller, active, wall)

    def add(self, runtime_task: RuntimeTask, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task of the fleet that every process may run, until it is removed."""
        caller = self._current_caller()
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                missed = add_task(connection, caller, runtime_task, replace=replace)
        return missed

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on."""
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                remove_task(connection, name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed."""
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                pause_rows(connection, name, paused=paused, now=connection.now())

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""
        for attempt in self._attempts(Transaction.READ, for_app=True):
            with attempt as connection:
                states = read_states(connection)
        return states

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process."""
        caller, boot = self._current_caller(), self._clock.boot()
        recovering = self._recovery.is_open(boot)
        query = self._due_query(caller, limit)
        for attempt in self._attempts(Transaction.READ):
            with attempt as connection:
                found = connection.read_due(query)
                reading = plan_due(caller, found, limit, recovering=recovering)
        now = reading.now
        if limit <= 0 or not reading.is_work():
            return Claimed((), (), now, reading.next_wakeup, reading.failed_tasks)
        try:
            won = self._claim(caller, reading, boot)
        except DuplicateKeyError:
            # Some tick has run although its row's cursor stands before it, as after a restore.
            won = self._claim(caller, reading, boot, wary=True)
        self._contested = CONTENTION_WINDOW if won.contested else max(0, self._contested - 1)
        claims = claims_of(reading, won.runs, boot + caller.member.lease_us)
        return Claimed(
            claims, won.not_run, now, won.next_wakeup, reading.failed_tasks, won.expired_retries
        )

    def _due_query(self, caller: SqlCaller, limit: int) -> DueQuery:
        spread = pages_for(self._company) * limit if self._contested else 0
        return DueQuery(DUE, PENDING, tuple(caller.partitions), limit, spread)

    def _current_caller(self) -> SqlCaller:
        self._refuse_closed()
        return self._caller

    def _claim(
        self, caller: SqlCaller, reading: ClaimPlan, boot: Span, *, wary: bool = False
    ) -> WrittenClaims:
        for attempt in self._attempts(Transaction.WRITE):
            with attempt as connection:
                written = write_claims(connection, caller, reading, boot=boot, wary=wary)
        return written

    # Runs --------------------------------------------------------------------------------

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended, and tell what became of each."""
        if not completed:
            return []
        final = all_end(completed)
        for attempt in self._attempts(Transaction.SINGLE if final else Transaction.WRITE):
            with attempt as connection:
                record = end_runs if final else finish_runs
                results = record(connection, completed)
        return results

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        if not claims:
            return []
        boot = self._clock.boot()
        for attempt in self._attempts(Transaction.SINGLE):
            with attempt as connection:
                renewed = renew_runs(connection, claims, boot)
        return renewed

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        caller = self._current_caller()
        for attempt in self._attempts(Transaction.WRITE, for_app=True):
            with attempt as connection:
                run = trigger_run(connection, caller, name, body=body)
        return run

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        for attempt in self._attempts(Transaction.READ, for_app=True):
            with attempt as connection:
                runs = newest_runs(connection, task=task, limit=limit)
        return runs

    # Staying alive -----------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process lives, and put right what others have left behind."""
        caller, boot = self._current_caller(), self._clock.boot()
        untold, self._untold = self._untold, None
        if untold is not None:
            raise untold
        for attempt in self._attempts(Transaction.READ):
            with attempt as connection:
                found = self._check_fleet(connection, caller, boot)
        if self._was_dropped(found):
            self._passed += self.sync(caller.definitions).missed
        due = boot - self._seen_at >= caller.member.lease_us // 3
        if not (due or found.lost or found.gone or self._deploys.has_work()):
            return HeartbeatResult(
                (), (), self._deploys.superseded, found.next_expiry, self._report_missed(())
            )
        for attempt in self._attempts(Transaction.EXCLUSIVE):
            with attempt as connection:
                abandoned, settled = self._reconcile(connection, caller, found)
        self._seen_at = boot
        archived, superseded = settled.archived, self._deploys.superseded
        return HeartbeatResult(
            abandoned, archived, superseded, found.next_expiry, self._report_missed(settled.missed)
        )

    def _report_missed(self, passed: Sequence[Run]) -> Sequence[Run]:
        told, self._passed = [*self._passed, *passed], []
        return told

    def _check_fleet(self, connection: Connection, caller: SqlCaller, boot: Span) -> SqlFleetState:
        found = self._watches.check(connection, caller.member, boot)
        self._deploys.reconcile(connection, caller, found.live, boot)
        self._company = len(found.live)
        return found

    def _was_dropped(self, found: SqlFleetState) -> bool:
        holder = self._caller.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _reconcile(
        self, connection: Connection, caller: SqlCaller, found: SqlFleetState
    ) -> tuple[list[Run], Reconciled]:
        now = connection.now()
        self._save(connection)
        abandoned = abandon_runs(connection, found.lost, now)
        for one in found.gone:
            drop_member(connection, one.member.holder)
        settled = self._deploys.apply(connection, caller, now)
        trim_old(connection, now - self._keep_for)
        forget_archived(connection, now - self._keep_for)
        return abandoned, settled

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        caller, boot = self._current_caller().member, self._clock.boot()
        for attempt in self._attempts(Transaction.READ, for_app=True):
            with attempt as connection:
                live = read_live(connection, caller, wall=connection.now(), boot=boot)
        return [one.member for one in live]
