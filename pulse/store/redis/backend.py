"""The backend of shared stores on Redis; each call of a session is one script or few commands."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from itertools import count
from typing import TYPE_CHECKING, Self

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.core.cursor import BEFORE_TIME
from pulse.core.policies import Scope
from pulse.store.base import TaskState
from pulse.store.naming import application_id, refuse_other_version
from pulse.store.redis.changes import CHUNK, apply
from pulse.store.redis.client import DamagedDataError, RedisClient, ScriptRequest
from pulse.store.redis.codec import LAYOUT, MANIFEST, row_of, run_of
from pulse.store.redis.durability import durability_problems
from pulse.store.redis.members import (
    OrphansRequest,
    RedisFleetWatch,
    read_live,
    read_orphans,
    record_heartbeat,
    remove_members,
)
from pulse.store.redis.missing_keys import digest_fields
from pulse.store.redis.repair import damage_error, read_layout, repair
from pulse.store.rules import CONFIG, partition_of
from pulse.store.shared.backend import MemberRow, Orphans
from pulse.store.shared.changes import ChangeSet
from pulse.store.shared.rows import DueRow, DueSnapshot, PendingRow, TaskSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from pulse.clock import Clock
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.errors import StoreUnavailableError
    from pulse.store.base import Member
    from pulse.store.shared.backend import FleetState, Transaction
    from pulse.store.shared.changes import Applied, TaskChange
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.rows import Caller, TaskRow

RESERVE_FOR: Span = SECOND // 2
"""How long rows are reserved for the process that plans them.

A request that was sent before an outage may be executed after it, for a process that no longer
waits for the reply. Other processes then wait for this long, so ticks resume within a second."""

PEEK = 100
"""How many rows are read when the caller can claim nothing and only asks for the next wake-up."""

WAITING = 100
"""How many pending runs that must wait are read in addition to those that can be claimed."""

_DIGESTS = 1_000
_FILLER = "digests by task; so long a value makes Redis use a hash table, see heartbeat.lua"


class DueRequest(ScriptRequest, kw_only=True):
    """The request of `read_due.lua`.

    Attributes:
        holder: the calling process.
        poll: identifies the poll, so that its own reservations are known.
        manifest: the key of the caller's manifest.
        partitions: where to read.
        limit: how many rows to reserve.
        pending_limit: how many pending runs to return.
        peek: whether nothing is reserved.
        reserve_for: how long the reservations last.

    """

    holder: str
    poll: str
    manifest: str
    partitions: Sequence[str]
    limit: int
    pending_limit: int
    peek: bool
    reserve_for: Span = RESERVE_FOR


class DueReply(msgspec.Struct, frozen=True):
    """The reply of `read_due.lua`.

    Attributes:
        now: the server's clock.
        rows: records of due rows, each with the numbers of unfinished and of claimed runs.
        pending: records of due pending runs, each with its row and the number of claimed runs.
        next_wakeup: when there is more to do; False for never.
        more: when the first row beyond the limit is due; False when all rows fitted.

    """

    now: Instant
    rows: Sequence[tuple[str, int, int]]
    pending: Sequence[tuple[str, str, int]]
    next_wakeup: Instant | bool
    more: Instant | bool


class _TasksRequest(ScriptRequest, kw_only=True):
    row_keys: Sequence[str] = ()
    task: str | None = None


class _TasksReply(msgspec.Struct, frozen=True):
    now: Instant
    rows: Sequence[tuple[str, int]]
    paused: Sequence[str]


class _PruneRequest(ScriptRequest, kw_only=True):
    before: Instant
    manifests: Sequence[str]


class _NowRequest(ScriptRequest, kw_only=True):
    pass


_DUE_REPLY = msgspec.msgpack.Decoder(DueReply)
_TASKS_REPLY = msgspec.msgpack.Decoder(_TasksReply)
_DONE = msgspec.msgpack.Decoder(bool)
_polls = count(1)


class RedisBackend:
    """Keeps one application's data on a Redis server.

    Attributes:
        unused_manifests: keys of manifests that no process holds, as the last heartbeat has found.

    """

    rolls_back = False

    def __init__(self, url: str, *, space: str, patience_us: Span, stand_in: Clock | None) -> None:
        self.server: RedisClient = RedisClient(
            url, prefix=prefix_of(space), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self.server.name
        self._url = url
        self.notice: str = ""
        self.unused_manifests: Sequence[str] = ()
        self.fleet_watch: RedisFleetWatch = RedisFleetWatch(0, 0)
        self._partitions: frozenset[str] = frozenset()
        self._lease: Span = 0

    def identity(self) -> str:
        """Return the address as it was given."""
        return self._url

    def open(self) -> None:
        """Connect, and check the layout of the keys."""
        self.server.open()
        refuse_other_version(self.name, read_layout(self.server), current=LAYOUT)

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""
        self.server.forked()

    def sessions(self, how: Transaction) -> Iterator[RedisSession]:  # noqa: ARG002 - each call is atomic by itself
        """Yield one session: a call whose reply was lost may have been executed."""
        yield RedisSession(self)

    def observe(self, member: Member, *, boot: Span) -> None:
        """Start a new observation of the other processes, for *member*."""
        self.fleet_watch = RedisFleetWatch(member.lease_us, boot)
        self.notice = durability_problems(self.server)
        self._partitions = frozenset(partition_of(scope, member) for scope in Scope)
        self._lease = member.lease_us

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self.fleet_watch.forget()

    def repair(self) -> list[str]:
        """Repair the keys; return the names of those that held no data of this store."""
        return repair(self.server, partitions=self._partitions, lease_us=self._lease)

    def handle_damage(self, error: Exception) -> StoreUnavailableError:
        """Repair the keys after a call has met damaged data; return the error to raise."""
        return damage_error(self.server, self.repair(), error)


class RedisSession:
    """Calls on one server; a context for the sake of the interface."""

    __slots__ = ("_poll", "_saves_manifest", "_server", "backend", "name")

    def __init__(self, backend: RedisBackend) -> None:
        self.backend: RedisBackend = backend
        self.name: str = backend.name
        self._server = backend.server
        self._poll = str(next(_polls))
        self._saves_manifest = False

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep what was written; after an error of damaged data, repair the keys.

        Raises:
            StorageReplacedError: keys or fields held no data of this store and were moved.

        """
        if isinstance(error, (msgspec.MsgspecError, DamagedDataError)):
            raise self.backend.handle_damage(error) from error

    def now(self) -> Instant:
        """Return the present on the server's clock."""
        return self._server.now()

    # Claiming ----------------------------------------------------------------------------

    def read_due(self, caller: Caller, limit: int, *, pending: bool) -> DueSnapshot:
        """Return what is due, and reserve the rows, unless nothing can be claimed."""
        peek = limit <= 0
        request = DueRequest(
            holder=caller.member.holder,
            poll=self._poll,
            manifest=caller.manifest,
            partitions=sorted(caller.partitions),
            limit=PEEK if peek else limit,
            pending_limit=limit + WAITING if pending else 0,
            peek=peek,
        )
        reply = self._server.run("read_due", request, _DUE_REPLY)
        rows = [
            DueRow(row_of(record), unfinished, claimed)
            for record, unfinished, claimed in reply.rows
        ]
        rows.sort(key=lambda found: (found.row.due_at or 0, found.row.order))
        runs = [
            PendingRow(run_of(run), row_of(row), claimed) for run, row, claimed in reply.pending
        ]
        runs.sort(key=lambda found: found.run.retry_at or 0)
        return DueSnapshot(
            reply.now,
            rows,
            runs,
            _instant(reply.next_wakeup),
            _instant(reply.more),
            reserved=not peek,
        )

    def apply(self, changes: ChangeSet) -> Applied:
        """Apply a change set; new rows get their order first."""
        new = [change for change in changes.tasks if change.was is None]
        if new:
            orders = iter(self._new_orders(len(new)))
            tasks = [
                change if change.was is not None else _ordered(change, next(orders))
                for change in changes.tasks
            ]
            changes = changes._replace(tasks=tasks)
        return apply(self._server, changes)

    def _new_orders(self, number: int) -> range:
        newest = int(self._server.command("INCRBY", self._server.key("orders"), number))
        return range(newest - number + 1, newest + 1)

    def release(self, keys: Sequence[str]) -> None:
        """Release rows that `read_due` reserved."""
        apply(self._server, ChangeSet(released=keys))

    # Tasks -------------------------------------------------------------------------------

    def read_tasks(self, keys: Sequence[str], *, lock: bool = False) -> TaskSnapshot:  # noqa: ARG002 - a change that was overtaken is refused
        """Return the rows of these keys, archived ones too."""
        found = self._read_tasks(_TasksRequest(row_keys=keys[:CHUNK]))
        for start in range(CHUNK, len(keys), CHUNK):
            part = self._read_tasks(_TasksRequest(row_keys=keys[start : start + CHUNK]))
            found = TaskSnapshot(
                part.now,
                {**found.rows, **part.rows},
                {**found.unfinished, **part.unfinished},
                part.paused,
            )
        return found

    def read_tasks_named(self, name: str, *, lock: bool = False) -> TaskSnapshot:  # noqa: ARG002 - a change that was overtaken is refused
        """Return the rows of a task in all partitions, archived ones too."""
        return self._read_tasks(_TasksRequest(task=name))

    def _read_tasks(self, request: _TasksRequest) -> TaskSnapshot:
        reply = self._server.run("read_tasks", request, _TASKS_REPLY)
        rows = [(row_of(record), unfinished) for record, unfinished in reply.rows]
        return TaskSnapshot(
            reply.now,
            {row.task_key: row for row, _ in rows},
            {row.task_key: unfinished for row, unfinished in rows},
            frozenset(reply.paused),
        )

    def _all_rows(self) -> list[TaskRow]:
        records = self._server.command("HVALS", self._server.key("rows"))
        return [row for record in records if (row := row_of(record)).archived_at is None]

    def read_declared(self) -> list[TaskRow]:
        """Return the rows that configurations declare, without archived ones."""
        return [row for row in self._all_rows() if row.source == CONFIG]

    def read_task_names(self, limit: int) -> list[str]:
        """Return names of tasks that are not archived."""
        return sorted({row.task for row in self._all_rows()})[:limit]

    def read_states(self) -> list[TaskState]:
        """Return the rows that are not archived, by name and partition."""
        key = self._server.key
        records, counts = self._server.commands(("HVALS", key("rows")), ("HGETALL", key("open")))
        if not isinstance(counts, dict):
            counts = dict(zip(counts[::2], counts[1::2], strict=True))
        rows = [row for record in records if (row := row_of(record)).archived_at is None]
        rows.sort(key=lambda row: (row.task, row.partition))
        return [_state(row, int(counts.get(row.task_key.encode(), 0))) for row in rows]

    def set_paused(self, name: str, *, paused: bool) -> None:
        """Record that rows of a task that are added later are paused, or not."""
        self._server.command("SADD" if paused else "SREM", self._server.key("paused"), name)

    def read_paused(self) -> frozenset[str]:
        """Return the names of the tasks of which rows that are added later are paused."""
        names = self._server.command("SMEMBERS", self._server.key("paused"))
        return frozenset(name.decode() for name in names)

    # Runs --------------------------------------------------------------------------------

    def read_pending(self, tasks: Mapping[str, Sequence[str]]) -> list[Run]:
        """Return the pending runs of some tasks, which are given by partition."""
        reply = read_orphans(self._server, OrphansRequest(tasks=tasks))
        return [*map(run_of, reply.pending)]

    def read_orphans(self, holders: Sequence[str]) -> Orphans:
        """Return the runs that *holders* have claimed, and those pending in their partitions."""
        reply = read_orphans(self._server, OrphansRequest(holders=holders, partitions=holders))
        claimed = [run_of(record) for record, _ in reply.claimed]
        return Orphans(claimed, [*map(run_of, reply.pending)])

    def read_runs(self, ids: Sequence[str]) -> dict[str, Run]:
        """Return the runs of these ids that exist, by id."""
        if not ids:
            return {}
        records = self._server.command("HMGET", self._server.key("runs"), *ids)
        runs = [run_of(record) for record in records if record is not None]
        return {run.id: run for run in runs}

    def newest_runs(self, *, task: str | None, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""
        key = self._server.key("history" if task is None else f"history:{task}")
        ids = self._server.command("ZREVRANGE", key, 0, limit - 1) if limit > 0 else []
        if not ids:
            return []
        records = self._server.command("HMGET", self._server.key("runs"), *ids)
        return [run_of(record) for record in records if record is not None]

    # Members -----------------------------------------------------------------------------

    def add_manifest(self, manifest: Manifest, definitions: Mapping[str, TaskDefinition]) -> None:
        """Keep the digests of a manifest, which `read_due.lua` compares; `save_member` keeps it."""
        self._saves_manifest = True
        key = self._server.key(f"config:{manifest.key}")
        fields = digest_fields(len(definitions))
        if not fields or self._server.command("HLEN", key) == fields:
            return
        pairs = [text for name, one in definitions.items() for text in (name, one.digest)]
        pairs += ["", _FILLER]
        for start in range(0, len(pairs), 2 * _DIGESTS):
            self._server.command("HSET", key, *pairs[start : start + 2 * _DIGESTS])

    def save_member(self, member: Member, manifest: Manifest, *, boot: Span) -> None:  # noqa: ARG002 - the server's clock is recorded
        """Record that *member* lives and which manifest it holds."""
        reply = record_heartbeat(self._server, member, manifest, save_manifest=self._saves_manifest)
        self.backend.unused_manifests = reply.unused_manifests()

    def read_manifests(self, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Return number and content of the manifests of these keys that exist."""
        wanted = sorted(keys)
        if not wanted:
            return {}
        records = self._server.command("HMGET", self._server.key("configs"), *wanted)
        found = {
            key: MANIFEST.decode(record)
            for key, record in zip(wanted, records, strict=True)
            if record is not None
        }
        return {key: (number, text.encode()) for key, (number, text) in found.items()}

    def read_members(self, caller: Member, *, boot: Span) -> list[MemberRow]:  # noqa: ARG002 - the server's clock decides
        """Return the processes seen within three of their leases, by holder."""
        return read_live(self._server, caller)

    def check_fleet(self, caller: Caller, *, boot: Span) -> FleetState:
        """Return who lives, which runs are lost and which keys are missing, without a write."""
        return self.backend.fleet_watch.check(self._server, caller, boot=boot)

    def remove_members(self, holders: Sequence[str], *, keep: frozenset[str]) -> None:
        """Remove processes and the rows of their partitions; those in *keep* stay listed."""
        remove_members(self._server, holders, keep=keep)

    # The storage -------------------------------------------------------------------------

    def restore(self) -> None:
        """Make indexes and counters again, and empty the list of processes: see `repair`."""
        self.backend.repair()

    def prune(self, before: Instant) -> None:
        """Delete runs and archived rows that are older, and manifests that no process holds."""
        request = _PruneRequest(before=before, manifests=self.backend.unused_manifests)
        self._server.run("prune", request, _DONE)


def _ordered(change: TaskChange, order: int) -> TaskChange:
    return msgspec.structs.replace(change, row=msgspec.structs.replace(change.row, order=order))


def _instant(found: Instant | bool) -> Instant | None:  # noqa: FBT001 - False is what Lua has for none
    return None if found is False else found


def _state(row: TaskRow, unfinished: int) -> TaskState:
    return TaskState(
        name=row.task,
        partition=row.partition,
        source=row.source,
        digest=row.digest,
        paused=row.paused,
        anchor=row.anchor,
        next_fire=row.next_fire,
        last_decided=None if row.last_decided == BEFORE_TIME else row.last_decided,
        unfinished=unfinished,
    )


def prefix_of(name: str) -> str:
    """Return the beginning of all keys of the application *name*: readable, and unique."""
    return f"{{pulse:{application_id(name, joint='-')}}}:"
