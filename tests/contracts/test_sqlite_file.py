"""The SQLite file: modes, versions, locks, other processes and their end."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.policies import Scope
from pulse.core.run import RECORDED, Outcome
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import build_definition
from pulse.errors import StoreInUseError, StoreSchemaError, StoreUnavailableError
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.sqlite.schema import VERSION
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, fail, make_task, succeed
from tests.support.children import HOLD_ONE, RACE, hear, say_go
from tests.support.forks import in_child, status_of
from tests.support.setups import error_of, require

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.children import RunChild

TASKS = {"work": build_definition("work", make_task())}
OPEN = """
import sys
from pulse.clock import SystemClock
from pulse.core.task import build_definition
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store_harness import make_task

store = SqliteStore(sys.argv[1], SystemClock())
sys.stdin.readline()
store.open(this_member("inline", "digest", 30_000_000))
"""

TAKE_PART = """
import sys
from pulse.clock import SECOND
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from pulse.core.task import build_definition
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task

def join():
    try:
        store.open(this_member("inline", "digest", 30 * SECOND))
    except StoreUnavailableError:
        return False
    store.sync({"work": build_definition("work", make_task())})
    return True

clock = FakeClock()
store = SqliteStore(sys.argv[1], clock)
joined = join()
print("ready", flush=True)
sys.stdin.readline()
joined = joined or join()
clock.forward(EVERY)
print(len(store.claim_due(1).claims) if joined else "away", flush=True)
"""
"""Declares the task of the test; after a go it prints how many ticks it claims, or `away`."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file will be, in a folder that is not there yet."""
    return tmp_path / "state" / "pulse.db"


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def store(path: Path, clock: FakeClock) -> Iterator[SqliteStore]:
    """Return an open store that holds one task."""
    made = SqliteStore(path, clock, patience_us=SECOND // 3)
    made.open(this_member("inline", "digest", 30 * SECOND))
    made.sync(TASKS)
    yield made
    made.close()


def test_sqlite_store_runs_ticks_once_per_host() -> None:
    """The store declares that processes of other hosts run the tick as well."""
    assert SqliteStore.reach is Scope.HOST


def test_new_store_creates_no_file(path: Path, clock: FakeClock) -> None:
    """Neither file nor folder is created before `open`."""
    SqliteStore(path, clock)
    assert not path.parent.exists()


@pytest.mark.usefixtures("store")
def test_files_are_readable_by_this_user_only(path: Path) -> None:
    """This holds for the folder and the write-ahead log as well."""
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {"pulse.db": 0o600, "pulse.db-wal": 0o600, "pulse.db-shm": 0o600}


@pytest.mark.usefixtures("store")
def test_second_store_of_one_file_and_name_is_refused(path: Path, clock: FakeClock) -> None:
    """The error asks for another name, also if the path is a link."""
    link = path.parent / "link.db"
    link.symlink_to(path)
    second = SqliteStore(link, clock)
    with pytest.raises(StoreInUseError, match=r"already without a name; .* pulse\.config\.name"):
        second.open(this_member("inline", "digest", 30 * SECOND))


def test_error_of_a_second_store_states_the_name(path: Path, clock: FakeClock) -> None:
    """It distinguishes two copied sections."""
    first, second = (SqliteStore(path, clock, StoreOptions(name="shop")) for _ in range(2))
    member = this_member("inline", "digest", 30 * SECOND)
    first.open(member)
    with pytest.raises(StoreInUseError, match=r"already under the name 'shop';"):
        second.open(member)
    first.close()


@pytest.mark.usefixtures("store")
def test_second_store_of_one_file_with_another_name_is_opened(path: Path, clock: FakeClock) -> None:
    """Two applications may share a file in one process."""
    second = SqliteStore(path, clock, StoreOptions(name="blog"))
    second.open(this_member("inline", "digest", 30 * SECOND))
    assert second.tasks() == []
    second.close()


def test_file_of_a_closed_store_can_be_opened_again(
    store: SqliteStore, path: Path, clock: FakeClock
) -> None:
    """The name is free after `close`."""
    store.close()
    second = SqliteStore(path, clock)
    second.open(this_member("inline", "digest", 30 * SECOND))
    assert [row.name for row in second.tasks()] == ["work"]
    second.close()


@pytest.mark.parametrize(("version", "age"), [(0, "older release"), (99, "newer release")])
def test_other_layout_is_refused(store: SqliteStore, path: Path, version: int, age: str) -> None:
    """The error says which release has written it and what to do; no connection stays open."""
    store.close()
    change(path, "UPDATE pulse_schema SET version = ?", version)
    with pytest.raises(StoreSchemaError, match=age):
        store.open(this_member("inline", "digest", 30 * SECOND))
    change(path, "UPDATE pulse_schema SET version = ?", VERSION)
    store.open(this_member("inline", "digest", 30 * SECOND))


def test_older_layout_is_migrated(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """Its rows stay, and run-time tasks can be added."""
    store.close()
    for text in ("DROP INDEX @declared", "DROP INDEX @own", "ALTER TABLE @tasks DROP COLUMN words"):
        change(path, text)
    change(path, "UPDATE pulse_schema SET version = 1")
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync(TASKS)
    store.add(make_runtime_task("added", make_task(), TaskDefaults()))
    clock.forward(EVERY)
    assert sorted(claim.run.task for claim in store.claim_due(9).claims) == ["added", "work"]


def test_file_that_is_not_a_database_is_refused(path: Path, clock: FakeClock) -> None:
    """The file is not changed, and the error contains its path."""
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to look like a file" * 40)
    with pytest.raises(StoreUnavailableError, match=str(path)):
        SqliteStore(path, clock).open(this_member("inline", "digest", 30 * SECOND))


def test_folder_that_cannot_be_created_is_an_error(tmp_path: Path, clock: FakeClock) -> None:
    """The error contains the path."""
    (tmp_path / "state").touch()
    path = tmp_path / "state" / "pulse.db"
    with pytest.raises(StoreUnavailableError, match=str(path)):
        SqliteStore(path, clock).open(this_member("inline", "digest", 30 * SECOND))


def test_locked_file_is_unavailable_and_unchanged(
    store: SqliteStore, path: Path, clock: FakeClock
) -> None:
    """A call that gets no lock in time raises an error, and can be repeated afterwards."""
    clock.forward(EVERY)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        store.claim_due(1)
    assert store.runs() == []
    other.execute("ROLLBACK")
    other.close()
    assert len(store.claim_due(1).claims) == 1


def test_locked_file_can_be_read(store: SqliteStore, path: Path) -> None:
    """A read does not wait for a write of another process."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    claimed = store.claim_due(1)
    other.execute("ROLLBACK")
    other.close()
    assert claimed.next_wakeup == claimed.now + EVERY * SECOND


@pytest.mark.parametrize("replaced", [False, True], ids=["deleted", "replaced"])
def test_deleted_file_is_not_used(path: Path, clock: FakeClock, *, replaced: bool) -> None:
    """Nothing is claimed in it; the process joins those that have started with the new file."""
    stores = [SqliteStore(path, clock, opened={}) for _ in range(2)]
    old, new = stores
    old.open(this_member("inline", "digest", 30 * SECOND))
    old.sync(TASKS)
    for file in path.parent.iterdir():
        file.unlink()
    if replaced:
        new.open(this_member("inline", "digest", 30 * SECOND))
        new.sync(TASKS)
    clock.forward(EVERY)
    with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
        old.claim_due(1)
    if not replaced:
        new.open(this_member("inline", "digest", 30 * SECOND))
        new.sync(TASKS)
    clock.forward(EVERY)
    claims = [claim for store in stores for claim in store.claim_due(1).claims]
    assert len(claims) == 1
    assert len(new.members()) == 2
    for store in stores:
        store.close()


LOGS = [
    pytest.param(["-wal"], id="wal"),
    pytest.param(["-shm"], id="shm"),
    pytest.param(["-wal", "-shm"], id="both"),
]


def delete_log(path: Path, suffixes: list[str]) -> None:
    """Delete files of the write-ahead log, as a clean-up job does."""
    for suffix in suffixes:
        path.with_name(path.name + suffix).unlink()


@pytest.mark.parametrize("suffixes", LOGS)
@pytest.mark.parametrize("verb", ["claim_due", "beat"])
def test_deleted_log_is_noticed_within_a_lease(
    store: SqliteStore, path: Path, clock: FakeClock, verb: str, suffixes: list[str]
) -> None:
    """A call of the loop raises an error, as after the database file was deleted."""
    delete_log(path, suffixes)
    calls: dict[str, Callable[[], object]] = {
        "claim_due": lambda: store.claim_due(1),
        "beat": store.heartbeat,
    }
    errors = []
    for _ in range(6):
        clock.forward(5)
        errors.append(error_of(calls[verb]))
    assert any(isinstance(error, StoreUnavailableError) for error in errors)


@pytest.mark.parametrize("suffixes", LOGS)
def test_tick_runs_once_after_the_log_was_deleted(
    store: SqliteStore, path: Path, clock: FakeClock, suffixes: list[str], run_child: RunChild
) -> None:
    """A process that starts after the deletion and an older process share each tick."""
    delete_log(path, suffixes)
    other = run_child(TAKE_PART, path)
    require(hear(other) == "ready", "another process that takes part")
    for _ in range(3):  # the process notices the deletion here at the latest
        error_of(store.heartbeat)
    say_go(other)
    clock.forward(EVERY)
    assert {hear(other), str(len(store.claim_due(1).claims))} == {"0", "1"}


def test_tick_runs_once_in_two_processes_with_an_intact_log(
    store: SqliteStore, path: Path, clock: FakeClock, run_child: RunChild
) -> None:
    """This is the set-up of the test before, without the deletion."""
    other = run_child(TAKE_PART, path)
    hear(other)
    store.heartbeat()
    say_go(other)
    clock.forward(EVERY)
    assert {hear(other), str(len(store.claim_due(1).claims))} == {"0", "1"}


def test_file_that_is_created_again_is_readable_by_this_user_only(
    store: SqliteStore, path: Path
) -> None:
    """No call creates a file that other users may read."""
    path.unlink()
    with pytest.raises(StoreUnavailableError):
        store.tasks()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [state.name for state in store.tasks()] == ["work"]


def test_relative_path_is_resolved_when_the_store_is_built(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application may change its folder later."""
    path.parent.mkdir()
    monkeypatch.chdir(path.parent)
    store = SqliteStore(path.name, clock)
    monkeypatch.chdir(path.parent.parent)
    store.open(this_member("inline", "digest", 30 * SECOND))
    monkeypatch.chdir("/")
    assert [member.mode for member in store.members()] == ["inline"]
    assert path.exists()
    store.close()


def test_close_after_the_file_was_deleted_creates_no_file(path: Path, clock: FakeClock) -> None:
    """A process that ends does not reopen the store."""
    store = SqliteStore(path, clock)
    store.open(this_member("inline", "digest", 30 * SECOND))
    path.unlink()
    store.close()
    assert not path.exists()


def test_outage_restarts_the_observation_of_leases(
    store: SqliteStore, path: Path, clock: FakeClock
) -> None:
    """After a failed call, each lease has its whole duration."""
    clock.forward(EVERY)
    (claim,) = store.claim_due(1).claims
    for _ in range(6):
        store.heartbeat()
        clock.forward(5)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError):
        store.trigger("work")
    other.execute("ROLLBACK")
    other.close()
    assert not store.heartbeat().abandoned
    assert store.finish([succeed(claim)]) == [RECORDED]


def test_recorded_tick_is_not_run_again(store: SqliteStore, path: Path, clock: FakeClock) -> None:
    """A task row in an older state, as after a restore, does not repeat a run."""
    clock.forward(EVERY)
    (claim,) = store.claim_due(1).claims
    store.finish([succeed(claim)])
    slot = claim.run.scheduled_for
    change(path, "UPDATE @tasks SET next_fire = ?1, due_at = ?1, floor = 0", slot)
    assert not store.claim_due(1).claims
    assert [row.last_decided for row in store.tasks()] == [slot]


def test_task_changed_between_read_and_write_is_not_claimed(
    path: Path, clock: FakeClock, store: SqliteStore
) -> None:
    """The write compares the version of the row with the version that was planned."""
    clock.forward(EVERY)
    rival = SqliteStore(path, clock, opened={})
    rival.open(this_member("inline", "rival", 30 * SECOND))
    rival.sync(TASKS)

    store.close()
    slow = Overtaken(path, clock, lambda: rival.claim_due(1))
    slow.open(this_member("inline", "slow", 30 * SECOND))
    slow.sync(TASKS)
    claimed = slow.claim_due(1)
    assert not claimed.claims
    assert claimed.next_wakeup == claimed.now + EVERY * SECOND
    slow.close()
    rival.close()


class Overtaken(SqliteStore):
    """A store that something happens to between reading what is due and writing its claims."""

    def __init__(self, path: Path, clock: FakeClock, meanwhile: Callable[[], object]) -> None:
        super().__init__(path, clock, opened={})
        self._meanwhile = meanwhile

    def _claim(self, *words: object, **more: object) -> object:  # type: ignore[override]
        self._meanwhile()
        return super()._claim(*words, **more)  # type: ignore[arg-type]


def test_retry_claimed_between_read_and_write_does_not_expire(
    path: Path, clock: FakeClock, store: SqliteStore
) -> None:
    """The tick that was planned in its place waits for the next call: nothing overlaps."""
    tasks = {"work": build_definition("work", make_task(retries=1, retry_min_backoff=2, timeout=1))}
    store.sync(tasks)
    clock.forward(EVERY)
    store.finish([fail(claim) for claim in store.claim_due(1).claims])
    behind = FakeClock()
    behind.forward(EVERY + 3)
    rival = SqliteStore(path, behind, opened={})
    slow = Overtaken(path, clock, lambda: rival.claim_due(1))
    for one in (rival, slow):
        one.open(this_member("inline", "digest", 30 * SECOND))
        one.sync(tasks)
    clock.forward(EVERY)
    claimed = slow.claim_due(1)
    assert (list(claimed.claims), list(claimed.expired_retries)) == ([], [])
    assert claimed.next_wakeup == claimed.now
    assert [(run.attempt, run.outcome) for run in store.runs()] == [(2, None)]
    for one in (rival, slow):
        one.close()


def test_run_claimed_between_read_and_write_counts(
    path: Path, clock: FakeClock, store: SqliteStore
) -> None:
    """The number of claimed runs is read again inside the write."""
    tasks = {"work": build_definition("work", make_task(overlap="wait", interval=3_600))}
    store.sync(tasks)
    behind = FakeClock()
    rival = SqliteStore(path, behind, opened={})

    def begin_another() -> None:
        rival.trigger("work")
        rival.claim_due(1)

    slow = Overtaken(path, clock, begin_another)
    for one in (rival, slow):
        one.open(this_member("inline", "digest", 30 * SECOND))
        one.sync(tasks)
    clock.forward(1)
    store.trigger("work")
    assert not slow.claim_due(1).claims
    assert sorted(run.attempt for run in store.runs()) == [0, 1]
    for one in (rival, slow):
        one.close()


def test_forked_child_does_not_use_connections_of_its_parent(store: SqliteStore) -> None:
    """A call in a process that has not opened the store is refused."""

    def is_refused() -> bool:
        return isinstance(error_of(store.tasks), StoreUnavailableError)

    assert status_of(in_child(is_refused)) == 0


def test_heartbeat_deletes_old_runs(path: Path, clock: FakeClock) -> None:
    """Finished runs older than `keep_for` are deleted, unfinished runs are kept."""
    store = SqliteStore(path, clock, StoreOptions(keep_for_us=3600 * SECOND))
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync(TASKS)
    clock.forward(EVERY)
    store.finish([succeed(claim) for claim in store.claim_due(1).claims])
    clock.forward("2h")
    store.heartbeat()
    assert store.runs() == []
    store.close()


def test_processes_that_start_together_share_a_new_file(path: Path, run_child: RunChild) -> None:
    """Each of them may create it."""
    children = [run_child(OPEN, path) for _ in range(4)]
    for child in children:
        say_go(child)
    codes = [child.communicate(timeout=60) and child.returncode for child in children]
    assert codes == [0, 0, 0, 0]


def test_processes_that_race_run_each_tick_once(path: Path, run_child: RunChild) -> None:
    """Four processes claim 200 tasks, and each tick is claimed by one of them."""
    children = [run_child(OPEN + RACE, path) for _ in range(4)]
    for child in children:
        say_go(child)
    assert [hear(child) for child in children] == ["ready"] * 4
    wait_until_due(path)
    for child in children:
        say_go(child)
    ids = [line for child in children for line in child.communicate(timeout=60)[0].split()]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 200


def wait_until_due(path: Path) -> None:
    """Return when every task of the race is due."""
    (last,) = read(path, "SELECT max(next_fire) FROM @tasks")
    threading.Event().wait(max(0, last - SystemClock().wall()) / SECOND + 0.001)


def test_killed_process_is_found_at_once(path: Path, run_child: RunChild) -> None:
    """Its run is abandoned by the next heartbeat of a process of this host."""
    child = run_child(OPEN + HOLD_ONE, path, "record")
    say_go(child)
    held = hear(child)
    watcher = join(path)
    assert not watcher.heartbeat().abandoned
    kill(child)
    abandoned = watcher.heartbeat().abandoned
    assert [(run.id, run.outcome) for run in abandoned] == [(held, Outcome.ABANDONED)]
    assert len(watcher.members()) == 1
    watcher.close()


def test_killed_process_is_found_before_it_is_reaped(path: Path, run_child: RunChild) -> None:
    """A zombie runs nothing: its run is abandoned before the parent has waited for it."""
    child = run_child(OPEN + HOLD_ONE, path, "record")
    say_go(child)
    hear(child)
    watcher = join(path)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert len(watcher.heartbeat().abandoned) == 1
    watcher.close()


def test_run_of_a_killed_process_is_run_again_by_another(path: Path, run_child: RunChild) -> None:
    """With `on_abandoned = rerun` it is the next attempt of the same run."""
    child = run_child(OPEN + HOLD_ONE, path, "rerun")
    say_go(child)
    held = hear(child)
    watcher = join(path, on_abandoned="rerun", run_at_start=True)
    kill(child)
    watcher.heartbeat()
    (claim,) = watcher.claim_due(1).claims
    assert (claim.run.id, claim.run.attempt) == (held, 2)
    watcher.close()


def join(path: Path, **keywords: object) -> SqliteStore:
    """Return a store of this process, open on that file."""
    store = SqliteStore(path, SystemClock())
    store.open(this_member("inline", "digest", 30 * SECOND))
    store.sync({"work": build_definition("work", make_task(**keywords))})
    return store


def kill(child: subprocess.Popen[str]) -> None:
    """End a child as nothing can prepare for, and wait until it is gone."""
    child.kill()
    child.wait()


def change(path: Path, text: str, *values: object) -> None:
    """Execute one statement behind the store's back, `@` standing for its tables' prefix."""
    with sqlite3.connect(path) as raw:
        (prefix,) = raw.execute("SELECT prefix FROM pulse_schema").fetchone()
        raw.execute(text.replace("@", prefix), values)
    raw.close()


def read(path: Path, text: str) -> tuple[int, ...]:
    """Return one row of the file, `@` standing for the tables' prefix."""
    raw = sqlite3.connect(path)
    (prefix,) = raw.execute("SELECT prefix FROM pulse_schema").fetchone()
    row: tuple[int, ...] = raw.execute(text.replace("@", prefix)).fetchone()
    raw.close()
    return row
