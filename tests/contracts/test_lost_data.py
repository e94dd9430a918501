"""Stores that lose data, or whose data is overwritten, while processes use them."""

from __future__ import annotations

import logging
import re
import sqlite3
from typing import TYPE_CHECKING, Protocol

import pytest

from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import StoreUnavailableError
from pulse.store.sqlite.schema import prefix_of as tables_of
from pulse.store.sqlite.store import SqliteStore
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.redis_keys import Keys
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.store.base import Store
    from pulse.testing.clock import FakeClock
    from tests.support.databases import Database
    from tests.support.redis_servers import RedisServer
    from tests.support.stepped import Stepped

    Lines = Callable[[int], list[str]]
    Begin = Callable[..., Stepped]

TABLES = ("tasks", "runs", "members", "configs", "paused")
WITH_VERSION = "all tables with the version"
"""A loss of all tables and of the version of their layout."""

TASKS = {"work": make_task(), "other": make_task()}


class Losing(Protocol):
    """A storage from which a test removes data."""

    def make(self, clock: FakeClock) -> Store:
        """Return a store of this storage, on the clock of the test."""

    def lose(self, what: str) -> None:
        """Remove the named part of the data, or all of it."""


class File:
    """An SQLite file whose rows are deleted by another program."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self, clock: FakeClock) -> SqliteStore:
        """Return a store of the file."""
        return SqliteStore(self._path, clock, opened={})

    def lose(self, what: str) -> None:
        """Delete the rows of one table, or of all tables."""
        with sqlite3.connect(self._path) as raw:
            for table in TABLES if what.startswith("all tables") else [what]:
                raw.execute(f"DELETE FROM {tables_of('')}{table}")  # noqa: S608 - names of this test
            if what == WITH_VERSION:
                raw.execute("DELETE FROM pulse_schema")
        raw.close()


class Tables:
    """A PostgreSQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.make = database.make

    def lose(self, what: str) -> None:
        """Recreate the database, drop the schema, or truncate all tables or one table."""
        match what:
            case "database":
                self._database.create()
            case "schema":
                self._database.inside("DROP SCHEMA @ CASCADE")
            case "all tables":
                self._database.inside(f"TRUNCATE {', '.join(f'@.{one}' for one in TABLES)}")
            case _ if what == WITH_VERSION:
                self._database.inside("TRUNCATE @.layout")
                self.lose("all tables")
            case table:
                self._database.inside(f"TRUNCATE @.{table}")


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Losing:
    """Return an empty storage of the kind that the test names."""
    match request.param:
        case "sqlite":
            return File(tmp_path / "pulse.db")
        case "postgres":
            return Tables(request.getfixturevalue("database"))
        case _:
            return Keys(request.getfixturevalue("redis"))


@pytest.fixture
def keys(redis: RedisServer) -> Keys:
    """Return the keys of a server of the test's own."""
    return Keys(redis)


def lost(kind: str, what: str) -> object:
    """Return the parameters of one loss."""
    marks = [] if kind == "sqlite" else [pytest.mark.server]
    return pytest.param(kind, what, id=f"{kind}-{what}", marks=marks)


def begin_well(begin: Begin, lines: Lines, make: Callable[[FakeClock], Store]) -> Stepped:
    """Return a process in which each task has run twice, with no error in the log."""
    process = begin(make, **TASKS)
    process.forward(2 * EVERY + 1)
    require(sorted(process.ran) == ["other"] * 2 + ["work"] * 2, "tasks that run")
    require(not lines(logging.ERROR), "a log without errors")
    process.ran.clear()
    return process


@pytest.mark.parametrize(
    ("storage", "what"),
    [
        lost("sqlite", "all tables"),
        lost("sqlite", "tasks"),
        lost("postgres", "database"),
        lost("postgres", "schema"),
        lost("postgres", "all tables"),
        lost("postgres", "tasks"),
        lost("redis", "all keys"),
        lost("redis", "rows"),
        lost("redis", "due:"),
        lost("redis", "config:*"),
    ],
    indirect=["storage"],
)
def test_loss_of_data_is_logged_as_an_error(
    storage: Losing, begin: Begin, lines: Lines, what: str
) -> None:
    """An ERROR states that data was lost, whether all of it is gone or a part."""
    process = begin_well(begin, lines, storage.make)
    storage.lose(what)
    process.forward(6 * EVERY)
    assert [line for line in lines(logging.ERROR) if "lost" in line or "without" in line]


@pytest.mark.parametrize(
    ("storage", "what"),
    [
        lost("sqlite", "all tables"),
        lost("sqlite", "tasks"),
        lost("postgres", "database"),
        lost("postgres", "schema"),
        lost("postgres", "all tables"),
        lost("postgres", "tasks"),
        lost("redis", "all keys"),
        lost("redis", "rows"),
        lost("redis", "due:"),
        lost("redis", "config:*"),
    ],
    indirect=["storage"],
)
def test_tasks_run_again_after_a_loss_of_data(
    storage: Losing, begin: Begin, lines: Lines, what: str
) -> None:
    """Within two leases the tasks of the configuration run again."""
    process = begin_well(begin, lines, storage.make)
    storage.lose(what)
    process.forward(6 * EVERY)
    assert set(process.ran) == {"work", "other"}


# Values of Redis that another program has overwritten


@pytest.mark.server
@pytest.mark.parametrize(
    "key",
    [
        *("configs", "due:", "history", "history:work", "last", "members", "open", "reserved"),
        *("rows", "runs", "unheld"),
    ],
)
def test_overwritten_key_is_named_in_the_log(
    keys: Keys, begin: Begin, lines: Lines, key: str
) -> None:
    """An ERROR states the full name of the key."""
    process = begin_well(begin, lines, keys.make)
    name = keys.overwrite(key)
    process.forward(6 * EVERY)
    assert [line for line in lines(logging.ERROR) if name in line]


FIELDS = [
    pytest.param("rows", "/work", id="row"),
    pytest.param("open", "/work", id="number of open runs"),
    pytest.param("members", "", id="process"),
    pytest.param("configs", "", id="manifest"),
]


@pytest.mark.server
@pytest.mark.parametrize(("key", "field"), FIELDS)
def test_key_of_an_overwritten_field_is_named_once_in_the_log(
    keys: Keys, begin: Begin, lines: Lines, key: str, field: str
) -> None:
    """Exactly one ERROR is logged, and it states the full name of the key."""
    process = begin_well(begin, lines, keys.make)
    name = keys.overwrite(key, field or keys.field(key))
    process.forward(6 * EVERY)
    assert [name in line for line in lines(logging.ERROR)] == [True]


@pytest.mark.server
@pytest.mark.parametrize(
    ("key", "field"),
    [
        pytest.param("rows", "/work", id="row"),
        pytest.param("open", "/work", id="number of open runs"),
    ],
)
def test_other_tasks_run_when_a_field_of_one_task_is_overwritten(
    keys: Keys, begin: Begin, lines: Lines, key: str, field: str
) -> None:
    """Bad data of one task does not stop the other tasks."""
    process = begin_well(begin, lines, keys.make)
    keys.overwrite(key, field)
    process.forward(6 * EVERY)
    assert "other" in process.ran


# Every key and its fields: lost, or overwritten

KEYS = (
    *("born", "config:*", "configs", "due:", "history", "history:work", "last", "layout"),
    *("members", "open", "orders", "places", "reserved", "rows", "runs", "unheld"),
)
LONG = 4 * EVERY
"""Longer than a lease: by then a run is over that was claimed when a key was lost."""


def assert_runs_on(process: Stepped, lines: Lines) -> None:
    """Assert that from some time on each task runs at each fire time, without errors."""
    process.forward(LONG)
    process.ran.clear()
    before = lines(logging.ERROR)
    process.forward(3 * EVERY)
    assert (process.ran.count("work"), process.ran.count("other")) == (3, 3)
    assert lines(logging.ERROR) == before


@pytest.mark.server
@pytest.mark.parametrize("key", KEYS)
def test_tasks_run_on_after_a_key_was_lost(
    keys: Keys, begin: Begin, lines: Lines, key: str
) -> None:
    """The indexes are made again from the data, and the data from the configuration."""
    process = begin_well(begin, lines, keys.make)
    keys.lose(key)
    assert_runs_on(process, lines)


@pytest.mark.server
@pytest.mark.parametrize("key", KEYS)
def test_tasks_run_on_after_a_key_was_overwritten(
    keys: Keys, begin: Begin, lines: Lines, key: str
) -> None:
    """The value is moved aside, and the key is made again."""
    process = begin_well(begin, lines, keys.make)
    keys.overwrite(key)
    assert_runs_on(process, lines)


@pytest.mark.server
@pytest.mark.parametrize(("key", "field"), [*FIELDS, pytest.param("config:*", "work", id="digest")])
@pytest.mark.parametrize("is_lost", [True, False], ids=["lost", "overwritten"])
def test_tasks_run_on_after_a_field_was_changed(
    keys: Keys, begin: Begin, lines: Lines, key: str, field: str, *, is_lost: bool
) -> None:
    """The fields of the other tasks stay as they are."""
    process = begin_well(begin, lines, keys.make)
    name = field or keys.field(key)
    if is_lost:
        keys.lose_field(key, name)
    else:
        keys.overwrite(key, name)
    assert_runs_on(process, lines)


@pytest.mark.server
def test_tasks_run_on_after_a_task_with_a_pending_run_was_lost(
    keys: Keys, begin: Begin, lines: Lines
) -> None:
    """The row of a run-time task cannot be made again, so its pending run is left alone."""
    process = begin_well(begin, lines, keys.make)
    process.store.add(make_runtime_task("added", make_task(interval=3_600), TaskDefaults()))
    process.store.trigger("added")
    keys.lose_field("rows", "/added")
    assert_runs_on(process, lines)


@pytest.mark.server
def test_overwritten_counter_is_named_by_the_call_that_reads_it(
    keys: Keys, begin: Begin, lines: Lines
) -> None:
    """A call of the application may be the first to read it; the next call has the tasks."""
    process = begin_well(begin, lines, keys.make)
    name = keys.overwrite("open", "/work")
    with pytest.raises(StoreUnavailableError, match=re.escape(name)):
        process.store.tasks()
    assert sorted(row.name for row in process.store.tasks()) == sorted(TASKS)


@pytest.mark.server
def test_overwritten_value_is_moved_aside(keys: Keys, begin: Begin, lines: Lines) -> None:
    """A person can read what was there."""
    process = begin_well(begin, lines, keys.make)
    keys.overwrite("rows", "/work")
    process.forward(EVERY)
    assert keys.field("corrupt") == "rows /work"


@pytest.mark.server
def test_history_is_complete_after_its_key_was_lost(keys: Keys, begin: Begin, lines: Lines) -> None:
    """The runs themselves were not lost."""
    process = begin_well(begin, lines, keys.make)
    before = [run.id for run in process.store.runs()]
    keys.lose("history")
    process.forward(1)
    assert [run.id for run in process.store.runs()] == before


@pytest.mark.server
def test_index_that_is_empty_since_all_tasks_are_paused_is_not_lost(
    keys: Keys, begin: Begin, lines: Lines
) -> None:
    """Redis deletes a sorted set that has no members."""
    process = begin_well(begin, lines, keys.make)
    for name in TASKS:
        process.store.pause(name, Pause())
    process.forward(2)
    assert lines(logging.ERROR) == []


@pytest.mark.server
def test_overwritten_layout_refuses_the_start_and_is_named(
    keys: Keys, begin: Begin, lines: Lines
) -> None:
    """The layout may be that of another release, so no start guesses it."""
    begin_well(begin, lines, keys.make)
    name = keys.overwrite("layout")
    begin(keys.make, **TASKS)
    (line,) = lines(logging.ERROR)
    assert ("refuses" in line, name in line) == (True, True)


@pytest.mark.parametrize(
    ("storage", "what"),
    [lost("sqlite", "tasks"), lost("postgres", "tasks"), lost("redis", "rows")],
    indirect=["storage"],
)
def test_tasks_of_another_process_run_again_after_a_loss_of_data(
    storage: Losing, begin: Begin, what: str
) -> None:
    """The process that notices the loss does not declare them."""
    first = begin(storage.make, work=make_task())
    second = begin(storage.make, other=make_task())
    for process in (first, second):
        process.forward(EVERY + 1)
    require((first.ran, second.ran) == (["work"], ["other"]), "tasks that run")
    storage.lose(what)
    for _ in range(3 * EVERY):
        first.forward(1)
        second.forward(1)
    assert (first.ran.count("work"), second.ran.count("other")) >= (2, 2)


@pytest.mark.parametrize(
    ("storage", "what"),
    [lost("sqlite", WITH_VERSION), lost("postgres", WITH_VERSION)],
    indirect=["storage"],
)
def test_process_starts_after_the_version_of_the_layout_was_lost(
    storage: Losing, begin: Begin, lines: Lines, what: str
) -> None:
    """The tables are there, and only empty."""
    begin_well(begin, lines, storage.make).close()
    storage.lose(what)
    process = begin(storage.make, work=make_task())
    process.forward(EVERY + 1)
    assert (process.ran, lines(logging.ERROR)) == (["work"], [])
