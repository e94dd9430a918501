"""Finds the file of another release, which holds the same tasks."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.task import Task, build_definition
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.sqlite import neighbours
from pulse.store.sqlite.log import LOG_SUFFIXES
from pulse.store.sqlite.neighbours import MAX_FILES
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def find_neighbour(path: Path, tasks: Collection[str], name: str = "") -> Path | None:
    """Return the neighbour in the folder of the file, or in another one beside it."""
    folders = (path.parent, path.parent / "other home")
    return neighbours.find_neighbour(path, tasks, folders=folders, name=name)


def make_store(path: Path, *tasks: str, name: str = "") -> SqliteStore:
    """Return an open store with these tasks."""
    store = SqliteStore(path, FakeClock(), StoreOptions(name=name))
    store.open(this_member("threading", "digest", 30 * SECOND))
    task = Task(action="/work", interval="24h")
    store.sync({name: build_definition(name, task) for name in tasks})
    return store


@pytest.mark.parametrize(
    ("theirs", "ours", "alike"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", True),
        ("abcd", "ab", True),
        ("abcd", "a", False),
        ("ab", "cd", False),
        ("", "ab", False),
        ("ab", "", False),
    ],
)
def test_file_with_the_same_tasks_is_found(
    tmp_path: Path, theirs: str, ours: str, *, alike: bool
) -> None:
    """A release may add or drop some tasks."""
    make_store(tmp_path / "old.db", *theirs).close()
    found = find_neighbour(tmp_path / "new.db", tuple(ours))
    assert found == (tmp_path / "old.db" if alike else None)


def test_file_in_use_is_found_and_not_changed(tmp_path: Path) -> None:
    """Releases overlap during a deploy."""
    store = make_store(tmp_path / "old.db", "work")
    assert find_neighbour(tmp_path / "new.db", ["work"]) == tmp_path / "old.db"
    assert [task.name for task in store.tasks()] == ["work"]
    store.close()


def test_no_log_is_created_for_a_file_that_no_process_has_open(tmp_path: Path) -> None:
    """Such as the file of a release that has ended."""
    make_store(tmp_path / "old.db", "work").close()
    assert find_neighbour(tmp_path / "new.db", ["work"]) == tmp_path / "old.db"
    assert [file.name for file in tmp_path.iterdir()] == ["old.db"]


def test_no_log_is_created_in_place_of_one_that_was_deleted(tmp_path: Path) -> None:
    """The processes that have the file open make the new log, and save what the old one holds."""
    store = make_store(tmp_path / "old.db", "work")
    for suffix in LOG_SUFFIXES:
        (tmp_path / f"old.db{suffix}").unlink()
    find_neighbour(tmp_path / "new.db", ["work"])
    assert [file.name for file in tmp_path.iterdir()] == ["old.db"]
    store.close()


def test_file_that_exists_has_no_neighbour(tmp_path: Path) -> None:
    """Its application has been here before."""
    for name in ("old.db", "new.db"):
        make_store(tmp_path / name, "work").close()
    assert find_neighbour(tmp_path / "new.db", ["work"]) is None


def test_file_of_an_application_with_a_name_is_no_neighbour(tmp_path: Path) -> None:
    """Whoever sets a name knows which application it is."""
    make_store(tmp_path / "shop.db", "work", name="shop").close()
    assert find_neighbour(tmp_path / "new.db", ["work"]) is None


@pytest.mark.parametrize("name", ["", "shop"])
def test_file_of_a_process_with_another_home_is_found(tmp_path: Path, name: str) -> None:
    """Such as of a command that runs without HOME."""
    (tmp_path / "other home").mkdir()
    make_store(tmp_path / "other home" / "app.db", "work", name=name).close()
    found = find_neighbour(tmp_path / "app.db", ["work"], name)
    assert found == tmp_path / "other home" / "app.db"


def test_application_with_a_name_has_no_neighbour_of_another_file_name(tmp_path: Path) -> None:
    """The name determines the file."""
    make_store(tmp_path / "old.db", "work", name="shop").close()
    assert find_neighbour(tmp_path / "new.db", ["work"], "shop") is None


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """A file may be empty, corrupt, locked, or one of another program."""
    (tmp_path / "empty.db").touch()
    (tmp_path / "corrupt.db").write_bytes(b"SQLite format 3\0" + bytes(range(256)))
    (tmp_path / "folder.db").mkdir()
    other = sqlite3.connect(tmp_path / "o#t?h%er.db")
    other.execute("CREATE TABLE t (a)")
    other.close()
    assert find_neighbour(tmp_path / "new.db", ["work"]) is None
    assert (tmp_path / "empty.db").stat().st_size == 0


def test_missing_folder_has_no_files(tmp_path: Path) -> None:
    """The store creates it."""
    assert find_neighbour(tmp_path / "missing" / "new.db", ["work"]) is None


def test_number_of_files_that_are_read_is_limited(tmp_path: Path) -> None:
    """The newest files are read."""
    for number in range(MAX_FILES + 5):
        (tmp_path / f"{number}.db").touch()
    make_store(tmp_path / "newest.db", "work").close()
    assert find_neighbour(tmp_path / "new.db", ["work"]) == tmp_path / "newest.db"
