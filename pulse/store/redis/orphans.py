"""What is left behind: by processes that are gone, and by tasks that are put away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run_transitions import abandoned_run, hastened_run
from pulse.store.redis.changes import run_change, write_rows, write_runs
from pulse.store.redis.client import Work
from pulse.store.redis.codec import row_of, run_of, spot_of
from pulse.store.rules import UNWANTED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.core.run import Run
    from pulse.store.redis.changes import RowChange, RunChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.codec import Row


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
    answer = server.run("read_orphans", leaving, _LEFT)
    return Left(answer.held, [*map(run_of, answer.unheld)])


def end_runs(server: Server, runs: Iterable[Run], reason: str = UNWANTED) -> None:
    """End runs that nobody will take."""
    write_runs(server, [run_change(run, abandoned_run(run, reason)) for run in runs])


def change_with_waiting(
    server: Server, changes: Sequence[RowChange], reason: str = UNWANTED
) -> list[bool]:
    """Change rows, and in the same step the runs of theirs that wait; return which rows stood.

    With a row that is put away they end, for *reason*. Of another one no retry waits beyond the
    next tick, which may have come nearer.
    """
    rows = [row_of(change.record) for change in changes]
    stood = write_rows(server, changes, _following(server, rows, reason))
    # A run that began to wait meanwhile; whatever begins to later sees the rows as they are.
    changed = [row for row, as_expected in zip(rows, stood, strict=True) if as_expected]
    write_runs(server, _following(server, changed, reason))
    return stood


def _following(server: Server, rows: Sequence[Row], reason: str) -> list[RunChange]:
    by_spot = {row.spot: row for row in rows}
    pairs = [(run, by_spot[spot_of(run.task, run.place)]) for run in _unheld(server, rows)]
    became = [(run, _followed(run, row, reason), row) for run, row in pairs]
    return [run_change(was, run, row=row.beginning) for was, run, row in became if run is not was]


def _followed(run: Run, row: Row, reason: str) -> Run:
    if row.archived_at is not None:
        return abandoned_run(run, reason)
    return run if row.next_fire is None else hastened_run(run, row.next_fire)


def _unheld(server: Server, rows: Iterable[Row]) -> Sequence[Run]:
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.place, []).append(row.task)
    return _ask(server, _Leaving(tasks=tasks)).unheld if tasks else ()
