"""The interface of an SQL database: statements, batches and transactions.

Each statement is written once, in SQL that SQLite and PostgreSQL share. A connection replaces five
marks: `@` is the prefix of a table, `?` a value, `?*` a list of values; `FOR UPDATE` and
`SKIP LOCKED` lock rows, and are left out where a write locks the whole database.

No call that holds the lock of a row waits for another lock, except a call with
`Transaction.EXCLUSIVE`, and these calls run one at a time: so claims, results and deploys cannot
deadlock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from pulse.clock import Instant
    from pulse.store.shared.backend import Transaction

    Cell = str | int | bytes | float | None

T = TypeVar("T")


class Insert(msgspec.Struct, frozen=True, eq=False):
    """Adds rows; each row of values is in the order of *columns*, and *also* ends the statement."""

    table: str
    columns: tuple[str, ...]
    also: str = ""


class Update(msgspec.Struct, frozen=True, eq=False):
    """Changes rows that are identified by their keys.

    Attributes:
        table: the table.
        sets: the columns to set; their values come first in each row of values.
        keys: the columns that identify the row; their values come last.
        also: further assignments, the same for all rows.
        only: a further condition, the same for all rows.

    """

    table: str
    sets: tuple[str, ...]
    keys: tuple[str, ...]
    also: str = ""
    only: str = ""


class QueryResult(Protocol):
    """The result of a statement."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows."""


class Connection(Protocol):
    """A connection to the tables of one application."""

    def together(self) -> AbstractContextManager[object]:
        """Send all statements of a block before the first of their results is read.

        A block whose results are read after it is one round trip.
        """

    def clock(self) -> Callable[[], Instant]:
        """Read the database's clock; the function that is returned gives the time."""

    def execute(self, text: str, values: Sequence[Cell] = ()) -> QueryResult:
        """Execute one statement."""

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a statement in which `?*` is replaced by *values*.

        The database splits a long list into several statements.
        """

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows.

        Raises:
            DuplicateKeyError: a row of that key exists; raised by `Database.run`.

        """

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it existed.

        If several rows of values have the same keys, only the first of them is written.
        """

    def update_run(self, text: str, values: Sequence[Cell], ident: str) -> tuple[Any, ...] | None:
        """Change the run *ident* by a statement; return its `RUN_COLUMNS` as they then are.

        Return None if the statement changed no run.
        """

    def delete_tallied(self, where: str, values: Sequence[Cell]) -> None:
        """Delete the runs of a condition, and add them to the tallies of their tasks and hours."""

    def trim(self, task: str, keep: int) -> None:
        """Delete what a task has beyond the runs to keep, of each class, as `delete_tallied`."""

    def reclaim(self) -> None:
        """Give space that was freed back to the file system, a bounded amount, where needed."""

    def ask_due(
        self, partitions: Sequence[str], *, limit: int, spread: int
    ) -> Callable[[], DueRows]:
        """Read what may be claimed in some partitions, and the clock.

        The function that is returned waits for the rows, as those of a block of `together`.

        Args:
            partitions: the names of the partitions.
            limit: about how many rows are wanted.
            spread: 0, or the number of due rows among which the result may start anywhere, so that
                processes that compete for the same rows find different ones first.

        """


class DueRows(NamedTuple):
    """Rows of tasks and of runs that may be claimed; they are fetched while they are iterated.

    Attributes:
        now: the time of the store's clock.
        due: the rows of `DUE`, of all partitions in one order: see `pulse.store.sql.due_query`.
        pending: the rows of `PENDING`, of all partitions in one order.

    """

    now: Instant
    due: Iterable[tuple[Any, ...]]
    pending: Iterable[tuple[Any, ...]]


class Database(Protocol):
    """A database, as one application sees it."""

    name: str
    """The address that is shown to users, without a password."""

    def identity(self) -> str:
        """Return a text that is equal for two databases only if they are the same one."""

    def open(self) -> None:
        """Connect to the database, and create or migrate the tables.

        Raises:
            StoreSchemaError: the tables have a layout that this release cannot use.
            StoreUnavailableError: the database does not answer.

        """

    def close(self) -> None:
        """Close the connections."""

    def rest(self) -> None:
        """Close connections to a server that no call uses."""

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""

    def run(self, transaction: Transaction, work: Callable[[Connection], T]) -> T:
        """Return what *work* returns, which is called within a transaction, once in each attempt.

        A second attempt follows only if the error says that nothing was written: the file is
        locked, or the server has rolled back one of two writes that waited for each other. After
        an error that leaves the fate of a commit unknown, the transaction is not repeated. An error
        of *work* rolls the transaction back.

        Raises:
            DuplicateKeyError: a row of that key exists; nothing was written.
            StorageReplacedError: the database was replaced since it was opened.
            StoreUnavailableError: the database did not answer in time.

        """
