"""Creates the database file, and moves a corrupt file aside, once for all processes.

The lock is an `flock` of the folder, which leaves no lock file behind. A process that moves a file
holds the lock exclusively; a process that creates a file holds it shared. No process waits for it.
The database file is moved before its write-ahead log: a connection that is opened between the two
moves finds that its file was replaced. A new file is created when both are gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import itertools
import os
import sqlite3
from typing import TYPE_CHECKING

from pulse.clock import SECOND, rfc3339
from pulse.errors import StoreUnavailableError
from pulse.store.sqlite.log import LOG_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.clock import Instant
    from pulse.store.sqlite.log import Identity

_MAGIC = b"SQLite format 3\0"
_EMPTY = bytes(len(_MAGIC))
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def primary_code(error: sqlite3.Error) -> int | None:
    """Return the primary result code of SQLite; None for an error of the module itself."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is corrupt."""
    return primary_code(error) in _BROKEN


def make_file(path: Path) -> Identity:
    """Create the file if there is none, readable by this user only; return its identity.

    Raises:
        OSError: the file cannot be created.
        StoreUnavailableError: another process is moving a corrupt file aside.

    """
    with contextlib.suppress(FileNotFoundError):
        return _identity_of(path)
    with lock_folder(path, fcntl.LOCK_SH):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return _identity_of(path)


def _identity_of(path: Path) -> Identity:
    # The file is not opened: closing it would release the locks that SQLite has of it for other
    # connections of this process.
    found = path.stat()
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return identity(found)


def identity(found: os.stat_result) -> Identity:
    """Return device and inode of a file, which no two existing files share."""
    return found.st_dev, found.st_ino


def set_aside(path: Path, origin: Identity | None, *, known: bool, now: Instant) -> Path | None:
    """Move a file and its log aside if the file is corrupt; return the new path.

    None means that the file was not moved: it is intact, it was never a store, or it was replaced.

    Args:
        path: the file.
        origin: the identity of the file that seemed to be corrupt.
        known: whether this process has used the file as a store before.
        now: the present, which becomes part of the new name.

    Raises:
        StoreUnavailableError: another process is creating or moving it, or it cannot be moved.

    """
    try:
        with lock_folder(path, fcntl.LOCK_EX):
            if identity(path.stat()) != origin or not (known or _was_store(path)):
                return None
            if _is_intact(path):
                return None
            aside = _unused_name(path, now)
            path.rename(aside)
            for log in LOG_SUFFIXES:
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + log).rename(aside.with_name(aside.name + log))
    except OSError as error:
        raise StoreUnavailableError(
            f"{path}: the file is corrupt, and could not be moved: {error}"
        ) from error
    return aside


def _unused_name(path: Path, now: Instant) -> Path:
    """Return the path for a corrupt file, by the second in which it is moved.

    A file that was moved in the same second keeps its name; the later ones are numbered.
    """
    name = f"{path.name}.corrupt-{rfc3339(now - now % SECOND).replace(':', '')}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    taken = {each.name for each in path.parent.glob(f"{glob.escape(name)}*")}
    free = (
        each for each in names if not any(each + suffix in taken for suffix in ("", *LOG_SUFFIXES))
    )
    return path.with_name(next(free))


@contextlib.contextmanager
def lock_folder(path: Path, kind: int) -> Iterator[None]:
    """Hold the lock of the folder of a file, of a *kind* of `fcntl`, without waiting for it.

    Raises:
        StoreUnavailableError: another process has the lock.

    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailableError(
                f"{path}: another process is moving or creating the file"
            ) from None
        yield
    finally:
        os.close(folder)


def _was_store(path: Path) -> bool:
    """Return whether a file starts with SQLite's magic bytes, or with zeros in their place."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in {_MAGIC, _EMPTY}


def _is_intact(path: Path) -> bool:
    uri = f"{path.as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as raw:
            return [*raw.execute("PRAGMA integrity_check(1)")] == [("ok",)]
    except sqlite3.Error as error:
        return not is_broken(error)
