"""Runs that nobody holds: which are work, which wait, which are given up."""

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
    """What a look found among the runs that nobody holds.

    Attributes:
        selected: those to take, as they were read.
        closed: those to end, as they were read and as they then are.
        known: what those to take are to call, by task.
        next_wakeup: when there is more to do.

    """

    selected: Sequence[Run]
    closed: Sequence[tuple[Run, Run]]
    known: Mapping[str, TaskDefinition]
    next_wakeup: Instant | None

    def count_closed(self, row_key: str) -> int:
        """Return how many runs of a task are to be ended in a place."""
        return sum(task_key(run.task, run.partition) == row_key for _, run in self.closed)

    def count_selected(self, row_key: str) -> int:
        """Return how many runs of a task are to be taken in a place."""
        return sum(task_key(run.task, run.partition) == row_key for run in self.selected)


def select_pending(
    caller: RedisCaller, pending: Iterable[tuple[str, str, int]], limit: int, now: Instant
) -> RedisPendingSelection:
    """Return at most *limit* runs to take, and before them those to end."""
    taken: list[Run] = []
    closed: list[tuple[Run, Run]] = []
    known: dict[str, TaskDefinition] = {}
    row_keys: Counter[str] = Counter()
    for run, row, held in sorted(_own(caller, pending), key=_by_time):
        try:
            definition = caller.define(row)
        except ConfigError:  # of a newer release, to which it is left
            continue
        verdict = decide_pending(
            definition, run, next_fire=row.next_fire, claimed=held + row_keys[row.task_key], now=now
        )
        if verdict is PendingDecision.WAIT:
            continue
        if len(taken) == limit:
            return RedisPendingSelection(taken, closed, known, run.retry_at)
        match verdict:
            case PendingDecision.EXPIRE:
                closed.append((run, expire_retry(run)))
            case PendingDecision.MISS:
                closed.append((run, miss_run(run)))
            case _:
                taken.append(run)
                known[run.task] = definition
                row_keys[row.task_key] += 1
    return RedisPendingSelection(taken, closed, known, None)


def _by_time(found: tuple[Run, RedisTaskRow, int]) -> Instant:
    return found[0].retry_at or 0


def _own(
    caller: RedisCaller, pending: Iterable[tuple[str, str, int]]
) -> Iterator[tuple[Run, RedisTaskRow, int]]:
    for run_record, row_record, held in pending:
        row = row_of(row_record)
        if caller.may_run(row):
            yield run_of(run_record), row, held
