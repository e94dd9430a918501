"""The runs of the memory store: unfinished runs by id, pending runs by due time, and a history."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Outcome
from pulse.core.run_query import EXECUTED, MOST_FAILURES, LastRuns, ended_at, page_of
from pulse.core.run_transitions import advance_retry, claim_run, finish_run
from pulse.store.memory.accounting import RecordTable
from pulse.store.rules import advance_early, is_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run
    from pulse.core.run_query import RunPage, RunQuery


_SUCCEEDED = Outcome.SUCCEEDED
_DROPPED_AT_ONCE = 500


class StoredRun(msgspec.Struct, gc=False):
    """A run in the history; its result, if it has one; and the renewal mark of its lease."""

    seq: int
    run: Run
    mark: Span = 0
    result: Result | None = None


class RunTable:
    """Keeps runs in the order in which they were decided; the caller holds the lock.

    Attributes:
        open: the unfinished runs, by id.
        aside: pending runs that wait for another run of their task to finish, by task.
        pending: a heap of the other pending runs, by `retry_at`; it may hold stale entries.

    """

    __slots__ = (
        "_accounts",
        "_history",
        "_keep",
        "_records",
        "_seq",
        "_tasks_with_retry_aside",
        "aside",
        "open",
        "pending",
    )

    def __init__(self, keep_runs: int) -> None:
        self.open: dict[str, StoredRun] = {}
        self._history: deque[StoredRun] = deque()
        self._keep = keep_runs
        self._records: set[str] = set()  # ids of the records of missed and skipped fire times
        self.pending: list[tuple[Instant, int, StoredRun]] = []
        self.aside: dict[str, list[StoredRun]] = {}
        self._tasks_with_retry_aside: set[str] = set()
        self._seq = 0
        self._accounts = RecordTable()

    def add(self, run: Run) -> StoredRun:
        """Add the record of a missed or skipped fire time, unless it has been added before."""
        self._seq += 1
        stored = StoredRun(self._seq, run)
        self._drop()
        if run.id not in self._records:
            self._records.add(run.id)
            self._history.append(stored)
        return stored

    def keeps(self, record: StoredRun) -> bool:
        """Return whether the record of a fire time that did not run is still in the history."""
        return record.run.id in self._records

    def _drop(self) -> None:
        """Drop and count the ended runs that are too many: to do it for each costs much more."""
        history, excess = self._history, len(self._history) - self._keep
        dropped = [history.popleft() for _ in range(excess)]
        if self._records:
            self._records.difference_update(one.run.id for one in dropped)
        runs = [one.run for one in dropped]
        if all(one.result is not None and one.result.outcome is _SUCCEEDED for one in dropped):
            self._accounts.count_succeeded(runs)
        else:
            for one in dropped:
                outcome = one.run.outcome if one.result is None else one.result.outcome
                self._accounts.count(one.run, outcome)
        history.extendleft(one for one in reversed(dropped) if one.run.id in self.open)

    def delete(self, ids: set[str]) -> None:
        """Drop and count ended runs, by their ids."""
        gone = ids - self.open.keys()
        dropped = [one for one in self._history if one.run.id in gone]
        for one in dropped:
            run = _run_of(one)
            self._accounts.count(run, run.outcome)
        self._history = deque(one for one in self._history if one.run.id not in gone)
        self._records -= gone

    @property
    def accounts(self) -> RecordTable:
        """What is recorded beside the runs, with the runs that the history has dropped."""
        self._drop()
        return self._accounts

    def add_claimed(self, run: Run, mark: Span) -> None:
        """Add an unfinished run, claimed or pending."""
        self._seq += 1
        stored = StoredRun(self._seq, run, mark)
        self._history.append(stored)
        if len(self._history) >= self._keep + _DROPPED_AT_ONCE:
            self._drop()
        self.open[run.id] = stored
        if run.retry_at is not None:
            self._offer(stored)

    def _offer(self, stored: StoredRun) -> None:
        if stored.run.retry_at is not None:
            heappush(self.pending, (stored.run.retry_at, stored.seq, stored))

    def claimed(self, claim: Claim) -> StoredRun | None:
        """Return the unfinished run of *claim* while its holder and attempt match; else None."""
        run = claim.run
        stored = self.open.get(run.id)
        if stored is None or stored.run is run:
            return stored
        same = stored.run.holder == run.holder and stored.run.attempt == run.attempt
        return stored if same else None

    def end(self, stored: StoredRun, run: Run) -> None:
        """Replace an unfinished run by *run*, which is finished."""
        stored.run = run
        del self.open[run.id]

    def release(self, stored: StoredRun, run: Run) -> None:
        """Replace a claimed run by *run*, which is pending."""
        stored.run = run
        self._offer(stored)
        self.offer_again(run.task)

    def set_aside(self, stored: StoredRun) -> None:
        """Set the first pending run aside until another run of its task finishes.

        The run is the one that `next_pending` returned last. A retry is considered again in each
        claim (`offer_retries`), since it may have to expire.
        """
        heappop(self.pending)
        self.aside.setdefault(stored.run.task, []).append(stored)
        if is_retry(stored.run):
            self._tasks_with_retry_aside.add(stored.run.task)

    def offer_again(self, task: str) -> None:
        """Put the set-aside runs of a task back."""
        self._tasks_with_retry_aside.discard(task)
        for stored in self.aside.pop(task, ()):
            self._offer(stored)

    def offer_retries(self) -> None:
        """Put set-aside runs back for tasks that have a retry among them."""
        for task in [*self._tasks_with_retry_aside]:
            self.offer_again(task)

    def next_pending(self, claimable: Callable[[Run], bool]) -> StoredRun | None:
        """Return the first pending run by `retry_at`; drop runs that are not *claimable*."""
        pending = self.pending
        while pending:
            at, _, stored = pending[0]
            if stored.run.retry_at == at and stored.run.id in self.open and claimable(stored.run):
                return stored
            heappop(pending)
        return None

    def claim_pending(self, *, holder: str, now: Instant, mark: Span) -> StoredRun:
        """Claim the run that `next_pending` returned last for *holder*, as its next attempt."""
        stored = heappop(self.pending)[2]
        stored.run = claim_run(stored.run, holder, now)
        stored.mark = mark
        return stored

    def reconsider_set_aside(self) -> None:
        """Rebuild the heap from all pending runs, including set-aside and dropped ones."""
        self.aside.clear()
        self._tasks_with_retry_aside.clear()
        self.pending = [
            (stored.run.retry_at, stored.seq, stored)
            for stored in self.open.values()
            if stored.run.retry_at is not None
        ]
        heapify(self.pending)

    def advance_retries(self, task: str, partition: str, *, before: Instant) -> None:
        """Move retries of a task forward to *before*; call `reconsider_set_aside` after."""
        for stored in self.of_task(task, partition):
            stored.run = advance_retry(stored.run, before)

    def advance_early(self, now: Instant) -> None:
        """Make runs that became pending while the clock was ahead of *now* due now."""
        for stored in self.open.values():
            stored.run = advance_early(stored.run, now)
        self.reconsider_set_aside()

    def of_task(self, task: str, partition: str) -> list[StoredRun]:
        """Return the unfinished runs of a task in a partition."""
        return [
            stored
            for stored in self.open.values()
            if stored.run.task == task and stored.run.partition == partition
        ]

    def count_claimed(self, task: str, partition: str) -> int:
        """Return how many runs of a task are claimed in a partition."""
        return sum(bool(stored.run.holder) for stored in self.of_task(task, partition))

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first."""
        self._drop()
        found = {stored.seq: stored for stored in self._history}
        found |= {stored.seq: stored for stored in self.open.values()}
        newest_first = sorted(found.values(), key=attrgetter("seq"), reverse=True)
        before = query.before
        runs = (
            (stored.seq, _run_of(stored))
            for stored in newest_first
            if before is None or stored.seq < before
        )
        selected = (pair for pair in runs if query.selects(pair[1]))
        return page_of(islice(selected, query.limit + 1), limit=query.limit, stopped_at=None)

    def find(self, ident: str) -> Run | None:
        """Return the run of an id, if it is kept."""
        self._drop()
        for stored in (*self.open.values(), *self._history):
            if stored.run.id == ident:
                return _run_of(stored)
        return None

    def last_runs(self) -> dict[tuple[str, str], LastRuns]:
        """Return how the newest runs of tasks ended, by task and partition."""
        found: dict[tuple[str, str], LastRuns] = {}
        finished: set[tuple[str, str]] = set()
        self._drop()
        for stored in sorted(self._history, key=attrgetter("seq"), reverse=True):
            run = _run_of(stored)
            key = run.task, run.partition
            if key in finished or run.outcome not in EXECUTED:
                continue
            last = found.get(key) or LastRuns(run.outcome, ended_at(run))
            if run.outcome is Outcome.SUCCEEDED:
                finished.add(key)
                found[key] = last._replace(succeeded_at=ended_at(run))
            else:
                found[key] = last._replace(failures=min(last.failures + 1, MOST_FAILURES))
        return found


def _run_of(stored: StoredRun) -> Run:
    return stored.run if stored.result is None else finish_run(stored.run, stored.result)
