"""Runs that nobody holds: which are work, which wait, which are given up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run_transitions import given_up_run, missed_run
from pulse.errors import ConfigError
from pulse.store.redis.codec import row_of, run_of, spot_of
from pulse.store.rules import Verdict, judge_unheld

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import Definition
    from pulse.store.redis.codec import Row
    from pulse.store.redis.due import Here


class Found(NamedTuple):
    """What a look found among the runs that nobody holds.

    Attributes:
        taken: those to take, as they were read.
        closed: those to end, as they were read and as they then are.
        known: what those to take are to call, by task.
        wake_at: when there is more to do.

    """

    taken: Sequence[Run]
    closed: Sequence[tuple[Run, Run]]
    known: Mapping[str, Definition]
    wake_at: Instant | None

    def count_closed(self, spot: str) -> int:
        """Return how many runs of a task are to be ended in a place."""
        return sum(spot_of(run.task, run.place) == spot for _, run in self.closed)

    def count_taken(self, spot: str) -> int:
        """Return how many runs of a task are to be taken in a place."""
        return sum(spot_of(run.task, run.place) == spot for run in self.taken)


def judge_found(
    here: Here, unheld: Iterable[tuple[str, str, int]], limit: int, now: Instant
) -> Found:
    """Return at most *limit* runs to take, and before them those to end."""
    taken: list[Run] = []
    closed: list[tuple[Run, Run]] = []
    known: dict[str, Definition] = {}
    spots: Counter[str] = Counter()
    for run, row, held in sorted(_own(here, unheld), key=_by_time):
        try:
            definition = here.define(row)
        except ConfigError:  # of a newer release, to which it is left
            continue
        verdict = judge_unheld(
            definition, run, next_fire=row.next_fire, held=held + spots[row.spot], now=now
        )
        if verdict is Verdict.WAIT:
            continue
        if len(taken) == limit:
            return Found(taken, closed, known, run.retry_at)
        match verdict:
            case Verdict.GIVE_UP:
                closed.append((run, given_up_run(run)))
            case Verdict.MISS:
                closed.append((run, missed_run(run)))
            case _:
                taken.append(run)
                known[run.task] = definition
                spots[row.spot] += 1
    return Found(taken, closed, known, None)


def _by_time(found: tuple[Run, Row, int]) -> Instant:
    return found[0].retry_at or 0


def _own(here: Here, unheld: Iterable[tuple[str, str, int]]) -> Iterator[tuple[Run, Row, int]]:
    for run_record, row_record, held in unheld:
        row = row_of(row_record)
        if here.runs(row):
            yield run_of(run_record), row, held
