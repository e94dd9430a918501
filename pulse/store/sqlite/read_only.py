"""Opens an existing SQLite file to read it once, without a trace in its folder.

A connection with `mode=ro` still makes a write-ahead log for a file of that mode, and leaves it: it
may remove no file. Where other processes have lost their log, they would take the new one for a log
of theirs. With `immutable=1` SQLite makes none, and ignores one that exists. See
https://sqlite.org/wal.html#read_only_databases.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from pulse.clock import SECOND

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Span


def connect_read_only(path: Path, *, timeout_us: Span) -> sqlite3.Connection:
    """Return a connection for a short read of a file, to which nothing is written.

    No log is created. A file without a log is read as it is in the folder: either no process has it
    open, or the log was deleted, and what it held is left out.

    Args:
        path: the file.
        timeout_us: how long a read waits for the lock of another process, in microseconds.

    Raises:
        sqlite3.Error: the file does not exist, or cannot be opened; later, it cannot be read.

    """
    unused = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if unused else ''}"
    return sqlite3.connect(uri, uri=True, timeout=timeout_us / SECOND)
