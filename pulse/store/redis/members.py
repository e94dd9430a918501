"""Live processes: who is there, who is gone, and the runs that they leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.policies import Scope
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.store.process_identity import is_gone
from pulse.store.redis.changes import apply_runs, run_change
from pulse.store.redis.client import ServerCall
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
"""A process that has not been seen for so many of its leases counts as gone."""

LAYOUT = 1
"""The version of the layout of all keys."""


class _Joining(ServerCall, kw_only=True):
    holder: str
    member: str
    config: dict[str, str] | None = None
    layout: int = LAYOUT


class _Joined(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    configs: Sequence[str]


class _Watching(ServerCall, kw_only=True):
    longest: Span | None = None


class _Watched(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    late: Sequence[tuple[str, Instant]]
    next: Instant | bool


class _Dropping(ServerCall, kw_only=True):
    holders: Sequence[str]
    keeping: Mapping[str, bool]


class RedisFleet(NamedTuple):
    """Who is there, what they hold, and when that was.

    Attributes:
        configs: number and manifest of each config, by its key.

    """

    now: Instant
    seen: Sequence[RedisMemberRow]
    configs: Mapping[str, tuple[int, str]]


class RedisLostRun(NamedTuple):
    """A run to abandon, when its lease ends, and why."""

    run: Run
    lease: Instant
    reason: str


class RedisFleetState(NamedTuple):
    """What a look at the fleet found.

    Attributes:
        now: the server's clock.
        live: who is there.
        gone: who is there no more.
        lost: the runs to abandon.
        next_expiry: when the next lease is over on the boot clock, unless it is renewed.

    """

    now: Instant
    live: Sequence[RedisMemberRow]
    gone: Sequence[RedisMemberRow]
    lost: Sequence[RedisLostRun]
    next_expiry: Span | None


_JOINED = msgspec.msgpack.Decoder(_Joined)
_WATCHED = msgspec.msgpack.Decoder(_Watched)
_DONE = msgspec.msgpack.Decoder(bool)
_CONFIG = msgspec.json.Decoder(tuple[int, str])


def record_heartbeat(
    server: RedisClient, member: Member, config: Manifest, *, adds: bool
) -> RedisFleet:
    """Record that *member* lives, and its config where *adds*; return who is there."""
    text = msgspec.json.encode(config.manifest.decode()).decode() + "]"
    joining = _Joining(
        holder=member.holder,
        member=member_record(config.key, member),
        config={"key": config.key, "text": text} if adds else None,
    )
    answer = server.run("heartbeat", joining, _JOINED)
    pairs = zip(answer.configs[::2], answer.configs[1::2], strict=True)
    configs = {key: _CONFIG.decode(record) for key, record in pairs}
    return RedisFleet(answer.now, _by_holder(answer.members), configs)


def _by_holder(records: Iterable[str]) -> list[RedisMemberRow]:
    return sorted(map(member_of, records), key=lambda one: one.member.holder)


def read_fleet(server: RedisClient) -> RedisFleet:
    """Return who is there, without their configs."""
    answer = server.run("read_members", _Watching(), _WATCHED)
    return RedisFleet(answer.now, _by_holder(answer.members), {})


def live_of(fleet: RedisFleet, caller: Member) -> list[RedisMemberRow]:
    """Return the processes that were seen within three of their leases and are not gone."""
    return [
        one
        for one in fleet.seen
        if fleet.now - one.at < SILENT_LEASES * one.member.lease_us
        and not is_gone(one.member, machine=caller.machine)
    ]


def read_active_definitions(
    live: Iterable[RedisMemberRow], configs: Mapping[str, tuple[int, str]]
) -> ActiveDefinitions:
    """Return what stands while the processes *live* are alive."""
    hosts_of: dict[str, set[str]] = {}
    for one in live:
        hosts_of.setdefault(one.config, set()).add(one.member.host)
    return active_definitions(
        (configs[key][0], configs[key][1].encode(), hosts)
        for key, hosts in hosts_of.items()
        if key in configs
    )


def check_fleet(
    server: RedisClient, caller: Member, trust: ClockTrust, *, boot: Span, longest: Span
) -> RedisFleetState:
    """Return who lives and which runs are lost, without writing."""
    answer = server.run("read_members", _Watching(longest=longest), _WATCHED)
    seen, now = _by_holder(answer.members), answer.now
    trusted = trust.observe(now=now, boot=boot)
    gone = [one for one in seen if _is_gone(one, caller, now=now, trusted=trusted)]
    late = answer.late if trusted else ()
    holders = {one.member.holder for one in gone}
    lost = {run.id: RedisLostRun(run, lease, LEASE_OVER) for run, lease in _runs(late)}
    if gone:
        left = read_orphans(server, holders=holders, partitions=())
        lost |= {
            run.id: RedisLostRun(run, lease, HOLDER_GONE) for run, lease in _runs(left.claimed)
        }
    live = [one for one in seen if one.member.holder not in holders]
    end = now if answer.late and not trusted else answer.next or None
    look_at = None if end is None else max(boot + end - now, trust.trusted_from(boot))
    return RedisFleetState(now, live, gone, list(lost.values()), look_at)


def _is_gone(one: RedisMemberRow, caller: Member, *, now: Instant, trusted: bool) -> bool:
    if one.member.holder == caller.holder:
        return False
    if is_gone(one.member, machine=caller.machine):
        return True
    lease = one.member.lease_us
    return trusted and not now - SILENT_LEASES * lease < one.at <= now + lease


def _runs(found: Iterable[tuple[str, Instant]]) -> list[tuple[Run, Instant]]:
    return [(run_of(record), lease) for record, lease in found]


def drop_members(server: RedisClient, holders: Sequence[str]) -> None:
    """Take processes off the list, with the rows that were theirs alone.

    One that still holds runs stays listed, so that others find it gone as soon as it is.
    """
    left = read_orphans(server, holders=holders, partitions=holders)
    end_runs(server, left.pending)
    keeping = {run_of(record).holder: True for record, _ in left.claimed}
    server.run("remove_members", _Dropping(holders=holders, keeping=keeping), _DONE)


def abandon_runs(server: RedisClient, lost: Sequence[RedisLostRun], now: Instant) -> list[Run]:
    """Abandon runs, unless they were renewed or ended since; return them as they then stand."""
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
    stands = row is not None and row.archived_at is None
    if row is not None and stands and row.rerun and row.scope != Scope.PROCESS.value:
        return requeue_run(lost.run, lost.reason, now)
    return abandon_run(lost.run, lost.reason)


def _abandoning(lost: RedisLostRun, run: Run, rows: Mapping[str, RedisTaskRow]) -> RunChange:
    """Return the change; a run is only given to others while its row stands as it was read."""
    row = rows.get(task_key(run.task, run.partition)) if run.outcome is None else None
    guard = None if row is None else row.beginning
    return run_change(lost.run, run, lease=lost.lease, row=guard)
