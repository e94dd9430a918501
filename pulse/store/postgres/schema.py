"""The tables of one application in a schema of its own, and the migrations of their layout.

The name of the schema is derived from `pulse.config.name`. The table `layout` has one row, with the
version of the tables. Each step of a migration leads from one version to the next, and all steps
are one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.store.naming import application_id
from pulse.store.sql.schema import (
    ADDED_INDEXES,
    ADDED_TABLES,
    INDEXES,
    TABLES,
    missing_columns,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.store.sql.database import Connection

_OPTIONS = {
    "tasks": " WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)",
    "runs": " WITH (autovacuum_vacuum_scale_factor = 0.02)",
}


def _translated(columns: str) -> str:
    identity = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    columns = columns.replace("INTEGER PRIMARY KEY", identity)
    return columns.replace("INTEGER", "bigint").replace("BLOB", "bytea")


def _table(name: str) -> str:
    return f"CREATE TABLE @{name} ({_translated(TABLES[name])}){_OPTIONS.get(name, '')}"


def _index(name: str) -> str:
    return f"CREATE INDEX {name} ON {INDEXES[name]}"


_TABLES = (
    "CREATE TABLE @layout (version integer NOT NULL)",
    *map(_table, TABLES),
    *map(_index, INDEXES),
)
_TYPES: dict[str, str] = {
    name: rest.split()[0].rstrip(",")
    for columns in TABLES.values()
    for name, _, rest in (line.strip().partition(" ") for line in _translated(columns).splitlines())
    if name
}

LOCK = "SELECT version FROM @layout FOR UPDATE"
"""Locks the one row of `layout`, which every EXCLUSIVE transaction does first."""

_LOCK_MIGRATION = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
_HAS_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
_COLUMNS = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = ?"
_INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = ?"
_HAS_TABLE = "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = ?"


class Migrations(NamedTuple):
    """A layout of the tables, and the migrations of older layouts.

    Attributes:
        version: the version of the layout.
        tables: the statements that create it.
        steps: by version, the statements that lead from it to the next version.
        adds: whether parts are added that have no version: see `pulse.store.sql.schema`.

    """

    version: int
    tables: tuple[str, ...]
    steps: Mapping[int, tuple[str, ...]]
    adds: bool = False


MIGRATIONS = Migrations(1, _TABLES, {}, adds=True)


def schema_of(name: str) -> str:
    """Return the schema of the application *name*; no two names share one."""
    return f"pulse_{application_id(name)}"


def type_of(column: str) -> str:
    """Return the SQL type of a column that is written in batches."""
    return _TYPES[column]


def read_version(connection: Connection, schema: str) -> int | None:
    """Return the version of the layout; None if there are no tables yet."""
    if connection.execute(_HAS_TABLE, (schema, "layout")).fetchone() is None:
        return None
    row = connection.execute("SELECT version FROM @layout").fetchone()
    return None if row is None else int(row[0])


def is_current(connection: Connection, schema: str, ladder: Migrations) -> bool:
    """Return whether `migrate` has nothing to create or to migrate."""
    version = read_version(connection, schema)
    if version is None or version < ladder.version:
        return False
    return version > ladder.version or not (ladder.adds and _additions(connection, schema))


def _additions(connection: Connection, schema: str) -> list[str]:
    """Return the statements that add what releases have added without a new version."""
    columns = {(table, name) for table, name in connection.execute(_COLUMNS, (schema,))}
    indexes = {name for (name,) in connection.execute(_INDEXES, (schema,))}
    tables = {table for table, _ in columns}
    return [
        *(
            f"ALTER TABLE @{table} ADD COLUMN {_translated(column)}"
            for table, column in missing_columns(columns)
        ),
        *map(_table, (name for name in ADDED_TABLES if name not in tables)),
        *map(_index, (name for name in ADDED_INDEXES if name not in indexes)),
    ]


def migrate(connection: Connection, schema: str, ladder: Migrations) -> None:
    """Create the tables or migrate them, after any other process that is doing the same."""
    connection.execute(_LOCK_MIGRATION, (schema,))
    version = read_version(connection, schema)
    if version is None:
        _create(connection, schema, ladder)
        return
    _migrate(connection, version, ladder)
    if not is_current(connection, schema, ladder):
        for text in _additions(connection, schema):
            connection.execute(text)


def _create(connection: Connection, schema: str, ladder: Migrations) -> None:
    # A user without the right to create schemas can be given an empty one. CREATE SCHEMA IF NOT
    # EXISTS needs that right even if the schema exists.
    if connection.execute(_HAS_SCHEMA, (schema,)).fetchone() is None:
        connection.execute(f"CREATE SCHEMA {schema}")
    # Tables without a version: another program has emptied all of them, the table `layout` too.
    if connection.execute(_HAS_TABLE, (schema, "tasks")).fetchone() is None:
        for text in ladder.tables:
            connection.execute(text)
    connection.execute("INSERT INTO @layout (version) VALUES (?)", (ladder.version,))


def _migrate(connection: Connection, version: int, ladder: Migrations) -> None:
    for step in range(version, ladder.version):
        for text in ladder.steps.get(step, ()):
            connection.execute(text)
        if step in ladder.steps:
            connection.execute("UPDATE @layout SET version = ?", (step + 1,))
