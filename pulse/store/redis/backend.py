"""The backend of shared stores on Redis; each call of a session is one script or few commands."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pulse.clock import SECOND, Instant, Span
from pulse.store.naming import application_id, nothing_kept, refuse_other_version
from pulse.store.redis.accounting import RedisAccounting
from pulse.store.redis.changes import CHUNK, apply
from pulse.store.redis.client import DamagedDataError, RedisClient
from pulse.store.redis.codec import (
    FILLER,
    LAYOUT,
    count_of,
    manifest_of,
    manifest_record,
    member_record,
    member_row,
    pause_of,
    report_of,
    report_record,
    row_of,
    run_of,
    stop_of,
)
from pulse.store.redis.durability import durability_problems
from pulse.store.redis.missing_keys import MissingKeys, digest_fields
from pulse.store.redis.repair import damage_error, read_layout, repair
from pulse.store.redis.steering import RedisSteering, pauses_of
from pulse.store.redis.unfinished import RedisUnfinished
from pulse.store.rules import CONFIG, partitions_of
from pulse.store.shared.backend import EarlyData, Fleet, Lease, LookSnapshot
from pulse.store.shared.manifests import UNKNOWN
from pulse.store.shared.posting import take_in_rounds
from pulse.store.shared.rows import DueRow, DueSnapshot, PendingRow, TaskSnapshot
from pulse.store.steering import EVERY_TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from pulse.clock import Clock
    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.shared.backend import MemberRow, Posting, Transaction
    from pulse.store.shared.changes import Applied, ChangeSet, TaskChange
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.rows import Caller, TaskRow
    from pulse.store.steering import MemberReport

T = TypeVar("T")


RESERVE_FOR: Span = SECOND // 2
"""How long rows are reserved for the process that plans them.

A request that was sent before an outage may be executed after it, for a process that no longer
waits for the reply. Other processes then wait for this long, so ticks resume within a second."""


PEEK = 100
"""How many rows are read when the caller can claim nothing and only asks for the next wake-up."""

WAITING = 100
"""How many pending runs that must wait are read in addition to those that can be claimed."""

_DIGESTS = 1_000


class _DueReply(msgspec.Struct, frozen=True):
    """The reply of `read_due.lua`, which describes it."""

    now: Instant
    rows: Sequence[tuple[str, int, int]]
    pending: Sequence[tuple[str, str, int]]
    next_wakeup: Instant | None = None
    more: Instant | None = None


class _TasksReply(msgspec.Struct, frozen=True):
    now: Instant
    rows: Sequence[tuple[str, int]]
    paused: Sequence[str]


_DUE_REPLY = msgspec.msgpack.Decoder(_DueReply)
_TASKS_REPLY = msgspec.msgpack.Decoder(_TasksReply)
_DONE = msgspec.msgpack.Decoder(bool)
_polls = count(1)


class RedisBackend:
    """Keeps one application's data on a Redis server."""

    rolls_back = False

    def __init__(
        self,
        url: str,
        *,
        space: str,
        patience_us: Span,
        stand_in: Clock | None,
        creates: bool = True,
    ) -> None:
        self.server: RedisClient = RedisClient(
            url, prefix=prefix_of(space), patience_us=patience_us, stand_in=stand_in
        )
        self.name: str = self.server.name
        self._url = url
        self._space, self._creates = space, creates
        self.notice: str = ""
        self.missing_keys: MissingKeys = MissingKeys()
        self._partitions: frozenset[str] = frozenset()
        self._lease: Span = 0

    def identity(self) -> str:
        """Return the address as it was given."""
        return self._url

    def open(self, member: Member) -> None:
        """Connect for *member*, and check the layout of the keys."""
        self.server.open()
        layout = read_layout(self.server)
        if layout is None and not self._creates:
            raise nothing_kept(self.name, self._space)
        refuse_other_version(self.name, LAYOUT if layout is None else layout, current=LAYOUT)
        self.notice = durability_problems(self.server)
        self.missing_keys = MissingKeys()
        self._partitions, self._lease = partitions_of(member), member.lease_us

    def close(self) -> None:
        """Close the connections."""
        self.server.close()

    def rest(self) -> None:
        """Close connections that no call uses."""
        self.server.rest()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""
        self.server.forked()

    def run(self, how: Transaction, rule: Callable[[RedisSession], T]) -> T:  # noqa: ARG002 - each call is atomic by itself
        """Return what *rule* returns; a call whose reply was lost may have been executed.

        Raises:
            StorageReplacedError: keys or fields held no data of this store and were moved.

        """
        try:
            return rule(RedisSession(self))
        except (msgspec.MsgspecError, DamagedDataError) as error:
            raise damage_error(self.server, self.repair(), error) from error

    def repair(self) -> list[str]:
        """Repair the keys; return the names of those that held no data of this store."""
        return repair(self.server, partitions=self._partitions, lease_us=self._lease)


class RedisSession(RedisSteering, RedisAccounting, RedisUnfinished):
    """Calls on one server; what they have written stays when a later one fails."""

    __slots__ = ("_poll", "_server", "backend", "name")

    def __init__(self, backend: RedisBackend) -> None:
        self.backend: RedisBackend = backend
        self.name: str = backend.name
        self._server = backend.server
        self._poll = str(next(_polls))

    def now(self) -> Instant:
        """Return the present on the server's clock."""
        return self._server.now()

    # Claiming ----------------------------------------------------------------------------

    def read_due(self, caller: Caller, limit: int, *, pending: bool) -> DueSnapshot:
        """Return what is due, and reserve the rows, unless nothing can be claimed."""
        peek = limit <= 0
        reply = self._server.run(
            "read_due",
            _DUE_REPLY,
            holder=caller.member.holder,
            poll=self._poll,
            manifest=caller.manifest,
            partitions=sorted(caller.partitions),
            limit=PEEK if peek else limit,
            pending_limit=limit + WAITING if pending else 0,
            peek=peek,
            reserve_for=RESERVE_FOR,
        )
        rows = [
            DueRow(row_of(record), unfinished, claimed)
            for record, unfinished, claimed in reply.rows
        ]
        rows.sort(key=lambda found: (found.row.due_at or 0, found.row.order))
        runs = [
            PendingRow(run_of(run), row_of(row), claimed) for run, row, claimed in reply.pending
        ]
        runs.sort(key=lambda found: found.run.retry_at or 0)
        return DueSnapshot(reply.now, rows, runs, reply.next_wakeup, reply.more, reserved=not peek)

    def apply(self, changes: ChangeSet) -> Applied:
        """Apply a change set; new rows get their order first."""
        tasks = changes.tasks
        if any(change.was is None for change in tasks):
            newest = self._server.command("INCRBY", self._server.key("orders"), len(tasks))
            numbered = enumerate(tasks, newest - len(tasks) + 1)
            tasks = [_ordered(one, n) if one.was is None else one for n, one in numbered]
            changes = changes._replace(tasks=tasks)
        return apply(self._server, changes)

    def take_run(self, posting: Posting, *, member: Member, boot: Span) -> Run | None:
        """Let *member* claim a run that is posted, or is being posted."""
        return take_in_rounds(self, posting, member=member, boot=boot)

    # Tasks -------------------------------------------------------------------------------

    def read_tasks(self, keys: Sequence[str], *, lock: bool = False) -> TaskSnapshot:  # noqa: ARG002 - a change that was overtaken is refused
        """Return the rows of these keys, archived ones too."""
        starts = range(0, max(len(keys), 1), CHUNK)
        return self._read_tasks(*({"row_keys": keys[start : start + CHUNK]} for start in starts))

    def read_tasks_named(self, name: str, *, lock: bool = False) -> TaskSnapshot:  # noqa: ARG002 - a change that was overtaken is refused
        """Return the rows of a task in all partitions, archived ones too."""
        return self._read_tasks({"task": name})

    def _read_tasks(self, *requests: Mapping[str, object]) -> TaskSnapshot:
        replies = [self._server.run("read_tasks", _TASKS_REPLY, **one) for one in requests]
        found = [(row_of(record), number) for reply in replies for record, number in reply.rows]
        return TaskSnapshot(
            replies[-1].now,
            {row.task_key: row for row, _ in found},
            {row.task_key: unfinished for row, unfinished in found},
            frozenset(replies[-1].paused),
        )

    def _all_rows(self) -> list[TaskRow]:
        return _rows_in_use(self._server.command("HVALS", self._server.key("rows")))

    def read_declared(self) -> list[TaskRow]:
        """Return the rows that configurations declare, without archived ones."""
        return [row for row in self._all_rows() if row.source == CONFIG]

    def read_task_names(self, limit: int) -> list[str]:
        """Return names of tasks that are not archived."""
        return sorted({row.task for row in self._all_rows()})[:limit]

    def read_in_use(self, name: str | None = None) -> list[tuple[TaskRow, int]]:
        """Return the rows that are not archived, each with the number of its unfinished runs."""
        if name is not None:
            found = self.read_tasks_named(name).in_use()
            return [(row, found.unfinished[key]) for key, row in found.rows.items()]
        _, (records, counts) = self._server.batch(("HVALS", "rows"), ("HGETALL", "open"))
        unfinished = dict(zip(counts[::2], counts[1::2], strict=True))
        rows = _rows_in_use(records)
        return [(row, count_of(unfinished.get(row.task_key))) for row in rows]

    def read_early(self, caller: Caller, now: Instant, *, every_row: bool) -> EarlyData:  # noqa: ARG002 - all rows are read
        """Return rows in use, and pending runs, that a clock ahead of *now* may have moved."""
        keys = [self._server.key(f"unheld:{partition}") for partition in sorted(caller.partitions)]
        ids = [
            member[16:48].decode()
            for key in keys
            for member in self._server.command("ZRANGEBYSCORE", key, f"({now}", "+inf")
        ]
        return EarlyData(self._all_rows(), [*self.read_runs(ids).values()])

    # Members -----------------------------------------------------------------------------

    def add_manifest(self, manifest: Manifest) -> None:
        """Keep the digests of a manifest, which `read_due.lua` compares; `save_member` keeps it."""
        key, digests = self._server.key(f"config:{manifest.key}"), manifest.digests()
        if not digests or self._server.command("HLEN", key) == digest_fields(len(digests)):
            return
        pairs = [text for pair in digests.items() for text in pair] + ["", FILLER]
        for start in range(0, len(pairs), 2 * _DIGESTS):
            self._server.command("HSET", key, *pairs[start : start + 2 * _DIGESTS])

    def save_member(
        self,
        member: Member,
        manifest: Manifest,
        report: MemberReport,
        *,
        boot: Span,  # noqa: ARG002 - the server's clock is recorded
    ) -> None:
        """Record that *member* lives and which manifest it holds, which is kept from then on."""
        _, (*_, is_kept) = self._server.batch(
            ("SETNX", "layout", LAYOUT),
            *(("HSETNX", name, "", FILLER) for name in ("open", "unheld", "reserved")),
            ("HSET", "members", member.holder, member_record(self.now(), manifest.key, member)),
            ("HSET", "reports", member.holder, report_record(report)),
            ("HEXISTS", "configs", manifest.key),
        )
        if not is_kept and manifest.key != UNKNOWN.key:
            number = self._server.command("INCR", self._server.key("born"))
            text = manifest_record(number, manifest.manifest)
            self._server.command("HSETNX", self._server.key("configs"), manifest.key, text)

    def save_seen(self, rows: Sequence[MemberRow], *, boot: Span) -> None:  # noqa: ARG002 - the server's clock is recorded
        """Record that processes of this machine live."""
        now = self.now()
        pairs = [
            text
            for row in rows
            for text in (row.member.holder, member_record(now, row.manifest, row.member))
        ]
        said = [
            text
            for row in rows
            if row.report is not None
            for text in (row.member.holder, report_record(row.report))
        ]
        if pairs:
            reports = [("HSET", "reports", *said)] if said else []
            self._server.batch(("HSET", "members", *pairs), *reports)

    def read_manifests(self, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Return number and content of the manifests of these keys that exist."""
        wanted = sorted(keys)
        if not wanted:
            return {}
        records = self._server.command("HMGET", self._server.key("configs"), *wanted)
        found = zip(wanted, records, strict=True)
        return {key: manifest_of(record) for key, record in found if record is not None}

    def read_members(self, caller: Member, *, boot: Span) -> list[MemberRow]:  # noqa: ARG002 - the server's clock decides
        """Return the processes that have a row, dead ones too, by holder."""
        now, (records, said) = self._server.batch(("HVALS", "members"), ("HGETALL", "reports"))
        reports = dict(zip(said[::2], map(report_of, said[1::2]), strict=True))
        return [
            row._replace(report=reports.get(row.member.holder))
            for row in _member_rows(records, now)
        ]

    def read_fleet(self, caller: Caller, *, boot: Span) -> Fleet:  # noqa: ARG002 - the server's clock decides
        """Return processes and leases, and what is missing, in one step."""
        return self._read_look(caller, ())[0]

    def read_look(
        self,
        caller: Caller,
        limit: int,
        partitions: Collection[str],
        *,
        boot: Span,  # noqa: ARG002 - the server's clock decides
    ) -> LookSnapshot:
        """Return what a heartbeat reads in one step, and what a claim reads in another one."""
        fleet, next_due = self._read_look(caller, partitions)
        return LookSnapshot(fleet, next_due, partial(self.read_due, caller, limit, pending=True))

    def _read_look(
        self, caller: Caller, partitions: Collection[str]
    ) -> tuple[Fleet, dict[str, Instant]]:
        expected = self.backend.missing_keys
        wanted = [(place, index) for place in partitions for index in ("due", "unheld")]
        now, (records, found, waits, paused, pauses, every, stops, *replies) = self._server.batch(
            ("HVALS", "members"),
            ("ZRANGE", "leases", 0, -1, "WITHSCORES"),
            ("HGETALL", "waits"),
            ("SMEMBERS", "paused"),
            ("HGETALL", "pauses"),
            ("GET", "fleet_pause"),
            ("HGETALL", "stops"),
            *(("ZRANGE", f"{index}:{place}", 0, 0, "WITHSCORES") for place, index in wanted),
            *expected.questions(self._server, caller),
        )
        members = _member_rows(records, now)
        is_listed = any(one.member.holder == caller.member.holder for one in members)
        leases = _leases_of(found, waits, now)
        next_due: dict[str, Instant] = {}
        for (place, index), entry in zip(wanted, replies, strict=False):
            if entry and not (every and index == "due"):
                at = int(entry[1])
                next_due[place] = min(at, next_due.get(place, at))
        existing = replies[len(wanted) :]
        missing = expected.find(self._server, caller, existing, is_listed=is_listed)
        known = {name: one for name, one in pauses_of(pauses).items() if name in paused}
        if every:
            known[EVERY_TASK] = pause_of(every)
        over = {
            name: pause.until
            for name, pause in known.items()
            if pause.until is not None and pause.until <= now
        }
        asked = zip(stops[::2], map(stop_of, stops[1::2]), strict=True)
        claimed = {one.run for one in leases}
        requests = {run: request for run, request in asked if run in claimed}
        return Fleet(members, leases, missing, over, requests), next_due

    def remove_members(self, holders: Sequence[str], *, keep: frozenset[str]) -> None:
        """Remove processes and the rows of their partitions; those in *keep* stay listed."""
        kept = dict.fromkeys(sorted(keep), True)
        self._server.run("remove_members", _DONE, holders=holders, keeping=kept)

    # The storage -------------------------------------------------------------------------

    def restore(self) -> None:
        """Make indexes and counters again, and empty the list of processes: see `repair`."""
        self.backend.repair()


def _leases_of(found: Sequence[str], waits: Sequence[str], now: Instant) -> list[Lease]:
    """Return leases from ids and ends, and from the ids of posted runs and how long they wait."""
    lengths = dict(zip(waits[::2], map(int, waits[1::2]), strict=True))
    return [
        Lease(run, end, end - now, lengths.get(run), is_posted=run in lengths)
        for run, end in zip(found[::2], map(int, found[1::2]), strict=True)
    ]


def _member_rows(records: Iterable[str | bytes], now: Instant) -> list[MemberRow]:
    found = [member_row(record, now) for record in records]
    return sorted(found, key=lambda row: row.member.holder)


def _rows_in_use(records: Iterable[str | bytes]) -> list[TaskRow]:
    return [row for record in records if (row := row_of(record)).archived_at is None]


def _ordered(change: TaskChange, order: int) -> TaskChange:
    return msgspec.structs.replace(change, row=msgspec.structs.replace(change.row, order=order))


def prefix_of(name: str) -> str:
    """Return the beginning of all keys of the application *name*: readable, and unique."""
    return f"{{pulse:{application_id(name, joint='-')}}}:"
