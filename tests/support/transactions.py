"""Runs a function in one transaction of a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pulse.store.shared.backend import Transaction
from pulse.store.sql.database import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.store.sql.database import Connection, Database

T = TypeVar("T")


def run_in(database: Database, transaction: Transaction, work: Callable[[Connection], T]) -> T:
    """Return what *work* returns; it runs once an attempt."""
    for attempt in database.attempts(transaction, Attempt):
        with attempt as connection:
            result = work(connection)
    return result


def fetch(database: Database, text: str, *values: str | int) -> list[tuple[object, ...]]:
    """Return the rows that one statement returns."""
    for attempt in database.attempts(Transaction.READ, Attempt):
        with attempt as connection:
            rows = list(connection.execute(text, values))
    return rows
