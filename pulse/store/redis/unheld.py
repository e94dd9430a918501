"""Runs that nobody holds: which are work, which wait, which are given up."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pulse.store.decide import Verdict, judge_unheld
from pulse.store.redis.records import row_of, run_of, spot_of
from pulse.store.steps import given_up_run, missed_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.run import Run
    from pulse.store.redis.records import Row
    from pulse.task import Definition


class Found(NamedTuple):
    """What a look found among the runs that nobody holds.

    Attributes:
        taken: those to take, as they were read.
        closed: those to end, as they were read and as they then are.
        wake_at: when there is more to do.

    """

    taken: Sequence[Run]
    closed: Sequence[tuple[Run, Run]]
    wake_at: Instant | None

    def count_closed(self, spot: str) -> int:
        """Return how many runs of a task are to be ended in a place."""
        return sum(spot_of(run.task, run.place) == spot for _, run in self.closed)

    def count_taken(self, spot: str) -> int:
        """Return how many runs of a task are to be taken in a place."""
        return sum(spot_of(run.task, run.place) == spot for run in self.taken)


def judge_found(
    definitions: Mapping[str, Definition],
    unheld: Iterable[tuple[str, str, int]],
    limit: int,
    now: Instant,
) -> Found:
    """Return at most *limit* runs to take, and before them those to end."""
    taken: list[Run] = []
    closed: list[tuple[Run, Run]] = []
    spots: Counter[str] = Counter()
    for run, row, held in sorted(_own(definitions, unheld), key=_by_time):
        verdict = judge_unheld(
            definitions[run.task],
            run,
            next_fire=row.next_fire,
            held=held + spots[row.spot],
            now=now,
        )
        if verdict is Verdict.WAIT:
            continue
        if len(taken) == limit:
            return Found(taken, closed, run.retry_at)
        match verdict:
            case Verdict.GIVE_UP:
                closed.append((run, given_up_run(run)))
            case Verdict.MISS:
                closed.append((run, missed_run(run)))
            case _:
                taken.append(run)
                spots[row.spot] += 1
    return Found(taken, closed, None)


def _by_time(found: tuple[Run, Row, int]) -> Instant:
    return found[0].retry_at or 0


def _own(
    definitions: Mapping[str, Definition], unheld: Iterable[tuple[str, str, int]]
) -> Iterator[tuple[Run, Row, int]]:
    for run_record, row_record, held in unheld:
        row = row_of(row_record)
        definition = definitions.get(row.task)
        if definition is not None and definition.digest == row.digest:
            yield run_of(run_record), row, held
