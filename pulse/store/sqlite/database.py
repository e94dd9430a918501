"""The SQLite file: how it is made, opened, shared by threads, and how long a call waits for it.

No lock of this process guards the connections: a call takes one that is free, or makes another,
and gives it back. So calls may come from threads, greenlets and thread pools alike.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import sqlite3
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.sql.database import DatabaseReplacedError, DueRows, DuplicateKeyError, Transaction
from pulse.store.sql.due_query import DUE
from pulse.store.sql.pending_runs import PENDING
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.corruption import identity, is_broken, make_file, set_aside
from pulse.store.sqlite.fork_safety import FORK_SAFETY
from pulse.store.sqlite.schema import (
    is_current,
    make_tables,
    prefix_of,
    read_version,
    refuse_other_version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pulse.clock import Clock, Span
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Connection, QueryResult
    from pulse.store.sqlite.connection import Identity

T = TypeVar("T")

BUSY_WAIT: Span = SECOND * 15 // 100
"""How long SQLite itself waits for a lock; short, because a greenlet's hub may wait with it."""

MOST_IDLE = 4
_BEGIN = {Transaction.READ: "BEGIN"}
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class SqliteDatabase:
    """A file that is read and written in whole transactions.

    Args:
        path: where it is.
        clock: tells what is due.
        space: `pulse.config.name`, which tells applications that share the file apart.
        patience_us: how long a call goes on trying while others hold the file locked.

    """

    def __init__(self, path: Path, clock: Clock, *, space: str, patience_us: Span) -> None:
        self.name: str = f"sqlite:///{path}"
        self.path: Path = path.absolute()  # the application may change its directory
        self._clock = clock
        self._prefix = prefix_of(space)
        self._texts = SqliteTexts(self._prefix)
        self._tries = max(1, patience_us // BUSY_WAIT)
        self._idle: deque[SqliteConnection] = deque()
        self._origin: Identity | None = None
        self._pid = 0
        self._known = False

    def open(self) -> None:
        """Make folder, file and tables where they are not there yet."""
        FORK_SAFETY.watch()
        self.close()
        self._known = False
        try:
            self._origin = self._make()
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from error
        FORK_SAFETY.release(self.path, self._origin)
        self._pid = os.getpid()
        version = self.call(
            Transaction.READ, lambda connection: read_version(connection, self._prefix)
        )
        if not is_current(version):
            self.call(Transaction.WRITE, lambda connection: make_tables(connection, self._prefix))
            version = self.call(
                Transaction.READ, lambda connection: read_version(connection, self._prefix)
            )
        refuse_other_version(self.path, version)
        self._known = True

    def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when given back."""
        self._pid = 0
        while self._idle:
            self._idle.pop().raw.close()

    def forked(self) -> None:
        """Leave the connections to the parent: this is a copy, in a forked child."""
        self._pid = 0
        FORK_SAFETY.inherit(self._idle, self._origin)
        self._idle.clear()

    def identity(self) -> str:
        """Return the real path of the file."""
        return os.path.realpath(self.path)

    def read_due(
        self,
        connection: Connection,
        caller: SqlCaller,
        limit: int,  # noqa: ARG002 - SQLite reads rows as they are asked for
        *,
        spread: int,  # noqa: ARG002 - a write keeps all others waiting, wherever they would begin
    ) -> DueRows:
        """Return what may be claimed; the rows are read as they are asked for."""
        due = [connection.execute(DUE, (partition,)) for partition in caller.partitions]
        pending = [connection.execute(PENDING, (partition,)) for partition in caller.partitions]
        return DueRows(connection.now(), _merged(due, (0, 1)), _merged(pending, (15, 18)))

    def call(self, how: Transaction, work: Callable[[SqliteConnection], T]) -> T:
        """Do *work* in one consistent view, or with the write lock; commit what it does."""
        begin = _BEGIN.get(how, "BEGIN IMMEDIATE")
        for tries_left in reversed(range(self._tries)):
            try:
                return self._try(begin, work)
            except sqlite3.IntegrityError as error:
                raise DuplicateKeyError from error
            except sqlite3.Error as error:
                if not tries_left or not _is_busy(error):
                    raise self._failed(error) from error
        raise AssertionError  # the last try returns or raises

    def _make(self) -> Identity:
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return make_file(self.path)

    def _failed(self, error: sqlite3.Error) -> StoreUnavailableError:
        """Return what to raise for an error of SQLite; a corrupt file is moved aside."""
        said = f"{self.path}: {error}"
        if _lacks_tables(error):
            return DatabaseReplacedError(said)
        if not is_broken(error):
            return StoreUnavailableError(said)
        aside = set_aside(self.path, self._origin, known=self._known, now=self._clock.wall())
        if aside is None:
            return StoreUnavailableError(f"{said}; it is left as it is")
        return DatabaseReplacedError(
            f"{said}: it is corrupt and was moved to {aside}; a new one takes its place, without"
            " the history and the tasks that were added at run time"
        )

    def _try(self, begin: str, work: Callable[[SqliteConnection], T]) -> T:
        call = FORK_SAFETY.begin(self._origin)
        try:
            return self._do(begin, work)
        finally:
            FORK_SAFETY.end(call)

    def _do(self, begin: str, work: Callable[[SqliteConnection], T]) -> T:
        connection = self._take()
        try:
            result = _transact(connection.raw, begin, lambda: work(connection))
        except sqlite3.Error as error:
            self._give_back(
                connection, sound=_is_busy(error) or isinstance(error, sqlite3.IntegrityError)
            )
            raise
        except BaseException:
            self._give_back(connection, sound=not connection.raw.in_transaction)
            raise
        self._give_back(connection, sound=True)
        return result

    def _take(self) -> SqliteConnection:
        if self._pid != os.getpid():
            raise StoreUnavailableError(f"{self.path}: the store is not open in this process")
        self._refuse_replaced()
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return self._connect()

    def _refuse_replaced(self) -> None:
        # A connection goes on with a deleted file, as if nothing had happened, while processes
        # that start later use another: each would run every tick.
        try:
            found = identity(self.path.stat())
        except OSError:
            found = None
        if found != self._origin:
            raise DatabaseReplacedError(
                f"{self.path}: it was deleted or replaced while it was open"
            )

    def _give_back(self, connection: SqliteConnection, *, sound: bool) -> None:
        mine = self._pid and connection.origin == self._origin
        if sound and mine and len(self._idle) < MOST_IDLE:
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
            self._refuse_replaced()  # it may have been moved aside meanwhile
        except BaseException:
            raw.close()
            raise
        return SqliteConnection(raw, self._texts, self._clock, origin=origin)


def _merged(found: Sequence[QueryResult], columns: tuple[int, int]) -> Iterable[tuple[Any, ...]]:
    """Return the rows of several sorted answers as one sorted answer."""
    return found[0] if len(found) == 1 else heapq.merge(*found, key=itemgetter(*columns))


@contextlib.contextmanager
def peek(path: Path, *, prefix: str) -> Iterator[SqliteConnection]:
    """Give a connection that reads a file that is there; it makes and writes nothing.

    Raises:
        StoreUnavailableError: the file is not there, or cannot be read.

    """
    # Where no process has it open there is no write-ahead log, and SQLite would make one.
    alone = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as raw:
            yield SqliteConnection(raw, SqliteTexts(prefix), SystemClock(), origin=None)
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path}: {error}") from error


def _prepare(raw: sqlite3.Connection) -> None:
    if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # The switch to WAL does not wait for locks itself; beginning to write does.
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("ROLLBACK")
        raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("PRAGMA journal_size_limit = 16777216")


def _transact(raw: sqlite3.Connection, begin: str, work: Callable[[], T]) -> T:
    raw.execute(begin)
    try:
        result = work()
        raw.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            raw.execute("ROLLBACK")
        raise
    return result


def _is_busy(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BUSY


def _lacks_tables(error: sqlite3.Error) -> bool:
    """Return whether the file is bare: somebody has emptied it, or put another one in its place."""
    return str(error).startswith("no such table")
