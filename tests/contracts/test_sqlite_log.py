"""SQLite's write-ahead log under open stores: deleted, replaced, or removed by SQLite itself."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome
from pulse.core.task import build_definition
from pulse.errors import StoreUnavailableError
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.sqlite import database
from pulse.store.sqlite.log import log_at
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed
from tests.support.children import hear, say_go

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.store.sqlite.log import LogFiles
    from tests.support.children import RunChild

TASKS = {"work": build_definition("work", make_task())}
LOGS = [
    pytest.param(["-wal"], id="wal"),
    pytest.param(["-shm"], id="shm"),
    pytest.param(["-wal", "-shm"], id="both"),
]
USE = """
import sqlite3, sys
raw = sqlite3.connect(sys.argv[1], isolation_level=None)
raw.execute("SELECT count(*) FROM sqlite_master").fetchone()
print("open", flush=True)
sys.stdin.readline()
raw.close()
print("closed", flush=True)
"""
"""Opens the file as a tool does, and closes it after a go."""

JOIN = """
import sys
from pulse.clock import SECOND, SystemClock
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore

store = SqliteStore(sys.argv[1], SystemClock(), patience_us=SECOND // 5)
for line in sys.stdin:
    try:
        store.open(this_member("inline", "digest", 30 * SECOND))
    except StoreUnavailableError as error:
        print(error, flush=True)
    else:
        print(*(len(found) for found in (store.tasks(), store.runs())), flush=True)
"""
"""After each go it joins and prints how many tasks and runs it finds, or the error."""

RUN_FOR_LONG = """
import pathlib, sys
from pulse.clock import SECOND, SystemClock
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.task import build_definition
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store_harness import make_task

clock = SystemClock()
store = SqliteStore(sys.argv[1], clock)
store.open(this_member("inline", "digest", 30_000_000))
store.sync({f"t{n}": build_definition(f"t{n}", make_task(interval=1)) for n in range(20)})
print("ready", flush=True)
sys.stdin.readline()
claimed = 0
deletions = [["-wal"], ["-shm"], ["-wal", "-shm"]] * 9
end = clock.boot() + 3 * SECOND
while clock.boot() < end:
    try:
        claims = store.claim_due(5).claims
        for claim in claims:
            print(claim.run.id, flush=True)
            claimed += 1
            if claimed % 7 == 0:
                for suffix in deletions.pop():
                    pathlib.Path(sys.argv[1] + suffix).unlink(missing_ok=True)
        result = Result(Outcome.SUCCEEDED, clock.wall(), 5)
        store.finish([CompletedRun(claim, result) for claim in claims])
    except StoreUnavailableError as error:
        if "deleted or replaced" in str(error):
            print("noticed", flush=True)
"""
"""Claims ticks of twenty tasks for three seconds, and deletes the log after each seventh one.

It prints the ids of the ticks and each notice of a loss.
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file will be."""
    return tmp_path / "pulse.db"


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
    """Return an open store with one task, one tick of which has run."""
    made = open_store(path, clock)
    clock.forward(EVERY)
    made.finish([succeed(claim) for claim in made.claim_due(1).claims])
    yield made
    made.close()


def open_store(path: Path, clock: FakeClock, name: str = "") -> SqliteStore:
    """Return an open store that holds one task."""
    made = SqliteStore(path, clock, StoreOptions(name=name), patience_us=SECOND // 3)
    made.open(this_member("inline", "digest", 30 * SECOND))
    made.sync(TASKS)
    return made


def delete(path: Path, suffixes: list[str]) -> None:
    """Delete files beside the database."""
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("suffixes", LOGS)
def test_deleted_log_is_reported_once_and_loses_nothing(
    store: SqliteStore, path: Path, suffixes: list[str]
) -> None:
    """The first call raises the error; later calls find the tasks and the runs that were there."""
    delete(path, suffixes)
    with pytest.raises(StoreUnavailableError, match=r"\(-wal, -shm\) was deleted or replaced"):
        store.heartbeat()
    store.heartbeat()
    assert [(run.task, run.outcome) for run in store.runs()] == [("work", Outcome.SUCCEEDED)]


@pytest.mark.parametrize("suffixes", LOGS)
def test_decided_tick_is_not_repeated_after_the_log_was_deleted(
    store: SqliteStore, path: Path, clock: FakeClock, suffixes: list[str]
) -> None:
    """The cursor of the task is saved with the log."""
    delete(path, suffixes)
    with pytest.raises(StoreUnavailableError):
        store.claim_due(1)
    assert not store.claim_due(1).claims
    clock.forward(EVERY)
    assert len(store.claim_due(1).claims) == 1


def test_deletion_is_reported_to_the_loop_where_the_application_finds_it(
    store: SqliteStore, path: Path
) -> None:
    """The next heartbeat raises the error again, once."""
    delete(path, ["-wal"])
    with pytest.raises(StoreUnavailableError):
        store.tasks()
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


def test_log_deleted_long_after_the_last_call_is_noticed(store: SqliteStore, path: Path) -> None:
    """The folder has been unchanged for long, so that a call reads its time alone."""
    before = path.parent.stat().st_mtime_ns - 60 * 10**9
    os.utime(path.parent, ns=(before, before))
    store.heartbeat()
    store.heartbeat()
    delete(path, ["-shm"])
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.heartbeat()


def test_log_deleted_within_one_tick_of_the_clock_of_files_is_noticed(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the folder does not show the deletion, and the call that reads it then stalls."""
    now = SystemClock().wall()
    time_ns = (now - SECOND // 20) * 1_000
    os.utime(path.parent, ns=(time_ns, time_ns))
    clock_of_files = iter([now])
    monkeypatch.setattr(database, "now_of_files", lambda: next(clock_of_files, now + 4 * SECOND))

    def log_at_and_delete(paths: tuple[str, str]) -> LogFiles:
        monkeypatch.setattr(database, "log_at", log_at)
        found = log_at(paths)
        delete(path, ["-shm"])
        os.utime(path.parent, ns=(time_ns, time_ns))
        return found

    monkeypatch.setattr(database, "log_at", log_at_and_delete)
    store.tasks()
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.tasks()


def test_log_that_another_program_made_again_is_noticed(
    store: SqliteStore, path: Path, run_child: RunChild
) -> None:
    """Its index is not that of this process, which continues with the new one."""
    delete(path, ["-shm"])
    tool = run_child(USE, path)
    assert hear(tool) == "open"
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.heartbeat()
    assert [state.name for state in store.tasks()] == ["work"]
    say_go(tool)
    assert hear(tool) == "closed"
    store.heartbeat()


@pytest.mark.parametrize("suffixes", LOGS)
def test_process_does_not_join_until_the_others_have_saved_the_log(
    store: SqliteStore, path: Path, suffixes: list[str], run_child: RunChild
) -> None:
    """Its error states the reason; afterwards it finds the tasks and the runs."""
    delete(path, suffixes)
    other = run_child(JOIN, path)
    say_go(other)
    assert "was deleted while other processes used it" in hear(other)
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.heartbeat()
    say_go(other)
    assert hear(other) == "1 1"


def test_process_that_waits_to_make_the_log_keeps_no_other_process_from_making_it(
    store: SqliteStore, path: Path, run_child: RunChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All workers may open the file at once: those that wait must not lock each other out."""
    store.close()
    holder, other = run_child(USE, path), run_child(JOIN, path)
    assert hear(holder) == "open"
    delete(path, ["-wal", "-shm"])
    heard = []

    def pause() -> None:
        if not heard:
            say_go(holder)
            heard.append(hear(holder))
            say_go(other)
            heard.append(hear(other))

    monkeypatch.setattr(database, "pause", pause)
    store.open(this_member("inline", "digest", 30 * SECOND))
    assert heard == ["closed", "1 1"]
    assert [state.name for state in store.tasks()] == ["work"]


@pytest.mark.parametrize("suffixes", LOGS)
def test_stores_of_two_applications_in_one_process_continue_together(
    store: SqliteStore, path: Path, clock: FakeClock, suffixes: list[str]
) -> None:
    """Each of them reports the loss; both keep their data."""
    second = open_store(path, clock, name="second")
    delete(path, suffixes)
    for one in (store, second):
        with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
            one.heartbeat()
    for one in (store, second, store, second):
        one.heartbeat()
        assert [state.name for state in one.tasks()] == ["work"]
    assert len(store.runs()) == 1
    second.close()


def test_log_that_is_in_use_by_a_call_is_saved_after_the_call(
    store: SqliteStore, path: Path
) -> None:
    """A read of the deleted log delays the rescue."""
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
    store.trigger("work")  # so that the reader needs the log as it was
    delete(path, ["-wal", "-shm"])
    with pytest.raises(StoreUnavailableError, match=r"deleted or replaced.*cannot be saved"):
        store.heartbeat()
    reader.close()
    store.heartbeat()
    assert len(store.runs()) == 2


def test_close_of_other_processes_is_no_loss(
    store: SqliteStore, path: Path, run_child: RunChild
) -> None:
    """SQLite truncates the log, and keeps it while this process uses it."""
    tool = run_child(USE, path)
    assert hear(tool) == "open"
    say_go(tool)
    assert hear(tool) == "closed"
    checkpoint = sqlite3.connect(path, isolation_level=None)
    checkpoint.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpoint.close()
    store.heartbeat()
    assert len(store.runs()) == 1


def test_log_that_sqlite_removed_is_made_again_without_a_report(
    path: Path, clock: FakeClock
) -> None:
    """The last connection removes it, when the store is closed."""
    store = open_store(path, clock)
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["pulse.db"]
    store = open_store(path, clock)
    store.heartbeat()
    assert [state.name for state in store.tasks()] == ["work"]
    store.close()


def test_second_store_of_a_process_keeps_the_locks_of_the_first(
    store: SqliteStore, path: Path, clock: FakeClock, run_child: RunChild
) -> None:
    """Otherwise a tool that closes the file would remove the log that the first store uses."""
    open_store(path, clock, name="second").close()
    tool = run_child(USE, path)
    hear(tool)
    say_go(tool)
    assert hear(tool) == "closed"
    store.heartbeat()
    assert len(store.runs()) == 1


def test_rollback_journal_beside_the_file_is_no_loss(store: SqliteStore, path: Path) -> None:
    """A file in WAL mode has no journal: one that is created and deleted changes nothing."""
    journal = path.with_name("pulse.db-journal")
    journal.touch()
    store.heartbeat()
    journal.unlink()
    store.heartbeat()
    assert len(store.runs()) == 1


def test_log_of_a_linked_file_is_watched(tmp_path: Path, clock: FakeClock) -> None:
    """SQLite keeps the log beside the file, not beside the link."""
    (tmp_path / "data").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "data" / "pulse.db")
    (tmp_path / "data" / "pulse.db").touch(0o600)
    store = open_store(link, clock)
    store.heartbeat()
    delete(tmp_path / "data" / "pulse.db", ["-wal", "-shm"])
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        store.heartbeat()
    assert [state.name for state in store.tasks()] == ["work"]
    store.close()


def test_ticks_run_once_while_the_log_is_deleted_again_and_again(
    path: Path, run_child: RunChild
) -> None:
    """Four processes claim ticks all the time; each deletion is noticed, no tick is lost."""
    children = [run_child(RUN_FOR_LONG, path) for _ in range(4)]
    assert [hear(child) for child in children] == ["ready"] * 4
    for child in children:
        say_go(child)
    heard = [line for child in children for line in child.communicate(timeout=60)[0].split()]
    ids = [line for line in heard if line != "noticed"]
    assert "noticed" in heard
    assert len(ids) == len(set(ids))
    store = SqliteStore(path, SystemClock())
    store.open_as_client(this_member("inline", "digest", 30 * SECOND))
    assert {run.id for run in store.runs(limit=10_000)} >= set(ids)
    store.close()
