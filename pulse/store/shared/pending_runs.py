"""Selects among the pending runs that are due: which to claim, which to end, which wait."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.run_transitions import expire_retry, miss_run
from pulse.errors import ConfigError
from pulse.store.rules import PendingDecision, decide_pending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.rows import Caller, DueSnapshot, PendingRow, TaskRow


class SelectedRun(msgspec.Struct, frozen=True, gc=False):
    """A pending run to claim, as it was read, with the row of its task and its definition."""

    run: Run
    row: TaskRow
    definition: TaskDefinition


class ClosedRun(msgspec.Struct, frozen=True, gc=False):
    """A pending run to end: as it was read, as it then is, and the row of its task."""

    was: Run
    run: Run
    row: TaskRow


class PendingSelection(NamedTuple):
    """What is to be done with pending runs; *next_wakeup* is when there is more to do."""

    selected: Sequence[SelectedRun]
    closed: Sequence[ClosedRun]
    next_wakeup: Instant | None

    def count_closed(self) -> Counter[str]:
        """Return how many runs are to be ended, by the key of their row."""
        return Counter(one.row.task_key for one in self.closed)

    def count_selected(self) -> Counter[str]:
        """Return how many runs are to be claimed, by the key of their row."""
        return Counter(one.row.task_key for one in self.selected)


NOTHING_PENDING = PendingSelection((), (), None)


def select_pending(caller: Caller, snapshot: DueSnapshot, limit: int) -> PendingSelection:
    """Return at most *limit* runs to claim, and the runs to end that come before them."""
    selected: list[SelectedRun] = []
    closed: list[ClosedRun] = []
    taken: Counter[str] = Counter()
    for found in snapshot.pending:
        due = found.run.retry_at or 0
        if not caller.may_run(found.row):
            continue
        if due > snapshot.now:
            return PendingSelection(selected, closed, due)
        definition = _definition_of(caller, found)
        decision = _decide(found, definition, taken, snapshot.now)
        if definition is None or decision is PendingDecision.WAIT:
            continue
        if len(selected) == limit:
            return PendingSelection(selected, closed, due)
        run, row = found.run, found.row
        match decision:
            case PendingDecision.EXPIRE:
                closed.append(ClosedRun(run, expire_retry(run), row))
            case PendingDecision.MISS:
                closed.append(ClosedRun(run, miss_run(run), row))
            case _:
                selected.append(SelectedRun(run, row, definition))
                taken[row.task_key] += 1
    return PendingSelection(selected, closed, None)


def _decide(
    found: PendingRow,
    definition: TaskDefinition | None,
    taken: Counter[str],
    now: Instant,
) -> PendingDecision:
    if definition is None:
        return PendingDecision.WAIT
    return decide_pending(
        definition,
        found.run,
        next_fire=found.row.next_fire,
        claimed=found.claimed + taken[found.row.task_key],
        now=now,
    )


def _definition_of(caller: Caller, found: PendingRow) -> TaskDefinition | None:
    try:
        return caller.define(found.row)
    except ConfigError:  # a newer release wrote the task; its processes take the run
        return None
