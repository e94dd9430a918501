"""Columns of the tables, and the values that rows are decoded into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.run import Run, run_id
from pulse.store.shared.rows import Skip, TaskRow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.store.sql.database import Cell, Connection

_STORED_NAMES = {
    "attempts": "tries",
    "last_decided": "floor",
    "max_unfinished": "room",
    "order": "key",
    "partition": "place",
    "scheduled_for": "slot",
    "skip": "skip_id",
    "task_json": "words",
}
"""Columns whose names, which are stored data, are older than the names of the fields."""


def columns_of(fields: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that hold fields of a `TaskRow` or of a `Run`."""
    return tuple(_STORED_NAMES.get(name, name) for name in fields)


_ROW_FIELDS = (
    "due_at", "order", "version", "digest", "source", "task", "partition", "scope", "schedule",
    "max_unfinished", "rerun", "anchor", "next_fire", "last_decided", "paused", "resumed_at",
    "archived_at", "task_json", "skip",
)  # fmt: skip
TASK_WIDTH = len(_ROW_FIELDS)
_SKIP = (
    "(SELECT s.fire_time || ' ' || s.count || ' ' || s.message FROM @runs s WHERE s.id = t.skip_id)"
)
TASK_COLUMNS = ", ".join([*(f"t.{name}" for name in columns_of(_ROW_FIELDS[:-1])), _SKIP])
"""Of the table `@tasks t`; the last column is the record of the last skip."""

RUN_FIELDS = Run.__struct_fields__
RUN_NAMES = columns_of(RUN_FIELDS)
RUN_COLUMNS = ", ".join(RUN_NAMES)
RUN_WIDTH = len(RUN_NAMES)

_RUNS_OF = f"SELECT {RUN_COLUMNS} FROM @runs WHERE id IN (?*)"  # noqa: S608 - constants alone


def row_of(cells: Sequence[Any]) -> TaskRow:
    """Return the task row of cells that begin with `TASK_COLUMNS`."""
    fields = dict(zip(_ROW_FIELDS, cells, strict=False))
    skip = fields["skip"]
    fields |= {
        "rerun": bool(fields["rerun"]),
        "paused": bool(fields["paused"]),
        "skip": None if skip is None else _skip_of(skip),
        "max_concurrent": fields["max_unfinished"],  # no query filters by it
        "parks": False,  # no query filters by it
    }
    return TaskRow(**fields)


def _skip_of(text: str) -> Skip:
    oldest, count, reason = text.split(" ", 2)
    return Skip(int(oldest), int(count), reason)


def row_cells(row: TaskRow, fields: Iterable[str], *, space: str) -> list[Cell]:
    """Return the cells that hold *fields*; `skip` is stored as the id of the skip's record."""
    skip = row.skip
    stored = msgspec.structs.asdict(row) | {
        "rerun": int(row.rerun),
        "paused": int(row.paused),
        "skip": None if skip is None else run_id(space, row.task, row.partition, skip.oldest),
    }
    return [stored[name] for name in fields]


def run_of(cells: Sequence[Any]) -> Run:
    """Return the run of cells that begin with `RUN_COLUMNS`."""
    fields = dict(zip(RUN_FIELDS, cells, strict=False))
    attempts = fields["attempts"]
    fields["attempts"] = () if attempts is None else msgspec.json.decode(attempts)
    return msgspec.convert(fields, Run)


def run_cells(run: Run, fields: Iterable[str] = RUN_FIELDS) -> list[Cell]:
    """Return the cells that hold *fields* of a run."""
    stored = msgspec.to_builtins(run, builtin_types=(bytes,))
    stored["attempts"] = msgspec.json.encode(run.attempts) if run.attempts else None
    return [stored[name] for name in fields]


def read_runs(connection: Connection, ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs of these ids that exist, by id."""
    return {run.id: run for run in map(run_of, connection.select_in(_RUNS_OF, ids))}
