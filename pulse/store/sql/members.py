"""The rows of processes, which of the processes are gone, and the runs that they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run import Outcome
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.store.base import Member
from pulse.store.lease_watch import ExpiryWatch
from pulse.store.process_identity import boot_of, is_gone
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.sql.runs import attempts_cell, read_runs
from pulse.store.sql.tasks import clear_partition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.sql.database import Connection

_SAVE = (
    "INSERT INTO @members (holder, host, machine, pid, pid_started, mode, digest, lease_us,"
    " config, seen, seen_boot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (holder) DO UPDATE SET config = excluded.config, seen = excluded.seen,"
    " seen_boot = excluded.seen_boot"
)
_READ = (
    "SELECT config, seen, seen_boot, holder, host, machine, pid, pid_started, mode, digest,"
    " lease_us FROM @members ORDER BY holder"
)
_LEAVE = (
    "DELETE FROM @members WHERE holder = ? AND NOT EXISTS"
    " (SELECT 1 FROM @runs WHERE outcome IS NULL AND holder = ?)"
)
_HELD = (
    "SELECT id, attempt, holder, mark, lease_us FROM @runs WHERE outcome IS NULL AND holder <> ''"
)
_RERUN = (
    "SELECT rerun FROM @tasks WHERE task = ? AND place = ? AND scope <> 'process'"
    " AND archived_at IS NULL"
)
_ABANDON = (
    "UPDATE @runs SET outcome = ?, holder = ?, claimed_at = ?, retry_at = ?, message = ?,"
    " tries = ?"
    " WHERE id IN (SELECT id FROM @runs WHERE id = ? AND holder = ? AND attempt = ? AND mark = ?"
    "  AND outcome IS NULL FOR UPDATE SKIP LOCKED)"
)
SILENT_LEASES = 3
"""A process that has not been seen for this many of its leases counts as gone."""


class SqlMemberRow(NamedTuple):
    """The row of a process.

    Attributes:
        member: the process.
        config: the key of its manifest.
        wall: when it was last seen, on the database's clock.
        boot: when it was last seen, on the boot clock of its host.

    """

    member: Member
    config: str
    wall: Instant
    boot: Span

    def is_silent(self, machine: str, *, wall: Instant, boot: Span) -> bool:
        """Return whether the process was not seen for three of its leases.

        The boot clocks of two processes can be compared only within one boot of one host.
        """
        same_boot = boot_of(self.member.machine) == boot_of(machine)
        silence = boot - self.boot if same_boot else wall - self.wall
        return silence >= SILENT_LEASES * self.member.lease_us


class SqlLostRun(NamedTuple):
    """A run to abandon, the renewal mark of its lease, and the reason."""

    run: Run
    mark: int
    reason: str


class SqlFleetState(NamedTuple):
    """The processes and the claimed runs, as one heartbeat has read them.

    Attributes:
        live: the processes that are alive.
        gone: the processes that are not.
        lost: the runs to abandon.
        next_expiry: when the next lease expires unless it is renewed, on the boot clock.

    """

    live: Sequence[SqlMemberRow]
    gone: Sequence[SqlMemberRow]
    lost: Sequence[SqlLostRun]
    next_expiry: Span | None


class FleetWatch:
    """What one process has observed of the others, from heartbeat to heartbeat."""

    __slots__ = ("_leases", "_members", "unwanted")

    def __init__(self, lease_us: Span) -> None:
        # Holders renew within a third of a lease.
        self._leases: ExpiryWatch[tuple[str, int]] = ExpiryWatch(lease_us // 3)
        self._members: ExpiryWatch[str] = ExpiryWatch(lease_us)
        self.unwanted: ExpiryWatch[int] = ExpiryWatch(lease_us)

    def forget(self) -> None:
        """Observe from the beginning: while a store is down, no process can renew."""
        self._leases.forget()
        self._members.forget()
        self.unwanted.forget()

    def check(self, connection: Connection, caller: Member, boot: Span) -> SqlFleetState:
        """Return which processes are alive and which runs are lost, without writing."""
        seen = read_seen(connection)
        marks = {one.member.holder: (one.boot, SILENT_LEASES * one.member.lease_us) for one in seen}
        silent = self._members.expired(marks, boot) - {caller.holder}
        gone = [
            one
            for one in seen
            if one.member.holder in silent or is_gone(one.member, machine=caller.machine)
        ]
        holders = {one.member.holder for one in gone}
        live = [one for one in seen if one.member.holder not in holders]
        return SqlFleetState(live, gone, *self._lost(connection, holders, boot))

    def _lost(
        self, connection: Connection, gone: set[str], boot: Span
    ) -> tuple[list[SqlLostRun], Span | None]:
        held = {(run_id, attempt): rest for run_id, attempt, *rest in connection.execute(_HELD)}
        marks = {key: (mark, lease_us) for key, (_, mark, lease_us) in held.items()}
        expired = self._leases.expired(marks, boot)
        reasons = {
            key: HOLDER_GONE if holder in gone else LEASE_OVER
            for key, (holder, _, _) in held.items()
            if key in expired or holder in gone
        }
        # Nearly always no run is lost, so whole runs are read only for those that are.
        runs = read_runs(connection, [run_id for run_id, _ in reasons]) if reasons else {}
        lost = [
            SqlLostRun(runs[key[0]], held[key][1], reason)
            for key, reason in reasons.items()
            if key[0] in runs and _is_claimed(runs[key[0]], attempt=key[1], holder=held[key][0])
        ]
        return lost, self._leases.next_expiry(marks, boot)


def _is_claimed(run: Run, *, attempt: int, holder: str) -> bool:
    return run.outcome is None and (run.attempt, run.holder) == (attempt, holder)


def read_seen(connection: Connection) -> list[SqlMemberRow]:
    """Return all processes that have a row, ordered by holder."""
    return [
        SqlMemberRow(
            Member(
                holder=holder,
                host=host,
                machine=machine,
                pid=pid,
                pid_started=pid_started,
                mode=mode,
                digest=digest,
                lease_us=lease_us,
            ),
            config,
            wall,
            boot,
        )
        for (
            config,
            wall,
            boot,
            holder,
            host,
            machine,
            pid,
            pid_started,
            mode,
            digest,
            lease_us,
        ) in connection.execute(_READ)
    ]


def read_live(
    connection: Connection, caller: Member, *, wall: Instant, boot: Span
) -> list[SqlMemberRow]:
    """Return the processes that were seen within three of their leases and have not ended."""
    return [
        one
        for one in read_seen(connection)
        if not one.is_silent(caller.machine, wall=wall, boot=boot)
        and not is_gone(one.member, machine=caller.machine)
    ]


def save_member(
    connection: Connection, caller: Member, config: str, *, wall: Instant, boot: Span
) -> None:
    """Record that this process is alive, and the key of its manifest."""
    connection.execute(
        _SAVE,
        (
            caller.holder,
            caller.host,
            caller.machine,
            caller.pid,
            caller.pid_started,
            caller.mode,
            caller.digest,
            caller.lease_us,
            config,
            wall,
            boot,
        ),
    )


def drop_member(connection: Connection, holder: str) -> None:
    """Delete the row of a process, and the tasks of its partition.

    The row stays while the process holds runs, so that other processes notice when it ends.
    """
    connection.execute(_LEAVE, (holder, holder))
    clear_partition(connection, holder)


def abandon_runs(connection: Connection, lost: Iterable[SqlLostRun], now: Instant) -> list[Run]:
    """Abandon runs, unless they were renewed or finished since; return the abandoned runs."""
    abandoned = [(_abandoned(connection, one, now), one) for one in lost]
    return [run for run, one in abandoned if _write(connection, run, one)]


def _abandoned(connection: Connection, lost: SqlLostRun, now: Instant) -> Run:
    row = connection.execute(_RERUN, (lost.run.task, lost.run.partition)).fetchone()
    if row is not None and row[0]:
        return requeue_run(lost.run, lost.reason, now)
    return abandon_run(lost.run, lost.reason)


def _write(connection: Connection, run: Run, lost: SqlLostRun) -> bool:
    outcome = None if run.outcome is None else Outcome.ABANDONED.value
    values = (outcome, run.holder, run.claimed_at, run.retry_at, run.message, attempts_cell(run))
    same = (run.id, lost.run.holder, lost.run.attempt, lost.mark)
    return connection.execute(_ABANDON, (*values, *same)).rowcount == 1
