"""The tables and indexes of one application, in the types of SQLite.

`pulse.store.postgres.schema` translates the types. `@` is replaced as in statements.
"""

from __future__ import annotations

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
        mark INTEGER NOT NULL
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
        seen_boot INTEGER NOT NULL
    """,
    "configs": """
        born INTEGER PRIMARY KEY,
        config TEXT NOT NULL UNIQUE,
        manifest BLOB NOT NULL
    """,
    "paused": "task TEXT PRIMARY KEY",
}
"""The columns by the name of the table, one in a line."""

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
}
"""What is indexed, by the name of the index."""
