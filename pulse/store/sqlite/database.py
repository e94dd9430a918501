"""The SQLite file: opens it, runs transactions, and detects a replaced or corrupt file.

No lock guards the idle connections: a call takes one, or opens another, and gives it back. So calls
may come from threads, greenlets and thread pools alike.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from pulse.clock import SECOND
from pulse.errors import StoreRefusedError, StoreUnavailableError
from pulse.store.naming import nothing_kept
from pulse.store.shared.backend import (
    WITHOUT_DATA,
    DuplicateKeyError,
    StorageReplacedError,
    Transaction,
)
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.corruption import (
    is_broken,
    lock_folder,
    make_file,
    primary_code,
    set_aside,
)
from pulse.store.sqlite.fork_safety import FORK_SAFETY
from pulse.store.sqlite.log import (
    MOST_PAUSES,
    NO_LOG,
    identity_at,
    is_settled,
    log_at,
    log_paths,
    now_of_files,
    pause,
    refuse_lost_log,
    save_log,
)
from pulse.store.sqlite.schema import (
    is_current,
    make_tables,
    prefix_of,
    read_version,
    refuse_other_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.clock import Clock, Span
    from pulse.store.sqlite.log import FolderStamp, Identity, LogFiles

T = TypeVar("T")

BUSY_WAIT: Span = SECOND * 15 // 100
"""How long SQLite waits for a lock; short, because the hub of all greenlets may wait with it."""

MOST_IDLE = 4
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSING = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PERM)
_REFUSING_OS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""The errors of a file that can be read and not written."""


class SqliteDatabase:
    """A file that is read and written in whole transactions.

    Args:
        path: the file.
        clock: the clock that decides what is due.
        space: `pulse.config.name`, which separates applications that share the file.
        patience_us: how long a call waits for the lock of the file, in all its attempts.

    """

    def __init__(
        self, path: Path, clock: Clock, *, space: str, patience_us: Span, creates: bool = True
    ) -> None:
        self.name: str = f"sqlite:///{path}"
        self.path: Path = path.absolute()  # the application may change its directory
        self._file = str(self.path)
        self._folder: str | None = None
        self._log_paths = log_paths(self._file)
        self._clock = clock
        self._space, self._prefix = space, prefix_of(space)
        self._creates = creates
        self._texts = SqliteTexts(self._prefix)
        self._max_attempts = max(1, patience_us // BUSY_WAIT)
        self._idle: deque[SqliteConnection] = deque()
        self._connections: set[SqliteConnection] = set()  # those in use too
        self._log_is_lost = False
        self._origin: Identity | None = None
        self._pid = 0
        self._known = False  # whether this process has used the file as a store

    def open(self) -> None:
        """Create the folder, the file and the tables if they do not exist."""
        FORK_SAFETY.watch()
        _DATABASES.add(self)
        if not self._log_is_lost or identity_at(self._file) != self._origin:
            self._open()
            return
        with lock_folder(self.path, fcntl.LOCK_EX):
            if self._save_log():
                self._open(makes_log=True)
                return
        self._open()

    def _open(self, *, makes_log: bool = False) -> None:
        self._log_is_lost, self._makes_log = False, makes_log
        self.close()
        self._known = False
        if not self._creates and not self.path.exists():
            raise nothing_kept(self.path, self._space)
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._origin = make_file(self.path)
        except OSError as error:
            kind = StoreRefusedError if error.errno in _REFUSING_OS else StoreUnavailableError
            raise kind(f"{self.path}: {error}") from error
        real = os.path.realpath(self.path)  # SQLite follows links, and has the log beside the file
        self._log_paths = log_paths(real)
        self._folder = os.path.dirname(real) if real == self._file else None  # noqa: PTH120 - a text
        FORK_SAFETY.release(self.path, self._origin)
        self._pid = os.getpid()
        read = partial(read_version, prefix=self._prefix)
        if not self._creates and self.run(Transaction.READ, read) is None:
            raise nothing_kept(self.path, self._space)
        if not self.run(Transaction.READ, partial(is_current, prefix=self._prefix)):
            self.run(Transaction.WRITE, partial(make_tables, prefix=self._prefix))
        version = self.run(Transaction.READ, read)
        refuse_other_version(self.path, version)
        self._makes_log = False
        self._known = True

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._pid = 0
        for connection in self._take_idle():
            self._close(connection)

    def rest(self) -> None:
        """Keep the connections: a file has no server that counts them."""

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process."""
        self._pid = 0
        FORK_SAFETY.inherit(self._idle, self._origin)
        self._idle.clear()
        self._connections.clear()

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
                return self._attempt(begin, work)
            except sqlite3.IntegrityError as error:
                raise DuplicateKeyError from error
            except sqlite3.Error as error:
                if not attempts_left or not _is_busy(error):
                    raise self._failed(error) from error

    def _attempt(self, begin: str, work: Callable[[SqliteConnection], T]) -> T:
        call = object()
        FORK_SAFETY.calls[call] = self._origin
        try:
            connection = self._take()
            try:
                connection.raw.execute(begin)
                self._refuse_replaced(connection)
                result = work(connection)
                _end(connection, "COMMIT")
            except BaseException as error:
                self._roll_back(connection, error)
                raise
            self._give_back(connection)
        finally:
            FORK_SAFETY.calls.pop(call, None)
        return result

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
            self._close(connection)

    def _failed(self, error: sqlite3.Error) -> StoreUnavailableError:
        """Return the error to raise for an error of SQLite; move a corrupt file aside."""
        text = f"{self.path}: {error}"
        if _is_busy(error) and self._origin and not log_at(self._log_paths).is_complete():
            text += (
                "; its write-ahead log (-wal, -shm) was deleted while other processes used it, and"
                " they have not noticed it yet"
            )
        if _lacks_tables(error):
            return StorageReplacedError(f"{self.path}: {WITHOUT_DATA}")
        if primary_code(error) in _REFUSING:
            return StoreRefusedError(text)
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
        if self._log_is_lost:
            raise self._lost_log()
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return self._connect()

    def _refuse_replaced(self, connection: SqliteConnection) -> None:
        # A connection to a deleted file or log works as before, while processes that start later
        # use new ones: each of both groups would run every tick.
        if connection.stamp is not None and self._folder_stamp() == connection.stamp:
            return
        # The clock and the folder are read before the checks: a change after them moves the stamp.
        read_at, stamp = now_of_files(), self._folder_stamp()
        self._refuse_replaced_file()
        if connection.log is not NO_LOG and log_at(self._log_paths) != connection.log:
            raise self._lost_log()
        is_trusted = stamp is not None and is_settled(stamp, read_at)
        connection.stamp = stamp if is_trusted else None

    def _folder_stamp(self) -> FolderStamp | None:
        """Return the stamp of the folder; None if it cannot be read, or holds only a link."""
        if self._folder is None:
            return None
        try:
            found = os.stat(self._folder)  # noqa: PTH116 - as in `identity_at`
        except OSError:
            return None  # the file is gone as well
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def _refuse_replaced_file(self) -> None:
        if identity_at(self._file) != self._origin:
            raise StorageReplacedError(
                f"{self.path}: the file was deleted or replaced while it was open"
            )

    def _lost_log(self) -> StorageReplacedError:
        self._log_is_lost = True
        return StorageReplacedError(
            f"{self.path}: its write-ahead log (-wal, -shm) was deleted or replaced while it was"
            " open"
        )

    def _save_log(self) -> bool:
        """Save the lost log, close the connections that use it; return whether to make a new log.

        Databases of other applications in this process may use it too; their next calls find it
        lost. The caller holds the lock of the folder.

        Raises:
            StoreUnavailableError: the log is in use; the connections are left as they are.

        """
        current = {NO_LOG, log_at(self._log_paths)}
        stale = {
            connection: database
            for database in (*_DATABASES,)
            if database._origin == self._origin  # noqa: SLF001 - the same class
            for connection in (*database._connections,)  # noqa: SLF001 - the same class
            if connection.log not in current
        }
        for database in stale.values():
            database._log_is_lost = True  # noqa: SLF001 - the same class
        taken = {
            connection: database
            for database in {*stale.values()}
            for connection in database._take_idle()  # noqa: SLF001 - the same class
        }
        saved: list[bool] = []
        is_idle = stale.keys() <= taken.keys()
        try:
            if is_idle:
                saved = [save_log(one.raw, self._log_paths, one.log) for one in stale]
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            for connection, database in taken.items():
                if saved:
                    database._close(connection)  # noqa: SLF001 - the same class
                else:
                    database._idle.append(connection)  # noqa: SLF001 - the same class
        if not is_idle:
            raise StoreUnavailableError(f"{self.path}: a call still uses the deleted log")
        return bool(saved) and all(saved)

    def _take_idle(self) -> list[SqliteConnection]:
        taken = []
        with contextlib.suppress(IndexError):
            while True:
                taken.append(self._idle.pop())
        return taken

    def _give_back(self, connection: SqliteConnection) -> None:
        is_current = self._pid and connection.origin == self._origin
        if is_current and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            self._close(connection)

    def _close(self, connection: SqliteConnection) -> None:
        self._connections.discard(connection)
        connection.raw.close()

    def _connect(self) -> SqliteConnection:
        self._refuse_replaced_file()
        origin = self._origin
        before = self._log_to_open()
        raw = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_WAIT / SECOND,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            log = self._log_of(raw, before)
            self._refuse_replaced_file()  # it may have been moved aside since the last check
        except BaseException:
            raw.close()
            raise
        connection = SqliteConnection(raw, self._texts, self._clock, origin=origin, log=log)
        self._connections.add(connection)
        return connection

    def _log_to_open(self) -> LogFiles:
        """Return the log that exists, or `NO_LOG` once this process may make one.

        Processes that open a file without a log together each check that no other has the file
        open. Each check holds a lock for an instant, so checks that meet fail; the pauses between
        them are random, so that they do not meet again.

        Raises:
            sqlite3.OperationalError: another process has the file open, and makes no log.

        """
        for is_last in (*[False] * MOST_PAUSES, True):
            log = log_at(self._log_paths)
            if log.is_complete():
                return log
            if any(other.log is not NO_LOG for other in (*self._connections,)):
                raise self._lost_log()
            if self._makes_log:
                break
            try:
                refuse_lost_log(self.path)
            except sqlite3.OperationalError as error:
                if is_last or not _is_busy(error):
                    raise
                pause()
            else:
                break
        return NO_LOG

    def _log_of(self, raw: sqlite3.Connection, before: LogFiles) -> LogFiles:
        """Prepare a connection, and return its log; *before* is the log that was to be opened."""
        if not _prepare(raw):
            return NO_LOG
        log = log_at(self._log_paths)
        if not log.is_complete() or before not in {log, NO_LOG}:
            raise self._lost_log()  # meanwhile
        return log


_DATABASES: WeakSet[SqliteDatabase] = WeakSet()
"""The databases of this process: its connections to one file share the index of the log."""


def _prepare(raw: sqlite3.Connection) -> bool:
    """Prepare a new connection; return whether the file has a write-ahead log."""
    mode = raw.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        # The switch to WAL does not wait for a lock, so wait for it first by starting a write.
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("ROLLBACK")
        # Has an effect on an empty file alone: pages that are freed can be given back later.
        raw.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        raw.execute("SELECT count(*) FROM sqlite_master")  # opens the log
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA journal_size_limit = 16777216")
    is_wal: bool = mode == "wal"
    return is_wal


def _end(connection: SqliteConnection, statement: str) -> None:
    # A SELECT that has rows left keeps its snapshot of the file beyond the transaction. The next
    # write on that connection would fail as busy, however often it is repeated.
    while connection.unfinished:
        connection.unfinished.pop().close()
    connection.raw.execute(statement)


def _is_busy(error: sqlite3.Error) -> bool:
    return primary_code(error) in _BUSY


def _lacks_tables(error: sqlite3.Error) -> bool:
    """Return whether the file has no tables: it was emptied, or replaced by another one."""
    return str(error).startswith("no such table")
