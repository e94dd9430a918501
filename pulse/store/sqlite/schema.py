"""The tables of one application in the file, and the version of their layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store import naming
from pulse.store.naming import application_id
from pulse.store.sql.schema import (
    ADDED_COLUMNS,
    ADDED_INDEXES,
    ADDED_TABLES,
    INDEXES,
    TABLES,
    missing_columns,
)

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.store.sqlite.connection import SqliteConnection

VERSION = 2

_HAS = "SELECT 1 FROM sqlite_master WHERE type = ? AND name = ?"

_VERSIONS = """
CREATE TABLE IF NOT EXISTS pulse_schema (prefix TEXT PRIMARY KEY, version INTEGER NOT NULL)
"""


def _index(name: str) -> str:
    # The key of a row is the last column of every index, so it is not named.
    columns = INDEXES[name].replace(", key)", ")").replace(", seq)", ")")
    return f"CREATE INDEX @{name} ON {columns}"


def _table(name: str) -> str:
    return f"CREATE TABLE @{name} ({TABLES[name]})"


_TABLES = (
    *map(_table, TABLES),
    *map(_index, INDEXES),
)

_UPGRADES = {
    1: (
        "ALTER TABLE @tasks ADD COLUMN words TEXT",
        """CREATE INDEX @declared ON @tasks (key)
            WHERE source = 'config' AND archived_at IS NULL""",
        "CREATE INDEX @own ON @tasks (place) WHERE scope = 'process'",
    ),
}
"""By version, the statements that migrate the layout to the next version."""

_COLUMNS = "SELECT name FROM pragma_table_info(?)"


def prefix_of(name: str) -> str:
    """Return the prefix of the tables of the application *name*; no two names share one."""
    return f"pulse_{application_id(name)}_"


def read_version(connection: SqliteConnection, prefix: str) -> int | None:
    """Return the version of the layout; None if there are no tables yet."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'pulse_schema'"
    if connection.execute(known).fetchone() is None:
        return None
    row = connection.execute(
        "SELECT version FROM pulse_schema WHERE prefix = ?", (prefix,)
    ).fetchone()
    return None if row is None else int(row[0])


def is_current(connection: SqliteConnection, prefix: str) -> bool:
    """Return whether `make_tables` has nothing to create or to migrate."""
    version = read_version(connection, prefix)
    if version is None or version in _UPGRADES:
        return False
    return version != VERSION or not _additions(connection, prefix)


def _additions(connection: SqliteConnection, prefix: str) -> list[str]:
    """Return the statements that add what releases have added without a new version."""
    existing = {
        (table, name)
        for table in ADDED_COLUMNS
        for (name,) in connection.execute(_COLUMNS, (f"{prefix}{table}",))
    }
    columns = [
        f"ALTER TABLE @{table} ADD COLUMN {column}" for table, column in missing_columns(existing)
    ]
    tables = (name for name in ADDED_TABLES if not _has(connection, "table", f"{prefix}{name}"))
    indexes = (name for name in ADDED_INDEXES if not _has(connection, "index", f"{prefix}{name}"))
    return [*columns, *map(_table, tables), *map(_index, indexes)]


def _has(connection: SqliteConnection, kind: str, name: str) -> bool:
    return connection.execute(_HAS, (kind, name)).fetchone() is not None


def make_tables(connection: SqliteConnection, prefix: str) -> None:
    """Create the tables, or migrate those of an older release."""
    version = read_version(connection, prefix)
    if version is None:
        connection.execute(_VERSIONS)
        # Tables without a version: another program has emptied all tables, `pulse_schema` too.
        if not _has(connection, "table", f"{prefix}tasks"):
            for text in _TABLES:
                connection.execute(text)
        connection.execute(
            "INSERT INTO pulse_schema (prefix, version) VALUES (?, ?)", (prefix, VERSION)
        )
        return
    while version in _UPGRADES:
        for text in _UPGRADES[version]:
            connection.execute(text)
        version += 1
        connection.execute(
            "UPDATE pulse_schema SET version = ? WHERE prefix = ?", (version, prefix)
        )
    if version == VERSION:
        for text in _additions(connection, prefix):
            connection.execute(text)


def refuse_other_version(path: Path, version: int | None) -> None:
    """Refuse a layout that this release can neither use nor migrate.

    Raises:
        StoreSchemaError: *version* is such a layout.

    """
    naming.refuse_other_version(
        path, version, current=VERSION, migrated=(None, *_UPGRADES), separate="store"
    )
