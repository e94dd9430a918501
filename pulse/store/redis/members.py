"""Members and leases on Redis: who lives, and which claimed runs have lost their holder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.process_identity import is_gone
from pulse.store.redis.client import ScriptRequest
from pulse.store.redis.codec import LAYOUT, MANIFEST, member_of, member_record, run_of
from pulse.store.redis.lease_trust import ClockTrust
from pulse.store.redis.missing_keys import (
    IndexWatch,
    digest_fields,
    expected_keys,
    missing_text,
)
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.shared.backend import FleetState, LostRun, MemberRow
from pulse.store.shared.members import SILENT_LEASES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.codec import RedisMemberRow
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.rows import Caller

MAX_UNUSED_MANIFESTS = 32
"""How many of the newest manifests are kept although no process declares them any more."""


class _HeartbeatRequest(ScriptRequest, kw_only=True):
    holder: str
    member: str
    manifest: dict[str, str] | None = None
    layout: int = LAYOUT


class HeartbeatReply(msgspec.Struct, frozen=True):
    """The reply of `heartbeat.lua`: all members, and key and record of each manifest in turn."""

    now: Instant
    members: Sequence[str]
    manifests: Sequence[str]

    def unused_manifests(self) -> list[str]:
        """Return the keys of manifests that no member holds, without the newest ones."""
        held = {member_of(record).manifest for record in self.members}
        pairs = zip(self.manifests[::2], self.manifests[1::2], strict=True)
        numbered = sorted((MANIFEST.decode(record)[0], key) for key, record in pairs)
        return [key for _, key in numbered[:-MAX_UNUSED_MANIFESTS] if key not in held]


class _MembersRequest(ScriptRequest, kw_only=True):
    longest_lease: Span | None = None
    expected: Sequence[str] = ()
    partitions: Sequence[str] = ()
    manifest: str = ""
    digests: int = 0


class _MembersReply(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    expired: Sequence[tuple[str, Instant]]
    next_end: Instant | bool
    missing: Sequence[str]
    indexed: Sequence[str]


class _RemoveRequest(ScriptRequest, kw_only=True):
    holders: Sequence[str]
    keeping: Mapping[str, bool]


class OrphansRequest(ScriptRequest, kw_only=True):
    """The request of `read_orphans.lua`: whose claimed runs, and where pending runs are read."""

    holders: Sequence[str] = ()
    partitions: Sequence[str] = ()
    tasks: Mapping[str, Sequence[str]] = {}


class OrphansReply(msgspec.Struct, frozen=True):
    """Records of claimed runs, each with the end of its lease, and records of pending runs."""

    now: Instant
    claimed: Sequence[tuple[str, Instant]]
    pending: Sequence[str]


_HEARTBEAT_REPLY = msgspec.msgpack.Decoder(HeartbeatReply)
_MEMBERS_REPLY = msgspec.msgpack.Decoder(_MembersReply)
_ORPHANS_REPLY = msgspec.msgpack.Decoder(OrphansReply)
_DONE = msgspec.msgpack.Decoder(bool)


def record_heartbeat(
    server: RedisClient, member: Member, manifest: Manifest, *, save_manifest: bool
) -> HeartbeatReply:
    """Record that *member* lives, and its manifest if *save_manifest*."""
    text = msgspec.json.encode(manifest.manifest.decode()).decode() + "]"
    request = _HeartbeatRequest(
        holder=member.holder,
        member=member_record(manifest.key, member),
        manifest={"key": manifest.key, "text": text} if save_manifest else None,
    )
    return server.run("heartbeat", request, _HEARTBEAT_REPLY)


def _by_holder(records: Iterable[str]) -> list[RedisMemberRow]:
    return sorted(map(member_of, records), key=lambda row: row.member.holder)


def read_live(server: RedisClient, caller: Member) -> list[MemberRow]:
    """Return the processes seen within three of their leases that are not gone, by holder."""
    reply = server.run("read_members", _MembersRequest(), _MEMBERS_REPLY)
    return [
        MemberRow(row.member, row.manifest)
        for row in _by_holder(reply.members)
        if reply.now - row.seen_at < SILENT_LEASES * row.member.lease_us
        and not is_gone(row.member, machine=caller.machine)
    ]


def read_orphans(server: RedisClient, request: OrphansRequest) -> OrphansReply:
    """Return claimed runs of some processes, and pending runs of some partitions."""
    return server.run("read_orphans", request, _ORPHANS_REPLY)


def remove_members(server: RedisClient, holders: Sequence[str], *, keep: frozenset[str]) -> None:
    """Remove processes and the rows of their partitions; those in *keep* stay listed."""
    request = _RemoveRequest(holders=holders, keeping=dict.fromkeys(sorted(keep), True))
    server.run("remove_members", request, _DONE)


class RedisFleetWatch:
    """What one process has observed of the others, from heartbeat to heartbeat."""

    __slots__ = ("_indexes", "_longest_lease", "_trust")

    def __init__(self, lease_us: Span, boot: Span) -> None:
        self._trust = ClockTrust(lease_us, boot)
        self._longest_lease = lease_us
        self._indexes = IndexWatch()

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self._trust.forget()

    def check(self, server: RedisClient, caller: Caller, *, boot: Span) -> FleetState:
        """Return who lives, which runs are lost and which keys are missing, without a write."""
        member = caller.member
        request = _MembersRequest(
            longest_lease=self._longest_lease,
            expected=expected_keys(caller),
            partitions=sorted(caller.partitions),
            manifest=caller.manifest,
            digests=digest_fields(len(caller.definitions)),
        )
        reply = server.run("read_members", request, _MEMBERS_REPLY)
        seen, now = _by_holder(reply.members), reply.now
        self._longest_lease = max((row.member.lease_us for row in seen), default=member.lease_us)
        trusted = self._trust.observe(now=now, boot=boot)
        gone = [row for row in seen if _is_gone(row, member, now=now, trusted=trusted)]
        holders = {row.member.holder for row in gone}
        expired = reply.expired if trusted else ()
        lost = {run.id: LostRun(run, end, LEASE_OVER) for run, end in _runs(expired)}
        if gone:
            orphans = read_orphans(server, OrphansRequest(holders=sorted(holders)))
            lost |= {run.id: LostRun(run, end, HOLDER_GONE) for run, end in _runs(orphans.claimed)}
        live = [row for row in seen if row.member.holder not in holders]
        end = now if reply.expired and not trusted else reply.next_end or None
        next_expiry = None if end is None else max(boot + end - now, self._trust.trusted_from(boot))
        names = [*reply.missing, *self._indexes.find_lost(server, frozenset(reply.indexed))]
        listed = any(row.member.holder == member.holder for row in seen)
        missing = missing_text(server, caller, names, listed=listed)
        return FleetState(_rows(live), _rows(gone), list(lost.values()), next_expiry, missing)


def _rows(seen: Iterable[RedisMemberRow]) -> list[MemberRow]:
    return [MemberRow(row.member, row.manifest) for row in seen]


def _is_gone(row: RedisMemberRow, caller: Member, *, now: Instant, trusted: bool) -> bool:
    if row.member.holder == caller.holder:
        return False
    if is_gone(row.member, machine=caller.machine):
        return True
    lease = row.member.lease_us
    return trusted and not now - SILENT_LEASES * lease < row.seen_at <= now + lease


def _runs(found: Iterable[tuple[str, Instant]]) -> list[tuple[Run, Instant]]:
    return [(run_of(record), lease) for record, lease in found]
