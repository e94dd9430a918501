"""The interface of an SQL database: statements, batches and transactions.

Each statement is written once, in SQL that SQLite and PostgreSQL share. A connection replaces five
marks: `@` is the prefix of a table, `?` a value, `?*` a list of values; `FOR UPDATE` and
`SKIP LOCKED` lock rows, and are left out where a write locks the whole database.

No call that holds the lock of a row waits for another lock, except a call with
`Transaction.EXCLUSIVE`, and these calls run one at a time: so claims, results and deploys cannot
deadlock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from pulse.clock import Instant
    from pulse.store.shared.backend import Transaction

    Cell = str | int | bytes | float | None

C_co = TypeVar("C_co", covariant=True)


class Attempt(Generic[C_co]):
    """One attempt at a transaction: a context that gives the connection.

        for attempt in database.attempts(Transaction.READ):
            with attempt as connection:
                rows = list(connection.execute("SELECT ..."))

    The `with` block is the whole body of the loop, and it may run more than once. `attempts`
    commits when the loop asks it for the next attempt, so neither `return` nor `break` may leave
    the block: that would roll the transaction back. An error of the block is passed to `attempts`,
    which rolls back, and raises the error unless it makes another attempt.
    """

    __slots__ = ("_connection", "error")

    def __init__(self, connection: C_co) -> None:
        self._connection = connection
        self.error: BaseException | None = None

    def __enter__(self) -> C_co:
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self.error = error
        return True

    def take_error(self) -> BaseException:
        """Return the error of the block, and forget it.

        Its traceback refers to the frame of the loop, which refers to this attempt: an attempt that
        kept the error would be a reference cycle.
        """
        error, self.error = self.error, None
        return error or AssertionError("the block has raised no error")


class AttemptLike(Protocol):
    """What `Database.attempts` needs of what it yields: a context that keeps its error."""

    error: BaseException | None

    def take_error(self) -> BaseException:
        """Return the error of the block, and forget it: see `Attempt.take_error`."""


A = TypeVar("A", bound=AttemptLike)


class Insert(NamedTuple):
    """Adds rows; each row of values is in the order of *columns*."""

    table: str
    columns: tuple[str, ...]


class Update(NamedTuple):
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

    @property
    def rowcount(self) -> int:
        """The number of rows that the statement has changed."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows."""


class Connection(Protocol):
    """A connection to the tables of one application."""

    def now(self) -> Instant:
        """Return the time of the database's clock."""

    def execute(self, text: str, values: Sequence[Cell] = ()) -> QueryResult:
        """Execute one statement."""

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a statement in which `?*` is replaced by *values*.

        The database splits a long list into several statements.
        """

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows.

        Raises:
            DuplicateKeyError: a row of that key exists; raised by `Database.attempts`.

        """

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it existed.

        If several rows of values have the same keys, only the first of them is written.
        """

    def read_due(self, query: DueQuery) -> DueRows:
        """Read what may be claimed, and the clock."""


class PartitionQuery(NamedTuple):
    """A query for the rows of one partition, whose name is its only value.

    Attributes:
        columns: the list of SELECT.
        rows: FROM and WHERE.
        order: ORDER BY.
        sorted_by: the positions in a row of the columns of *order*, counted from 0.
        key: the position of the column that identifies a row.

    """

    columns: str
    rows: str
    order: str
    sorted_by: tuple[int, int]
    key: int


class DueQuery(NamedTuple):
    """What a process may claim.

    Attributes:
        due: the tasks that have work, ordered by the instant at which they are due.
        pending: the pending runs, ordered by the instant from which they may be claimed.
        partitions: the names of the partitions of the process.
        limit: about how many rows are wanted.
        spread: 0, or the number of due rows among which the result may start anywhere, so that
            processes that compete for the same rows find different ones first.

    """

    due: PartitionQuery
    pending: PartitionQuery
    partitions: Sequence[str]
    limit: int
    spread: int


class DueRows(NamedTuple):
    """Rows of tasks and of runs that may be claimed; they are fetched while they are iterated.

    Attributes:
        now: the time of the store's clock.
        due: the rows of `DueQuery.due`, of all partitions in one order.
        pending: the rows of `DueQuery.pending`, of all partitions in one order.

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

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""

    def attempts(self, transaction: Transaction, wrap: Callable[[Connection], A]) -> Iterator[A]:
        """Yield attempts at one transaction until one of them is committed.

        An attempt is what *wrap*, such as `Attempt`, makes of its connection.
        A second attempt follows only if the error says that nothing was written: the file is
        locked, or the server has rolled back one of two writes that waited for each other. After
        an error that leaves the fate of a commit unknown, the transaction is not repeated.

        Raises:
            DuplicateKeyError: a row of that key exists; nothing was written.
            StorageReplacedError: the database was replaced since it was opened.
            StoreUnavailableError: the database did not answer in time.

        """
