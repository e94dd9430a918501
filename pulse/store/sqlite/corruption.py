"""A corrupt file is moved aside, once, whichever of its processes finds it first.

The folder itself is the lock, so that nothing is left behind: who moves a file holds it alone, who
makes one holds it with others, and nobody waits for it. A file is moved before its log, so that a
connection which was made meanwhile finds out that its file is another one; a new file is made when
both are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from typing import TYPE_CHECKING

from pulse.clock import SECOND, rfc3339
from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.clock import Instant
    from pulse.store.sqlite.connection import Identity

_MAGIC = b"SQLite format 3\0"
_EMPTY = bytes(len(_MAGIC))
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOGS = ("-wal", "-shm")


def is_broken(error: sqlite3.Error) -> bool:
    """Return whether an error says that the file is corrupt."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _BROKEN


def make_file(path: Path) -> Identity:
    """Make the file where it is not there yet, readable by this user alone; return which it is.

    Raises:
        OSError: it cannot be made.
        StoreUnavailableError: one that was corrupt is just being moved.

    """
    with contextlib.suppress(FileNotFoundError):
        return _identity_of(path, os.O_RDWR)
    with _holding(path, fcntl.LOCK_SH):
        return _identity_of(path, os.O_RDWR | os.O_CREAT)


def _identity_of(path: Path, flags: int) -> Identity:
    found = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        return identity(os.fstat(found))
    finally:
        os.close(found)


def identity(found: os.stat_result) -> Identity:
    """Return what no two files share."""
    return found.st_dev, found.st_ino


def set_aside(path: Path, origin: Identity | None, *, known: bool, now: Instant) -> Path | None:
    """Move a file and its log aside if it is corrupt; return where it is then.

    None means that it was left: it is sound, it was never a store, or it is another file by now.

    Args:
        path: the file.
        origin: the identity of the one that seemed to be corrupt.
        known: whether it was a sound store before, as this process knows.
        now: the present, which becomes part of the name.

    Raises:
        StoreUnavailableError: another process is about it just now, or it cannot be moved.

    """
    aside = path.with_name(f"{path.name}.corrupt-{rfc3339(now - now % SECOND).replace(':', '')}")
    try:
        with _holding(path, fcntl.LOCK_EX):
            if identity(path.stat()) != origin or not (known or _was_store(path)):
                return None
            if _is_sound(path):
                return None
            path.rename(aside)
            for log in _LOGS:
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + log).rename(aside.with_name(aside.name + log))
    except OSError as error:
        raise StoreUnavailableError(f"{path}: it is corrupt, and stays: {error}") from error
    return aside


@contextlib.contextmanager
def _holding(path: Path, kind: int) -> Iterator[None]:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreUnavailableError(
                f"{path}: another process is moving or making it just now"
            ) from None
        yield
    finally:
        os.close(folder)


def _was_store(path: Path) -> bool:
    """Return whether a file begins as SQLite's do, or is blank where that should stand."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) in {_MAGIC, _EMPTY}


def _is_sound(path: Path) -> bool:
    uri = f"{path.as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as raw:
            return [*raw.execute("PRAGMA integrity_check(1)")] == [("ok",)]
    except sqlite3.Error as error:
        return not is_broken(error)
