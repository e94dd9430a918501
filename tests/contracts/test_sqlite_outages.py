"""The SQLite store with a corrupt file, a full disk, or without its folder."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from pulse.clock import SECOND
from pulse.core.run import RECORDED, CompletedRun, Outcome, Result, Trigger
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import build_definition
from pulse.errors import StoreUnavailableError
from pulse.store.process_identity import this_member
from pulse.store.shared.backend import StorageReplacedError
from pulse.store.sqlite.log import LOG_SUFFIXES
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import NOON, FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Join = Callable[[], SqliteStore]

TASKS = {"work": build_definition("work", make_task())}
LEASE = 30 * SECOND


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file will be, in a folder that is not there yet."""
    return tmp_path / "state" / "pulse.db"


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def join(path: Path, clock: FakeClock) -> Iterator[Join]:
    """Return what makes an open store that holds one task, as a process of its own would."""
    made: list[SqliteStore] = []

    def enter() -> SqliteStore:
        store = SqliteStore(path, clock, opened={}, patience_us=SECOND // 3)
        made.append(store)
        store.open(this_member("inline", "digest", LEASE))
        store.sync(TASKS)
        return store

    yield enter
    for store in made:
        store.close()


def asides(path: Path) -> list[str]:
    """Return the names of the files that were moved aside, but for their logs."""
    return [
        each.name
        for each in path.parent.glob("*.corrupt-*")
        if not each.name.endswith(LOG_SUFFIXES)
    ]


def spoil(path: Path, *, header: bool = False) -> None:
    """Overwrite what is in the file: its pages, or its beginning too."""
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0 if header else 100)
        file.write(b"\xa5" * (size - 100))


@pytest.mark.parametrize("header", [False, True])
def test_corrupt_file_is_moved_aside_and_replaced(
    join: Join, path: Path, clock: FakeClock, *, header: bool
) -> None:
    """The error gives the new path; the next call works, and ticks continue."""
    store = join()
    spoil(path, header=header)
    with pytest.raises(StoreUnavailableError, match=r"corrupt and was moved to .*\.corrupt-"):
        store.claim_due(1)
    assert len(asides(path)) == 1
    clock.forward(EVERY)
    assert store.claim_due(1).claims[0].run.task == "work"


def test_second_corrupt_file_of_a_second_does_not_replace_the_first(join: Join, path: Path) -> None:
    """Each file that was moved aside can be examined, with its log."""
    store = join()
    for _ in range(3):
        store.trigger("work")
        spoil(path)
        with pytest.raises(StoreUnavailableError, match="moved"):
            store.claim_due(1)
    assert len(asides(path)) == 3


def test_each_process_notices_that_its_file_was_replaced(
    join: Join, path: Path, clock: FakeClock
) -> None:
    """The file is moved once; all processes use the new file and claim each tick once."""
    stores = [join() for _ in range(3)]
    spoil(path)
    for store in stores:
        with pytest.raises(StoreUnavailableError):
            store.claim_due(1)
    clock.forward(EVERY)
    assert [len(store.claim_due(1).claims) for store in stores] == [1, 0, 0]
    assert len(stores[0].members()) == 3
    assert len(asides(path)) == 1


def test_file_that_is_corrupt_at_the_start_is_moved_aside(join: Join, path: Path) -> None:
    """The first `open` raises an error, the second one uses a new file."""
    join().close()
    spoil(path)
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        join()
    assert [row.name for row in join().tasks()] == ["work"]


def test_write_ahead_log_is_moved_with_a_corrupt_file(join: Join, path: Path) -> None:
    """The moved file can be examined, and the new file has no old log."""
    store, _ = join(), join()
    store.trigger("work")
    spoil(path)
    with pytest.raises(StoreUnavailableError, match="moved"):
        store.claim_due(1)
    (aside,) = asides(path)
    assert path.with_name(f"{aside}-wal").exists()
    assert store.runs() == []


def test_corruption_found_by_the_app_is_reported_by_the_next_heartbeat(
    join: Join, path: Path
) -> None:
    """The heartbeat raises the same error once, so that the path is logged."""
    store = join()
    spoil(path)
    with pytest.raises(StoreUnavailableError, match="was moved to") as raised:
        store.tasks()
    with pytest.raises(StoreUnavailableError) as again:
        store.heartbeat()
    assert again.value is raised.value
    assert not store.heartbeat().abandoned


def test_heartbeat_reports_a_moved_file_and_why_no_new_file_was_created(
    join: Join, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both errors are one line of the log: the outage is reported once."""
    store = join()
    spoil(path)
    with monkeypatch.context() as patch:
        patch.setattr(
            "pulse.store.sqlite.database.make_file", Mock(side_effect=OSError("no space"))
        )
        with pytest.raises(StoreUnavailableError, match=r"was moved to .*; .*no space"):
            store.heartbeat()
        with pytest.raises(StoreUnavailableError, match=r"^[^;]*no space$"):
            store.heartbeat()
    assert not store.heartbeat().abandoned


def test_loop_gets_the_error_of_a_moved_file_that_a_call_of_the_application_found(
    join: Join, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application gets the later error, and the next heartbeat the first one."""
    store = join()
    spoil(path)
    with monkeypatch.context() as patch:
        patch.setattr(
            "pulse.store.sqlite.database.make_file", Mock(side_effect=OSError("no space"))
        )
        with pytest.raises(StoreUnavailableError, match="no space"):
            store.tasks()
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


def test_loop_gets_the_error_of_a_moved_file_when_tasks_cannot_be_stored_in_the_new_one(
    join: Join, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application gets the error of the new file, and the next heartbeat the first one."""
    store = join()
    spoil(path)
    full = StoreUnavailableError("no space")
    with monkeypatch.context() as patch:
        patch.setattr("pulse.store.shared.store.sync_rows", Mock(side_effect=full))
        with pytest.raises(StoreUnavailableError, match="no space"):
            store.tasks()
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


def test_loop_gets_the_errors_of_two_files_that_were_moved_between_heartbeats(
    join: Join, path: Path, clock: FakeClock
) -> None:
    """Calls of the application found both."""
    store = join()
    moved = []
    for _ in range(2):
        spoil(path)
        with pytest.raises(StoreUnavailableError, match="was moved to") as raised:
            store.tasks()
        moved.append(str(raised.value))
        clock.forward(1)  # the second is in the name of the moved file
    with pytest.raises(StorageReplacedError) as again:
        store.heartbeat()
    assert str(again.value) == "; ".join(moved)
    assert not store.heartbeat().abandoned


def test_error_in_the_check_of_the_clock_does_not_hide_that_of_a_moved_file(
    join: Join, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeats raise both, the error of the moved file first."""
    store = join()
    spoil(path)
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.tasks()
    error = RuntimeError("the check failed")
    monkeypatch.setattr("pulse.store.shared.store.find_early_work", Mock(side_effect=error))
    store.claim_due(1)
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.heartbeat()
    with pytest.raises(RuntimeError, match="the check failed"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


def test_replacement_that_a_check_of_the_clock_found_is_raised_by_the_next_heartbeat(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim keeps what it has won, and the loop gets the error all the same."""
    store = join()
    replaced = StorageReplacedError("it was replaced")
    monkeypatch.setattr("pulse.store.shared.store.find_early_work", Mock(side_effect=replaced))
    store.claim_due(1)
    with pytest.raises(StoreUnavailableError, match="it was replaced"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


@pytest.mark.parametrize("step", ["find_early_work", "rewind_rows"])
def test_error_in_the_check_of_the_clock_loses_no_claim(
    join: Join, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The claim returns what it has won, and the next heartbeat raises the error, once."""
    clock.forward("1d")
    store = join()
    clock.set_wall(NOON)
    store.trigger("work")
    error = RuntimeError("the check failed")
    monkeypatch.setattr(f"pulse.store.shared.store.{step}", Mock(side_effect=error))
    assert [claim.run.trigger for claim in store.claim_due(5).claims] == [Trigger.MANUAL]
    with pytest.raises(RuntimeError, match="the check failed"):
        store.heartbeat()
    assert not store.heartbeat().abandoned


def test_file_that_was_never_a_store_is_not_moved(join: Join, path: Path) -> None:
    """Its path was probably configured by mistake."""
    path.parent.mkdir()
    path.write_bytes(b"the only copy of a novel" * 99)
    with pytest.raises(StoreUnavailableError, match="not a database; the file was not moved"):
        join()
    assert asides(path) == []


def test_file_that_another_process_is_moving_is_not_touched(join: Join, path: Path) -> None:
    """The call fails as in any outage, and a later one finds the new file."""
    store = join()
    spoil(path)
    mover = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(mover, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailableError, match="another process is moving"):
        store.claim_due(1)
    os.close(mover)
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.claim_due(1)


def test_no_file_is_created_while_one_is_moved(join: Join, path: Path) -> None:
    """The old log could be taken for the log of the new file."""
    path.parent.mkdir()
    mover = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(mover, fcntl.LOCK_EX)
    with pytest.raises(StoreUnavailableError, match="another process is moving"):
        join()
    os.close(mover)
    assert not path.exists()


def test_corrupt_file_that_cannot_be_moved_is_reported(
    join: Join, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error gives the reason, and the next call tries again."""
    store = join()
    spoil(path)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", refuse)
        with pytest.raises(StoreUnavailableError, match=r"could not be moved: .*Permission denied"):
            store.claim_due(1)
    with pytest.raises(StoreUnavailableError, match="was moved to"):
        store.claim_due(1)


def test_emptied_file_gets_new_tables(join: Join, path: Path, clock: FakeClock) -> None:
    """The store creates its tables again, and continues."""
    store = join()
    with sqlite3.connect(path) as raw:
        for (name,) in raw.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            raw.execute(f"DROP TABLE {name}")
    raw.close()
    with pytest.raises(StoreUnavailableError, match="came back without its data"):
        store.claim_due(1)
    clock.forward(EVERY)
    assert len(store.claim_due(1).claims) == 1


def test_store_continues_after_its_folder_was_lost(
    join: Join, path: Path, clock: FakeClock
) -> None:
    """Nothing is claimed without the folder; afterwards the rows are created again."""
    store = join()
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match=str(path)):
            store.claim_due(1)
    path.parent.unlink()
    clock.forward(EVERY)
    assert not store.claim_due(1).claims
    clock.forward(EVERY)
    assert len(store.claim_due(1).claims) == 1


def test_no_tick_is_skipped_for_a_run_that_finished_during_the_outage(
    join: Join, path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    """The first process that claims waits until the holder has recorded its result."""
    holder, other = join(), join()
    clock.forward(EVERY)
    (claim,) = holder.claim_due(1).claims
    away = path.parent.rename(tmp_path / "away")
    path.parent.write_text("in the way")
    with pytest.raises(StoreUnavailableError):
        other.claim_due(1)
    clock.forward(EVERY)
    path.parent.unlink()
    away.rename(path.parent)
    assert (list(other.claim_due(1).claims), other.runs()[0].outcome) == ([], None)
    holder.finish([succeed(claim)])
    assert [one.run.fire_time for one in other.claim_due(1).claims] == [clock.wall()]


def test_store_continues_with_a_file_that_was_put_back(
    join: Join, path: Path, clock: FakeClock
) -> None:
    """Its rows, its runs and their claims are unchanged."""
    store = join()
    store.add(make_runtime_task("added", make_task(interval=60), TaskDefaults()))
    clock.forward(EVERY)
    (claim,) = store.claim_due(1).claims
    away = path.parent.rename(path.parent.with_name("away"))
    path.parent.write_text("in the way")
    for call in (store.heartbeat, store.tasks):
        with pytest.raises(StoreUnavailableError):
            call()
    path.parent.unlink()
    away.rename(path.parent)
    assert store.finish([succeed(claim)]) == [RECORDED]
    assert [row.name for row in store.tasks()] == ["added", "work"]


class Disk:
    """Lets the file of every connection grow no more, until there is room again."""

    def __init__(self, connect: Callable[..., sqlite3.Connection]) -> None:
        self._connect = connect
        self._made: list[sqlite3.Connection] = []
        self._full = False

    def connect(self, *words: object, **more: object) -> sqlite3.Connection:
        """Connect as ever, to a disk that may be full."""
        raw = self._connect(*words, **more)
        self._made.append(raw)
        self._limit(raw)
        return raw

    def fill(self, *, full: bool) -> None:
        """Say whether there is room."""
        self._full = full
        for raw in self._made.copy():
            self._limit(raw)

    def _limit(self, raw: sqlite3.Connection) -> None:
        try:
            raw.execute(f"PRAGMA max_page_count = {1 if self._full else 1 << 30}")
        except sqlite3.ProgrammingError:
            self._made.remove(raw)  # it was closed meanwhile


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Return the disk that the stores of the test are on."""
    made = Disk(sqlite3.connect)
    monkeypatch.setattr(sqlite3, "connect", made.connect)
    return made


def test_full_disk_is_an_outage_that_loses_nothing(
    disk: Disk, join: Join, clock: FakeClock
) -> None:
    """What cannot be written is not claimed; with free space results are recorded."""
    store = join()
    clock.forward(EVERY)
    (claim,) = store.claim_due(1).claims
    disk.fill(full=True)
    clock.forward(EVERY)
    big = "x" * 20_000
    completed_run = CompletedRun(claim, Result(Outcome.FAILED, clock.wall(), 5, 500, big))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="full"):
            store.finish([completed_run])
    disk.fill(full=False)
    assert store.finish([completed_run]) == [RECORDED]
    assert [run.outcome for run in store.runs()] == [Outcome.FAILED]
    assert len(store.claim_due(1).claims) == 1


def test_store_opens_when_a_full_disk_has_space_again(
    disk: Disk, join: Join, clock: FakeClock
) -> None:
    """The tables are created then."""
    disk.fill(full=True)
    with pytest.raises(StoreUnavailableError, match="full"):
        join()
    disk.fill(full=False)
    store = join()
    clock.forward(EVERY)
    assert len(store.claim_due(1).claims) == 1
