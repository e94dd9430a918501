"""Live processes: who is there, who is gone, and the runs that they leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.policies import Scope
from pulse.core.run_transitions import abandoned_run, released_run
from pulse.store.process_identity import is_gone
from pulse.store.redis.changes import run_change, write_runs
from pulse.store.redis.client import Work
from pulse.store.redis.codec import Row, Seen, run_of, seen_of, seen_text, spot_of
from pulse.store.redis.orphans import end_runs, find_left
from pulse.store.redis.tasks import read_spots
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.shared.manifests import Config, Standing, standing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.redis.changes import RunChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.lease_trust import Trust

SILENT_LEASES = 3
"""A process that has not been seen for so many of its leases counts as gone."""

LAYOUT = 1
"""The version of the layout of all keys."""


class _Joining(Work, kw_only=True):
    holder: str
    member: str
    config: dict[str, str] | None = None
    layout: int = LAYOUT


class _Joined(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    configs: Sequence[str]


class _Watching(Work, kw_only=True):
    longest: Span | None = None


class _Watched(msgspec.Struct, frozen=True):
    now: Instant
    members: Sequence[str]
    late: Sequence[tuple[str, Instant]]
    next: Instant | bool


class _Dropping(Work, kw_only=True):
    holders: Sequence[str]
    keeping: Mapping[str, bool]


class Company(NamedTuple):
    """Who is there, what they hold, and when that was.

    Attributes:
        configs: number and manifest of each config, by its key.

    """

    now: Instant
    seen: Sequence[Seen]
    configs: Mapping[str, tuple[int, str]]


class Lost(NamedTuple):
    """A run to abandon, when its lease ends, and why."""

    run: Run
    lease: Instant
    reason: str


class Findings(NamedTuple):
    """What a look at the fleet found.

    Attributes:
        now: the server's clock.
        live: who is there.
        gone: who is there no more.
        lost: the runs to abandon.
        look_at: when the next lease is over on the boot clock, unless it is renewed.

    """

    now: Instant
    live: Sequence[Seen]
    gone: Sequence[Seen]
    lost: Sequence[Lost]
    look_at: Span | None


_JOINED = msgspec.msgpack.Decoder(_Joined)
_WATCHED = msgspec.msgpack.Decoder(_Watched)
_DONE = msgspec.msgpack.Decoder(bool)
_CONFIG = msgspec.json.Decoder(tuple[int, str])


def join(server: Server, member: Member, config: Config, *, adds: bool) -> Company:
    """Record that *member* lives, and its config where *adds*; return who is there."""
    text = msgspec.json.encode(config.manifest.decode()).decode() + "]"
    joining = _Joining(
        holder=member.holder,
        member=seen_text(config.key, member),
        config={"key": config.key, "text": text} if adds else None,
    )
    answer = server.run("heartbeat", joining, _JOINED)
    pairs = zip(answer.configs[::2], answer.configs[1::2], strict=True)
    configs = {key: _CONFIG.decode(record) for key, record in pairs}
    return Company(answer.now, _by_holder(answer.members), configs)


def _by_holder(records: Iterable[str]) -> list[Seen]:
    return sorted(map(seen_of, records), key=lambda one: one.member.holder)


def read_company(server: Server) -> Company:
    """Return who is there, without their configs."""
    answer = server.run("read_members", _Watching(), _WATCHED)
    return Company(answer.now, _by_holder(answer.members), {})


def live_of(company: Company, here: Member) -> list[Seen]:
    """Return the processes that were seen within three of their leases and are not gone."""
    return [
        one
        for one in company.seen
        if company.now - one.at < SILENT_LEASES * one.member.lease_us
        and not is_gone(one.member, machine=here.machine)
    ]


def standing(live: Iterable[Seen], configs: Mapping[str, tuple[int, str]]) -> Standing:
    """Return what stands while the processes *live* are alive."""
    hosts_of: dict[str, set[str]] = {}
    for one in live:
        hosts_of.setdefault(one.config, set()).add(one.member.host)
    return standing_of(
        (configs[key][0], configs[key][1].encode(), hosts)
        for key, hosts in hosts_of.items()
        if key in configs
    )


def look_at_fleet(
    server: Server, here: Member, trust: Trust, *, boot: Span, longest: Span
) -> Findings:
    """Return who lives and which runs are lost, without writing."""
    answer = server.run("read_members", _Watching(longest=longest), _WATCHED)
    seen, now = _by_holder(answer.members), answer.now
    trusted = trust.look(now=now, boot=boot)
    gone = [one for one in seen if _is_gone(one, here, now=now, trusted=trusted)]
    late = answer.late if trusted else ()
    holders = {one.member.holder for one in gone}
    lost = {run.id: Lost(run, lease, LEASE_OVER) for run, lease in _runs(late)}
    if gone:
        left = find_left(server, holders=holders, places=())
        lost |= {run.id: Lost(run, lease, HOLDER_GONE) for run, lease in _runs(left.held)}
    live = [one for one in seen if one.member.holder not in holders]
    end = now if answer.late and not trusted else answer.next or None
    look_at = None if end is None else max(boot + end - now, trust.trusted_from(boot))
    return Findings(now, live, gone, list(lost.values()), look_at)


def _is_gone(one: Seen, here: Member, *, now: Instant, trusted: bool) -> bool:
    if one.member.holder == here.holder:
        return False
    if is_gone(one.member, machine=here.machine):
        return True
    lease = one.member.lease_us
    return trusted and not now - SILENT_LEASES * lease < one.at <= now + lease


def _runs(found: Iterable[tuple[str, Instant]]) -> list[tuple[Run, Instant]]:
    return [(run_of(record), lease) for record, lease in found]


def drop_members(server: Server, holders: Sequence[str]) -> None:
    """Take processes off the list, with the rows that were theirs alone.

    One that still holds runs stays listed, so that others find it gone as soon as it is.
    """
    left = find_left(server, holders=holders, places=holders)
    end_runs(server, left.unheld)
    keeping = {run_of(record).holder: True for record, _ in left.held}
    server.run("remove_members", _Dropping(holders=holders, keeping=keeping), _DONE)


def abandon_runs(server: Server, lost: Sequence[Lost], now: Instant) -> list[Run]:
    """Abandon runs, unless they were renewed or ended since; return them as they then stand."""
    if not lost:
        return []
    rows = read_spots(server, sorted({spot_of(one.run.task, one.run.place) for one in lost})).rows
    changed = [_abandoned(one, rows, now) for one in lost]
    changes = [_abandoning(one, run, rows) for one, run in zip(lost, changed, strict=True)]
    done = write_runs(server, changes)
    return [run for run, was_done in zip(changed, done, strict=True) if was_done]


def _abandoned(lost: Lost, rows: Mapping[str, Row], now: Instant) -> Run:
    row = rows.get(spot_of(lost.run.task, lost.run.place))
    stands = row is not None and row.archived_at is None
    if row is not None and stands and row.rerun and row.scope != Scope.PROCESS.value:
        return released_run(lost.run, lost.reason, now)
    return abandoned_run(lost.run, lost.reason)


def _abandoning(lost: Lost, run: Run, rows: Mapping[str, Row]) -> RunChange:
    """Return the change; a run is only given to others while its row stands as it was read."""
    row = rows.get(spot_of(run.task, run.place)) if run.outcome is None else None
    guard = None if row is None else row.beginning
    return run_change(lost.run, run, lease=lost.lease, row=guard)
