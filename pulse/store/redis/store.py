"""The keeper of the Redis store: each call of the port as one or two scripts on the server.

The server's clock decides what is due and what has expired; `pulse.store.redis.lease_trust` says
when a lease that has expired is taken for lost. All keys of an application carry one hash tag.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.core.runtime_task import cached_loader
from pulse.errors import StoreInUseError, StoreUnavailableError
from pulse.store.base import DEFAULT_OPTIONS, Claimed, HeartbeatResult, StoreOptions
from pulse.store.naming import application_id, refuse_other_version
from pulse.store.redis.claims import claims_of, release, write_claims
from pulse.store.redis.client import RedisClient
from pulse.store.redis.deploys import RedisReconciler
from pulse.store.redis.due import DueReader, RedisCaller
from pulse.store.redis.durability import durability_problems
from pulse.store.redis.lease_trust import ClockTrust
from pulse.store.redis.manifests import keep_digests, prune
from pulse.store.redis.members import (
    LAYOUT,
    RedisFleet,
    abandon_runs,
    check_fleet,
    drop_members,
    live_of,
    read_active_definitions,
    read_fleet,
    record_heartbeat,
)
from pulse.store.redis.runs import finish_runs, newest_runs, renew_runs
from pulse.store.redis.runtime_tasks import add_task, remove_task
from pulse.store.redis.sync import sync_rows
from pulse.store.redis.tasks import pause_rows, read_states, trigger_run
from pulse.store.rules import partition_of
from pulse.store.shared.manifests import UNKNOWN, Manifest, manifest_of
from pulse.store.shared.recovery import RecoveryWindow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, MutableMapping, Sequence

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member, SyncResult, TaskState
    from pulse.store.redis.members import RedisFleetState
    from pulse.store.shared.manifests import Reconciled

    Opened = MutableMapping[tuple[int, str, str], "RedisStore"]


class RedisStore:
    """Lets all processes of a fleet agree through one Redis server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        clock: its boot clock tells how long this process has been looking.
        options: the name of the application, and how many finished runs are kept.
        patience_us: how long a call waits for the server in all.
        stand_in: a clock that is asked instead of the server's, for tests.
        opened: what this process has open; a test in which one process plays many gives each its
            own.

    """

    reach = Scope.FLEET
    blocking = False

    # Which applications this process has open: the one fact here that no single store can know. It
    # is keyed by pid, so that a forked child begins with none.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        url: str,
        clock: Clock,
        options: StoreOptions = DEFAULT_OPTIONS,
        *,
        patience_us: Span = 5 * SECOND,
        stand_in: Clock | None = None,
        opened: Opened | None = None,
    ) -> None:
        self._server = RedisClient(
            url, prefix=prefix_of(options.name), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self._server.name
        self.notice: str = ""
        self._clock = clock
        self._space = options.name
        self._keep_runs = options.keep_runs
        self._keep_for = options.keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._visits = False
        self._recall = cached_loader()
        self._opened = self._all_opened if opened is None else opened

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; connections are made here, in the process that uses them."""
        key = self._key_here()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each pulse its own"
                " pulse.config.name"
            )
        self._enter(key, member, visits=False)

    def open_as_client(self, member: Member) -> None:
        """Reach what is kept without a row among the members."""
        self._enter(self._key_here(), member, visits=True)

    def _key_here(self) -> tuple[int, str, str]:
        return os.getpid(), self.name, self._space

    def _enter(self, key: tuple[int, str, str], member: Member, *, visits: bool) -> None:
        self._key, self._visits = key, visits
        try:
            self._server.open()
            self._refuse_other_layout()
            self._begin(member)
        except BaseException:
            self._leave()
            raise

    def _refuse_other_layout(self) -> None:
        found = self._server.command("GET", self._server.key("layout"))
        version = LAYOUT if found is None else int(found)
        refuse_other_version(self.name, version, current=LAYOUT)

    def _begin(self, member: Member) -> None:
        self._config = UNKNOWN
        partitions = (
            frozenset(partition_of(scope, member) for scope in Scope) if self._visits else ()
        )
        self._caller = RedisCaller(
            member, self._space, {}, self._recall, frozenset(partitions), "", self._keep_runs
        )
        self._seen_at = self._clock.boot()
        self._trust = ClockTrust(member.lease_us, self._seen_at)
        self._deploys = RedisReconciler(member.lease_us)
        self._recovery = RecoveryWindow()
        self._longest = member.lease_us
        if not self._visits:
            self._save()
            self.notice = durability_problems(self._server)

    def _save(self, *, adds: bool = False) -> RedisFleet:
        return record_heartbeat(self._server, self._caller.member, self._config, adds=adds)

    def close(self) -> None:
        """Take part no more; what cannot be written down now is found by the others."""
        if self._key is None:
            return
        if not self._visits:
            with contextlib.suppress(StoreUnavailableError):
                drop_members(self._server, [self._caller.member.holder])
        self._leave()

    def forked(self) -> None:
        """Leave the server to the parent: this is a copy, in a forked child."""
        self._key = None
        self._server.forked()

    def _leave(self) -> None:
        self._server.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[RedisClient]:
        """Count anew for how long others are silent where this process was not answered."""
        if self._key is None:
            raise StoreUnavailableError(f"{self.name}: the store is not open")
        try:
            yield self._server
        except StoreUnavailableError:
            self._recovery.failed()
            self._trust.forget()
            self._deploys.forget()
            raise
        self._recovery.answered(self._clock.boot())

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Make rows for this process's config tasks, and keep *definitions* to plan with."""
        held = dict(definitions)
        config = manifest_of(held)
        with self._reaching() as server:
            caller = self._with_definitions(held, config)
            self._config = config
            keep_digests(server, config, held)
            fleet = self._save(adds=True)
            live = live_of(fleet, caller.member)
            synced = sync_rows(server, caller, read_active_definitions(live, fleet.configs))
            prune(server, fleet, keep_for_us=self._keep_for)
        self._caller = caller
        self._deploys.begin(synced.superseded)
        return synced

    def _with_definitions(
        self, definitions: Mapping[str, TaskDefinition], config: Manifest
    ) -> RedisCaller:
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        partitions = frozenset(partition_of(scope, self._caller.member) for scope in scopes)
        return self._caller._replace(
            definitions=definitions, partitions=partitions, manifest=config.key
        )

    def add(self, runtime_task: RuntimeTask, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task of the fleet that every process may run, until it is removed."""
        with self._reaching() as server:
            return add_task(server, self._caller, runtime_task, replace=replace)

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on."""
        with self._reaching() as server:
            remove_task(server, name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed."""
        with self._reaching() as server:
            pause_rows(server, name, paused=paused)

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""
        with self._reaching() as server:
            return read_states(server)

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process."""
        boot = self._clock.boot()
        with self._reaching() as server:
            caller = self._caller
            reading = DueReader(
                server, caller, limit, recovering=self._recovery.is_open(boot)
            ).read()
            if limit <= 0 or not reading.is_work():
                release(server, reading, peeked=limit <= 0)
                return Claimed((), (), reading.now, reading.next_wakeup, reading.failed_tasks)
            won = write_claims(server, caller, reading)
        claims = claims_of(reading, won.runs, boot + caller.member.lease_us)
        return Claimed(
            claims,
            won.not_run,
            reading.now,
            won.next_wakeup,
            reading.failed_tasks,
            won.expired_retries,
        )

    # Runs --------------------------------------------------------------------------------

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended, and tell what became of each."""
        if not completed:
            return []
        with self._reaching() as server:
            return finish_runs(server, completed)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        if not claims:
            return []
        with self._reaching() as server:
            return renew_runs(server, claims, self._caller.member.lease_us)

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        with self._reaching() as server:
            return trigger_run(server, self._caller, name, body=body)

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        with self._reaching() as server:
            return newest_runs(server, task=task, limit=limit)

    # Staying alive -----------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process lives, and put right what others have left behind."""
        boot = self._clock.boot()
        with self._reaching() as server:
            found = self._check_fleet(server, boot)
            passed = self._return(server) if self._was_dropped(found) else ()
            due = boot - self._seen_at >= self._caller.member.lease_us // 3
            if not (due or found.lost or found.gone or self._deploys.has_work()):
                return HeartbeatResult((), (), self._deploys.superseded, found.next_expiry, passed)
            abandoned, settled = self._reconcile(server, found)
        self._seen_at = boot
        archived, superseded = settled.archived, self._deploys.superseded
        return HeartbeatResult(
            abandoned, archived, superseded, found.next_expiry, [*passed, *settled.missed]
        )

    def _check_fleet(self, server: RedisClient, boot: Span) -> RedisFleetState:
        caller = self._caller
        found = check_fleet(server, caller.member, self._trust, boot=boot, longest=self._longest)
        leases = [one.member.lease_us for one in (*found.live, *found.gone)]
        self._longest = max(leases, default=caller.member.lease_us)
        self._deploys.reconcile(server, caller, found.live, boot)
        return found

    def _was_dropped(self, found: RedisFleetState) -> bool:
        holder = self._caller.member.holder
        return all(one.member.holder != holder for one in found.live)

    def _return(self, server: RedisClient) -> Sequence[Run]:
        """Take part again, after long silence or on a server that was emptied."""
        was_emptied = not server.command("EXISTS", server.key("layout"))
        passed = self.sync(self._caller.definitions).missed
        if was_emptied:
            raise StoreUnavailableError(
                f"{self.name}: it came back without what was kept in it: tasks are first seen"
                " anew; history, pauses and tasks that were added at run time are lost"
            )
        return passed

    def _reconcile(
        self, server: RedisClient, found: RedisFleetState
    ) -> tuple[list[Run], Reconciled]:
        fleet = self._save()
        abandoned = abandon_runs(server, found.lost, found.now)
        if found.gone:
            drop_members(server, [one.member.holder for one in found.gone])
        settled = self._deploys.apply(server, self._caller)
        prune(server, fleet, keep_for_us=self._keep_for)
        return abandoned, settled

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
        with self._reaching() as server:
            return [one.member for one in live_of(read_fleet(server), self._caller.member)]


def prefix_of(name: str) -> str:
    """Return what the keys of the application *name* begin with: readable, and never shared."""
    return f"{{pulse:{application_id(name, joint='-')}}}:"
