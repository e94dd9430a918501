"""The SQLite file: opens it, runs transactions, and detects a replaced or corrupt file.

No lock guards the idle connections: a call takes one, or opens another, and gives it back. So calls
may come from threads, greenlets and thread pools alike.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.shared.backend import DuplicateKeyError, StorageReplacedError, Transaction
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.corruption import is_broken, make_file, set_aside
from pulse.store.sqlite.fork_safety import FORK_SAFETY
from pulse.store.sqlite.schema import (
    is_current,
    make_tables,
    prefix_of,
    read_version,
    refuse_other_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.clock import Clock, Span
    from pulse.store.sqlite.connection import Identity

T = TypeVar("T")

BUSY_WAIT: Span = SECOND * 15 // 100
"""How long SQLite waits for a lock; short, because the hub of all greenlets may wait with it."""

MOST_IDLE = 4
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteDatabase:
    """A file that is read and written in whole transactions.

    Args:
        path: the file.
        clock: the clock that decides what is due.
        space: `pulse.config.name`, which separates applications that share the file.
        patience_us: how long a call waits for the lock of the file, in all its attempts.

    """

    def __init__(self, path: Path, clock: Clock, *, space: str, patience_us: Span) -> None:
        self.name: str = f"sqlite:///{path}"
        self.path: Path = path.absolute()  # the application may change its directory
        self._clock = clock
        self._prefix = prefix_of(space)
        self._texts = SqliteTexts(self._prefix)
        self._max_attempts = max(1, patience_us // BUSY_WAIT)
        self._idle: deque[SqliteConnection] = deque()
        self._origin: Identity | None = None
        self._pid = 0
        self._known = False  # whether this process has used the file as a store

    def open(self) -> None:
        """Create the folder, the file and the tables if they do not exist."""
        FORK_SAFETY.watch()
        self.close()
        self._known = False
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._origin = make_file(self.path)
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from error
        FORK_SAFETY.release(self.path, self._origin)
        self._pid = os.getpid()
        version = self._read_version()
        if not is_current(version):
            self.run(Transaction.WRITE, partial(make_tables, prefix=self._prefix))
            version = self._read_version()
        refuse_other_version(self.path, version)
        self._known = True

    def _read_version(self) -> int | None:
        return self.run(Transaction.READ, partial(read_version, prefix=self._prefix))

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._pid = 0
        while self._idle:
            self._idle.pop().raw.close()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process."""
        self._pid = 0
        FORK_SAFETY.inherit(self._idle, self._origin)
        self._idle.clear()

    def identity(self) -> str:
        """Return the real path of the file."""
        return os.path.realpath(self.path)

    def run(self, transaction: Transaction, work: Callable[[SqliteConnection], T]) -> T:
        """Return what *work* returns, within a transaction: see `Database.run`.

        An attempt that finds the file locked is repeated; each waits `BUSY_WAIT` for the lock.
        """
        begin = "BEGIN" if transaction is Transaction.READ else "BEGIN IMMEDIATE"
        attempts_left = self._max_attempts
        while True:
            attempts_left -= 1
            try:
                with self._transaction(begin) as connection:
                    return work(connection)
            except sqlite3.IntegrityError as error:
                raise DuplicateKeyError from error
            except sqlite3.Error as error:
                if not attempts_left or not _is_busy(error):
                    raise self._failed(error) from error

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[SqliteConnection]:
        call = object()
        FORK_SAFETY.calls[call] = self._origin
        try:
            connection = self._take()
            try:
                connection.raw.execute(begin)
                yield connection
                _end(connection, "COMMIT")
            except BaseException as error:
                self._roll_back(connection, error)
                raise
            self._give_back(connection)
        finally:
            FORK_SAFETY.calls.pop(call, None)

    def _roll_back(self, connection: SqliteConnection, error: BaseException) -> None:
        """Roll back, and close the connection unless it can be used again."""
        with contextlib.suppress(sqlite3.Error):
            _end(connection, "ROLLBACK")
        harmless = (
            not isinstance(error, sqlite3.Error)
            or isinstance(error, sqlite3.IntegrityError)
            or _is_busy(error)
        )
        if harmless and not connection.raw.in_transaction:
            self._give_back(connection)
        else:
            connection.raw.close()

    def _failed(self, error: sqlite3.Error) -> StoreUnavailableError:
        """Return the error to raise for an error of SQLite; move a corrupt file aside."""
        text = f"{self.path}: {error}"
        if _lacks_tables(error):
            return StorageReplacedError(text)
        if not is_broken(error):
            return StoreUnavailableError(text)
        aside = set_aside(self.path, self._origin, known=self._known, now=self._clock.wall())
        if aside is None:
            return StoreUnavailableError(f"{text}; the file was not moved")
        return StorageReplacedError(
            f"{text}: the file is corrupt and was moved to {aside}; a new file replaces it, without"
            " the history and the run-time tasks"
        )

    def _take(self) -> SqliteConnection:
        if self._pid != os.getpid():
            raise StoreUnavailableError(f"{self.path}: the store is not open in this process")
        self._refuse_replaced()
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return self._connect()

    def _refuse_replaced(self) -> None:
        # A connection to a deleted file works as before, while processes that start later use the
        # new file: each of both groups would run every tick.
        try:
            found = self.path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._origin:
            raise StorageReplacedError(
                f"{self.path}: the file was deleted or replaced while it was open"
            )

    def _give_back(self, connection: SqliteConnection) -> None:
        is_current = self._pid and connection.origin == self._origin
        if is_current and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.raw.close()

    def _connect(self) -> SqliteConnection:
        origin = self._origin
        raw = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_WAIT / SECOND,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            _prepare(raw)
            self._refuse_replaced()  # it may have been moved aside since the last check
        except BaseException:
            raw.close()
            raise
        return SqliteConnection(raw, self._texts, self._clock, origin=origin)


@contextlib.contextmanager
def peek(path: Path, *, prefix: str) -> Iterator[SqliteConnection]:
    """Give a connection that only reads an existing file.

    Raises:
        StoreUnavailableError: the file does not exist, or cannot be read.

    """
    # Without a write-ahead log no process has the file open. SQLite would create a log to read the
    # file, unless the file is declared immutable.
    unused = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if unused else ''}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as raw:
            yield SqliteConnection(raw, SqliteTexts(prefix), SystemClock(), origin=None)
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path}: {error}") from error


def _prepare(raw: sqlite3.Connection) -> None:
    if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The switch to WAL does not wait for a lock, so wait for it first by starting a write.
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("ROLLBACK")
        raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA journal_size_limit = 16777216")


def _end(connection: SqliteConnection, statement: str) -> None:
    # A SELECT that has rows left keeps its snapshot of the file beyond the transaction. The next
    # write on that connection would fail as busy, however often it is repeated.
    while connection.unfinished:
        connection.unfinished.pop().close()
    connection.raw.execute(statement)


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BUSY


def _lacks_tables(error: sqlite3.Error) -> bool:
    """Return whether the file has no tables: it was emptied, or replaced by another one."""
    return str(error).startswith("no such table")
