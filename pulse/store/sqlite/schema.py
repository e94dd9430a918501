"""The tables of one application in the file, and the version of their layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store import naming
from pulse.store.naming import application_id

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.store.sqlite.connection import SqliteConnection

VERSION = 2

_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"

_VERSIONS = """
CREATE TABLE IF NOT EXISTS pulse_schema (prefix TEXT PRIMARY KEY, version INTEGER NOT NULL)
"""
_TABLES = (
    """CREATE TABLE @tasks (
        key INTEGER PRIMARY KEY,
        task TEXT NOT NULL,
        place TEXT NOT NULL,
        scope TEXT NOT NULL,
        source TEXT NOT NULL,
        words TEXT,
        digest TEXT NOT NULL,
        schedule TEXT NOT NULL,
        room INTEGER NOT NULL,
        rerun INTEGER NOT NULL,
        anchor INTEGER NOT NULL,
        next_fire INTEGER,
        due_at INTEGER,
        floor INTEGER NOT NULL,
        gaps TEXT,
        paused INTEGER NOT NULL,
        resumed_at INTEGER,
        skip_id TEXT,
        version INTEGER NOT NULL DEFAULT 0,
        archived_at INTEGER,
        UNIQUE (task, place))""",
    """CREATE INDEX @due ON @tasks (place, due_at)
        WHERE paused = 0 AND archived_at IS NULL AND due_at IS NOT NULL""",
    """CREATE INDEX @declared ON @tasks (key)
        WHERE source = 'config' AND archived_at IS NULL""",
    "CREATE INDEX @own ON @tasks (place) WHERE scope = 'process'",
    "CREATE INDEX @archived ON @tasks (archived_at) WHERE archived_at IS NOT NULL",
    """CREATE TABLE @runs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        task TEXT NOT NULL,
        place TEXT NOT NULL,
        fire_time INTEGER NOT NULL,
        slot INTEGER,
        trigger TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        holder TEXT NOT NULL,
        claimed_at INTEGER,
        started_at INTEGER,
        took_us INTEGER,
        outcome TEXT,
        status INTEGER,
        message TEXT NOT NULL,
        count INTEGER NOT NULL,
        retry_at INTEGER,
        body BLOB,
        tries BLOB,
        opened_at INTEGER NOT NULL,
        lease_us INTEGER NOT NULL,
        mark INTEGER NOT NULL)""",
    "CREATE INDEX @open ON @runs (task, place) WHERE outcome IS NULL",
    "CREATE INDEX @unheld ON @runs (place, retry_at) WHERE outcome IS NULL AND holder = ''",
    "CREATE INDEX @history ON @runs (task)",
    """CREATE TABLE @members (
        holder TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        machine TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_started INTEGER NOT NULL,
        mode TEXT NOT NULL,
        digest TEXT NOT NULL,
        lease_us INTEGER NOT NULL,
        config TEXT NOT NULL,
        seen INTEGER NOT NULL,
        seen_boot INTEGER NOT NULL)""",
    """CREATE TABLE @configs (
        born INTEGER PRIMARY KEY,
        config TEXT NOT NULL UNIQUE,
        manifest BLOB NOT NULL)""",
    "CREATE TABLE @paused (task TEXT PRIMARY KEY)",
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

_HAS_GAPS = "SELECT 1 FROM pragma_table_info(?) WHERE name = 'gaps'"
_ADD_GAPS = "ALTER TABLE @tasks ADD COLUMN gaps TEXT"
"""A column that older releases do not use: it leaves the version of the layout as it is, so that
processes of both releases may use the file during a deploy."""


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
    return version != VERSION or _has_gaps(connection, prefix)


def _has_gaps(connection: SqliteConnection, prefix: str) -> bool:
    return connection.execute(_HAS_GAPS, (f"{prefix}tasks",)).fetchone() is not None


def make_tables(connection: SqliteConnection, prefix: str) -> None:
    """Create the tables, or migrate those of an older release."""
    version = read_version(connection, prefix)
    if version is None:
        connection.execute(_VERSIONS)
        # Tables without a version: another program has emptied all tables, `pulse_schema` too.
        if connection.execute(_HAS_TABLE, (f"{prefix}tasks",)).fetchone() is None:
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
    if version == VERSION and not _has_gaps(connection, prefix):
        connection.execute(_ADD_GAPS)


def refuse_other_version(path: Path, version: int | None) -> None:
    """Refuse a layout that this release can neither use nor migrate.

    Raises:
        StoreSchemaError: *version* is such a layout.

    """
    naming.refuse_other_version(
        path, version, current=VERSION, migrated=(None, *_UPGRADES), separate="store"
    )
