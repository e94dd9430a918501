"""The runs of a memory store: open ones by id, unheld ones by instant, a bounded history of all."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.core.run_transitions import ended_run, hastened_run, taken_run
from pulse.store.rules import is_retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.core.run import Claim, Result, Run


class Kept(msgspec.Struct, gc=False):
    """A run in the history, and its result once it has one; *mark* moves when it is renewed."""

    seq: int
    run: Run
    mark: Span = 0
    result: Result | None = None


class Ledger:
    """Keeps runs in the order in which they were decided; its owner holds the lock.

    Attributes:
        open: the runs without an outcome, by id.
        aside: unheld runs that wait until another run of their task has ended, by task.

    """

    __slots__ = ("_history", "_impatient", "_seq", "_unheld", "aside", "open")

    def __init__(self, keep_runs: int) -> None:
        self.open: dict[str, Kept] = {}
        self._history: deque[Kept] = deque(maxlen=keep_runs)
        self._unheld: list[tuple[Instant, int, Kept]] = []
        self.aside: dict[str, list[Kept]] = {}
        self._impatient: set[str] = set()
        self._seq = 0

    def keep(self, run: Run) -> Kept:
        """Add a row that is ended already: missed or skipped."""
        self._seq += 1
        kept = Kept(self._seq, run)
        self._history.append(kept)
        return kept

    def hold(self, run: Run, mark: Span) -> None:
        """Add an open run that its holder has now, or one that waits for a holder."""
        self._seq += 1
        kept = Kept(self._seq, run, mark)
        self._history.append(kept)
        self.open[run.id] = kept
        self._offer(kept)

    def _offer(self, kept: Kept) -> None:
        if kept.run.retry_at is not None:
            heappush(self._unheld, (kept.run.retry_at, kept.seq, kept))

    def held(self, claim: Claim) -> Kept | None:
        """Return the open run while holder and attempt are still those of *claim*."""
        run = claim.run
        kept = self.open.get(run.id)
        if kept is None or kept.run is run:
            return kept
        same = kept.run.holder == run.holder and kept.run.attempt == run.attempt
        return kept if same else None

    def end(self, kept: Kept, run: Run) -> None:
        """Close an open run, which now reads *run*."""
        kept.run = run
        del self.open[run.id]

    def release(self, kept: Kept, run: Run) -> None:
        """Take a run, which now reads *run*, from its holder, and offer it again."""
        kept.run = run
        self._offer(kept)
        self.offer_again(run.task)

    def set_aside(self, kept: Kept) -> None:
        """Offer the run that `next_unheld` told no more until another run of its task has ended.

        A retry is offered all the same: it may have to be given up.
        """
        heappop(self._unheld)
        self.aside.setdefault(kept.run.task, []).append(kept)
        if is_retry(kept.run):
            self._impatient.add(kept.run.task)

    def offer_again(self, task: str) -> None:
        """Offer the runs of a task that were set aside."""
        self._impatient.discard(task)
        for kept in self.aside.pop(task, ()):
            self._offer(kept)

    def offer_retries(self) -> None:
        """Offer what was set aside of those tasks of which a retry is among it."""
        for task in [*self._impatient]:
            self.offer_again(task)

    def next_unheld(self, claimable: Callable[[Run], bool]) -> Kept | None:
        """Return the unheld run that is first in time; those not *claimable* are set aside."""
        waiting = self._unheld
        while waiting:
            at, _, kept = waiting[0]
            if kept.run.retry_at == at and kept.run.id in self.open and claimable(kept.run):
                return kept
            heappop(waiting)
        return None

    def take_unheld(self, *, holder: str, now: Instant, mark: Span) -> Kept:
        """Give the run that `next_unheld` told to *holder*, as its next attempt."""
        kept = heappop(self._unheld)[2]
        kept.run = taken_run(kept.run, holder, now)
        kept.mark = mark
        return kept

    def look_again(self) -> None:
        """Consider all unheld runs anew, those set aside too."""
        self.aside.clear()
        self._impatient.clear()
        self._unheld = [
            (kept.run.retry_at, kept.seq, kept)
            for kept in self.open.values()
            if kept.run.retry_at is not None
        ]
        heapify(self._unheld)

    def hasten_retries(self, task: str, place: str, *, before: Instant) -> None:
        """Let no retry of a task wait for longer than that; `look_again` has to follow."""
        for kept in self.open.values():
            run = kept.run
            if (run.task, run.place) == (task, place):
                kept.run = hastened_run(run, before)

    def count_open(self, task: str, place: str) -> int:
        """Return how many runs of a task are open in a place."""
        return sum(kept.run.task == task and kept.run.place == place for kept in self.open.values())

    def count_held(self, task: str, place: str) -> int:
        """Return how many runs of a task are held in a place."""
        runs = [kept.run for kept in self.open.values() if kept.run.holder]
        return sum(run.task == task and run.place == place for run in runs)

    def newest(self, *, task: str | None, limit: int) -> list[Run]:
        """Return the newest runs, newest first."""
        found = {kept.seq: kept for kept in self._history}
        found |= {kept.seq: kept for kept in self.open.values()}
        runs: list[Run] = []
        for kept in sorted(found.values(), key=attrgetter("seq"), reverse=True):
            if len(runs) >= limit:
                break
            if task is None or kept.run.task == task:
                runs.append(kept.run if kept.result is None else ended_run(kept.run, kept.result))
        return runs
