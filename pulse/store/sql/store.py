"""The store interface on an SQL database: each method is one read, one short write, or both.

The statements, which SQLite and PostgreSQL share, are in the other modules of this package; a
`Database` runs them. Leases and deploys do not depend on wall clocks: see `pulse.store.lease_watch`
and `pulse.store.shared.manifests`.
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
    from pulse.store.base import Member, StoreOptions, SyncResult, TaskState
    from pulse.store.shared.manifests import Manifest, Reconciled
    from pulse.store.sql.claims import ClaimPlan, WrittenClaims
    from pulse.store.sql.database import Attempt, Connection, Database
    from pulse.store.sql.members import SqlFleetState

    Opened = MutableMapping[tuple[int, str, str], "SqlStore"]

CONTENTION_WINDOW = 16
"""For how many claims a process spreads its reads after it has lost rows to other processes."""


class SqlStore:
    """A store in an SQL database, which the processes that share it reach directly.

    Args:
        storage: the database.
        clock: measures durations; what is due depends on the database's clock.
        options: the name of the application, and how many finished runs are kept.
        opened: the stores that are open in this process; a test that simulates several processes
            gives each its own mapping.

    """

    reach: Scope
    blocking: bool = True
    notice: str = ""

    # Shared by all stores of this process: two schedulers of one name would run as one member. The
    # key includes the pid, so that a forked child starts with no open store.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        storage: Database,
        clock: Clock,
        options: StoreOptions,
        *,
        opened: Opened | None = None,
    ) -> None:
        self.name: str = storage.name
        self._database = storage
        self._clock = clock
        self._space = options.name
        self._keep_runs = options.keep_runs
        self._keep_for = options.keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._is_client = False
        self._must_reopen = False  # the database was replaced, and could not be opened again yet
        self._unreported_error: DatabaseReplacedError | None = None  # raised by the next heartbeat
        self._unreported_runs: list[Run] = []  # returned by the next heartbeat
        self._load_task = cached_loader()
        self._opened = self._all_opened if opened is None else opened

    # Membership --------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Join as *member*; create or migrate the tables if necessary."""
        key = self._process_key()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each pulse its own"
                " pulse.config.name"
            )
        self._open_as(key, member, is_client=False)

    def open_as_client(self, member: Member) -> None:
        """Open the store for its API only; *member* is not recorded, and claims nothing."""
        self._open_as(self._process_key(), member, is_client=True)

    def _process_key(self) -> tuple[int, str, str]:
        return os.getpid(), self._database.identity(), self._space

    def _open_as(self, key: tuple[int, str, str], member: Member, *, is_client: bool) -> None:
        self._key, self._is_client, self._must_reopen = key, is_client, False
        try:
            self._database.open()
            self._join(member)
        except BaseException:
            self._close_database()
            raise

    def _join(self, member: Member) -> None:
        self._config = UNKNOWN
        partitions = (
            frozenset(partition_of(scope, member) for scope in Scope) if self._is_client else ()
        )
        self._caller = SqlCaller(
            member, self._space, {}, self._load_task, frozenset(partitions), self._keep_runs
        )
        self._watches = FleetWatch(member.lease_us)
        self._deploys = SqlReconciler(self._watches.unwanted)
        self._saved_at = self._clock.boot()
        self._spread_for = 0
        self._live_processes = 1
        self._recovery = RecoveryWindow()
        if not self._is_client:
            for attempt in self._attempts(Transaction.EXCLUSIVE):
                with attempt as connection:
                    self._save_member(connection)

    def _save_member(self, connection: Connection) -> None:
        wall, boot = connection.now(), self._clock.boot()
        save_member(connection, self._caller.member, self._config.key, wall=wall, boot=boot)

    def close(self) -> None:
        """Leave the fleet; if that cannot be written now, other processes find it out."""
        if self._key is None:
            return
        holder = self._caller.member.holder
        if not self._is_client:
            with contextlib.suppress(StoreUnavailableError):
                for attempt in self._database.attempts(Transaction.EXCLUSIVE):
                    with attempt as connection:
                        drop_member(connection, holder)
        self._close_database()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process."""
        self._key = None
        self._database.forked()

    def _close_database(self) -> None:
        self._database.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    def _attempts(
        self, transaction: Transaction, *, for_app: bool = False
    ) -> Iterator[Attempt[Connection]]:
        """Yield attempts at a transaction, and note outages: see `Database.attempts`.

        Args:
            transaction: what the call needs.
            for_app: whether the call was made by the application. If the database was replaced, the
                next heartbeat raises the error again, so that the scheduler loop reports it too.

        """
        self._refuse_closed()
        try:
            if self._must_reopen:
                self._reopen()
            yield from self._database.attempts(transaction)
        except StoreUnavailableError as error:
            self._watches.forget()
            self._recovery.failed()
            if isinstance(error, DatabaseReplacedError):
                # If the database cannot be reopened now, that error is raised instead of this one.
                self._unreported_error = error
                self._reopen()
                if not for_app:
                    self._unreported_error = None
            raise
        if self._recovery.away:
            self._recovery.answered(self._clock.boot())

    def _refuse_closed(self) -> None:
        if self._key is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")

    def _reopen(self) -> None:
        """Reopen the database after it was replaced, and sync.

        Until this succeeds, every call starts with it.
        """
        self._must_reopen = False
        try:
            self._database.open()
            if not self._is_client:
                self._unreported_runs += self.sync(self._caller.definitions).missed
        except BaseException:
            self._must_reopen = True
            raise

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Create and change the rows of the configured tasks, and plan with *definitions* on."""
        self._refuse_closed()
        definitions = dict(definitions)
        config = manifest_of(definitions)
        caller = self._with_definitions(definitions)
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
        """Add a task that every process of the fleet may run, until it is removed."""
        caller = self._current_caller()
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                missed = add_task(connection, caller, runtime_task, replace=replace)
        return missed

    def remove(self, name: str) -> None:
        """Archive a run-time task; its pending runs end, its claimed runs continue."""
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                remove_task(connection, name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task in all partitions; its fire times in a pause are missed."""
        for attempt in self._attempts(Transaction.EXCLUSIVE, for_app=True):
            with attempt as connection:
                pause_rows(connection, name, paused=paused, now=connection.now())

    def tasks(self) -> list[TaskState]:
        """Return the tasks, ordered by name and partition."""
        for attempt in self._attempts(Transaction.READ, for_app=True):
            with attempt as connection:
                states = read_states(connection)
        return states

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process."""
        caller, boot = self._current_caller(), self._clock.boot()
        recovering = self._recovery.is_open(boot)
        query = self._due_query(caller, limit)
        for attempt in self._attempts(Transaction.READ):
            with attempt as connection:
                found = connection.read_due(query)
                planned = plan_due(caller, found, limit, recovering=recovering)
        now = planned.now
        if limit <= 0 or not planned.is_work():
            return Claimed((), (), now, planned.next_wakeup, planned.failed_tasks)
        try:
            written = self._claim(caller, planned, boot)
        except DuplicateKeyError:
            # A run exists although the cursor has not come to its fire time, as after a restore.
            written = self._claim(caller, planned, boot, wary=True)
        self._spread_for = CONTENTION_WINDOW if written.contested else max(0, self._spread_for - 1)
        return Claimed(
            claims_of(planned, written.runs, boot + caller.member.lease_us),
            written.not_run,
            now,
            written.next_wakeup,
            planned.failed_tasks,
            written.expired_retries,
        )

    def _due_query(self, caller: SqlCaller, limit: int) -> DueQuery:
        spread = pages_for(self._live_processes) * limit if self._spread_for else 0
        return DueQuery(DUE, PENDING, tuple(caller.partitions), limit, spread)

    def _current_caller(self) -> SqlCaller:
        self._refuse_closed()
        return self._caller

    def _claim(
        self, caller: SqlCaller, planned: ClaimPlan, boot: Span, *, wary: bool = False
    ) -> WrittenClaims:
        for attempt in self._attempts(Transaction.WRITE):
            with attempt as connection:
                written = write_claims(connection, caller, planned, boot=boot, wary=wary)
        return written

    # Runs --------------------------------------------------------------------------------

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record the results of runs; return for each whether it was recorded."""
        if not completed:
            return []
        final = all_end(completed)
        for attempt in self._attempts(Transaction.SINGLE if final else Transaction.WRITE):
            with attempt as connection:
                record = end_runs if final else finish_runs
                results = record(connection, completed)
        return results

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of running claims; return False for each claim that was lost."""
        if not claims:
            return []
        boot = self._clock.boot()
        for attempt in self._attempts(Transaction.SINGLE):
            with attempt as connection:
                renewed = renew_runs(connection, claims, boot)
        return renewed

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Add a pending manual run of a task, due now; return None if `overlap` forbids it."""
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

    # Heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process is alive, and clean up after processes that are not."""
        caller, boot = self._current_caller(), self._clock.boot()
        error, self._unreported_error = self._unreported_error, None
        if error is not None:
            raise error
        for attempt in self._attempts(Transaction.READ):
            with attempt as connection:
                found = self._check_fleet(connection, caller, boot)
        if self._was_removed(found):
            self._unreported_runs += self.sync(caller.definitions).missed
        due = boot - self._saved_at >= caller.member.lease_us // 3
        if not (due or found.lost or found.gone or self._deploys.has_work()):
            return HeartbeatResult(
                (), (), self._deploys.superseded, found.next_expiry, self._report_missed(())
            )
        for attempt in self._attempts(Transaction.EXCLUSIVE):
            with attempt as connection:
                abandoned, reconciled = self._clean_up(connection, caller, found)
        self._saved_at = boot
        archived, superseded = reconciled.archived, self._deploys.superseded
        return HeartbeatResult(
            abandoned,
            archived,
            superseded,
            found.next_expiry,
            self._report_missed(reconciled.missed),
        )

    def _report_missed(self, missed: Sequence[Run]) -> Sequence[Run]:
        # Runs that a failed heartbeat has written are kept until a heartbeat returns them.
        reported, self._unreported_runs = [*self._unreported_runs, *missed], []
        return reported

    def _check_fleet(self, connection: Connection, caller: SqlCaller, boot: Span) -> SqlFleetState:
        found = self._watches.check(connection, caller.member, boot)
        self._deploys.reconcile(connection, caller, found.live, boot)
        self._live_processes = len(found.live)
        return found

    def _was_removed(self, found: SqlFleetState) -> bool:
        holder = self._caller.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _clean_up(
        self, connection: Connection, caller: SqlCaller, found: SqlFleetState
    ) -> tuple[list[Run], Reconciled]:
        now = connection.now()
        self._save_member(connection)
        abandoned = abandon_runs(connection, found.lost, now)
        for one in found.gone:
            drop_member(connection, one.member.holder)
        reconciled = self._deploys.apply(connection, caller, now)
        trim_old(connection, now - self._keep_for)
        forget_archived(connection, now - self._keep_for)
        return abandoned, reconciled

    def members(self) -> list[Member]:
        """Return the processes that were seen within three of their leases."""
        caller, boot = self._current_caller().member, self._clock.boot()
        for attempt in self._attempts(Transaction.READ, for_app=True):
            with attempt as connection:
                live = read_live(connection, caller, wall=connection.now(), boot=boot)
        return [one.member for one in live]
