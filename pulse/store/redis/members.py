"""The members of the fleet: which are live, which are gone, and abandoning their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.policies import Scope
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.store.process_identity import is_gone
from pulse.store.redis.changes import apply_runs, run_change
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import (
    RedisMemberRow,
    RedisTaskRow,
    member_of,
    member_record,
    run_of,
    task_key,
)
from pulse.store.redis.orphans import end_runs, read_orphans
from pulse.store.redis.tasks import read_keys
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.shared.manifests import ActiveDefinitions, Manifest, active_definitions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.redis.changes import RunChange
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.lease_trust import ClockTrust

SILENT_LEASES = 3
"""A member that has not been seen for so many of its leases is gone."""

LAYOUT = 1
"""The version of the keys and records; see `pulse.store.redis.codec`."""


class _HeartbeatRequest(ScriptRequest, kw_only=True):
    holder: str
    member: str
    manifest: dict[str, str] | None = None
    layout: int = LAYOUT


class _HeartbeatReply(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    manifests: Sequence[str]


class _MembersRequest(ScriptRequest, kw_only=True):
    longest_lease: Span | None = None


class _MembersReply(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    expired: Sequence[tuple[str, Instant]]
    next_end: Instant | bool


class _RemoveRequest(ScriptRequest, kw_only=True):
    holders: Sequence[str]
    keeping: Mapping[str, bool]


class RedisFleet(NamedTuple):
    """The members of the fleet and their manifests.

    Attributes:
        now: the server's clock at the read.
        seen: all recorded members, live or not, ordered by holder.
        manifests: number and text of each manifest, by its key.

    """

    now: Instant
    seen: Sequence[RedisMemberRow]
    manifests: Mapping[str, tuple[int, str]]


class RedisLostRun(NamedTuple):
    """A run to abandon, when its lease ends, and the reason."""

    run: Run
    lease: Instant
    reason: str


class RedisFleetState(NamedTuple):
    """The result of one check of the fleet.

    Attributes:
        now: the server's clock.
        live: the live members.
        gone: the members to remove.
        lost: the runs to abandon.
        next_expiry: when the next lease ends on the boot clock, unless it is renewed.

    """

    now: Instant
    live: Sequence[RedisMemberRow]
    gone: Sequence[RedisMemberRow]
    lost: Sequence[RedisLostRun]
    next_expiry: Span | None


_HEARTBEAT_REPLY = msgspec.msgpack.Decoder(_HeartbeatReply)
_MEMBERS_REPLY = msgspec.msgpack.Decoder(_MembersReply)
_DONE = msgspec.msgpack.Decoder(bool)
_MANIFEST = msgspec.json.Decoder(tuple[int, str])


def record_heartbeat(
    server: RedisClient, member: Member, manifest: Manifest, *, save_manifest: bool
) -> RedisFleet:
    """Record that *member* lives, and its manifest if *save_manifest*; return the fleet."""
    text = msgspec.json.encode(manifest.manifest.decode()).decode() + "]"
    request = _HeartbeatRequest(
        holder=member.holder,
        member=member_record(manifest.key, member),
        manifest={"key": manifest.key, "text": text} if save_manifest else None,
    )
    reply = server.run("heartbeat", request, _HEARTBEAT_REPLY)
    pairs = zip(reply.manifests[::2], reply.manifests[1::2], strict=True)
    manifests = {key: _MANIFEST.decode(record) for key, record in pairs}
    return RedisFleet(reply.now, _by_holder(reply.members), manifests)


def _by_holder(records: Iterable[str]) -> list[RedisMemberRow]:
    return sorted(map(member_of, records), key=lambda row: row.member.holder)


def read_fleet(server: RedisClient) -> RedisFleet:
    """Return the members of the fleet, without the manifests."""
    reply = server.run("read_members", _MembersRequest(), _MEMBERS_REPLY)
    return RedisFleet(reply.now, _by_holder(reply.members), {})


def live_of(fleet: RedisFleet, caller: Member) -> list[RedisMemberRow]:
    """Return the members that were seen within three of their leases and still exist."""
    return [
        row
        for row in fleet.seen
        if fleet.now - row.seen_at < SILENT_LEASES * row.member.lease_us
        and not is_gone(row.member, machine=caller.machine)
    ]


def read_active_definitions(
    live: Iterable[RedisMemberRow], manifests: Mapping[str, tuple[int, str]]
) -> ActiveDefinitions:
    """Return the active definitions for the members *live*."""
    hosts_of: dict[str, set[str]] = {}
    for row in live:
        hosts_of.setdefault(row.manifest, set()).add(row.member.host)
    return active_definitions(
        (manifests[key][0], manifests[key][1].encode(), hosts)
        for key, hosts in hosts_of.items()
        if key in manifests
    )


def check_fleet(
    server: RedisClient, caller: Member, trust: ClockTrust, *, boot: Span, longest_lease: Span
) -> RedisFleetState:
    """Return which members are live and which runs are lost, without writing."""
    reply = server.run("read_members", _MembersRequest(longest_lease=longest_lease), _MEMBERS_REPLY)
    seen, now = _by_holder(reply.members), reply.now
    trusted = trust.observe(now=now, boot=boot)
    gone = [row for row in seen if _is_gone(row, caller, now=now, trusted=trusted)]
    expired = reply.expired if trusted else ()
    holders = {row.member.holder for row in gone}
    lost = {run.id: RedisLostRun(run, lease, LEASE_OVER) for run, lease in _runs(expired)}
    if gone:
        orphans = read_orphans(server, holders=holders, partitions=())
        lost |= {
            run.id: RedisLostRun(run, lease, HOLDER_GONE) for run, lease in _runs(orphans.claimed)
        }
    live = [row for row in seen if row.member.holder not in holders]
    # Expired leases on which this observer may not act yet are due as soon as it may.
    end = now if reply.expired and not trusted else reply.next_end or None
    next_expiry = None if end is None else max(boot + end - now, trust.trusted_from(boot))
    return RedisFleetState(now, live, gone, list(lost.values()), next_expiry)


def _is_gone(row: RedisMemberRow, caller: Member, *, now: Instant, trusted: bool) -> bool:
    if row.member.holder == caller.holder:
        return False
    if is_gone(row.member, machine=caller.machine):
        return True
    lease = row.member.lease_us
    # A time in the future was recorded before the server's clock was set back; a live member would
    # have replaced it since.
    return trusted and not now - SILENT_LEASES * lease < row.seen_at <= now + lease


def _runs(found: Iterable[tuple[str, Instant]]) -> list[tuple[Run, Instant]]:
    return [(run_of(record), lease) for record, lease in found]


def remove_members(server: RedisClient, holders: Sequence[str]) -> None:
    """Remove members, with the rows of scope `process` that belong to them.

    A member that still has claimed runs stays listed, so that other processes find that it is gone
    and abandon the runs.
    """
    orphans = read_orphans(server, holders=holders, partitions=holders)
    end_runs(server, orphans.pending)
    keeping = {run_of(record).holder: True for record, _ in orphans.claimed}
    server.run("remove_members", _RemoveRequest(holders=holders, keeping=keeping), _DONE)


def abandon_runs(server: RedisClient, lost: Sequence[RedisLostRun], now: Instant) -> list[Run]:
    """Abandon runs that were not renewed or finished since the read; return the changed runs."""
    if not lost:
        return []
    rows = read_keys(
        server, sorted({task_key(one.run.task, one.run.partition) for one in lost})
    ).rows
    changed = [_abandoned(one, rows, now) for one in lost]
    changes = [_abandoning(one, run, rows) for one, run in zip(lost, changed, strict=True)]
    done = apply_runs(server, changes)
    return [run for run, was_done in zip(changed, done, strict=True) if was_done]


def _abandoned(lost: RedisLostRun, rows: Mapping[str, RedisTaskRow], now: Instant) -> Run:
    row = rows.get(task_key(lost.run.task, lost.run.partition))
    in_use = row is not None and row.archived_at is None
    if row is not None and in_use and row.rerun and row.scope != Scope.PROCESS.value:
        return requeue_run(lost.run, lost.reason, now)
    return abandon_run(lost.run, lost.reason)


def _abandoning(lost: RedisLostRun, run: Run, rows: Mapping[str, RedisTaskRow]) -> RunChange:
    """Return the change; a run is only requeued while its task row is as it was read."""
    row = rows.get(task_key(run.task, run.partition)) if run.outcome is None else None
    guard = None if row is None else row.beginning
    return run_change(lost.run, run, lease=lost.lease, row=guard)
