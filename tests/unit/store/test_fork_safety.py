"""What SQLite must not carry over a fork: connections and unfinished calls."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.sqlite import fork_safety
from pulse.store.sqlite.connection import SqliteConnection, SqliteTexts
from pulse.store.sqlite.fork_safety import LONGEST_WAIT, ForkSafety
from pulse.store.sqlite.store import SqliteStore

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


def link(origin: tuple[int, int] = FILE) -> SqliteConnection:
    """Return a connection that is registered for that file."""
    raw = sqlite3.connect(":memory:")
    return SqliteConnection(raw, SqliteTexts(""), SystemClock(), origin=origin)


def is_closed(one: SqliteConnection) -> bool:
    """Return whether a connection has been closed."""
    try:
        one.raw.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


def locks_of(pid: int, path: Path) -> int:
    """Return how many locks of that file a process holds, according to the kernel."""
    inode = str(path.stat().st_ino)
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(lock[4] == str(pid) and lock[5].rpartition(":")[2] == inode for lock in locks)


def test_inherited_connection_stays_open_until_its_file_is_opened() -> None:
    """SQLite forbids closing it before the child has a connection of its own."""
    safety, inherited, other = ForkSafety(), link(), link(OTHER)
    safety.inherit([inherited], FILE)
    safety.inherit([other], OTHER)
    before = is_closed(inherited)
    safety.release(Path("pulse.db"), FILE)
    assert (before, is_closed(inherited), is_closed(other)) == (False, True, False)


def test_inherited_connection_is_never_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter would close it, at the end of the child at the latest."""
    kept: list[sqlite3.Connection] = []
    monkeypatch.setattr(fork_safety, "never_free", kept.append)
    inherited = link()
    ForkSafety().inherit([inherited], FILE)
    assert kept == [inherited.raw]


def test_file_that_was_in_use_during_the_fork_is_refused_in_the_child() -> None:
    """The error states the reason, and what to do."""
    safety = ForkSafety()
    safety.begin(FILE)
    safety.inherit([], FILE)
    safety.release(Path("other.db"), OTHER)
    with pytest.raises(
        StoreUnavailableError, match=r"pulse\.db: .* forked in the middle .*restart"
    ):
        safety.release(Path("pulse.db"), FILE)


def test_call_that_ended_before_the_fork_has_no_effect() -> None:
    """The child may use the file."""
    safety = ForkSafety()
    safety.end(safety.begin(FILE))
    safety.inherit([], FILE)
    safety.release(Path("pulse.db"), FILE)


def test_fork_waits_for_an_unfinished_call() -> None:
    """It continues when the call has ended."""
    safety = ForkSafety()
    call = safety.begin(FILE)
    completed_run = threading.Timer(0.02, safety.end, [call])
    completed_run.start()
    safety.await_calls()
    ended = not safety._calls
    completed_run.join()
    assert ended


def test_fork_waits_only_briefly_for_a_long_call() -> None:
    """A call that waits for a lock does not keep the process from forking."""
    safety, clock = ForkSafety(), SystemClock()
    safety.begin(FILE)
    before = clock.boot()
    safety.await_calls()
    assert LONGEST_WAIT <= clock.boot() - before < LONGEST_WAIT + SECOND


def test_fork_of_a_fork_does_not_wait_for_calls_of_its_ancestors() -> None:
    """These calls never end in the child."""
    safety, clock = ForkSafety(), SystemClock()
    safety.begin(FILE)
    safety.inherit([], FILE)
    before = clock.boot()
    safety.await_calls()
    assert clock.boot() - before < LONGEST_WAIT


def test_child_that_opens_the_file_of_its_parent_has_its_own_locks(tmp_path: Path) -> None:
    """Otherwise SQLite would mistake the parent's locks for the child's, and lose its writes."""
    path = tmp_path / "pulse.db"
    store = SqliteStore(path, SystemClock(), opened={})
    store.open(this_member("inline", "parent", 30 * SECOND))
    child = os.fork()
    if not child:
        store.forked()
        own = SqliteStore(path, SystemClock(), opened={})
        own.open(this_member("inline", "child", 30 * SECOND))
        os._exit(0 if locks_of(os.getpid(), path) else 1)
    _, status = os.waitpid(child, 0)
    assert (status, locks_of(os.getpid(), path) > 0) == (0, True)
    store.close()


def test_child_that_ends_closes_no_connection_of_its_parent(tmp_path: Path) -> None:
    """This holds in development mode too, which would report it."""
    command = [sys.executable, "-X", "dev", "-c", EXIT_IN_CHILD, str(tmp_path / "pulse.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1", "")
