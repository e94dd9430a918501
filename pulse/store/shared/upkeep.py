"""What heartbeats write: lost runs, ended pauses, other configurations, and what is too old."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.clock import SECOND, Span
from pulse.core.records import KEEP_RECORDS
from pulse.store.shared.backend import Transaction
from pulse.store.shared.members import abandon_runs, drop_gone
from pulse.store.shared.records import Limits
from pulse.store.shared.tasks import end_pause, remove_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pulse.clock import Instant
    from pulse.store.base import StoreOptions
    from pulse.store.shared.backend import Session, Written
    from pulse.store.shared.calls import Calls
    from pulse.store.shared.members import FleetState
    from pulse.store.shared.records import PruneTurn
    from pulse.store.shared.rows import Caller

    Rule = Callable[[Session, Written], None]

PRUNE_EVERY: Span = 10 * SECOND
PRUNE_STEPS = 2
"""How often one process of the fleet prunes, and in how many steps at most."""


class Upkeep:
    """Writes what a heartbeat has found, in steps; each step that is written is reported.

    Args:
        calls: runs the rules, and keeps what they have written until it is reported.
        options: for how long what is kept.

    """

    def __init__(self, calls: Calls, options: StoreOptions) -> None:
        self._calls = calls
        self._options = options
        self._turn: PruneTurn | None = None

    def write(
        self,
        caller: Caller,
        found: FleetState,
        *,
        save: Callable[[Session], None],
        note: Callable[[Instant], None],
        others: Iterable[Rule],
        cleans: bool = True,
    ) -> None:
        """Write what was found.

        Args:
            caller: the process whose heartbeat it is.
            found: which processes and runs are lost, and which pauses are over.
            save: records that the process lives.
            note: is called with the store's clock where that is read.
            others: the rules by which rows follow the configurations of live processes.
            cleans: whether the process removes tasks that are done, and deletes what is too old.

        """
        begin = partial(self._begin, found=found, save=save, note=note, cleans=cleans)
        rules: list[Rule] = [begin]
        if found.gone:
            rules.append(partial(drop_gone, gone=found.gone))
        rules += [
            partial(end_pause, caller=caller, name=name, until=end)
            # That of all tasks first: what it covers is then known as the others end.
            for name, end in sorted(found.over.items())
        ]
        for rule in (*rules, *others):
            self._write(rule)
        turn, self._turn = self._turn, None
        if turn is not None:
            self._clean_up(turn)

    def _write(self, rule: Rule) -> None:
        self._calls.written.add(self._calls.run_writing(Transaction.EXCLUSIVE, rule)[1])

    def _begin(
        self,
        session: Session,
        written: Written,
        *,
        found: FleetState,
        save: Callable[[Session], None],
        note: Callable[[Instant], None],
        cleans: bool,
    ) -> None:
        self._turn = session.begin_prune(every=PRUNE_EVERY) if cleans else None
        save(session)
        if found.lost:
            now = session.now()
            note(now)
            abandon_runs(session, found.lost, written, now=now, stops=found.stops)

    def _clean_up(self, turn: PruneTurn) -> None:
        """Remove tasks that are done, and delete what is older than it is kept."""
        if self._calls.run(Transaction.READ, lambda session: session.read_done()):
            self._write(remove_done)
        following: PruneTurn | None = turn
        for _ in range(PRUNE_STEPS):
            if following is None:
                break
            prune = partial(self._prune, turn=following)
            following = self._calls.run(Transaction.WRITE, prune)

    def _prune(self, session: Session, *, turn: PruneTurn) -> PruneTurn | None:
        """Delete what is older than it is kept, in a short transaction."""
        options = self._options
        failures = max(options.keep_failures_us, options.keep_for_us)
        limits = Limits(
            turn.now - options.keep_for_us, turn.now - failures, turn.now - KEEP_RECORDS
        )
        return session.prune(turn, limits)
