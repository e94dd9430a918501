"""The tables and indexes of one application, in the types of SQLite.

`pulse.store.postgres.schema` translates the types. `@` is replaced as in statements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.run_query import KEPT_LONGER

if TYPE_CHECKING:
    from collections.abc import Collection

TABLES = {
    "tasks": """
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
        UNIQUE (task, place)
    """,
    "runs": """
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
        mark INTEGER NOT NULL,
        stop TEXT
    """,
    "members": """
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
        seen_boot INTEGER NOT NULL,
        report TEXT
    """,
    "configs": """
        born INTEGER PRIMARY KEY,
        config TEXT NOT NULL UNIQUE,
        manifest BLOB NOT NULL
    """,
    "audit": """
        seq INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        verb TEXT NOT NULL,
        task TEXT NOT NULL,
        run TEXT NOT NULL,
        author TEXT NOT NULL,
        note TEXT NOT NULL,
        until INTEGER
    """,
    "paused": """
        task TEXT PRIMARY KEY,
        since INTEGER,
        until INTEGER,
        author TEXT,
        note TEXT
    """,
    "fleet_pause": """
        task TEXT PRIMARY KEY,
        since INTEGER,
        until INTEGER,
        author TEXT,
        note TEXT
    """,
    "definitions": """
        digest TEXT PRIMARY KEY,
        settings TEXT NOT NULL
    """,
    "versions": """
        seq INTEGER PRIMARY KEY,
        task TEXT NOT NULL,
        place TEXT NOT NULL,
        at INTEGER NOT NULL,
        schedule TEXT NOT NULL,
        anchor INTEGER NOT NULL,
        first INTEGER,
        decided INTEGER NOT NULL,
        is_exact INTEGER NOT NULL
    """,
    "served": """
        place TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (place, since)
    """,
    "tallies": """
        task TEXT NOT NULL,
        hour INTEGER NOT NULL,
        is_planned INTEGER NOT NULL,
        kind TEXT NOT NULL,
        number INTEGER NOT NULL,
        newest INTEGER NOT NULL,
        PRIMARY KEY (task, hour, is_planned, kind)
    """,
    "refused": """
        ident TEXT PRIMARY KEY,
        run TEXT NOT NULL,
        task TEXT NOT NULL,
        place TEXT NOT NULL,
        fire_time INTEGER,
        attempt INTEGER NOT NULL,
        holder TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        at INTEGER NOT NULL
    """,
    "upkeep": """
        name TEXT PRIMARY KEY,
        at INTEGER NOT NULL,
        position INTEGER NOT NULL
    """,
}
"""The columns by the name of the table, one in a line."""

IS_WRONG = "outcome NOT IN ('succeeded', 'skipped')"
"""The condition of an index of what went wrong; a query that has it uses the index."""

IS_KEPT_LONGER = f"({' OR '.join(f'outcome = {one!r}' for one in sorted(KEPT_LONGER))})"
"""The condition of an index of the runs that `keep_failures` keeps.

SQLite makes a temporary table for a list of more than two values, for each row that is written."""

INDEXES = {
    "due": (
        "@tasks (place, due_at, key)"
        " WHERE paused = 0 AND archived_at IS NULL AND due_at IS NOT NULL"
    ),
    "declared": "@tasks (key) WHERE source = 'config' AND archived_at IS NULL",
    "own": "@tasks (place) WHERE scope = 'process'",
    "archived": "@tasks (archived_at) WHERE archived_at IS NOT NULL",
    "open": "@runs (task, place) WHERE outcome IS NULL",
    "unheld": "@runs (place, retry_at) WHERE outcome IS NULL AND holder = ''",
    "history": "@runs (task, seq)",
    "wrong": f"@runs (seq) WHERE {IS_WRONG}",
    "kept": f"@runs (task, seq) WHERE {IS_KEPT_LONGER}",
    "versions_of": "@versions (task, place, seq)",
}
"""What is indexed, by the name of the index."""

ADDED_COLUMNS: dict[str, tuple[str, ...]] = {
    "tasks": ("gaps",),
    "paused": ("since", "until", "author", "note"),
    "runs": ("stop",),
    "members": ("report",),
}
ADDED_TABLES = (
    "audit", "fleet_pause", "definitions", "versions", "served", "tallies", "refused", "upkeep",
)  # fmt: skip
ADDED_INDEXES = ("wrong", "kept", "versions_of")
"""Columns, by table, tables and indexes that have been added without a new version of the layout.

Older releases do not use them, and columns may be NULL: so the version of the layout stays as it
is, and processes of both releases may use the tables during a deploy."""


def missing_columns(existing: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return table and declaration of each added column that is not among the existing ones."""
    return [
        (table, declaration)
        for table, names in ADDED_COLUMNS.items()
        for declaration in _declarations(table)
        if (name := declaration.split()[0]) in names and (table, name) not in existing
    ]


def _declarations(table: str) -> list[str]:
    lines = (line.strip().rstrip(",") for line in TABLES[table].splitlines())
    return [line for line in lines if line]
