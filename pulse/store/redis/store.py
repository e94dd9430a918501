"""The Redis store: most calls of the interface are one or two scripts on the server.

The server's clock decides what is due and what has expired; `pulse.store.redis.lease_trust` decides
when a run with an expired lease is abandoned. The keys and the records are described in
`pulse.store.redis.codec`. All keys of an application carry one hash tag.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakValueDictionary

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.core.runtime_task import cached_loader
from pulse.errors import StoreInUseError, StoreSchemaError, StoreUnavailableError
from pulse.store.base import Claimed, HeartbeatResult, Reach
from pulse.store.redis.claims import claims_of, release, write_claims
from pulse.store.redis.client import RedisClient
from pulse.store.redis.deploys import RedisReconciler
from pulse.store.redis.due import DueReader, RedisCaller
from pulse.store.redis.durability import durability_problems
from pulse.store.redis.lease_trust import ClockTrust
from pulse.store.redis.manifests import prune, save_digests
from pulse.store.redis.members import (
    LAYOUT,
    RedisFleet,
    abandon_runs,
    check_fleet,
    live_of,
    read_active_definitions,
    read_fleet,
    record_heartbeat,
    remove_members,
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

DAY: Span = 86_400 * SECOND


class RedisStore:
    """The store of a fleet on one Redis server.

    Args:
        url: `redis://`, `rediss://` or `unix://`, as redis-py takes it.
        clock: its boot clock measures how long this process has observed leases.
        name: the value of `pulse.config.name`; applications with different names share a database
            without effect on each other.
        keep_runs: about how many finished runs of each task are kept.
        keep_for_us: how long finished runs are kept at most.
        patience_us: the time limit of a call to the server.
        stand_in: a clock that replaces the server's, for tests.
        opened: the open stores of this process; a test with several stores in one process passes a
            separate mapping to each.

    """

    reach = Reach.FLEET
    blocking = False

    # The open stores of this process, to refuse a second one for the same keys. The pid is part of
    # the key, so that a forked child starts without any.
    _all_opened: ClassVar[Opened] = WeakValueDictionary()

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        name: str = "",
        keep_runs: int = 1_000,
        keep_for_us: Span = 30 * DAY,
        patience_us: Span = 5 * SECOND,
        stand_in: Clock | None = None,
        opened: Opened | None = None,
    ) -> None:
        self._server = RedisClient(
            url, prefix=prefix_of(name), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self._server.name
        self.notice: str = ""
        self._clock = clock
        self._space = name
        self._keep_runs = keep_runs
        self._keep_for = keep_for_us
        self._key: tuple[int, str, str] | None = None
        self._is_client = False
        self._recall = cached_loader()
        self._opened = self._all_opened if opened is None else opened

    # Lifecycle ---------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Join the fleet as *member*; connections are opened in the process that uses them."""
        key = self._open_key()
        if self._opened.setdefault(key, self) is not self or self._key == key:
            name = f"under the name {self._space!r}" if self._space else "without a name"
            raise StoreInUseError(
                f"{self.name} is open in this process already {name}; give each middleware its own"
                " pulse.config.name"
            )
        self._connect(key, member, as_client=False)

    def open_as_client(self, member: Member) -> None:
        """Open the store without a record among the members."""
        self._connect(self._open_key(), member, as_client=True)

    def _open_key(self) -> tuple[int, str, str]:
        return os.getpid(), self.name, self._space

    def _connect(self, key: tuple[int, str, str], member: Member, *, as_client: bool) -> None:
        self._key, self._is_client = key, as_client
        try:
            self._server.open()
            self._check_layout()
            self._reset(member)
        except BaseException:
            self._disconnect()
            raise

    def _check_layout(self) -> None:
        found = self._server.command("GET", self._server.key("layout"))
        version = LAYOUT if found is None else int(found)
        if version == LAYOUT:
            return
        age = "newer" if version > LAYOUT else "older"
        raise StoreSchemaError(
            f"{self.name}: expected layout version {LAYOUT}, got {version}, which a {age} release"
            " of pulse wrote; run one release everywhere, or give each its own pulse.config.name"
        )

    def _reset(self, member: Member) -> None:
        self._manifest = UNKNOWN
        partitions = (
            frozenset(partition_of(scope, member) for scope in Scope) if self._is_client else ()
        )
        self._caller = RedisCaller(
            member, self._space, {}, self._recall, frozenset(partitions), "", self._keep_runs
        )
        self._seen_at = self._clock.boot()
        self._trust = ClockTrust(member.lease_us, self._seen_at)
        self._deploys = RedisReconciler(member.lease_us)
        self._recovery = RecoveryWindow()
        self._longest_lease = member.lease_us
        if not self._is_client:
            self._record_heartbeat()
            self.notice = durability_problems(self._server)

    def _record_heartbeat(self, *, save_manifest: bool = False) -> RedisFleet:
        return record_heartbeat(
            self._server, self._caller.member, self._manifest, save_manifest=save_manifest
        )

    def close(self) -> None:
        """Leave the fleet; if the server cannot be reached, other processes find this one gone."""
        if self._key is None:
            return
        if not self._is_client:
            with contextlib.suppress(StoreUnavailableError):
                remove_members(self._server, [self._caller.member.holder])
        self._disconnect()

    def forked(self) -> None:
        """Disable this copy of the store in a forked child."""
        self._key = None
        self._server.forked()

    def _disconnect(self) -> None:
        self._server.close()
        key, self._key = self._key, None
        if key is not None and self._opened.get(key) is self:
            del self._opened[key]

    @contextlib.contextmanager
    def _calling(self) -> Iterator[RedisClient]:
        """Yield the client for one call; a failure restarts the observation of other processes."""
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
        """Create and update the rows of this process's configured tasks."""
        declared = dict(definitions)
        manifest = manifest_of(declared)
        with self._calling() as server:
            caller = self._with_definitions(declared, manifest)
            self._manifest = manifest
            save_digests(server, manifest, declared)
            fleet = self._record_heartbeat(save_manifest=True)
            live = live_of(fleet, caller.member)
            synced = sync_rows(server, caller, read_active_definitions(live, fleet.manifests))
            prune(server, fleet, keep_for_us=self._keep_for)
        self._caller = caller
        self._deploys.begin(synced.superseded)
        return synced

    def _with_definitions(
        self, definitions: Mapping[str, TaskDefinition], manifest: Manifest
    ) -> RedisCaller:
        scopes = {Scope.FLEET, *(one.scope for one in definitions.values())}
        partitions = frozenset(partition_of(scope, self._caller.member) for scope in scopes)
        return self._caller._replace(
            definitions=definitions, partitions=partitions, manifest=manifest.key
        )

    def add(self, runtime_task: RuntimeTask, *, replace: bool = False) -> Sequence[Run]:
        """Add a task that every process of the fleet may run, until it is removed."""
        with self._calling() as server:
            return add_task(server, self._caller, runtime_task, replace=replace)

    def remove(self, name: str) -> None:
        """Archive a run-time task; its pending runs end, its claimed runs continue."""
        with self._calling() as server:
            remove_task(server, name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task in all partitions; fire times during a pause are missed."""
        with self._calling() as server:
            pause_rows(server, name, paused=paused)

    def tasks(self) -> list[TaskState]:
        """Return the task rows, ordered by name and partition."""
        with self._calling() as server:
            return read_states(server)

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process."""
        boot = self._clock.boot()
        with self._calling() as server:
            caller = self._caller
            plan = DueReader(server, caller, limit, recovering=self._recovery.is_open(boot)).read()
            if limit <= 0 or not plan.has_work():
                release(server, plan, peeked=limit <= 0)
                return Claimed((), (), plan.now, plan.next_wakeup, plan.failed_tasks)
            written = write_claims(server, caller, plan)
        claims = claims_of(plan, written.runs, boot + caller.member.lease_us)
        return Claimed(
            claims,
            written.not_run,
            plan.now,
            written.next_wakeup,
            plan.failed_tasks,
            written.expired_retries,
        )

    # Runs --------------------------------------------------------------------------------

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record results of runs; return for each whether it is final, retried, or refused."""
        if not completed:
            return []
        with self._calling() as server:
            return finish_runs(server, completed)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of claimed runs; return False for each claim that was lost."""
        if not claims:
            return []
        with self._calling() as server:
            return renew_runs(server, claims, self._caller.member.lease_us)

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Create a pending manual run of a task, due now; return None when overlap refuses it."""
        with self._calling() as server:
            return trigger_run(server, self._caller, name, body=body)

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        with self._calling() as server:
            return newest_runs(server, task=task, limit=limit)

    # Heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Record that this process lives, abandon lost runs, and correct the rows."""
        boot = self._clock.boot()
        with self._calling() as server:
            found = self._check_fleet(server, boot)
            missed = self._rejoin(server) if self._was_removed(found) else ()
            due = boot - self._seen_at >= self._caller.member.lease_us // 3
            if not (due or found.lost or found.gone or self._deploys.has_work()):
                return HeartbeatResult((), (), self._deploys.superseded, found.next_expiry, missed)
            abandoned, reconciled = self._reconcile(server, found)
        self._seen_at = boot
        archived, superseded = reconciled.archived, self._deploys.superseded
        return HeartbeatResult(
            abandoned, archived, superseded, found.next_expiry, [*missed, *reconciled.missed]
        )

    def _check_fleet(self, server: RedisClient, boot: Span) -> RedisFleetState:
        caller = self._caller
        found = check_fleet(
            server, caller.member, self._trust, boot=boot, longest_lease=self._longest_lease
        )
        leases = [row.member.lease_us for row in (*found.live, *found.gone)]
        self._longest_lease = max(leases, default=caller.member.lease_us)
        self._deploys.reconcile(server, caller, found.live, boot)
        return found

    def _was_removed(self, found: RedisFleetState) -> bool:
        holder = self._caller.member.holder
        return all(row.member.holder != holder for row in found.live)

    def _rejoin(self, server: RedisClient) -> Sequence[Run]:
        """Join again, after other processes removed this one or the server lost its data."""
        was_emptied = not server.command("EXISTS", server.key("layout"))
        missed = self.sync(self._caller.definitions).missed
        if was_emptied:
            raise StoreUnavailableError(
                f"{self.name}: it came back without its data: tasks are stored again as new ones;"
                " history, pauses and tasks that were added at run time are lost"
            )
        return missed

    def _reconcile(
        self, server: RedisClient, found: RedisFleetState
    ) -> tuple[list[Run], Reconciled]:
        fleet = self._record_heartbeat()
        abandoned = abandon_runs(server, found.lost, found.now)
        if found.gone:
            remove_members(server, [one.member.holder for one in found.gone])
        reconciled = self._deploys.apply(server, self._caller)
        prune(server, fleet, keep_for_us=self._keep_for)
        return abandoned, reconciled

    def members(self) -> list[Member]:
        """Return the members that were seen within three of their leases."""
        with self._calling() as server:
            return [one.member for one in live_of(read_fleet(server), self._caller.member)]


def prefix_of(name: str) -> str:
    """Return the beginning of all keys of the application *name*: readable, and unique."""
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:24] or "app"
    return f"{{pulse:{slug}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}}}:"
