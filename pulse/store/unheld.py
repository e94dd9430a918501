"""The unheld runs of a memory store: which is work now, which waits, which run comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.decide import NextTick, Verdict, again_at, judge_unheld, may_go_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant
    from pulse.run import Claim, Result, Run
    from pulse.store.ledger import Kept, Ledger
    from pulse.store.rows import Row


class Unheld:
    """Looks at runs that nobody holds, beside the rows of their tasks; its owner holds the lock."""

    __slots__ = ("_ledger", "_rows")

    def __init__(self, rows: Mapping[str, Row], ledger: Ledger) -> None:
        self._rows = rows
        self._ledger = ledger

    def first(self, now: Instant) -> Kept | None:
        """Return the run that is work first; those that wait for another one are set aside."""
        ledger = self._ledger
        ledger.offer_retries()
        while (kept := ledger.next_unheld(self._is_wanted)) is not None:
            if not is_due(kept.run, now) or self.judge(kept.run, now) is not Verdict.WAIT:
                return kept
            ledger.set_aside(kept)
        return None

    def _is_wanted(self, run: Run) -> bool:
        row = self._rows.get(run.task)
        return row is not None and not row.withdrawn and row.place == run.place

    def judge(self, run: Run, now: Instant) -> Verdict:
        """Return what becomes of a run that is due."""
        row = self._rows[run.task]
        # Where no more are open than may be held, this one may be: they need not be counted.
        full = row.running > row.definition.at_once
        held = self._ledger.count_held(run.task, run.place) if full else 0
        return judge_unheld(row.definition, run, next_fire=row.cursor.next_fire, held=held, now=now)

    def again_at(self, claim: Claim, result: Result, now: Instant) -> Instant | None:
        """Return when a run that ended so is dispatched again; None when it is not."""
        if not may_go_on(claim, result):
            return None
        row = self._rows.get(claim.run.task)
        stands = row is not None and row.place == claim.run.place
        tick = NextTick(row.cursor.next_fire, row.running) if row is not None and stands else None
        return again_at(claim, result, row=tick, now=now)


def is_due(run: Run, now: Instant) -> bool:
    """Return whether an unheld run may be taken by now."""
    return run.retry_at is not None and run.retry_at <= now
