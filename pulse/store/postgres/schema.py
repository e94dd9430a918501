"""The tables of one application in a schema of its own, and the migrations of their layout.

The name of the schema is derived from `pulse.config.name`. The table `layout` has one row, with the
version of the tables. Each step of a migration leads from one version to the next, and all steps
are one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.store.naming import application_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.store.sql.database import Connection

_TABLES = (
    "CREATE TABLE @layout (version integer NOT NULL)",
    """CREATE TABLE @tasks (
        key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task text NOT NULL,
        place text NOT NULL,
        scope text NOT NULL,
        source text NOT NULL,
        words text,
        digest text NOT NULL,
        schedule text NOT NULL,
        room bigint NOT NULL,
        rerun bigint NOT NULL,
        anchor bigint NOT NULL,
        next_fire bigint,
        due_at bigint,
        floor bigint NOT NULL,
        gaps text,
        paused bigint NOT NULL,
        resumed_at bigint,
        skip_id text,
        version bigint NOT NULL DEFAULT 0,
        archived_at bigint,
        UNIQUE (task, place)) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02)""",
    """CREATE INDEX due ON @tasks (place, due_at, key)
        WHERE paused = 0 AND archived_at IS NULL AND due_at IS NOT NULL""",
    """CREATE INDEX declared ON @tasks (key)
        WHERE source = 'config' AND archived_at IS NULL""",
    "CREATE INDEX own ON @tasks (place) WHERE scope = 'process'",
    "CREATE INDEX archived ON @tasks (archived_at) WHERE archived_at IS NOT NULL",
    """CREATE TABLE @runs (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id text NOT NULL UNIQUE,
        task text NOT NULL,
        place text NOT NULL,
        fire_time bigint NOT NULL,
        slot bigint,
        trigger text NOT NULL,
        attempt bigint NOT NULL,
        holder text NOT NULL,
        claimed_at bigint,
        started_at bigint,
        took_us bigint,
        outcome text,
        status bigint,
        message text NOT NULL,
        count bigint NOT NULL,
        retry_at bigint,
        body bytea,
        tries bytea,
        opened_at bigint NOT NULL,
        lease_us bigint NOT NULL,
        mark bigint NOT NULL) WITH (autovacuum_vacuum_scale_factor = 0.02)""",
    "CREATE INDEX open ON @runs (task, place) WHERE outcome IS NULL",
    "CREATE INDEX unheld ON @runs (place, retry_at) WHERE outcome IS NULL AND holder = ''",
    "CREATE INDEX history ON @runs (task, seq)",
    """CREATE TABLE @members (
        holder text PRIMARY KEY,
        host text NOT NULL,
        machine text NOT NULL,
        pid bigint NOT NULL,
        pid_started bigint NOT NULL,
        mode text NOT NULL,
        digest text NOT NULL,
        lease_us bigint NOT NULL,
        config text NOT NULL,
        seen bigint NOT NULL,
        seen_boot bigint NOT NULL)""",
    """CREATE TABLE @configs (
        born bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        config text NOT NULL UNIQUE,
        manifest bytea NOT NULL)""",
    "CREATE TABLE @paused (task text PRIMARY KEY)",
)
_TEXTS = frozenset(
    "task place scope source words digest schedule gaps skip_id id trigger holder message".split()  # noqa: SIM905 - a list of this length is read as words
) | {"outcome"}
_BYTES = frozenset({"body", "tries"})

LOCK = "SELECT version FROM @layout FOR UPDATE"
"""Locks the one row of `layout`, which every EXCLUSIVE transaction does first."""

_LOCK_MIGRATION = "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))"
_HAS_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = ?"
_HAS_TABLE = "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = ?"


class Migrations(NamedTuple):
    """A layout of the tables, and the migrations of older layouts.

    Attributes:
        version: the version of the layout.
        tables: the statements that create it.
        steps: by version, the statements that lead from it to the next version.
        has_columns: finds a row unless *columns* are to be added.
        columns: statements that add columns which older releases do not use. They leave the version
            as it is, so that processes of both releases may use the tables during a deploy.

    """

    version: int
    tables: tuple[str, ...]
    steps: Mapping[int, tuple[str, ...]]
    has_columns: str = "SELECT 1"
    columns: tuple[str, ...] = ()


MIGRATIONS = Migrations(
    1,
    _TABLES,
    {},
    "SELECT 1 FROM pg_attribute WHERE attrelid = '@tasks'::regclass AND attname = 'gaps'",
    ("ALTER TABLE @tasks ADD COLUMN IF NOT EXISTS gaps text",),
)


def schema_of(name: str) -> str:
    """Return the schema of the application *name*; no two names share one."""
    return f"pulse_{application_id(name)}"


def type_of(column: str) -> str:
    """Return the SQL type of a column that is written in batches."""
    if column in _TEXTS:
        return "text"
    return "bytea" if column in _BYTES else "bigint"


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
    return version > ladder.version or connection.execute(ladder.has_columns).fetchone() is not None


def migrate(connection: Connection, schema: str, ladder: Migrations) -> None:
    """Create the tables or migrate them, after any other process that is doing the same."""
    connection.execute(_LOCK_MIGRATION, (schema,))
    version = read_version(connection, schema)
    if version is None:
        _create(connection, schema, ladder)
        return
    _migrate(connection, version, ladder)
    if not is_current(connection, schema, ladder):
        for text in ladder.columns:
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
