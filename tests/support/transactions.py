"""Reads rows of a database in a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.shared.backend import Transaction

if TYPE_CHECKING:
    from pulse.store.sql.database import Database


def fetch(database: Database, text: str, *values: str | int) -> list[tuple[object, ...]]:
    """Return the rows that one statement returns."""
    return database.run(Transaction.READ, lambda link: list(link.execute(text, values)))
