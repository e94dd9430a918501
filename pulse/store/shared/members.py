"""Finds out which processes live, removes those that are gone, and ends the runs they left."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.policies import Scope
from pulse.core.run import QUEUE_HOLDER, Outcome
from pulse.core.run_transitions import abandon_run, miss_posted, requeue_run
from pulse.store.lease_watch import ExpiryWatch, Observations
from pulse.store.process_identity import is_gone
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.shared.changes import ChangeSet, RunChange
from pulse.store.shared.manifests import active_definitions
from pulse.store.shared.orphans import end_pending
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.base import Member
    from pulse.store.shared.backend import Fleet, Lease, MemberRow, Session, Written
    from pulse.store.shared.manifests import ActiveDefinitions
    from pulse.store.shared.rows import Caller, TaskRow
    from pulse.store.shared.unanswered import FoundClaim
    from pulse.store.steering import MemberReport, StopRequest

SILENT_LEASES = 3
"""A process that has not been seen for so many of its leases counts as gone."""


KEPT_FOR = 4
"""A process that another one was kept alive by within this part of a lease is left alone."""


class LostRun(NamedTuple):
    """A run to abandon or, if it is posted, to miss; the mark of its lease if it was read; why."""

    run: Run
    mark: int | None
    reason: str


class FleetState(NamedTuple):
    """Which processes live, and which runs have lost their holder.

    Attributes:
        live: the processes that live.
        gone: the holders that do not.
        lost: the runs to abandon.
        next_expiry: the instant of the boot clock at which the next lease is over unless it is
            renewed; None for no lease.
        missing: what the application has lost, as a sentence for the log; empty for nothing.
        over: the pauses that are over, by the name of the task, each with its end.
        stops: the requests to stop claimed runs, by the ids of the runs.
        unanswered: the claims of this process whose answers were lost.

    """

    live: Sequence[MemberRow]
    gone: Sequence[str]
    lost: Sequence[LostRun]
    next_expiry: Span | None
    missing: str
    over: Mapping[str, Instant]
    stops: Mapping[str, StopRequest]
    unanswered: Sequence[FoundClaim] = ()


class FleetWatch:
    """What one process has observed of the others, from heartbeat to heartbeat."""

    def __init__(self, lease_us: Span) -> None:
        # Holders renew within a third of a lease. Two fifths of a lease of 3 s are longer than
        # another process of the host takes to continue the observation.
        self._leases: ExpiryWatch[str] = ExpiryWatch(lease_us * 2 // 5)
        self._members: ExpiryWatch[str] = ExpiryWatch(lease_us)

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self._leases.forget()
        self._members.forget()

    def observations(self) -> Observations | None:
        """Return what was seen of the leases."""
        seen = self._leases.observations()
        return None if seen is None else Observations(*seen)

    def adopt(self, observed: Observations) -> None:
        """Continue the observation of leases by another process of this machine."""
        self._leases.adopt(*observed)

    def check(self, session: Session, found: Fleet, caller: Caller, *, boot: Span) -> FleetState:
        """Return who lives, which runs are lost and which data is missing, without a write."""
        member = caller.member
        known, leases, missing, over, stops = found
        marks = {
            one.member.holder: (one.mark, SILENT_LEASES * one.member.lease_us) for one in known
        }
        silent = self._members.expired(marks, boot) - {member.holder}
        gone = [
            one.member.holder
            for one in known
            if one.member.holder in silent or is_gone(one.member, machine=member.machine)
        ]
        live = [one for one in known if one.member.holder not in gone]
        longest = max((one.member.lease_us for one in known), default=member.lease_us)
        leases_of = {one.run: (one.mark, one.length_us or longest) for one in leases}
        posted = [one for one in leases if one.is_posted]
        leases_of |= _ended_waits(posted, longest)
        ages = {
            one.run: (one.length_us or longest) - one.ends_in
            for one in leases
            if one.ends_in is not None
        }
        expired = self._leases.expired(leases_of, boot, ages)
        lost = _lost_runs(session, leases_of, expired, gone)
        next_expiry = _earliest(self._leases.next_expiry(leases_of, boot), posted, boot)
        return FleetState(live, gone, lost, next_expiry, missing, over, stops)


def _ended_waits(posted: Iterable[Lease], longest: Span) -> dict[str, tuple[int, Span]]:
    """Return mark and length of the waits that are over on the storage's clock, by run.

    A wait may be many times as long as a process lives. Once it is over on the storage's clock, it
    is watched for no longer than the lease of a claimed run is.
    """
    return {
        one.run: (one.mark, min(one.length_us or longest, longest))
        for one in posted
        if one.ends_in is not None and one.ends_in <= 0
    }


def _earliest(observed: Span | None, posted: Iterable[Lease], boot: Span) -> Span | None:
    """Return the earlier of *observed* and the next end of a wait, on the boot clock."""
    ends = [boot + one.ends_in for one in posted if one.ends_in is not None and one.ends_in > 0]
    return min((end for end in (observed, *ends) if end is not None), default=None)


def _lost_runs(
    session: Session,
    leases: Mapping[str, tuple[int, Span]],
    expired: Collection[str],
    gone: Sequence[str],
) -> list[LostRun]:
    # Nearly always no run is lost: only lost ones are read whole.
    runs = session.read_runs(sorted(expired)).values() if expired else ()
    lost = {
        run.id: LostRun(run, leases[run.id][0], LEASE_OVER)
        for run in runs
        if run.outcome is None and run.holder
    }
    for run in session.read_orphans(gone).claimed if gone else ():
        mark, _ = leases.get(run.id, (None, 0))
        lost[run.id] = LostRun(run, mark, HOLDER_GONE)
    return list(lost.values())


def read_live(session: Session, caller: Member, *, boot: Span) -> list[MemberRow]:
    """Return the processes seen within three of their leases that are not gone, by holder."""
    return [
        one
        for one in session.read_members(caller, boot=boot)
        if one.silent_us < SILENT_LEASES * one.member.lease_us
        and not is_gone(one.member, machine=caller.machine)
    ]


def save_seen(
    session: Session, caller: Member, reports: Mapping[str, MemberReport | None], *, boot: Span
) -> list[str]:
    """Record that other processes of the machine of *caller* live; return those without a row.

    What a process has not said about itself lately stays as it was.
    """
    rows = session.read_members(caller, boot=boot)
    known = [row for row in rows if row.member.holder in reports]
    # Several processes may do this at once, as all that wake up at a fire time of their own tasks.
    silent = [
        row._replace(report=reports[row.member.holder] or row.report)
        for row in known
        if row.silent_us >= row.member.lease_us // KEPT_FOR
    ]
    if silent:
        session.save_seen(silent, boot=boot)
    return sorted({*reports} - {row.member.holder for row in known})


def read_active_definitions(session: Session, live: Iterable[MemberRow]) -> ActiveDefinitions:
    """Return the definitions that are active while the processes *live* are alive."""
    hosts_of: dict[str, set[str]] = {}
    for one in live:
        hosts_of.setdefault(one.manifest, set()).add(one.member.host)
    manifests = session.read_manifests(hosts_of)
    return active_definitions(
        (*manifests[key], hosts) for key, hosts in hosts_of.items() if key in manifests
    )


def drop_members(session: Session, holders: Sequence[str]) -> list[Run]:
    """Remove processes, and the rows of their partitions; return the pending runs that end.

    A process that still has claimed runs stays listed, so that its end is found with its runs.
    """
    orphans = session.read_orphans(holders)
    ended = end_pending(session, orphans.pending)
    session.remove_members(holders, keep=frozenset(run.holder for run in orphans.claimed))
    return ended


def drop_gone(session: Session, written: Written, *, gone: Sequence[str]) -> None:
    """Remove processes; the pending runs that end are reported."""
    written.abandoned.extend(drop_members(session, gone))


def abandon_runs(
    session: Session,
    lost: Sequence[LostRun],
    written: Written,
    *,
    now: Instant,
    stops: Collection[str] = (),
) -> None:
    """Abandon runs, unless they were renewed or recorded since; add them to *written*.

    Posted runs are missed, or end as their last attempt. Those of *stops* are not attempted again:
    somebody has asked to stop them.
    """
    keys = sorted({task_key(one.run.task, one.run.partition) for one in lost})
    rows = session.read_tasks(keys).in_use().rows
    changes = [_abandonment(one, {} if one.run.id in stops else rows, now) for one in lost]
    applied = session.apply(ChangeSet(runs=changes, skip_locked=True)).runs
    for change, done in zip(changes, applied, strict=True):
        if not done or change.run is None:
            continue
        if change.was.holder != QUEUE_HOLDER:
            written.abandoned.append(change.run)
        elif change.run.outcome is Outcome.MISSED:
            written.missed.append(change.run)
        else:
            written.expired_retries.append(change.run)


def _abandonment(lost: LostRun, rows: Mapping[str, TaskRow], now: Instant) -> RunChange:
    """Return the change of a run; it is requeued only while its row is as it was read."""
    was, mark, reason = lost
    if was.holder == QUEUE_HOLDER:
        return RunChange(was, miss_posted(was), mark=mark)
    row = rows.get(task_key(was.task, was.partition))
    if row is not None and row.rerun and row.scope != Scope.PROCESS.value:
        return RunChange(was, requeue_run(was, reason, now), row, guarded=True, mark=mark)
    return RunChange(was, abandon_run(was, reason), mark=mark)
