"""The SQLite file: how it is made, opened, shared by threads, and how long a call waits for it.

No lock of this process guards the connections: a call takes one that is free, or makes another,
and gives it back. So calls may come from threads, greenlets and thread pools alike.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pulse.clock import Span

    Cell = str | int | bytes | float | None
    Identity = tuple[int, int]

T = TypeVar("T")

BUSY_WAIT: Span = SECOND * 15 // 100
"""How long SQLite itself waits for a lock; short, because a greenlet's hub may wait with it."""

MOST_IDLE = 4
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class _Texts(dict[str, str]):
    """SQL with the tables' real names; `@runs` is the table of runs of this application."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def __missing__(self, text: str) -> str:
        self[text] = real = text.replace("@", self._prefix)
        return real


class FileReplacedError(StoreUnavailableError):
    """The file was deleted or replaced while it was open; `open` goes on with what is there."""


class Link:
    """One connection that speaks of one application's tables, and the file it leads to."""

    __slots__ = ("_texts", "origin", "raw")

    def __init__(self, raw: sqlite3.Connection, texts: _Texts, origin: Identity | None) -> None:
        self.raw: sqlite3.Connection = raw
        self.origin: Identity | None = origin
        self._texts = texts

    def run(self, text: str, values: Sequence[Cell] = ()) -> sqlite3.Cursor:
        """Execute one statement."""
        return self.raw.execute(self._texts[text], values)

    def run_many(self, text: str, rows: Iterable[Sequence[Cell]]) -> int:
        """Execute one statement for each of *rows*; return how many rows it changed."""
        return self.raw.executemany(self._texts[text], rows).rowcount


class SqliteFile:
    """A file that is read and written in whole transactions.

    Args:
        path: where it is.
        prefix: what the names of this application's tables begin with.
        patience_us: how long a call goes on trying while others hold the file locked.

    """

    def __init__(self, path: Path, *, prefix: str, patience_us: Span) -> None:
        self.path: Path = path.absolute()  # the application may change its directory
        self._texts = _Texts(prefix)
        self._tries = max(1, patience_us // BUSY_WAIT)
        self._idle: deque[Link] = deque()
        self._origin: Identity | None = None
        self._pid = 0

    def open(self) -> None:
        """Make folder and file where they are not there yet, and try a first connection."""
        self.close()
        try:
            self._origin = self._make()
        except OSError as error:
            raise StoreUnavailableError(f"{self.path}: {error}") from error
        self._pid = os.getpid()
        self.read(lambda link: link.run("SELECT count(*) FROM sqlite_master").fetchone())

    def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when given back."""
        self._pid = 0
        while self._idle:
            self._idle.pop().raw.close()

    def read(self, work: Callable[[Link], T]) -> T:
        """Return what *work* finds in one consistent view."""
        return self._call("BEGIN", work)

    def write(self, work: Callable[[Link], T]) -> T:
        """Do *work* with the write lock, and commit; an exception leaves everything as it was."""
        return self._call("BEGIN IMMEDIATE", work)

    def _make(self) -> Identity:
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            return _identity(os.fstat(made))
        finally:
            os.close(made)

    def _call(self, begin: str, work: Callable[[Link], T]) -> T:
        for tries_left in reversed(range(self._tries)):
            try:
                return self._try(begin, work)
            except sqlite3.IntegrityError:
                raise
            except sqlite3.Error as error:
                if not tries_left or not _is_busy(error):
                    raise StoreUnavailableError(f"{self.path}: {error}") from error
        raise AssertionError  # the last try returns or raises

    def _try(self, begin: str, work: Callable[[Link], T]) -> T:
        link = self._take()
        try:
            result = _transact(link.raw, begin, lambda: work(link))
        except sqlite3.Error as error:
            self._give_back(
                link, sound=_is_busy(error) or isinstance(error, sqlite3.IntegrityError)
            )
            raise
        except BaseException:
            self._give_back(link, sound=not link.raw.in_transaction)
            raise
        self._give_back(link, sound=True)
        return result

    def _take(self) -> Link:
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
            found = _identity(self.path.stat())
        except OSError:
            found = None
        if found != self._origin:
            raise FileReplacedError(f"{self.path}: it was deleted or replaced while it was open")

    def _give_back(self, link: Link, *, sound: bool) -> None:
        mine = self._pid and link.origin == self._origin
        if sound and mine and len(self._idle) < MOST_IDLE:
            self._idle.append(link)
        else:
            link.raw.close()

    def _connect(self) -> Link:
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
        except BaseException:
            raw.close()
            raise
        return Link(raw, self._texts, origin)


@contextlib.contextmanager
def peek(path: Path, *, prefix: str) -> Iterator[Link]:
    """Give a connection that reads a file that is there; it makes and writes nothing.

    Raises:
        StoreUnavailableError: the file is not there, or cannot be read.

    """
    # Where no process has it open there is no write-ahead log, and SQLite would make one.
    alone = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=1)) as raw:
            yield Link(raw, _Texts(prefix), None)
    except sqlite3.Error as error:
        raise StoreUnavailableError(f"{path}: {error}") from error


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


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
