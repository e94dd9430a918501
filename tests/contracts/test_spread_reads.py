"""Reads of due tasks that start further on, because other processes want the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.task import build_definition
from pulse.store.postgres.database import PostgresDatabase
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.shared.backend import Transaction
from pulse.store.sql.due_query import DUE as DUE_ROWS
from pulse.store.sqlite.database import SqliteDatabase
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.store.base import Store
    from pulse.store.sql.database import Connection, Database

DUE, LATER = 11, 30
MEMBER = this_member("inline", "digest", 30_000_000)


class FilledDatabase:
    """A database, and the store that fills it, on one clock."""

    def __init__(self, store: Store, database: Database, clock: FakeClock) -> None:
        self.store = store
        self.database = database
        self.clock = clock

    def fill(self) -> None:
        """Add tasks; the first of them are due, at different instants."""
        soon = {f"soon {n}": make_task(interval=EVERY + n) for n in range(DUE)}
        late = {f"late {n}": make_task(interval=EVERY * 100) for n in range(LATER)}
        self.store.open(MEMBER)
        tasks = {**soon, **late}
        self.store.sync({name: build_definition(name, task) for name, task in tasks.items()})
        self.clock.forward(EVERY + DUE)
        self.database.open()

    def read(self, limit: int) -> tuple[list[int], int]:
        """Return when the rows are due, in the order of the result, and the clock."""

        def read_rows(connection: Connection) -> tuple[list[int], int]:
            found = connection.ask_due([""], limit=limit, spread=4 * limit)()
            return [row[DUE_ROWS.sorted_by[0]] for row in found.due], found.now

        return self.database.run(Transaction.READ, read_rows)


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[FilledDatabase]:
    """Return a file."""
    clock, path = FakeClock(), tmp_path / "pulse.db"
    file = SqliteDatabase(path, clock, space="", patience_us=5_000_000)
    yield FilledDatabase(SqliteStore(path, clock, opened={}), file, clock)
    file.close()


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Iterator[FilledDatabase]:
    """Return a database."""
    cluster = request.getfixturevalue("postgres_cluster")
    cluster.empty_applications()
    clock, url = FakeClock(), cluster.url()
    server = PostgresDatabase(url, space="", limit_us=5_000_000, server_clock=clock.wall)
    yield FilledDatabase(
        PostgresStore(url, clock, server_clock=clock.wall, opened={}), server, clock
    )
    server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
def filled(request: pytest.FixtureRequest) -> Iterator[FilledDatabase]:
    """Return each of them, filled with tasks."""
    found: FilledDatabase = request.getfixturevalue(request.param)
    found.fill()
    yield found
    found.store.close()


@pytest.mark.parametrize("limit", [1, 3, 5, 11, 50])
def test_every_row_is_read_once(filled: FilledDatabase, limit: int) -> None:
    """Rows before the start of the first page are read later, and due rows come first."""
    reads = [filled.read(limit) for _ in range(8)]
    assert [
        (
            len(instants),
            [at <= now for at in instants[:DUE]],
            sorted(instants) == sorted(reads[0][0]),
        )
        for instants, now in reads
    ] == [(DUE + LATER, [True] * DUE, True)] * len(reads)


@pytest.mark.server
def test_reads_of_postgres_start_at_different_rows(postgres: FilledDatabase) -> None:
    """Processes that want the same rows do not all plan the first of them."""
    postgres.fill()
    starts = {postgres.read(2)[0][0] for _ in range(40)}
    postgres.store.close()
    assert len(starts) > 1
