"""Columns of the tables, and the values that rows are decoded into."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.gaps import Gap
from pulse.core.run import Run, run_id
from pulse.store.shared.rows import Skip, TaskRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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


_SKIP = (
    "(SELECT s.fire_time || ' ' || s.count || ' ' || s.message FROM @runs s WHERE s.id = t.skip_id)"
)
_UNSTORED = {"max_concurrent": "t.room", "parks": "0", "skip": _SKIP}
"""Fields that no column holds; no query filters by the first two."""

TASK_FIELDS = TaskRow.__struct_fields__
TASK_WIDTH = len(TASK_FIELDS)
_UNCLAIMED = {
    "max_concurrent": "0",
    "source": "''",
    "scope": "''",
    "schedule": "''",
    "rerun": "0",
    "paused": "0",
    "archived_at": "NULL",
}
"""Fields that no claim reads; the query for due rows selects the last two by their values."""


def _columns(constants: Mapping[str, str]) -> str:
    return ", ".join(
        constants.get(name, f"t.{column}")
        for name, column in zip(TASK_FIELDS, columns_of(TASK_FIELDS), strict=True)
    )


TASK_COLUMNS = _columns(_UNSTORED)
"""Of the table `@tasks t`."""
CLAIM_COLUMNS = _columns(_UNSTORED | _UNCLAIMED)
"""The same without the values of the fields that no claim reads."""

_FLAGS = tuple(map(TASK_FIELDS.index, ("parks", "rerun", "paused")))
_SKIP_AT, _GAPS_AT = map(TASK_FIELDS.index, ("skip", "gaps"))

RUN_FIELDS = Run.__struct_fields__
RUN_NAMES = columns_of(RUN_FIELDS)
RUN_COLUMNS = ", ".join(RUN_NAMES)
RUN_WIDTH = len(RUN_NAMES)
_ENUMS = {"outcome", "trigger"}

_RUNS_OF = f"SELECT {RUN_COLUMNS} FROM @runs WHERE id IN (?*)"  # noqa: S608 - constants alone
_decode_gaps = lru_cache(4096)(msgspec.json.Decoder(tuple[Gap, ...]).decode)
"""The gaps of a row rarely change, and each claim reads them."""


def row_of(cells: Sequence[Any]) -> TaskRow:
    """Return the task row of cells that begin with `TASK_COLUMNS`."""
    fields = list(cells[:TASK_WIDTH])
    for flag in _FLAGS:
        fields[flag] = bool(fields[flag])
    if fields[_SKIP_AT] is not None:
        fields[_SKIP_AT] = _skip_of(fields[_SKIP_AT])
    gaps = fields[_GAPS_AT]
    fields[_GAPS_AT] = () if gaps is None else _decode_gaps(gaps)
    return TaskRow(*fields)


def _skip_of(text: str) -> Skip:
    oldest, count, reason = text.split(" ", 2)
    return Skip(int(oldest), int(count), reason)


class RowWriter:
    """Returns the cells of task rows, in the order of its columns.

    Args:
        fields: fields of a `TaskRow`, without `skip` and `gaps`, which come first: the id of its
            record, and JSON, which is NULL for no gaps.

    """

    def __init__(self, *fields: str) -> None:
        self.columns: tuple[str, ...] = columns_of(("skip", "gaps", *fields))
        self._flags = [2 + fields.index(flag) for flag in ("rerun", "paused") if flag in fields]
        self._read = attrgetter(*fields)

    def cells(self, row: TaskRow, *, space: str) -> list[Cell]:
        """Return the cells that hold a row."""
        skip = row.skip
        ident = None if skip is None else run_id(space, row.task, row.partition, skip.oldest)
        gaps = msgspec.json.encode(row.gaps).decode() if row.gaps else None
        cells = [ident, gaps, *self._read(row)]
        for flag in self._flags:
            cells[flag] = int(cells[flag])
        return cells


def run_of(cells: Sequence[Any]) -> Run:
    """Return the run of cells that begin with `RUN_COLUMNS`."""
    fields = dict(zip(RUN_FIELDS, cells, strict=False))
    attempts = fields["attempts"]
    fields["attempts"] = () if attempts is None else msgspec.json.decode(attempts)
    return msgspec.convert(fields, Run)


def run_reader(*fields: str) -> Callable[[Run], tuple[Any, ...]]:
    """Return a function that returns the cells of fields of a run, without `attempts`.

    With `outcome` among the fields, the run must have an outcome.
    """
    # `value` of an enum is a property, which is computed in Python; `_value_` is the attribute.
    return attrgetter(*(f"{one}._value_" if one in _ENUMS else one for one in fields))


class RunWriter:
    """Returns the cells of runs, in the order of its columns.

    Args:
        fields: fields of a `Run`, without `outcome` and `attempts`, which come first.

    """

    def __init__(self, *fields: str) -> None:
        self.columns: tuple[str, ...] = columns_of(("outcome", "attempts", *fields))
        self._read = run_reader(*fields)

    def cells(self, run: Run) -> tuple[Cell, ...]:
        """Return the cells that hold a run."""
        outcome = None if run.outcome is None else run.outcome.value
        attempts = msgspec.json.encode(run.attempts) if run.attempts else None
        return (outcome, attempts, *self._read(run))


def read_runs(connection: Connection, ids: Iterable[str]) -> dict[str, Run]:
    """Return the runs of these ids that exist, by id."""
    return {run.id: run for run in map(run_of, connection.select_in(_RUNS_OF, ids))}
