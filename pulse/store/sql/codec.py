"""Columns of the tables, and the values that rows are decoded into.

The names of the columns are stored data and older than the names in the code: `place` is a
partition, `floor` the last decided fire time, `room` the most unfinished runs, `slot` the instant
for which a run is scheduled, `words` the JSON of a run-time task, `tries` a run's attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.gaps import Gap
from pulse.core.run import Attempt, Outcome, Run, Trigger, run_id
from pulse.store.shared.rows import Skip, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.store.sql.database import Cell, Connection

TASK_COLUMNS = (
    "t.due_at, t.key, t.version, t.digest, t.source, t.task, t.place, t.scope, t.schedule, t.room,"
    " t.rerun, t.anchor, t.next_fire, t.floor, t.paused, t.resumed_at, t.archived_at, t.words,"
    " t.gaps,"
    " (SELECT s.fire_time || ' ' || s.count || ' ' || s.message FROM @runs s"
    "  WHERE s.id = t.skip_id)"
)
"""Of the table `@tasks t`; the last column is the record of the last skip."""

TASK_WIDTH = 20

RUN_NAMES = (
    "id", "task", "place", "fire_time", "slot", "trigger", "attempt", "holder", "claimed_at",
    "started_at", "took_us", "outcome", "status", "message", "count", "retry_at", "body", "tries",
)  # fmt: skip
RUN_COLUMNS = ", ".join(RUN_NAMES)
RUN_WIDTH = len(RUN_NAMES)

_RUNS_OF = f"SELECT {RUN_COLUMNS} FROM @runs WHERE id IN (?*)"  # noqa: S608 - constants alone
_TRIGGERS = {trigger.value: trigger for trigger in Trigger}
_OUTCOMES: dict[str | None, Outcome | None] = {outcome.value: outcome for outcome in Outcome}
_OUTCOMES[None] = None
_ATTEMPTS = msgspec.json.Decoder(tuple[Attempt, ...])
_GAPS = msgspec.json.Decoder(tuple[Gap, ...])


def row_of(cells: Sequence[Any]) -> TaskRow:
    """Return the task row of cells that begin with `TASK_COLUMNS`."""
    (
        due_at,
        key,
        version,
        digest,
        source,
        task,
        partition,
        scope,
        schedule,
        max_unfinished,
        rerun,
        anchor,
        next_fire,
        last_decided,
        paused,
        resumed_at,
        archived_at,
        task_json,
        gaps,
        skip,
        *_,
    ) = cells
    return TaskRow(
        version=version,
        digest=digest,
        max_concurrent=max_unfinished,  # no query filters by it
        parks=False,  # no query filters by it
        source=source,
        task=task,
        partition=partition,
        scope=scope,
        schedule=schedule,
        max_unfinished=max_unfinished,
        rerun=bool(rerun),
        anchor=anchor,
        next_fire=next_fire,
        due_at=due_at,
        last_decided=last_decided,
        order=key,
        paused=bool(paused),
        resumed_at=resumed_at,
        skip=None if skip is None else _skip_of(skip),
        archived_at=archived_at,
        task_json=task_json,
        gaps=() if gaps is None else _GAPS.decode(gaps),
    )


def _skip_of(text: str) -> Skip:
    oldest, count, reason = text.split(" ", 2)
    return Skip(int(oldest), int(count), reason)


def skip_cell(space: str, row: TaskRow) -> Cell:
    """Return the id of the record of *row*'s last skip."""
    skip = row.skip
    return None if skip is None else run_id(space, row.task, row.partition, skip.oldest)


def gaps_cell(row: TaskRow) -> Cell:
    """Return the gaps of a row as JSON; None for none."""
    return msgspec.json.encode(row.gaps).decode() if row.gaps else None


def definition_cells(row: TaskRow) -> tuple[Cell, ...]:
    """Return the cells of the columns that hold the definition of a row."""
    return (
        row.scope,
        row.source,
        row.task_json,
        row.digest,
        row.schedule,
        row.max_unfinished,
        int(row.rerun),
    )


def run_of(cells: Sequence[Any]) -> Run:
    """Return the run of cells that begin with `RUN_COLUMNS`."""
    return Run(
        id=cells[0],
        task=cells[1],
        partition=cells[2],
        fire_time=cells[3],
        scheduled_for=cells[4],
        trigger=_TRIGGERS[cells[5]],
        attempt=cells[6],
        holder=cells[7],
        claimed_at=cells[8],
        started_at=cells[9],
        took_us=cells[10],
        outcome=_OUTCOMES[cells[11]],
        status=cells[12],
        message=cells[13],
        count=cells[14],
        retry_at=cells[15],
        body=cells[16],
        attempts=() if cells[17] is None else _ATTEMPTS.decode(cells[17]),
    )


def run_cells(run: Run) -> tuple[Cell, ...]:
    """Return the cells of a run in the order of `RUN_COLUMNS`."""
    return (
        run.id,
        run.task,
        run.partition,
        run.fire_time,
        run.scheduled_for,
        run.trigger.value,
        run.attempt,
        run.holder,
        run.claimed_at,
        run.started_at,
        run.took_us,
        None if run.outcome is None else run.outcome.value,
        run.status,
        run.message,
        run.count,
        run.retry_at,
        run.body,
        attempts_cell(run) if run.attempts else None,
    )


def attempts_cell(run: Run) -> bytes | None:
    """Return the attempts before the last as a row holds them."""
    return msgspec.json.encode(run.attempts) if run.attempts else None


def read_runs(connection: Connection, ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs of these ids that exist, by id."""
    return {run.id: run for run in map(run_of, connection.select_in(_RUNS_OF, ids))}
