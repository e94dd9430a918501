"""Attempts at a transaction, on an SQLite file."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.errors import StoreUnavailableError
from pulse.store.shared.backend import DuplicateKeyError, Transaction
from pulse.store.sqlite.database import BUSY_WAIT, SqliteDatabase
from pulse.testing.clock import FakeClock
from tests.support.transactions import fetch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.store.sql.database import Connection

INSERT = "INSERT INTO @paused (task) VALUES ('work')"
INSERT_TASK = (
    "INSERT INTO @tasks (task, place, scope, source, digest, schedule, room, rerun, anchor, due_at,"
    " floor, paused) VALUES (?, '', 'fleet', 'config', '', '', 1, 0, 0, 0, 0, 0)"
)
SELECT = "SELECT task FROM @paused"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file is."""
    return tmp_path / "pulse.db"


@pytest.fixture
def database(path: Path) -> Iterator[SqliteDatabase]:
    """Return an open database that makes three attempts."""
    made = SqliteDatabase(path, FakeClock(), space="", patience_us=3 * BUSY_WAIT)
    made.open()
    yield made
    made.close()


def add_row(connection: Connection) -> None:
    """Add a row whose key is the same each time."""
    connection.execute(INSERT)


def add_task(connection: Connection, name: str) -> None:
    """Add a due task."""
    connection.execute(INSERT_TASK, (name,))


def test_work_that_ends_is_committed(database: SqliteDatabase) -> None:
    """The next transaction, on whatever connection, sees the row."""
    database.run(Transaction.WRITE, add_row)
    assert fetch(database, SELECT) == [("work",)]


def test_error_of_the_work_is_raised_and_rolls_back(database: SqliteDatabase) -> None:
    """The caller gets the same error object."""
    error = KeyError("work")

    def fail(connection: Connection) -> None:
        connection.execute(INSERT)
        raise error

    with pytest.raises(KeyError) as raised:
        database.run(Transaction.WRITE, fail)
    assert (raised.value, fetch(database, SELECT)) == (error, [])


def test_duplicate_key_is_not_repeated(database: SqliteDatabase) -> None:
    """A second attempt would fail as well."""
    database.run(Transaction.WRITE, add_row)
    attempts: list[int] = []

    def add_again(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(INSERT)

    with pytest.raises(DuplicateKeyError):
        database.run(Transaction.WRITE, add_again)
    assert len(attempts) == 1


def test_work_runs_again_after_the_file_was_locked(database: SqliteDatabase) -> None:
    """Nothing of the first attempt is kept."""
    attempts: list[int] = []

    def add_at_second_attempt(connection: Connection) -> None:
        attempts.append(1)
        connection.execute(INSERT)
        if len(attempts) == 1:
            raise locked()

    database.run(Transaction.WRITE, add_at_second_attempt)
    assert (len(attempts), fetch(database, SELECT)) == (2, [("work",)])


def test_attempts_end_when_the_file_stays_locked(database: SqliteDatabase, path: Path) -> None:
    """The work does not run, because no attempt gets the lock."""
    attempts: list[int] = []
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        database.run(Transaction.WRITE, lambda _: attempts.append(1))
    other.close()
    assert attempts == []


def test_closed_database_is_unavailable(database: SqliteDatabase) -> None:
    """The work does not run."""
    database.close()
    with pytest.raises(StoreUnavailableError, match="not open in this process"):
        database.run(Transaction.READ, lambda _: SECOND)


def test_rows_left_unread_do_not_block_the_next_write(database: SqliteDatabase, path: Path) -> None:
    """The connection's snapshot ends with the transaction, although the rows are still held."""
    for name in ("one", "other"):
        database.run(Transaction.WRITE, partial(add_task, name=name))
    found = database.run(Transaction.READ, lambda link: link.ask_due([""], limit=1, spread=0)())
    other = SqliteDatabase(path, FakeClock(), space="", patience_us=3 * BUSY_WAIT)
    other.open()
    other.run(Transaction.WRITE, lambda link: link.execute("DELETE FROM @tasks"))
    other.close()
    database.run(Transaction.WRITE, add_row)
    assert found.now


def locked() -> sqlite3.OperationalError:
    """Return an error as SQLite raises it for a locked file."""
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error
