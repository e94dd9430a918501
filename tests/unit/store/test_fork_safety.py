"""SQLite across forks: inherited connections, and calls that are running."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.sqlite import fork_safety
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.fork_safety import LONGEST_WAIT, ForkSafety
from pulse.store.sqlite.store import SqliteStore
from tests.support.forks import in_child, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE = (1, 2)
OTHER = (1, 3)
EXIT_IN_CHILD = """
import os, sys
from pulse.clock import SystemClock
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore

store = SqliteStore(sys.argv[1], SystemClock())
store.open(this_member("inline", "digest", 30_000_000))
child = os.fork()
if child:
    os.wait()
    os.write(1, str(len(store.members())).encode())
    os._exit(0)
store.forked()
del store
"""


@pytest.fixture
def link() -> Iterator[Callable[[tuple[int, int]], SqliteConnection]]:
    """Return a function that makes connections which are said to lead to a file."""
    made: list[sqlite3.Connection] = []

    def connect(origin: tuple[int, int]) -> SqliteConnection:
        made.append(sqlite3.connect(":memory:"))
        return SqliteConnection(made[-1], SqliteTexts(""), SystemClock(), origin=origin)

    yield connect
    for raw in made:
        raw.close()


def is_closed(one: SqliteConnection) -> bool:
    """Return whether a connection has been closed."""
    try:
        one.raw.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


def locks_of(pid: int, path: Path) -> int:
    """Return how many locks of that file the kernel says a process holds."""
    inode = str(path.stat().st_ino)
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(lock[4] == str(pid) and lock[5].rpartition(":")[2] == inode for lock in locks)


def test_inherited_connection_stays_open_until_its_file_is_opened(
    link: Callable[[tuple[int, int]], SqliteConnection],
) -> None:
    """SQLite forbids to close it before; afterwards it has to be closed."""
    safety, inherited, other = ForkSafety(), link(FILE), link(OTHER)
    safety.inherit([inherited], FILE)
    safety.inherit([other], OTHER)
    before = is_closed(inherited)
    safety.release(Path("pulse.db"), FILE)
    assert (before, is_closed(inherited), is_closed(other)) == (False, True, False)


def test_inherited_connection_is_never_freed(
    link: Callable[[tuple[int, int]], SqliteConnection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter would close a connection that it frees."""
    kept: list[sqlite3.Connection] = []
    monkeypatch.setattr(fork_safety, "never_free", kept.append)
    inherited = link(FILE)
    ForkSafety().inherit([inherited], FILE)
    assert kept == [inherited.raw]


def test_file_is_unusable_after_a_fork_during_a_call() -> None:
    """The error gives the reason, and what to do."""
    safety = ForkSafety()
    safety.calls["call"] = FILE
    safety.inherit([], FILE)
    safety.release(Path("other.db"), OTHER)
    with pytest.raises(
        StoreUnavailableError, match=r"pulse\.db: .* forked in the middle .*restart"
    ):
        safety.release(Path("pulse.db"), FILE)


def test_file_is_usable_after_a_fork_without_calls() -> None:
    """A call that has ended before the fork does not count."""
    safety, call = ForkSafety(), object()
    safety.calls[call] = FILE
    del safety.calls[call]
    safety.inherit([], FILE)
    safety.release(Path("pulse.db"), FILE)


def test_fork_waits_for_a_running_call() -> None:
    """It continues when the call has ended."""
    safety = ForkSafety()
    safety.calls["call"] = FILE
    completed_run = threading.Timer(0.02, safety.calls.clear)
    completed_run.start()
    safety.await_calls()
    ended = not safety.calls
    completed_run.join()
    assert ended


def test_fork_waits_no_longer_than_the_limit() -> None:
    """A call that waits for the lock of the file does not keep the process from forking."""
    safety, clock = ForkSafety(), SystemClock()
    safety.calls["call"] = FILE
    before = clock.boot()
    safety.await_calls()
    assert LONGEST_WAIT <= clock.boot() - before < LONGEST_WAIT + SECOND


def test_fork_in_a_child_ignores_calls_of_the_parent() -> None:
    """These calls never end in the child."""
    safety, clock = ForkSafety(), SystemClock()
    safety.calls["call"] = FILE
    safety.inherit([], FILE)
    before = clock.boot()
    safety.await_calls()
    assert clock.boot() - before < LONGEST_WAIT


def test_child_that_opens_the_file_of_its_parent_locks_it(tmp_path: Path) -> None:
    """SQLite would otherwise rely on the parent's locks, and writes of the child could be lost."""
    path = tmp_path / "pulse.db"
    store = SqliteStore(path, SystemClock(), opened={})
    store.open(this_member("inline", "parent", 30 * SECOND))

    def lock() -> bool:
        store.forked()
        own = SqliteStore(path, SystemClock(), opened={})
        own.open(this_member("inline", "child", 30 * SECOND))
        return locks_of(os.getpid(), path) > 0

    status = status_of(in_child(lock))
    assert (status, locks_of(os.getpid(), path) > 0) == (0, True)
    store.close()


def test_child_that_ends_closes_no_connection_of_its_parent(tmp_path: Path) -> None:
    """In development mode the interpreter would warn of it."""
    command = [sys.executable, "-X", "dev", "-c", EXIT_IN_CHILD, str(tmp_path / "pulse.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1", "")
