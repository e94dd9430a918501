"""The store of one process: rows in a heap by fire time, gone when the process ends.

Every promise of `pulse.store.base` holds among the threads of this process; a fleet of such
stores ticks once in each process. One lock makes every call one consistent step.
"""

from __future__ import annotations

import threading
from heapq import heappop, heapreplace
from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.policies import OnAbandoned
from pulse.core.run import ENDED, LOST, Claim, Finished, Outcome, Run, Trigger
from pulse.core.run_transitions import (
    abandoned_run,
    given_up_run,
    missed_run,
    released_run,
    retried_run,
    unheld_run,
)
from pulse.errors import NotServingError, StoreInUseError, StoreUnavailableError
from pulse.store.base import Beat, Claimed, Reach, Unplanned
from pulse.store.lease_watch import Watch
from pulse.store.memory.claim import Turn, Unheld, is_due
from pulse.store.memory.due_heap import ORDER_BITS, ORDER_MASK, decide_row, is_stale, row_of
from pulse.store.memory.runs import Ledger
from pulse.store.memory.tasks import Roster
from pulse.store.rules import LEASE_OVER, Verdict, new_run_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.run import Ending, Result
    from pulse.core.runtime_task import Addition
    from pulse.core.task import Definition
    from pulse.store.base import Member, Synced, TaskState
    from pulse.store.memory.due_heap import Row
    from pulse.store.memory.runs import Kept

_SUCCEEDED = Outcome.SUCCEEDED


class MemoryStore:
    """Keeps rows and history in this process.

    Args:
        clock: tells when rows are due and leases end.
        name: the space that run ids are made in, as `pulse.config.name` says.
        keep_runs: how many ended runs are remembered, of all tasks together.

    """

    name = "memory:"
    reach = Reach.PROCESS
    blocking = False
    notice = ""

    def __init__(self, clock: Clock, *, name: str = "", keep_runs: int = 10_000) -> None:
        self._clock = clock
        self._space = name
        self._member: Member | None = None
        self._ledger = Ledger(keep_runs)
        self._roster = Roster(name, self._ledger, keep_runs)
        self._rows = self._roster.rows
        self._due = self._roster.due
        self._unheld = Unheld(self._rows, self._ledger)

    # Taking part -------------------------------------------------------------------------

    def open(self, member: Member) -> None:
        """Take part as *member*; the lock is made here, in the process that uses it."""
        if self._member is not None:
            raise StoreInUseError("this memory store is open already; each pulse has its own")
        self._lock = threading.Lock()
        self._leases: Watch[str] = Watch(member.lease_us // 3)  # within which it renews
        self._unwanted: Watch[str] = Watch(member.lease_us)
        self._member = member

    def visit(self, member: Member) -> None:
        """Refuse: no other process can reach what this one keeps."""
        raise NotServingError(
            f"expected a store that processes share, got memory:, which {member.holder} keeps to"
            " itself: leave pulse.config.store out, or set it to sqlite:/// and a path"
        )

    def close(self) -> None:
        """Take part no more; what was recorded stays until the process ends."""
        self._member = None

    def _here(self) -> Member:
        if self._member is None:
            raise StoreUnavailableError("this memory store is not open")
        return self._member

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, Definition]) -> Synced:
        """Make rows for the tasks, and plan with their definitions from now on."""
        member, now = self._here(), self._clock.wall()
        with self._lock:
            return self._roster.sync(definitions, member, now)

    def add(self, addition: Addition, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task until it is removed, or until the process ends."""
        self._here()
        with self._lock:
            return self._roster.add(addition.definition, self._clock.wall(), replace=replace)

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on."""
        self._here()
        with self._lock:
            self._roster.remove(name)

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task; what passed while paused is missed."""
        self._here()
        with self._lock:
            self._roster.pause(name, self._clock.wall(), paused=paused)

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name."""
        self._here()
        with self._lock:
            return self._roster.states()

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs."""
        member = self._here()
        now, boot = self._clock.wall(), self._clock.boot()
        turn = Turn(self._space, member, self._ledger, now=now, boot=boot, limit=limit)
        with self._lock:
            if limit > 0:
                self._claim_unheld(turn)
                self._claim_rows(turn)
            wake_at = self._next_work(now)
        if len(turn.claims) > 1:
            turn.claims.sort(key=attrgetter("run.fire_time"))
        return Claimed(turn.claims, turn.passed, now, wake_at, turn.unplanned, turn.given_up)

    def _claim_unheld(self, turn: Turn) -> None:
        while len(turn.claims) < turn.limit:
            first = self._unheld.first(turn.now)
            if first is None or not is_due(first.run, turn.now):
                return
            match self._unheld.judge(first.run, turn.now):
                case Verdict.GIVE_UP:
                    self._roster.end(first, given_up_run(first.run))
                    turn.given_up.append(first.run)
                case Verdict.MISS:
                    self._roster.end(first, missed_run(first.run))
                    turn.passed.append(first.run)
                case _:
                    turn.take(self._rows[first.run.task].definition)

    def _claim_rows(self, turn: Turn) -> None:
        due, rows, now, claims = self._due.entries, self._due.rows, turn.now, turn.claims
        until = (now + 1) << ORDER_BITS
        again: list[Row] = []
        while due and due[0] < until and len(claims) < turn.limit:
            entry = due[0]
            row = rows[entry & ORDER_MASK]
            if is_stale(row, entry >> ORDER_BITS):
                heappop(due)
                continue
            try:
                decided = decide_row(row, now)
            # One bad schedule must not keep the other tasks from being claimed.
            except Exception as error:  # noqa: BLE001 - the reason is above
                turn.unplanned.append(Unplanned(row.definition.name, error))
                decided = None
            if decided is None:
                row.parked = True
                heappop(due)
                continue
            row.cursor = decided.cursor
            row.resumed_at = None
            following = decided.cursor.next_fire
            if following is not None and following > now:
                heapreplace(due, following + decided.cursor.delay_us << ORDER_BITS | row.order)
            else:
                heappop(due)
                again.append(row)
            turn.record(row, decided)
        for row in again:
            self._due.push(row)

    def _next_work(self, now: Instant) -> Instant | None:
        fire_time = self._due.first(now)
        unheld = self._unheld.first(now)
        if unheld is None or unheld.run.retry_at is None:
            return fire_time
        return unheld.run.retry_at if fire_time is None else min(fire_time, unheld.run.retry_at)

    # Runs --------------------------------------------------------------------------------

    def finish(self, endings: Sequence[Ending]) -> list[Finished]:
        """Record how runs ended, and tell what became of each."""
        self._here()
        with self._lock:
            return [self._finish(claim, result) for claim, result in endings]

    def _finish(self, claim: Claim, result: Result) -> Finished:
        kept = self._ledger.held(claim)
        if kept is None:
            return LOST
        if result.outcome is not _SUCCEEDED:
            at = self._unheld.again_at(claim, result, self._clock.wall())
            if at is not None:
                self._ledger.release(kept, retried_run(kept.run, result, at))
                return Finished(recorded=True, retry_at=at)
        kept.result = result
        self._roster.end(kept, kept.run)
        return ENDED

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""
        self._here()
        boot = self._clock.boot()
        with self._lock:
            return [self._renew(claim, boot) for claim in claims]

    def _renew(self, claim: Claim, boot: Span) -> bool:
        kept = self._ledger.held(claim)
        if kept is None:
            return False
        kept.mark = boot
        return True

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it."""
        self._here()
        with self._lock:
            row = row_of(self._rows, name)
            if row.running >= row.definition.room:
                return None
            now = self._clock.wall()
            run = unheld_run(
                new_run_id(), name, place=row.place, trigger=Trigger.MANUAL, now=now, body=body
            )
            self._roster.open_unheld(row, run)
            return run

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first."""
        self._here()
        with self._lock:
            return self._ledger.newest(task=task, limit=limit)

    # Staying alive -----------------------------------------------------------------------

    def beat(self) -> Beat:
        """Abandon the runs whose leases have ended, and archive what nobody wants any more."""
        member = self._here()
        boot = self._clock.boot()
        with self._lock:
            held = {
                kept.run.id: (kept.mark, member.lease_us)
                for kept in self._ledger.open.values()
                if kept.run.holder
            }
            lost = self._leases.look(held, boot)
            abandoned = [self._abandon(self._ledger.open[run_id]) for run_id in sorted(lost)]
            archived = self._archive(3 * member.lease_us, boot)
        return Beat(abandoned, archived, ())

    def _abandon(self, kept: Kept) -> Run:
        row = self._rows.get(kept.run.task)
        if row is not None and row.definition.on_abandoned is OnAbandoned.RERUN:
            self._ledger.release(kept, released_run(kept.run, LEASE_OVER, self._clock.wall()))
        else:
            self._roster.end(kept, abandoned_run(kept.run, LEASE_OVER))
        return kept.run

    def _archive(self, span: Span, boot: Span) -> tuple[str, ...]:
        withdrawn = self._roster.withdrawn
        over = sorted(self._unwanted.look(dict.fromkeys(withdrawn, (0, span)), boot))
        self._roster.archive(over)
        return tuple(over)

    def members(self) -> list[Member]:
        """Return this process alone."""
        return [self._here()]
