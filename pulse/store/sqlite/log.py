"""Detects that the write-ahead log was deleted under open connections, and saves what it held.

Theory of operation
-------------------
The log consists of two files, `-wal` (the changes) and `-shm` (their index). While a connection is
open, SQLite keeps a shared lock of the database file, and removes the log only with the exclusive
lock: so a log that is deleted or replaced under an open connection was not deleted by SQLite. A
connection continues in its deleted log, and connections that other processes open later use another
log: neither half of the processes would see what the other half writes.

1. Each transaction compares the log at the path with the log of its connection, after it has begun:
   a write then holds the write lock of its log, and nothing is committed to a log that is lost. It
   reads one time, that of the folder, unless that has changed.
2. A process that finds no log at the path, while other processes have the database open, does not
   make a log: their log was deleted, and they have not noticed it yet.
3. The first process that notices the loss copies what the log holds to the database file
   (`save_log`), unless another log exists already. It waits for the writes that hold the lock of
   the lost log. It closes all its connections, because those of one process share the index, and
   makes a new log. The others notice the loss, find the new log and use it.

Steps 2 and 3 hold a lock of the folder or the exclusive lock of the file, so one process makes the
new log. See https://sqlite.org/wal.html and https://sqlite.org/howtocorrupt.html.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

from pulse.clock import SECOND, Span, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.patching import native

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.clock import Instant

    Identity = tuple[int, int]
    FolderStamp = tuple[int, int, int]

LOG_SUFFIXES = ("-wal", "-shm")
_SETTLED_AFTER: Span = 3 * SECOND
"""The age from which the time of a folder is trusted; some file systems keep whole seconds, and the
clock of a virtual machine that was paused is late."""

MOST_PAUSES = 25
"""How often a process that may not make a log waits before it gives up: 0.14 s on average."""

_CLOCK = SystemClock()


class LogFiles(NamedTuple):
    """The identities of both files of a log; None for one that does not exist."""

    wal: Identity | None
    shm: Identity | None

    def is_complete(self) -> bool:
        """Return whether both files exist."""
        return self.wal is not None and self.shm is not None

    def is_made_anew(self, now: LogFiles) -> bool:
        """Return whether one of the files was replaced by the one that exists *now*."""
        return now.wal not in {None, self.wal} or now.shm not in {None, self.shm}


NO_LOG = LogFiles(None, None)
"""The log of a file that is not in the WAL mode, as on a file system without shared memory."""


def log_paths(path: str) -> tuple[str, str]:
    """Return the paths of both files of the log."""
    wal, shm = (path + suffix for suffix in LOG_SUFFIXES)
    return wal, shm


def identity_at(path: str) -> Identity | None:
    """Return device and inode of the file at *path*; None where none can be found."""
    try:
        found = os.stat(path)  # noqa: PTH116 - each transaction calls it; Path.stat takes twice as long
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_at(paths: tuple[str, str]) -> LogFiles:
    """Return the identities of the files that are at the paths now."""
    return LogFiles(identity_at(paths[0]), identity_at(paths[1]))


def now_of_files() -> Instant:
    """Return the wall clock, from which file systems take the times of folders."""
    return _CLOCK.wall()


def is_settled(stamp: FolderStamp, read_at: Instant) -> bool:
    """Return whether a change of the folder after *read_at* changes its stamp.

    The stamp, which was read after *read_at*, holds device, inode and time.

    The times of files are coarse, so that two changes in quick succession may leave one time: see
    "racy Git", https://git-scm.com/docs/racy-git.
    """
    return read_at - stamp[2] // 1_000 >= _SETTLED_AFTER


def pause() -> None:
    """Wait for a random time of 1 to 10 ms.

    No other greenlet runs meanwhile: a fork waits for the calls that are running. An application
    may give all its processes one seed, which the generator of the system does not have.
    """
    sleep = cast("Callable[[float], None]", native("time", "sleep"))
    sleep(0.001 + 0.009 * int.from_bytes(os.urandom(2)) / 2**16)


def refuse_lost_log(path: Path) -> None:
    """Raise an error unless this process may make a log where none exists.

    It may not while another connection is open: the log of that connection was deleted. The check
    does not wait: a connection in the exclusive mode keeps its shared lock while it waits, so that
    two processes that wait for each other never get the exclusive lock.

    Raises:
        sqlite3.OperationalError: the file is open elsewhere (SQLITE_BUSY), or cannot be read.

    """
    raw = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None)
    # SQLite opens the log of a connection in this mode only once it has the exclusive lock.
    with contextlib.closing(raw):
        raw.execute("PRAGMA locking_mode = EXCLUSIVE")
        raw.execute("SELECT count(*) FROM sqlite_master")


def save_log(raw: sqlite3.Connection, paths: tuple[str, str], known: LogFiles) -> bool:
    """Copy what a lost log holds to the database file; return whether the caller makes a new log.

    It does not if another process has made one. The caller holds the lock of the folder, and closes
    *raw* afterwards.

    Args:
        raw: a connection that uses the lost log.
        paths: where the files of the log were.
        known: what was there when *raw* was opened.

    Raises:
        StoreUnavailableError: another process still reads or writes the lost log.

    """
    if known.is_made_anew(log_at(paths)):
        # Closing the last connection would copy the old log over what was written since.
        if sys.version_info >= (3, 12):
            raw.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, True)  # noqa: FBT003 - its signature
        return False
    is_busy, *_ = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if is_busy:
        raise StoreUnavailableError(
            f"{paths[0]}: the write-ahead log was deleted, and cannot be saved while another"
            " connection uses it"
        )
    # Where one of the files was left, other processes have it open: a new log must not share it.
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - the paths are texts
    return True
