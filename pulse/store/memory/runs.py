"""The runs of a memory store: open ones by id, unheld ones by instant, a bounded history of all."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run_transitions import advance_retry, claim_run, finish_run
from pulse.store.rules import is_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run


class StoredRun(msgspec.Struct, gc=False):
    """A run in the history, and its result once it has one; *mark* moves when it is renewed."""

    seq: int
    run: Run
    mark: Span = 0
    result: Result | None = None


class RunTable:
    """Keeps runs in the order in which they were decided; its owner holds the lock.

    Attributes:
        open: the runs without an outcome, by id.
        aside: unheld runs that wait until another run of their task has ended, by task.

    """

    __slots__ = ("_history", "_impatient", "_pending", "_seq", "aside", "open")

    def __init__(self, keep_runs: int) -> None:
        self.open: dict[str, StoredRun] = {}
        self._history: deque[StoredRun] = deque(maxlen=keep_runs)
        self._pending: list[tuple[Instant, int, StoredRun]] = []
        self.aside: dict[str, list[StoredRun]] = {}
        self._impatient: set[str] = set()
        self._seq = 0

    def add(self, run: Run) -> StoredRun:
        """Add a row that is ended already: missed or skipped."""
        self._seq += 1
        stored = StoredRun(self._seq, run)
        self._history.append(stored)
        return stored

    def add_claimed(self, run: Run, mark: Span) -> None:
        """Add an open run that its holder has now, or one that waits for a holder."""
        self._seq += 1
        stored = StoredRun(self._seq, run, mark)
        self._history.append(stored)
        self.open[run.id] = stored
        self._offer(stored)

    def _offer(self, stored: StoredRun) -> None:
        if stored.run.retry_at is not None:
            heappush(self._pending, (stored.run.retry_at, stored.seq, stored))

    def claimed(self, claim: Claim) -> StoredRun | None:
        """Return the open run while holder and attempt are still those of *claim*."""
        run = claim.run
        stored = self.open.get(run.id)
        if stored is None or stored.run is run:
            return stored
        same = stored.run.holder == run.holder and stored.run.attempt == run.attempt
        return stored if same else None

    def end(self, stored: StoredRun, run: Run) -> None:
        """Close an open run, which now reads *run*."""
        stored.run = run
        del self.open[run.id]

    def release(self, stored: StoredRun, run: Run) -> None:
        """Take a run, which now reads *run*, from its holder, and offer it again."""
        stored.run = run
        self._offer(stored)
        self.offer_again(run.task)

    def set_aside(self, stored: StoredRun) -> None:
        """Offer the run that `next_pending` told no more until another run of its task has ended.

        A retry is offered all the same: it may have to be given up.
        """
        heappop(self._pending)
        self.aside.setdefault(stored.run.task, []).append(stored)
        if is_retry(stored.run):
            self._impatient.add(stored.run.task)

    def offer_again(self, task: str) -> None:
        """Offer the runs of a task that were set aside."""
        self._impatient.discard(task)
        for stored in self.aside.pop(task, ()):
            self._offer(stored)

    def offer_retries(self) -> None:
        """Offer what was set aside of those tasks of which a retry is among it."""
        for task in [*self._impatient]:
            self.offer_again(task)

    def next_pending(self, claimable: Callable[[Run], bool]) -> StoredRun | None:
        """Return the unheld run that is first in time; those not *claimable* are set aside."""
        waiting = self._pending
        while waiting:
            at, _, stored = waiting[0]
            if stored.run.retry_at == at and stored.run.id in self.open and claimable(stored.run):
                return stored
            heappop(waiting)
        return None

    def claim_pending(self, *, holder: str, now: Instant, mark: Span) -> StoredRun:
        """Give the run that `next_pending` told to *holder*, as its next attempt."""
        stored = heappop(self._pending)[2]
        stored.run = claim_run(stored.run, holder, now)
        stored.mark = mark
        return stored

    def reconsider_set_aside(self) -> None:
        """Consider all unheld runs anew, those set aside too."""
        self.aside.clear()
        self._impatient.clear()
        self._pending = [
            (stored.run.retry_at, stored.seq, stored)
            for stored in self.open.values()
            if stored.run.retry_at is not None
        ]
        heapify(self._pending)

    def advance_retries(self, task: str, partition: str, *, before: Instant) -> None:
        """Let no retry of a task wait longer; a call of `reconsider_set_aside` has to follow."""
        for stored in self.open.values():
            run = stored.run
            if (run.task, run.partition) == (task, partition):
                stored.run = advance_retry(run, before)

    def count_unfinished(self, task: str, partition: str) -> int:
        """Return how many runs of a task are open in a place."""
        return sum(
            stored.run.task == task and stored.run.partition == partition
            for stored in self.open.values()
        )

    def count_claimed(self, task: str, partition: str) -> int:
        """Return how many runs of a task are held in a place."""
        runs = [stored.run for stored in self.open.values() if stored.run.holder]
        return sum(run.task == task and run.partition == partition for run in runs)

    def newest(self, *, task: str | None, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""
        found = {stored.seq: stored for stored in self._history}
        found |= {stored.seq: stored for stored in self.open.values()}
        runs: list[Run] = []
        for stored in sorted(found.values(), key=attrgetter("seq"), reverse=True):
            if len(runs) >= limit:
                break
            if task is None or stored.run.task == task:
                runs.append(
                    stored.run if stored.result is None else finish_run(stored.run, stored.result)
                )
        return runs
