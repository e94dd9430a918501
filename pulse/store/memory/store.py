"""The store of one process: task rows in a heap by fire time, lost when the process ends.

Every promise of `pulse.store.base` holds among the threads of this process. With this store each
process of a fleet runs every tick. One lock makes every call one consistent step.
"""

from __future__ import annotations

import threading
from collections import deque
from heapq import heappop, heapreplace
from operator import attrgetter
from typing import TYPE_CHECKING

from pulse.core.policies import OnAbandoned, Scope
from pulse.core.retry import may_run_again
from pulse.core.run import CLAIM_LOST, RECORDED, Claim, CompletedRun, Outcome, RecordResult, Run
from pulse.core.run_transitions import (
    abandon_run,
    expire_retry,
    miss_run,
    requeue_run,
    schedule_retry,
)
from pulse.errors import NotServingError, StoreInUseError, StoreUnavailableError
from pulse.store.base import Claimed, FailedTask, HeartbeatResult, Look, StoreOptions
from pulse.store.lease_watch import ExpiryWatch
from pulse.store.memory.claim import ClaimCall
from pulse.store.memory.runs import RunTable
from pulse.store.memory.steering import MemorySteering
from pulse.store.memory.tasks import ORDER_BITS, ORDER_MASK, TaskTable, decide_row, is_stale
from pulse.store.refused_results import refused_results
from pulse.store.rules import (
    LEASE_OVER,
    ClockCheck,
    ClockWatch,
    NextTick,
    PendingDecision,
    decide_pending,
    next_attempt_at,
)
from pulse.store.steering import PAUSE_ENDED, TASK_DONE, AuditEntry, MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pulse.clock import Clock, Instant, Span
    from pulse.core.run import Result
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member, PostedRun, ReturnedRun, SyncResult
    from pulse.store.lease_watch import Observations
    from pulse.store.memory.runs import StoredRun
    from pulse.store.memory.tasks import MemoryTaskRow
    from pulse.store.steering import StopRequest

_DEFAULT_OPTIONS = StoreOptions(keep_runs=10_000)
_SUCCEEDED = Outcome.SUCCEEDED
_KEPT_AUDIT = 1_000
"""How many entries of the audit trail are kept."""


class MemoryStore(MemorySteering):
    """Keeps task rows and history in the memory of this process.

    Args:
        clock: decides when rows are due and when leases end.
        options: `name` is the space of the run ids; `keep_runs` counts the finished runs of all
            tasks together; `keep_for_us` is not used.

    """

    name = "memory:"
    reach = Scope.PROCESS
    blocking = False
    notice = ""

    def __init__(self, clock: Clock, options: StoreOptions = _DEFAULT_OPTIONS) -> None:
        self._clock = clock
        self._space = options.name
        self._member: Member | None = None
        self._runs = RunTable(options.keep_runs)
        self._tasks = TaskTable(options.name, self._runs, options.keep_runs)
        self._rows = self._tasks.rows
        self._due = self._tasks.due
        self._audit: deque[AuditEntry] = deque(maxlen=_KEPT_AUDIT)
        self._recorded = 0
        self._opened_at: Instant = 0
        self._stops: dict[str, StopRequest] = {}
        self._report: Callable[[], MemberReport] = MemberReport

    # Lifecycle ---------------------------------------------------------------------------

    def open(self, member: Member, *, report: Callable[[], MemberReport] = MemberReport) -> None:
        """Join as *member*; the lock is created here, in the process that uses it."""
        if self._member is not None:
            raise StoreInUseError(
                "this memory store is open already; each middleware needs its own"
            )
        self._lock = threading.Lock()
        self._leases: ExpiryWatch[str] = ExpiryWatch(member.lease_us // 3)  # as often as renewed
        self._unwanted: ExpiryWatch[str] = ExpiryWatch(member.lease_us)
        self._clock_watch = ClockWatch()
        self._report = report
        self._member = member
        self._opened_at = self._now()

    def open_as_client(self, member: Member) -> None:
        """Refuse: the memory of this process cannot be reached from another one."""
        raise _unshared(member.holder)

    def open_as_worker(
        self,
        member: Member,
        *,
        report: Callable[[], MemberReport] = MemberReport,  # noqa: ARG002 - it is refused
    ) -> None:
        """Refuse, as `open_as_client` does."""
        raise _unshared(member.holder)

    def close(self) -> None:
        """Leave; rows and history stay until the process ends."""
        self._member = None

    def forked(self) -> None:
        """Disable this copy of the store in a forked child."""
        self._member = None

    def _caller(self) -> Member:
        if self._member is None:
            raise StoreUnavailableError("this memory store is not open")
        return self._member

    def _open_lock(self) -> threading.Lock:
        """Return the lock of an open store."""
        self._caller()
        return self._lock

    def _now(self) -> Instant:
        now, watch = self._clock.wall(), self._clock_watch
        if now < watch.newest:
            watch.fell_behind(now)
        else:
            watch.newest = now
        return now

    # Tasks -------------------------------------------------------------------------------

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Create and update the rows of the configured tasks."""
        member = self._caller()
        with self._lock:
            return self._tasks.sync(definitions, member, self._now())

    # Claiming ----------------------------------------------------------------------------

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs."""
        member, boot = self._caller(), self._clock.boot()
        with self._lock:
            now = self._now()
            good_until = boot + member.lease_us
            call = ClaimCall(self._space, member.holder, self._runs, now, boot, good_until, limit)
            if limit > 0:
                self._claim_pending(call)
                self._claim_rows(call)
            next_wakeup = self._next_work(now)
            if limit > 0 and self._clock_watch.wanted is not ClockCheck.NONE:
                self._clock_watch.wanted = ClockCheck.NONE
                call.rewound += self._tasks.rewind(now)
        if len(call.claims) > 1:
            call.claims.sort(key=attrgetter("run.fire_time"))
        return Claimed(
            call.claims,
            call.not_run,
            now,
            next_wakeup,
            call.failed_tasks,
            call.expired_retries,
            call.rewound,
        )

    def _claim_pending(self, call: ClaimCall) -> None:
        while len(call.claims) < call.limit:
            first = self._first_pending(call.now)
            if first is None or not _is_due(first.run, call.now):
                return
            match self._decide_pending(first.run, call.now):
                case PendingDecision.EXPIRE:
                    self._tasks.end(first, expire_retry(first.run))
                    call.expired_retries.append(first.run)
                case PendingDecision.MISS:
                    self._tasks.end(first, miss_run(first.run))
                    call.not_run.append(first.run)
                case _:
                    call.take(self._rows[first.run.task].definition)

    def _first_pending(self, now: Instant) -> StoredRun | None:
        """Return the first pending run that can be decided or is not due yet.

        Due runs that wait for another run are set aside on the way.
        """
        runs = self._runs
        if not (runs.pending or runs.aside):  # nearly always
            return None
        runs.offer_retries()
        while (stored := runs.next_pending(self._is_wanted)) is not None:
            if (
                not _is_due(stored.run, now)
                or self._decide_pending(stored.run, now) is not PendingDecision.WAIT
            ):
                return stored
            runs.set_aside(stored)
        return None

    def _is_wanted(self, run: Run) -> bool:
        row = self._tasks.row_of_run(run)
        return row is not None and not row.withdrawn

    def _decide_pending(self, run: Run, now: Instant) -> PendingDecision:
        row = self._rows[run.task]
        # Counting takes time; it is needless while fewer runs are unfinished than may be claimed.
        full = row.unfinished > row.definition.max_concurrent
        claimed = self._runs.count_claimed(run.task, run.partition) if full else 0
        return decide_pending(
            row.definition, run, next_fire=row.cursor.next_fire, claimed=claimed, now=now
        )

    def _claim_rows(self, call: ClaimCall) -> None:
        if self._tasks.pause_of_all is not None:
            return
        due, rows, now, claims = self._due.entries, self._due.rows, call.now, call.claims
        until = (now + 1) << ORDER_BITS  # greater than the entry of any row that is due
        again: list[MemoryTaskRow] = []
        while due and due[0] < until and len(claims) < call.limit:
            entry = due[0]
            row = rows[entry & ORDER_MASK]
            if is_stale(row, entry >> ORDER_BITS):
                heappop(due)
                continue
            try:
                decided = decide_row(row, now)
            # One bad schedule must not keep the other tasks from being claimed.
            except Exception as error:  # noqa: BLE001 - the reason is above
                call.failed_tasks.append(FailedTask(row.definition.name, error))
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
                # The next fire time is due as well. It is pushed after the loop, so that a row is
                # decided once in a call.
                heappop(due)
                again.append(row)
            call.record(row, decided)
        for row in again:
            self._due.push(row)

    def _next_work(self, now: Instant) -> Instant | None:
        fire_time = self._due.first(now) if self._tasks.pause_of_all is None else None
        pending = self._first_pending(now)
        if pending is None or pending.run.retry_at is None:
            return fire_time
        return pending.run.retry_at if fire_time is None else min(fire_time, pending.run.retry_at)

    # Runs --------------------------------------------------------------------------------

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record results of runs; return for each whether it is final, retried, or refused."""
        with self._open_lock():
            return [self._finish(claim, result) for claim, result in completed]

    def _finish(self, claim: Claim, result: Result) -> RecordResult:
        stored = self._runs.claimed(claim)
        if stored is None:
            self._keep_refused(claim, result)
            return CLAIM_LOST
        # Nearly all runs succeed: the comparison spares them a call.
        if (
            result.outcome is not _SUCCEEDED
            and may_run_again(claim, result)
            and claim.run.id not in self._stops
        ):
            row = self._tasks.row_of_run(stored.run)
            tick = None if row is None else NextTick(row.cursor.next_fire, row.unfinished)
            at = next_attempt_at(claim, result, row=tick, now=self._now())
            if at is not None:
                self._runs.release(stored, schedule_retry(stored.run, result, at))
                return RecordResult(recorded=True, retry_at=at)
        stored.result = result
        self._tasks.end(stored, stored.run)
        return RECORDED

    def _keep_refused(self, claim: Claim, result: Result) -> None:
        run, now = self._runs.find(claim.run.id), self._now()
        runs = {} if run is None else {run.id: run}
        completed = [CompletedRun(claim, result)]
        for one in refused_results(completed, [CLAIM_LOST], runs, now=now):
            self._runs.accounts.refuse(one)

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of claimed runs; return False for each claim that was lost."""
        boot = self._clock.boot()
        with self._open_lock():
            return [self._renew(claim, boot) for claim in claims]

    def _renew(self, claim: Claim, boot: Span) -> bool:
        stored = self._runs.claimed(claim)
        if stored is None:
            return False
        stored.mark = boot
        return True

    def post(self, posted: Sequence[PostedRun]) -> list[bool]:  # noqa: ARG002 - it is refused
        """Refuse: no worker could take the runs."""
        raise _unshared(self._caller().holder)

    def take(
        self,
        ident: str,  # noqa: ARG002 - it is refused
        attempt: int,  # noqa: ARG002 - it is refused
        *,
        poster: str,  # noqa: ARG002 - it is refused
        definition: TaskDefinition,  # noqa: ARG002 - it is refused
    ) -> Claim | None:
        """Refuse: no run is posted."""
        raise _unshared(self._caller().holder)

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:  # noqa: ARG002 - it is refused
        """Refuse: no run is posted."""
        raise _unshared(self._caller().holder)

    def runtime_definition(self, task: str) -> TaskDefinition | None:  # noqa: ARG002 - it is refused
        """Refuse: no worker could ask for it."""
        raise _unshared(self._caller().holder)

    # Heartbeat ---------------------------------------------------------------------------

    def heartbeat(self) -> HeartbeatResult:
        """Abandon runs whose lease has ended, and archive tasks that are no longer declared."""
        member = self._caller()
        boot = self._clock.boot()
        with self._lock:
            claimed = {
                stored.run.id: (stored.mark, member.lease_us)
                for stored in self._runs.open.values()
                if stored.run.holder
            }
            lost = self._leases.expired(claimed, boot)
            abandoned = [self._abandon(self._runs.open[run_id]) for run_id in sorted(lost)]
            archived, ended = self._archive(3 * member.lease_us, boot)
            abandoned += ended
            resumed, missed = self._tasks.end_pauses(self._now())
            for name in resumed:
                self._record(AuditEntry(at=self._now(), verb="resume", task=name, note=PAUSE_ENDED))
            removed = self._tasks.remove_done(self._now())
            for name in removed:
                self._record(AuditEntry(at=self._now(), verb="remove", task=name, note=TASK_DONE))
            held = {run for run, stored in self._runs.open.items() if stored.run.holder}
            self._stops = {run: one for run, one in self._stops.items() if run in held}
            stops = dict(self._stops)
        return HeartbeatResult(
            abandoned,
            archived,
            (),
            missed=missed,
            resumed=resumed,
            stops=stops,
            removed=removed,
        )

    def _abandon(self, stored: StoredRun) -> Run:
        row = self._rows.get(stored.run.task)
        is_rerun = row is not None and row.definition.on_abandoned is OnAbandoned.RERUN
        if is_rerun and stored.run.id not in self._stops:
            self._runs.release(stored, requeue_run(stored.run, LEASE_OVER, self._now()))
        else:
            self._tasks.end(stored, abandon_run(stored.run, LEASE_OVER))
        return stored.run

    def _archive(self, span: Span, boot: Span) -> tuple[tuple[str, ...], list[Run]]:
        withdrawn = self._tasks.withdrawn
        over = sorted(self._unwanted.expired(dict.fromkeys(withdrawn, (0, span)), boot))
        return tuple(over), self._tasks.archive(over, self._now())

    def look(
        self,
        limit: int,  # noqa: ARG002 - the claim follows
        *,
        partitions: Collection[str] = (),  # noqa: ARG002 - no other process uses the store
        observed: Observations | None = None,  # noqa: ARG002 - no other process uses the store
    ) -> Look:
        """Do the heartbeat; the claim comes after it."""
        return Look(self.heartbeat(), None, {})

    def keep_alive(self, reports: Mapping[str, MemberReport | None]) -> list[str]:
        """Return the holders: no other process uses the store."""
        return [*reports]

    def rest(self) -> None:
        """Do nothing: there is no connection."""


def _unshared(holder: str) -> NotServingError:
    return NotServingError(
        f"expected a store that processes share, got memory:, which only {holder} can use: leave"
        " pulse.config.store out, or set it to sqlite:/// and a path"
    )


def _is_due(run: Run, now: Instant) -> bool:
    return run.retry_at is not None and run.retry_at <= now
