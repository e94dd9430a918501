"""The store that several processes share: each call runs a rule in sessions of a backend.

What is kept, and how, is the backend's: SQLite, PostgreSQL or Redis. The rules are in the modules
beside this one. Leases and deploys compare no wall clocks of different machines: see
`pulse.store.lease_watch` and `pulse.store.shared.manifests`.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, ClassVar, NoReturn, TypeVar
from weakref import WeakValueDictionary

from pulse.core.policies import Scope
from pulse.core.runtime_task import cached_loader
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.base import Claimed, HeartbeatResult
from pulse.store.rules import ClockCheck, ClockWatch, partition_of, partitions_of
from pulse.store.shared.backend import (
    DuplicateKeyError,
    StorageReplacedError,
    Transaction,
    Written,
)
from pulse.store.shared.changes import ChangeSet
from pulse.store.shared.claiming import plan_due, prepare_write, result_of
from pulse.store.shared.finishing import (
    any_may_run_again,
    finish_runs,
    record_runs,
    renew_runs,
)
from pulse.store.shared.manifests import UNKNOWN, manifest_of
from pulse.store.shared.members import (
    FleetWatch,
    abandon_runs,
    drop_members,
    read_active_definitions,
    read_live,
)
from pulse.store.shared.reconcile import Reconciler
from pulse.store.shared.recovery import RecoveryWindow
from pulse.store.shared.rewinding import find_early_work, rewind_rows
from pulse.store.shared.rows import Caller
from pulse.store.shared.runtime_tasks import add_task, remove_task
from pulse.store.shared.sync import sync_rows
from pulse.store.shared.tasks import pause_rows, trigger_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member, StoreOptions, SyncResult, TaskState
    from pulse.store.shared.backend import Backend, Session
    from pulse.store.shared.claiming import ClaimPlan
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.members import FleetState, LostRun

    Opened = MutableMapping[tuple[int, str, str], "SharedStore"]

T = TypeVar("T")


class SharedStore:
    """Lets processes agree through one storage.

    Args:
        backend: the storage.
        clock: measures durations; the storage's clock decides what is due.
        options: the name of the application, and how many finished runs are kept.
        opened: the stores that this process has open; a test in which one process acts as several
            passes one mapping for each.

    """

    reach: Scope
    blocking: bool = True

    # Which storages this process has open: the one fact that no single store can know. The key
    # holds the pid, so that a forked child starts with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self, backend: Backend, clock: Clock, options: StoreOptions, *, opened: Opened | None = None
    ) -> None:
        self.name: str = backend.name
        self._backend = backend
        self._clock = clock
        self._options = options
        self._load_task = cached_loader()
        self._opened = self._all_opened if opened is None else opened
        self._key: tuple[int, str, str] | None = None
        self._is_open = False
        self._is_client = False
        self._must_rejoin = False
        self._saved_at: Span | None = None  # the next heartbeat writes; so after a failed call
        self._unraised: StorageReplacedError | None = None  # raised by the next heartbeat
        self._written = Written()  # what no heartbeat has reported yet

    @property
    def notice(self) -> str:
        """What a person should know of the open storage; empty for nothing."""
        return self._backend.notice

    # Joining and leaving -----------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Join as *member*; creates the storage if it does not exist."""
        key = self._current_key()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            space = self._options.name
            name = f"under the name {space!r}" if space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each middleware its own"
                " pulse.config.name; where one filter section is built twice, put it in front of"
                " both applications, or write a section for each"
            )
        self._enter(key, member, is_client=False)

    def open_as_client(self, member: Member) -> None:
        """Connect without a row among the members."""
        self._enter(self._current_key(), member, is_client=True)

    def _current_key(self) -> tuple[int, str, str]:
        return os.getpid(), self._backend.identity(), self._options.name

    def _enter(self, key: tuple[int, str, str], member: Member, *, is_client: bool) -> None:
        self._key, self._is_client, self._must_rejoin = key, is_client, False
        try:
            self._backend.open(member)
            self._join(member)
        except BaseException:
            self._leave()
            raise

    def _join(self, member: Member) -> None:
        partitions = partitions_of(member)
        self._manifest = UNKNOWN
        self._caller = Caller(
            member,
            self._options.name,
            {},
            self._load_task,
            partitions if self._is_client else frozenset(),
            UNKNOWN.key,
            self._options.keep_runs,
        )
        boot = self._clock.boot()
        self._saved_at = boot
        self._reconciler = Reconciler(member.lease_us)
        self._fleet = FleetWatch(member.lease_us)
        self._recovery = RecoveryWindow()
        self._clock_watch = ClockWatch()
        self._is_open = True
        if not self._is_client:
            self._run(Transaction.EXCLUSIVE, self._save)

    def _save(self, session: Session) -> None:
        session.save_member(self._caller.member, self._manifest, boot=self._clock.boot())

    def close(self) -> None:
        """Leave; what cannot be written now is found by the other processes."""
        if self._key is None:
            return
        if not self._is_client:
            holder = self._caller.member.holder
            with contextlib.suppress(StoreUnavailableError):
                self._backend.run(Transaction.EXCLUSIVE, partial(drop_members, holders=[holder]))
        self._leave()

    def forked(self) -> None:
        """Give the storage up: this is a copy, in a forked child."""
        self._key, self._is_open = None, False
        self._backend.forked()

    def _leave(self) -> None:
        self._is_open = False
        self._backend.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    # Calls -------------------------------------------------------------------------------

    def _run(self, how: Transaction, rule: Callable[[Session], T], *, for_app: bool = False) -> T:
        """Run a rule in a session; keep account of whether the storage answers.

        The loop must get the error of a replaced storage once, since only that error says what
        became of the old one. If the application made the call, the next call of the loop raises
        the error. If the storage cannot be opened again, both errors are raised as one.
        """
        self._refuse_closed()
        try:
            if self._must_rejoin:
                self._rejoin()
            result = self._backend.run(how, rule)
        except StoreUnavailableError as error:
            self._saved_at = None
            self._fleet.forget()
            self._reconciler.forget()
            self._recovery.failed()
            last: StoreUnavailableError = error
            if isinstance(error, StorageReplacedError):
                self._unraised = error
                last = self._error_of_rejoining() or error
            if not for_app:
                last = self._take_unraised(last)
            if last is error:
                raise
            raise last from error
        if self._recovery.away:
            self._recovery.answered(self._clock.boot())
        return result

    def _error_of_rejoining(self) -> StoreUnavailableError | None:
        try:
            self._rejoin()
        except StoreUnavailableError as error:
            return error
        return None

    def _take_unraised(self, error: StoreUnavailableError) -> StoreUnavailableError:
        """Return *error*, after the error that the loop has not got yet, if there is one."""
        unraised, self._unraised = self._unraised, None
        if unraised is None or unraised is error:
            return error
        return type(error)(f"{unraised}; {error}")

    def _run_writing(
        self, how: Transaction, rule: Callable[[Session, Written], T], *, for_app: bool = False
    ) -> tuple[T, Written]:
        """Run a rule and return its result and what it has written.

        What was written before an error, and is not undone by it, is left to the next heartbeat.
        """
        written = Written()

        def run(session: Session) -> T:
            nonlocal written
            written = Written()  # what an earlier attempt wrote was rolled back
            return rule(session, written)

        try:
            return self._run(how, run, for_app=for_app), written
        except BaseException:
            if not self._backend.rolls_back:
                self._written.add(written)
            raise

    def _run_app(self, how: Transaction, rule: Callable[[Session], T]) -> T:
        """Run a rule for the application."""
        return self._run(how, rule, for_app=True)

    def _refuse_closed(self) -> None:
        if not self._is_open:
            raise StoreUnavailableError(f"{self.name}: the store is not open")

    def _rejoin(self) -> None:
        """Open the storage after it was replaced, and sync; each call tries it until it works."""
        self._must_rejoin = False
        try:
            self._backend.open(self._caller.member)
            if not self._is_client:
                self._sync_again()
        except BaseException:
            self._must_rejoin = True
            raise

    def _sync_again(self) -> None:
        self._written.missed.extend(self.sync(self._caller.definitions).missed)

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Add and change rows for the declared tasks; plan with *definitions* from now on."""
        self._refuse_closed()
        declared = dict(definitions)
        manifest = manifest_of(declared)
        caller = self._declaring(declared, manifest)
        rule = partial(self._sync, caller=caller, manifest=manifest)
        (synced, now), _ = self._run_writing(Transaction.EXCLUSIVE, rule)
        self._clock_watch.note(now)
        self._caller, self._manifest = caller, manifest
        self._reconciler.synced(synced.superseded)
        return synced

    def _declaring(self, definitions: Mapping[str, TaskDefinition], manifest: Manifest) -> Caller:
        member = self._caller.member
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        return self._caller._replace(
            definitions=definitions,
            partitions=frozenset(partition_of(scope, member) for scope in scopes),
            manifest=manifest.key,
        )

    def _sync(
        self, session: Session, written: Written, *, caller: Caller, manifest: Manifest
    ) -> tuple[SyncResult, Instant]:
        boot = self._clock.boot()
        session.add_manifest(manifest)
        session.save_member(caller.member, manifest, boot=boot)
        live = read_live(session, caller.member, boot=boot)
        active = read_active_definitions(session, live)
        return sync_rows(session, caller, active, written.missed), session.now()

    def add(self, runtime_task: RuntimeTask, *, replace: bool = False) -> Sequence[Run]:
        """Add a task that every process may run, until it is removed."""
        self._refuse_closed()
        caller = self._caller

        def rule(session: Session, written: Written) -> Instant:
            return add_task(session, caller, runtime_task, replace=replace, missed=written.missed)

        now, written = self._run_writing(Transaction.EXCLUSIVE, rule, for_app=True)
        self._clock_watch.note(now)
        return written.missed

    def remove(self, name: str) -> None:
        """Archive a task that was added; its pending runs end, its claimed runs continue."""
        self._run_app(Transaction.EXCLUSIVE, partial(remove_task, name=name))

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task in all partitions; fire times during the pause are missed."""
        rule = partial(pause_rows, name=name, paused=paused)
        now = self._run_app(Transaction.EXCLUSIVE, rule)
        self._clock_watch.note(now)

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and partition."""
        found = self._run_app(Transaction.READ, lambda session: session.read_in_use())
        states = [row.state(unfinished) for row, unfinished in found]
        return sorted(states, key=attrgetter("name", "partition"))

    # Runs --------------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process."""
        self._refuse_closed()
        caller, boot = self._caller, self._clock.boot()
        found = self._run(
            Transaction.READ,
            lambda session: plan_due(session, caller, limit, recovery=self._recovery, boot=boot),
        )
        if limit <= 0:
            return Claimed((), (), found.now, found.next_wakeup, found.failed_tasks)
        if found.is_work():
            claimed = self._claim(caller, found, boot)
        else:
            if found.unused:
                released = ChangeSet(released=found.unused)
                self._run(Transaction.SINGLE, lambda session: session.apply(released))
            claimed = Claimed((), (), found.now, found.next_wakeup, found.failed_tasks)
        check = self._clock_watch.take(found.now)
        return claimed if check is ClockCheck.NONE else self._rewind(caller, claimed, check)

    def _rewind(self, caller: Caller, claimed: Claimed, check: ClockCheck) -> Claimed:
        """Move rows back after the clock was set back; what is won already is kept in any case."""
        now = claimed.now
        try:
            work = self._run(
                Transaction.READ, partial(find_early_work, caller=caller, now=now, check=check)
            )
            if work.rows or work.pending:
                self._run(
                    Transaction.WRITE, partial(rewind_rows, caller=caller, work=work, now=now)
                )
        except StoreUnavailableError as error:
            self._clock_watch.retry(check)
            replaced = error if isinstance(error, StorageReplacedError) else error.__cause__
            if isinstance(replaced, StorageReplacedError):
                self._unraised = replaced  # the claim does not raise it, so the loop has not got it
            return claimed
        rewound = work.rewound
        return claimed._replace(rewound=[*claimed.rewound, *rewound]) if rewound else claimed

    def _claim(self, caller: Caller, found: ClaimPlan, boot: Span) -> Claimed:
        prepared = prepare_write(caller, found, boot=boot)
        changes = prepared.changes
        try:
            applied = self._run(Transaction.WRITE, lambda session: session.apply(changes))
        except DuplicateKeyError:
            # A fire time has run although the cursor of its row is before it, as after a restore.
            checked = changes._replace(check_existing=True)
            applied = self._run(Transaction.WRITE, lambda session: session.apply(checked))
        return result_of(found, prepared, applied, boot + caller.member.lease_us)

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended; return what became of each."""
        if not completed:
            return []
        if any_may_run_again(completed):
            return self._run(
                Transaction.WRITE,
                partial(finish_runs, completed=completed, note=self._clock_watch.note),
            )
        return self._run(Transaction.SINGLE, partial(record_runs, completed=completed))

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Renew the leases of claimed runs; False stands where the claim was lost."""
        if not claims:
            return []
        self._refuse_closed()
        lease_us, boot = self._caller.member.lease_us, self._clock.boot()
        rule = partial(renew_runs, claims=claims, lease_us=lease_us, boot=boot)
        return self._run(Transaction.SINGLE, rule)

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Add a pending manual run, due now; None when overlap refuses it."""
        self._refuse_closed()
        boot = self._clock.boot()
        rule = partial(trigger_run, caller=self._caller, name=name, body=body, boot=boot)
        run = self._run_app(Transaction.WRITE, rule)
        if run is not None:
            self._clock_watch.note(run.fire_time)
        return run

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        return self._run_app(
            Transaction.READ, lambda session: session.newest_runs(task=task, limit=limit)
        )

    # Heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process lives, and abandon what other processes left behind."""
        self._refuse_closed()
        unraised, self._unraised = self._unraised, None
        if unraised is not None:
            raise unraised
        caller, boot = self._caller, self._clock.boot()
        found = self._run(Transaction.READ, lambda session: self._check(session, caller, boot=boot))
        if found.missing:
            self._restore(found.missing)
        if all(one.member.holder != caller.member.holder for one in found.live):
            self._sync_again()
        if self._save_is_due(boot) or found.lost or found.gone or self._reconciler.has_work():
            self._write_corrections(found)
            self._saved_at = boot
        return self._report(found)

    def _save_is_due(self, boot: Span) -> bool:
        """Return whether the heartbeat writes: each third of a lease, and after a failed call."""
        return self._saved_at is None or boot - self._saved_at >= self._caller.member.lease_us // 3

    def _report(self, fleet: FleetState) -> HeartbeatResult:
        """Return what was written and not reported yet, including what a failed heartbeat wrote."""
        found, self._written = self._written, Written()
        return HeartbeatResult(
            found.abandoned,
            tuple(sorted(set(found.archived))),
            self._reconciler.superseded,
            fleet.next_expiry,
            found.missed,
            [one.member for one in fleet.live],
        )

    def _check(self, session: Session, caller: Caller, *, boot: Span) -> FleetState:
        found = self._fleet.check(session, caller, boot=boot)
        if self._reconciler.check(session, caller, found.live, boot=boot):
            # A process that has ended may have been the only one to see that the clock was ahead.
            self._clock_watch.suspect()
        return found

    def _restore(self, missing: str) -> NoReturn:
        """Make the data complete again, as far as it can be, and report what was lost."""
        self._run(Transaction.EXCLUSIVE, lambda session: session.restore())
        self._sync_again()
        raise StorageReplacedError(f"{self.name}: {missing}")

    def _write_corrections(self, found: FleetState) -> None:
        """Write what the check found, in steps; each step that is written is reported."""
        rules: list[Callable[[Session, Written], None]] = [
            partial(self._save_and_abandon, lost=found.lost)
        ]
        if found.gone:
            rules.append(partial(self._drop, gone=found.gone))
        for rule in (*rules, *self._reconciler.rules(self._caller)):
            self._written.add(self._run_writing(Transaction.EXCLUSIVE, rule)[1])
        keep_for = self._options.keep_for_us
        self._run(Transaction.EXCLUSIVE, lambda session: session.prune(session.now() - keep_for))

    def _save_and_abandon(
        self, session: Session, written: Written, *, lost: Sequence[LostRun]
    ) -> None:
        self._save(session)
        if lost:
            now = session.now()
            self._clock_watch.note(now)
            written.abandoned.extend(abandon_runs(session, lost, now))

    def _drop(self, session: Session, written: Written, *, gone: Sequence[str]) -> None:
        written.abandoned.extend(drop_members(session, gone))

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        self._refuse_closed()
        caller, boot = self._caller.member, self._clock.boot()
        live = self._run_app(
            Transaction.READ, lambda session: read_live(session, caller, boot=boot)
        )
        return [one.member for one in live]
