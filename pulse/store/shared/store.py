"""The store that several processes share: each call runs a rule in sessions of a backend.

What is kept, and how, is the backend's: SQLite, PostgreSQL or Redis. The rules are in the modules
beside this one. Leases and deploys compare no wall clocks of different machines: see
`pulse.store.lease_watch` and `pulse.store.shared.manifests`.
"""

from __future__ import annotations

import contextlib
import os
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar
from weakref import WeakValueDictionary

import msgspec

from pulse.core.policies import Scope
from pulse.core.runtime_task import cached_loader
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.base import Claimed, HeartbeatResult, Look
from pulse.store.rules import ClockCheck, ClockWatch, partition_of, partitions_of
from pulse.store.shared.backend import StorageReplacedError, Transaction, Written
from pulse.store.shared.calls import Calls
from pulse.store.shared.changes import ChangeSet
from pulse.store.shared.claiming import plan_due
from pulse.store.shared.claims import SharedClaims
from pulse.store.shared.manifests import UNKNOWN, manifest_of
from pulse.store.shared.members import (
    FleetWatch,
    drop_members,
    read_active_definitions,
    read_live,
    save_seen,
)
from pulse.store.shared.reconcile import Reconciler
from pulse.store.shared.rewinding import find_early_work, rewind_rows
from pulse.store.shared.rows import Caller
from pulse.store.shared.steering import SharedSteering
from pulse.store.shared.sync import keep_definitions, sync_rows
from pulse.store.shared.unanswered import UnansweredClaims
from pulse.store.shared.upkeep import Upkeep
from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member, StoreOptions, SyncResult
    from pulse.store.lease_watch import Observations
    from pulse.store.shared.backend import Backend, Fleet, Session
    from pulse.store.shared.claiming import ClaimPlan
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.members import FleetState
    from pulse.store.shared.unanswered import FoundClaim

    Opened = MutableMapping[tuple[int, str, str], "SharedStore"]

T = TypeVar("T")


class _Role(Enum):
    """How a process takes part."""

    MEMBER = "declares tasks and claims runs"
    WORKER = "is listed as a member, and takes posted runs alone"
    CLIENT = "is not listed"


class SharedStore(SharedClaims, SharedSteering):
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
        self._role = _Role.CLIENT
        self._report: Callable[[], MemberReport] = MemberReport
        self._calls = Calls(backend, clock, rejoin=self._rejoin, forget=self._forget)
        self._upkeep = Upkeep(self._calls, options)
        self._run = self._calls.run

    @property
    def notice(self) -> str:
        """What a person should know of the open storage; empty for nothing."""
        return self._backend.notice

    # Joining and leaving -----------------------------------------------------------------

    def open(self, member: Member, *, report: Callable[[], MemberReport] = MemberReport) -> None:
        """Join as *member*; creates the storage if it does not exist."""
        self._report = report
        key = self._current_key()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            space = self._options.name
            name = f"under the name {space!r}" if space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each middleware its own"
                " pulse.config.name; where one filter section is built twice, put it in front of"
                " both applications, or write a section for each"
            )
        self._enter(key, member, _Role.MEMBER)

    def open_as_client(self, member: Member) -> None:
        """Connect without a row among the members."""
        self._enter(self._current_key(), member, _Role.CLIENT)

    def open_as_worker(
        self, member: Member, *, report: Callable[[], MemberReport] = MemberReport
    ) -> None:
        """Join as a process that takes posted runs alone."""
        self._report = report
        self._enter(self._current_key(), member, _Role.WORKER)

    def _current_key(self) -> tuple[int, str, str]:
        return os.getpid(), self._backend.identity(), self._options.name

    def _enter(self, key: tuple[int, str, str], member: Member, role: _Role) -> None:
        self._key, self._role = key, role
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
            partitions if self._role is _Role.CLIENT else frozenset(),
            UNKNOWN.key,
            self._options.keep_runs,
        )
        self._saved_at: Span | None = self._clock.boot()
        self._reconciler = Reconciler(member.lease_us)
        self._fleet = FleetWatch(member.lease_us)
        self._clock_watch = ClockWatch()
        self._failed_check = ClockCheck.NONE
        self._unanswered = UnansweredClaims(member.holder, member.lease_us)
        self._calls.open()
        if self._role is not _Role.CLIENT:
            self._run(Transaction.EXCLUSIVE, self._save)

    def _save(self, session: Session) -> None:
        self._save_as(session, self._caller, self._manifest, boot=self._clock.boot())

    def _save_as(self, session: Session, caller: Caller, manifest: Manifest, *, boot: Span) -> None:
        now = session.now()
        report = msgspec.structs.replace(self._report(), offset_us=self._clock.wall() - now)
        session.save_member(caller.member, manifest, report, boot=boot)
        self._record_served(session, caller, now)

    def _record_served(self, session: Session, caller: Caller, now: Instant) -> None:
        shared = caller.partitions - {caller.member.holder}
        session.record_served(shared, now=now, gap=caller.member.lease_us)

    def close(self) -> None:
        """Leave; what cannot be written now is found by the other processes."""
        if self._key is None:
            return
        try:
            if self._unanswered.wanted:
                with contextlib.suppress(StoreUnavailableError):
                    self._give_back(self._run(Transaction.READ, self._look_for_unanswered))
            if self._role is not _Role.CLIENT:
                with contextlib.suppress(StoreUnavailableError):
                    self._backend.run(Transaction.EXCLUSIVE, self._drop_self)
        finally:
            self._leave()

    def _look_for_unanswered(self, session: Session) -> Sequence[FoundClaim]:
        leases = session.read_fleet(self._caller, boot=self._clock.boot()).leases
        return self._find_unanswered(session, leases)

    def _drop_self(self, session: Session) -> None:
        drop_members(session, [self._caller.member.holder])
        self._record_served(session, self._caller, session.now())

    def forked(self) -> None:
        """Give the storage up: this is a copy, in a forked child."""
        self._key = None
        self._calls.close()
        self._backend.forked()

    def _leave(self) -> None:
        self._calls.close()
        self._backend.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    def _rejoin(self) -> None:
        """Open the storage after it was replaced, and join again."""
        self._backend.open(self._caller.member)
        if self._role is not _Role.CLIENT:
            self._join_again(reaches_loop=False)

    def _join_again(self, *, reaches_loop: bool = True) -> None:
        """Sync, or save the row of a worker, since the storage does not list this process."""
        if self._role is _Role.WORKER:
            self._run(Transaction.EXCLUSIVE, self._save, reaches_loop=reaches_loop)
            return
        synced = self._sync(self._caller.definitions, reaches_loop=reaches_loop)
        self._calls.written.missed.extend(synced.missed)

    def _forget(self) -> None:
        """Start all observations again, and write with the next heartbeat: a call has failed."""
        self._saved_at = None
        self._fleet.forget()
        self._reconciler.forget()

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Add and change rows for the declared tasks; plan with *definitions* from now on."""
        return self._sync(definitions, reaches_loop=True)

    def _sync(self, definitions: Mapping[str, TaskDefinition], *, reaches_loop: bool) -> SyncResult:
        self._calls.refuse_closed()
        declared, member = dict(definitions), self._caller.member
        manifest = manifest_of(declared)
        scopes = {Scope.FLEET, *(one.scope for one in declared.values())}
        caller = self._caller._replace(
            definitions=declared,
            partitions=frozenset(partition_of(scope, member) for scope in scopes),
            manifest=manifest.key,
        )

        def rule(session: Session, written: Written) -> tuple[SyncResult, Instant]:
            boot = self._clock.boot()
            session.add_manifest(manifest)
            self._save_as(session, caller, manifest, boot=boot)
            keep_definitions(session, manifest.key, declared)
            active = read_active_definitions(session, read_live(session, member, boot=boot))
            return sync_rows(session, caller, active, written), session.now()

        (synced, now), _ = self._calls.run_writing(
            Transaction.EXCLUSIVE, rule, reaches_loop=reaches_loop
        )
        self._note(now)
        self._caller, self._manifest = caller, manifest
        self._reconciler.synced(synced.superseded)
        return synced

    # Runs --------------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process."""
        self._calls.refuse_closed()
        caller, boot = self._caller, self._clock.boot()
        found = self._run(
            Transaction.READ,
            lambda session: plan_due(
                session, caller, limit, recovery=self._calls.recovery, boot=boot
            ),
        )
        if limit <= 0:
            return Claimed((), (), found.now, found.next_wakeup, found.failed_tasks)
        return self._write_claim(caller, found, boot)

    def _write_claim(self, caller: Caller, found: ClaimPlan, boot: Span) -> Claimed:
        if found.is_work():
            claimed = self._claim(caller, found, boot)
        else:
            if found.unused:
                released = ChangeSet(released=found.unused)
                self._run(Transaction.SINGLE, lambda session: session.apply(released))
            claimed = Claimed((), (), found.now, found.next_wakeup, found.failed_tasks)
        self._note(found.now)
        if self._clock_watch.wanted is ClockCheck.NONE:
            return claimed
        return self._rewind(caller, claimed)

    def _note(self, now: Instant) -> None:
        """Record a reading of the store's clock."""
        watch = self._clock_watch
        if now < watch.newest:
            watch.fell_behind(now)
        else:
            watch.newest = now

    def _rewind(self, caller: Caller, claimed: Claimed) -> Claimed:
        """Move rows back after the clock was set back; what is won already is kept in any case."""
        now, check = claimed.now, self._clock_watch.wanted
        self._clock_watch.wanted = ClockCheck.NONE
        find = partial(find_early_work, caller=caller, now=now, check=check)
        try:
            work = self._run_apart(Transaction.READ, find)
            if work.rows or work.pending:
                move = partial(rewind_rows, caller=caller, work=work)
                self._run_apart(Transaction.WRITE, move)
        except StoreUnavailableError:
            self._clock_watch.want(check)
        except Exception as error:  # noqa: BLE001 - no error may lose what the claim has won
            # A lasting error must not stop each heartbeat, so the check is not wanted at once.
            self._failed_check = max(self._failed_check, check)
            self._calls.postpone(error)
        else:
            return claimed._replace(rewound=[*claimed.rewound, *work.rewound])
        return claimed

    # Heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process lives, and abandon what other processes left behind."""
        self._calls.refuse_closed()
        self._calls.raise_postponed()
        caller, boot = self._caller, self._clock.boot()

        def rule(session: Session) -> FleetState:
            return self._check(session, session.read_fleet(caller, boot=boot), caller, boot=boot)

        found = self._run(Transaction.READ, rule)
        return self._end_heartbeat(caller, found, boot)

    def look(
        self,
        limit: int,
        *,
        partitions: Collection[str] = (),
        observed: Observations | None = None,
    ) -> Look:
        """Do `heartbeat` and `claim_due`: one read, where there is nothing to write."""
        self._calls.refuse_closed()
        self._calls.raise_postponed()
        if observed is not None:
            self._fleet.adopt(observed)
        caller, boot = self._caller, self._clock.boot()

        def rule(session: Session) -> tuple[FleetState, ClaimPlan | None, Mapping[str, Instant]]:
            read = session.read_look(caller, limit, partitions, boot=boot)
            found = self._check(session, read.fleet, caller, boot=boot)
            if limit <= 0 or self._has_corrections(caller, found, boot):
                return found, None, {}
            recovery = self._calls.recovery
            plan = plan_due(session, caller, limit, recovery=recovery, boot=boot, first=read.due)
            return found, plan, read.next_due

        found, plan, next_due = self._run(Transaction.READ, rule)
        heartbeat = self._end_heartbeat(caller, found, boot)
        claimed = None if plan is None else self._write_claim(caller, plan, boot)
        return Look(heartbeat, claimed, next_due, self._fleet.observations())

    def _has_corrections(self, caller: Caller, found: FleetState, boot: Span) -> bool:
        wants = bool(found.missing) or bool(found.unanswered)
        return wants or not _is_member(caller, found) or self._must_write(found, boot)

    def _end_heartbeat(self, caller: Caller, found: FleetState, boot: Span) -> HeartbeatResult:
        if found.missing:
            self._restore(found.missing)
        if not _is_member(caller, found):
            self._join_again()
        if self._must_write(found, boot):
            self._upkeep.write(
                caller,
                found,
                save=self._save,
                note=self._note,
                others=self._reconciler.rules(caller),
                cleans=self._role is _Role.MEMBER,
            )
            self._saved_at = boot
        if self._unanswered.wanted:
            self._give_back(found.unanswered)
        # Repeat a check of the clock that an error stopped, which a heartbeat has raised.
        check, self._failed_check = self._failed_check, ClockCheck.NONE
        self._clock_watch.want(check)
        return self._result_of(found)

    def _must_write(self, found: FleetState, boot: Span) -> bool:
        """Return whether the heartbeat writes, as in each third of a lease and after a failure."""
        third = self._caller.member.lease_us // 3
        is_due = self._saved_at is None or boot - self._saved_at >= third
        return is_due or bool(found.lost or found.gone or found.over or self._reconciler.has_work())

    def _result_of(self, fleet: FleetState) -> HeartbeatResult:
        """Return what was written and not reported yet, including what a failed heartbeat wrote."""
        found, self._calls.written = self._calls.written, Written()
        return HeartbeatResult(
            found.abandoned,
            tuple(sorted(set(found.archived))),
            self._reconciler.superseded,
            fleet.next_expiry,
            found.missed,
            [one.member for one in fleet.live],
            found.resumed,
            fleet.stops,
            found.removed,
            found.expired_retries,
        )

    def _check(self, session: Session, fleet: Fleet, caller: Caller, *, boot: Span) -> FleetState:
        found = self._fleet.check(session, fleet, caller, boot=boot)
        if self._unanswered.wanted:
            found = found._replace(unanswered=self._find_unanswered(session, fleet.leases))
        if self._role is _Role.WORKER:
            return found  # it declares no task, and would archive them all
        if self._reconciler.check(session, caller, found.live, boot=boot):
            # A process that has ended may have been the only one to see that the clock was ahead.
            self._clock_watch.want(ClockCheck.LIKELY)
        return found

    def _restore(self, missing: str) -> None:
        """Make the data complete again, as far as it can be, and raise what was lost."""
        self._run(Transaction.EXCLUSIVE, lambda session: session.restore())
        # An error of the sync includes it: the next heartbeat may find nothing missing.
        self._calls.postpone(StorageReplacedError(f"{self.name}: {missing}"))
        self._join_again()
        self._calls.raise_postponed()

    def rest(self) -> None:
        """Close connections to a server that no call uses; the next call opens one again."""
        self._backend.rest()

    def keep_alive(self, reports: Mapping[str, MemberReport | None]) -> list[str]:
        """Record that other members live, which let this one look for them."""
        self._calls.refuse_closed()
        keep = partial(save_seen, caller=self._caller.member, reports=reports)
        return self._run(Transaction.WRITE, partial(keep, boot=self._clock.boot()))


def _is_member(caller: Caller, found: FleetState) -> bool:
    return any(one.member.holder == caller.member.holder for one in found.live)
