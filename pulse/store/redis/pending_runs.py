"""Selects among the pending runs: which are claimed, which wait, which end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run_transitions import expire_retry, miss_run
from pulse.errors import ConfigError
from pulse.store.redis.codec import row_of, run_of, task_key
from pulse.store.rules import PendingDecision, decide_pending

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.redis.codec import RedisTaskRow
    from pulse.store.redis.due import RedisCaller


class RedisPendingSelection(NamedTuple):
    """The pending runs that one call of `claim_due` changes.

    Attributes:
        selected: the runs to claim, as they were read.
        closed: the runs to end, as they were read and as they will be.
        known: the definitions of the selected runs, by task.
        next_wakeup: when the next pending run is due; None for never.

    """

    selected: Sequence[Run]
    closed: Sequence[tuple[Run, Run]]
    known: Mapping[str, TaskDefinition]
    next_wakeup: Instant | None

    def count_closed(self, row_key: str) -> int:
        """Return how many runs of a row will be ended."""
        return sum(task_key(run.task, run.partition) == row_key for _, run in self.closed)

    def count_selected(self, row_key: str) -> int:
        """Return how many runs of a row will be claimed."""
        return sum(task_key(run.task, run.partition) == row_key for run in self.selected)


def select_pending(
    caller: RedisCaller, pending: Iterable[tuple[str, str, int]], limit: int, now: Instant
) -> RedisPendingSelection:
    """Return at most *limit* runs to claim, and the runs to end that come before them."""
    selected: list[Run] = []
    closed: list[tuple[Run, Run]] = []
    known: dict[str, TaskDefinition] = {}
    newly_claimed: Counter[str] = Counter()
    for run, row, claimed in sorted(_runnable(caller, pending), key=_by_time):
        try:
            definition = caller.define(row)
        except ConfigError:  # a newer release wrote the settings, and will claim the run
            continue
        decision = decide_pending(
            definition,
            run,
            next_fire=row.next_fire,
            claimed=claimed + newly_claimed[row.task_key],
            now=now,
        )
        if decision is PendingDecision.WAIT:
            continue
        if len(selected) == limit:
            return RedisPendingSelection(selected, closed, known, run.retry_at)
        match decision:
            case PendingDecision.EXPIRE:
                closed.append((run, expire_retry(run)))
            case PendingDecision.MISS:
                closed.append((run, miss_run(run)))
            case _:
                selected.append(run)
                known[run.task] = definition
                newly_claimed[row.task_key] += 1
    return RedisPendingSelection(selected, closed, known, None)


def _by_time(found: tuple[Run, RedisTaskRow, int]) -> Instant:
    return found[0].retry_at or 0


def _runnable(
    caller: RedisCaller, pending: Iterable[tuple[str, str, int]]
) -> Iterator[tuple[Run, RedisTaskRow, int]]:
    for run_record, row_record, claimed in pending:
        row = row_of(row_record)
        if caller.may_run(row):
            yield run_of(run_record), row, claimed
