"""Members and leases in the tables: who lives, and which claimed runs have lost their holder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.store.base import Member
from pulse.store.lease_watch import ExpiryWatch
from pulse.store.process_identity import boot_of, is_gone
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.shared.backend import WITHOUT_DATA, FleetState, LostRun, MemberRow
from pulse.store.shared.manifests import UNKNOWN
from pulse.store.shared.members import SILENT_LEASES
from pulse.store.sql.codec import read_runs

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.shared.rows import Caller
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
_CLAIMED = (
    "SELECT id, attempt, holder, mark, lease_us FROM @runs WHERE outcome IS NULL AND holder <> ''"
)


_PRESENT = "SELECT EXISTS (SELECT 1 FROM @tasks), EXISTS (SELECT 1 FROM @configs WHERE config = ?)"
_WITHOUT_TASKS = (
    "the rows of all tasks are gone: tasks of the configuration are stored again as new ones;"
    " pauses and tasks that were added at run time are lost"
)
_WITHOUT_MANIFESTS = "the lists of declared tasks were lost: each process stores its own again"


class SqlMemberRow(NamedTuple):
    """A row of `@members`: when it was saved last, on the wall clock and on the boot clock."""

    row: MemberRow
    wall: Instant
    boot: Span

    def is_silent(self, machine: str, *, wall: Instant, boot: Span) -> bool:
        """Return whether the process has not saved its row for three of its leases."""
        member = self.row.member
        same_boot = boot_of(member.machine) == boot_of(machine)
        silence = boot - self.boot if same_boot else wall - self.wall
        return silence >= SILENT_LEASES * member.lease_us


def save_member(
    connection: Connection, member: Member, manifest: str, *, wall: Instant, boot: Span
) -> None:
    """Record that a process lives and which manifest it holds."""
    connection.execute(
        _SAVE,
        (
            member.holder,
            member.host,
            member.machine,
            member.pid,
            member.pid_started,
            member.mode,
            member.digest,
            member.lease_us,
            manifest,
            wall,
            boot,
        ),
    )


def read_members(connection: Connection) -> list[SqlMemberRow]:
    """Return all rows, by holder."""
    found: list[SqlMemberRow] = []
    for cells in connection.execute(_READ):
        manifest, wall, boot, holder, host, machine, pid, pid_started, mode, digest, lease = cells
        member = Member(
            holder=holder,
            host=host,
            machine=machine,
            pid=pid,
            pid_started=pid_started,
            mode=mode,
            digest=digest,
            lease_us=lease,
        )
        found.append(SqlMemberRow(MemberRow(member, manifest), wall, boot))
    return found


def find_missing(connection: Connection, caller: Caller, *, listed: bool) -> str:
    """Return what the tables have lost that *caller* has stored there; empty for nothing.

    A sync stores a row for each task that it declares, and its manifest. A row is archived before
    it is deleted, so that the tables are empty only if another program has emptied them. The
    manifest of a process that is not *listed* may have been pruned.
    """
    if caller.manifest == UNKNOWN.key:
        return ""
    cells = connection.execute(_PRESENT, (caller.manifest,)).fetchone()
    has_tasks, has_manifest = map(bool, cells or (False, False))
    lacks_tasks = bool(caller.definitions) and not has_tasks
    if not has_manifest and (lacks_tasks or not has_tasks):
        return WITHOUT_DATA
    if lacks_tasks:
        return _WITHOUT_TASKS
    return _WITHOUT_MANIFESTS if listed and not has_manifest else ""


class _ClaimedRun(NamedTuple):
    holder: str
    mark: int
    lease_us: Span


class SqlFleetWatch:
    """What one process has observed of the others, from heartbeat to heartbeat."""

    __slots__ = ("_leases", "_members")

    def __init__(self, lease_us: Span) -> None:
        # Holders renew within a third of a lease.
        self._leases: ExpiryWatch[tuple[str, int]] = ExpiryWatch(lease_us // 3)
        self._members: ExpiryWatch[str] = ExpiryWatch(lease_us)

    def forget(self) -> None:
        """Start the observation again: a call has failed, so others may have been silent too."""
        self._leases.forget()
        self._members.forget()

    def check(self, connection: Connection, caller: Caller, *, boot: Span) -> FleetState:
        """Return who lives, which runs are lost and which data is missing, without a write."""
        member, known = caller.member, read_members(connection)
        marks = {
            one.row.member.holder: (one.boot, SILENT_LEASES * one.row.member.lease_us)
            for one in known
        }
        silent = self._members.expired(marks, boot) - {member.holder}
        gone = [
            one.row
            for one in known
            if one.row.member.holder in silent or is_gone(one.row.member, machine=member.machine)
        ]
        holders = {row.member.holder for row in gone}
        live = [one.row for one in known if one.row.member.holder not in holders]
        missing = find_missing(connection, caller, listed=member.holder in marks)
        return FleetState(live, gone, *self._lost(connection, holders, boot), missing)

    def _lost(
        self, connection: Connection, gone: set[str], boot: Span
    ) -> tuple[list[LostRun], Span | None]:
        claimed = {
            (ident, attempt): _ClaimedRun(*cells)
            for ident, attempt, *cells in connection.execute(_CLAIMED)
        }
        marks = {key: (one.mark, one.lease_us) for key, one in claimed.items()}
        expired = self._leases.expired(marks, boot)
        reasons = {
            key: HOLDER_GONE if one.holder in gone else LEASE_OVER
            for key, one in claimed.items()
            if key in expired or one.holder in gone
        }
        # Nearly always no run is lost: only lost ones are read whole.
        runs = read_runs(connection, [ident for ident, _ in reasons]) if reasons else {}
        lost = [
            LostRun(runs[key[0]], claimed[key].mark, reason)
            for key, reason in reasons.items()
            if key[0] in runs and _is_claimed(runs[key[0]], key[1], claimed[key].holder)
        ]
        return lost, self._leases.next_expiry(marks, boot)


def _is_claimed(run: Run, attempt: int, holder: str) -> bool:
    return run.outcome is None and (run.attempt, run.holder) == (attempt, holder)
