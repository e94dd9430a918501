"""What is left behind: by processes that are gone, and by tasks that are put away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.decide import UNWANTED
from pulse.store.redis.records import run_of, spot_of
from pulse.store.redis.server import Work
from pulse.store.redis.writing import run_change, write_runs
from pulse.store.steps import abandoned_run, hastened_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.run import Run
    from pulse.store.redis.records import Row
    from pulse.store.redis.server import Server


class _Leaving(Work, kw_only=True):
    holders: Sequence[str] = ()
    places: Sequence[str] = ()
    tasks: Mapping[str, Sequence[str]] = {}


class _Left(msgspec.Struct, frozen=True):
    now: Instant
    held: Sequence[tuple[str, Instant]]
    unheld: Sequence[str]


_LEFT = msgspec.msgpack.Decoder(_Left)


class Left(NamedTuple):
    """Records of held runs, each with the end of its lease, and unheld runs."""

    held: Sequence[tuple[str, Instant]]
    unheld: Sequence[Run]


def find_left(server: Server, *, holders: Iterable[str], places: Iterable[str]) -> Left:
    """Return the runs that *holders* hold, and the unheld runs of *places*."""
    return _ask(server, _Leaving(holders=sorted(holders), places=sorted(places)))


def _ask(server: Server, leaving: _Leaving) -> Left:
    answer = server.run("left", leaving, _LEFT)
    return Left(answer.held, [*map(run_of, answer.unheld)])


def end_runs(server: Server, runs: Iterable[Run], reason: str = UNWANTED) -> None:
    """End runs that nobody will take."""
    write_runs(server, [run_change(run, abandoned_run(run, reason)) for run in runs])


def end_waiting(server: Server, rows: Iterable[Row], reason: str = UNWANTED) -> None:
    """End the runs that wait of tasks that have just been put away."""
    end_runs(server, _unheld(server, rows), reason)


def hasten_retries(server: Server, rows: Sequence[Row]) -> None:
    """Let no retry wait beyond the next tick of its row, which may have come nearer.

    The rows are written already: a retry that comes later sees them as they are.
    """
    ticks = {row.spot: row.next_fire for row in rows if row.next_fire is not None}
    pairs = [(run, _hastened(run, ticks)) for run in _unheld(server, rows)]
    write_runs(server, [run_change(was, run) for was, run in pairs if run is not was])


def _unheld(server: Server, rows: Iterable[Row]) -> Sequence[Run]:
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.place, []).append(row.task)
    return _ask(server, _Leaving(tasks=tasks)).unheld if tasks else ()


def _hastened(run: Run, ticks: Mapping[str, Instant]) -> Run:
    before = ticks.get(spot_of(run.task, run.place))
    return run if before is None else hastened_run(run, before)
