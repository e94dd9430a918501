"""Claiming on a memory store: which pending run is next, and what one call of `claim_due` wins.

`Unheld` also decides whether a run that has ended is dispatched again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Claim, Outcome, Run, run_id
from pulse.core.run_transitions import passed_run, waiting_run
from pulse.store.rules import NextTick, Verdict, again_at, judge_unheld, may_go_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.core.planner import Opened, Passed, Plan
    from pulse.core.run import Result
    from pulse.core.task import Definition
    from pulse.store.base import Member, Unplanned
    from pulse.store.memory.due_heap import Row
    from pulse.store.memory.runs import Kept, Ledger


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


class Turn:
    """Collects the claims and passed rows of one call, and writes them into the ledger."""

    __slots__ = (
        "_ledger",
        "_space",
        "boot",
        "claims",
        "given_up",
        "good_until",
        "holder",
        "limit",
        "now",
        "passed",
        "unplanned",
    )

    def __init__(
        self,
        space: str,
        member: Member,
        ledger: Ledger,
        *,
        now: Instant,
        boot: Span,
        limit: int,
    ) -> None:
        self._space = space
        self._ledger = ledger
        self.holder: str = member.holder
        self.now: Instant = now
        self.boot: Span = boot
        self.good_until: Span = boot + member.lease_us
        self.limit: int = limit
        self.claims: list[Claim] = []
        self.passed: list[Run] = []
        self.given_up: list[Run] = []
        self.unplanned: list[Unplanned] = []

    def take(self, definition: Definition) -> None:
        """Claim the run that the ledger has told as the next that nobody holds."""
        run = self._ledger.take_unheld(holder=self.holder, now=self.now, mark=self.boot).run
        self.claims.append(Claim(run, definition, self.good_until))

    def record(self, row: Row, decided: Plan) -> None:
        """Write down what the planner decided for a row."""
        if decided.missed is not None:
            self.passed.append(self._miss(row, decided.missed))
        if decided.skipped is not None:
            self.passed.append(self._skip(row, decided.skipped))
        opened = decided.opened
        if opened is not None:
            if opened.waits:
                self._open_waiting(row, opened)
            else:
                self.claims.append(self._open_held(row, opened))

    def _open_held(self, row: Row, opened: Opened) -> Claim:
        task, slot = row.definition.name, opened.slot
        run = Run(
            id=run_id(self._space, task, row.place, slot),
            task=task,
            place=row.place,
            fire_time=slot,
            slot=slot,
            trigger=opened.trigger,
            holder=self.holder,
            claimed_at=self.now,
        )
        row.running += 1
        row.skip = None
        self._ledger.hold(run, self.boot)
        return Claim(run, row.definition, self.good_until)

    def _open_waiting(self, row: Row, opened: Opened) -> None:
        task, place = row.definition.name, row.place
        run = waiting_run(self._space, task, place=place, opened=opened, now=self.now)
        row.running += 1
        row.skip = None
        self._ledger.hold(run, 0)

    def _miss(self, row: Row, missed: Passed) -> Run:
        row.skip = None
        return self._ledger.keep(self._passed(row, missed, Outcome.MISSED)).run

    def _skip(self, row: Row, skipped: Passed) -> Run:
        if row.skip is None:
            row.skip = self._ledger.keep(self._passed(row, skipped, Outcome.SKIPPED))
        else:
            run = row.skip.run
            row.skip.run = msgspec.structs.replace(run, count=run.count + skipped.count)
        return row.skip.run

    def _passed(self, row: Row, passed: Passed, outcome: Outcome) -> Run:
        name = row.definition.name
        return passed_run(self._space, name, place=row.place, passed=passed, outcome=outcome)


def is_due(run: Run, now: Instant) -> bool:
    """Return whether an unheld run may be taken by now."""
    return run.retry_at is not None and run.retry_at <= now
