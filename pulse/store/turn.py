"""One call of `claim_due` on a memory store: who claims, when, how much, and what it won."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.run import Claim, Outcome, Run, run_id
from pulse.store.decide import passed_run, waiting_run

if TYPE_CHECKING:
    from pulse.clock import Instant, Span
    from pulse.planner import Opened, Passed, Plan
    from pulse.store.base import Member, Unplanned
    from pulse.store.ledger import Ledger
    from pulse.store.rows import Row
    from pulse.task import Definition


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
