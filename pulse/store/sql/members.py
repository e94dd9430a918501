"""Live processes: their rows, who of them is gone, and the runs they leave behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run import Outcome
from pulse.core.run_transitions import abandoned_run, released_run
from pulse.store.base import Member
from pulse.store.lease_watch import Watch
from pulse.store.process_identity import boot_of, is_gone
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.store.sql.runs import read_runs, tries_cell
from pulse.store.sql.tasks import clear_place

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.store.sql.database import Link

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
"""A process that has not been seen for so many of its leases counts as gone."""


class Seen(NamedTuple):
    """A process's row: its config, and when it was last seen, on the wall and the boot clock."""

    member: Member
    config: str
    wall: Instant
    boot: Span

    def is_silent(self, machine: str, *, wall: Instant, boot: Span) -> bool:
        """Return whether it was not seen for three of its leases."""
        same_boot = boot_of(self.member.machine) == boot_of(machine)
        silence = boot - self.boot if same_boot else wall - self.wall
        return silence >= SILENT_LEASES * self.member.lease_us


class Lost(NamedTuple):
    """A run to abandon, the mark its lease stood at, and why."""

    run: Run
    mark: int
    reason: str


class Findings(NamedTuple):
    """What a look at the fleet found.

    Attributes:
        live: who lives.
        gone: who does not.
        lost: the runs to abandon.
        look_at: when the next lease is over unless it is renewed.

    """

    live: Sequence[Seen]
    gone: Sequence[Seen]
    lost: Sequence[Lost]
    look_at: Span | None


class Watches:
    """What one process observes of the others, look by look."""

    __slots__ = ("_leases", "_members", "unwanted")

    def __init__(self, lease_us: Span) -> None:
        self._leases: Watch[tuple[str, int]] = Watch(lease_us // 3)  # within which holders renew
        self._members: Watch[str] = Watch(lease_us)
        self.unwanted: Watch[int] = Watch(lease_us)

    def forget(self) -> None:
        """Start anew: a call has failed, so that others may have been silent for no fault."""
        self._leases.forget()
        self._members.forget()
        self.unwanted.forget()

    def look(self, link: Link, here: Member, boot: Span) -> Findings:
        """Return who lives and which runs are lost, without writing."""
        seen = read_seen(link)
        marks = {one.member.holder: (one.boot, SILENT_LEASES * one.member.lease_us) for one in seen}
        silent = self._members.look(marks, boot) - {here.holder}
        gone = [
            one
            for one in seen
            if one.member.holder in silent or is_gone(one.member, machine=here.machine)
        ]
        holders = {one.member.holder for one in gone}
        live = [one for one in seen if one.member.holder not in holders]
        return Findings(live, gone, *self._lost(link, holders, boot))

    def _lost(self, link: Link, gone: set[str], boot: Span) -> tuple[list[Lost], Span | None]:
        held = {(run_id, attempt): rest for run_id, attempt, *rest in link.run(_HELD)}
        marks = {key: (mark, lease_us) for key, (_, mark, lease_us) in held.items()}
        over = self._leases.look(marks, boot)
        reasons = {
            key: HOLDER_GONE if holder in gone else LEASE_OVER
            for key, (holder, _, _) in held.items()
            if key in over or holder in gone
        }
        # Nearly always there is none: what they are is read of those that are lost alone.
        runs = read_runs(link, [run_id for run_id, _ in reasons]) if reasons else {}
        lost = [
            Lost(runs[key[0]], held[key][1], reason)
            for key, reason in reasons.items()
            if key[0] in runs and _is_held(runs[key[0]], attempt=key[1], holder=held[key][0])
        ]
        return lost, self._leases.over_at(marks, boot)


def _is_held(run: Run, *, attempt: int, holder: str) -> bool:
    return run.outcome is None and (run.attempt, run.holder) == (attempt, holder)


def read_seen(link: Link) -> list[Seen]:
    """Return all processes that have a row."""
    return [
        Seen(
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
        ) in link.run(_READ)
    ]


def read_live(link: Link, here: Member, *, wall: Instant, boot: Span) -> list[Seen]:
    """Return the processes that were seen within three of their leases and are not gone."""
    return [
        one
        for one in read_seen(link)
        if not one.is_silent(here.machine, wall=wall, boot=boot)
        and not is_gone(one.member, machine=here.machine)
    ]


def save_member(link: Link, here: Member, config: str, *, wall: Instant, boot: Span) -> None:
    """Record that this process lives, and what it holds."""
    link.run(
        _SAVE,
        (
            here.holder,
            here.host,
            here.machine,
            here.pid,
            here.pid_started,
            here.mode,
            here.digest,
            here.lease_us,
            config,
            wall,
            boot,
        ),
    )


def drop_member(link: Link, holder: str) -> None:
    """Take a process off the list, with the rows that were its alone.

    One that still holds runs stays listed, so that others find it gone as soon as it is.
    """
    link.run(_LEAVE, (holder, holder))
    clear_place(link, holder)


def abandon_runs(link: Link, lost: Iterable[Lost], now: Instant) -> list[Run]:
    """Abandon runs, unless they were renewed or ended since; return them as they then stand."""
    abandoned = [(_abandoned(link, one, now), one) for one in lost]
    return [run for run, one in abandoned if _write(link, run, one)]


def _abandoned(link: Link, lost: Lost, now: Instant) -> Run:
    row = link.run(_RERUN, (lost.run.task, lost.run.place)).fetchone()
    if row is not None and row[0]:
        return released_run(lost.run, lost.reason, now)
    return abandoned_run(lost.run, lost.reason)


def _write(link: Link, run: Run, lost: Lost) -> bool:
    outcome = None if run.outcome is None else Outcome.ABANDONED.value
    values = (outcome, run.holder, run.claimed_at, run.retry_at, run.message, tries_cell(run))
    same = (run.id, lost.run.holder, lost.run.attempt, lost.mark)
    return link.run(_ABANDON, (*values, *same)).rowcount == 1
