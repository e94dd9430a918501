"""How the shared part of the stores speaks to a database: statements, batches, transactions.

Statements are written once, in words that every database here understands, but for five that a
link replaces: `@` begins the name of a table, `?` is a value, `?*` a list of values, and
`FOR UPDATE`, `SKIP LOCKED` say what is locked; they are left out where a write locks everything.

No call that holds the lock of a row waits for another lock, except a call with
`Transaction.EXCLUSIVE`, and these calls run one at a time: so claims, ends and deploys cannot
deadlock.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.store.sql.caller import SqlCaller

    Cell = str | int | bytes | float | None

T = TypeVar("T")


class DuplicateKeyError(Exception):
    """A row was to be added whose key is taken; the call has changed nothing."""


class DatabaseReplacedError(StoreUnavailableError):
    """The storage was replaced while it was open; `open` goes on with what is there."""


class Transaction(Enum):
    """What a call needs of a transaction."""

    READ = "read"
    SINGLE = "one statement that writes"
    WRITE = "a write, beside others"
    EXCLUSIVE = "a write, while no other of this kind goes on"


class Insert(NamedTuple):
    """Adds rows, of which each gives these columns."""

    table: str
    columns: tuple[str, ...]


class Update(NamedTuple):
    """Changes rows that are told by their keys.

    Attributes:
        table: its name.
        sets: the columns that get values; they come first in each row of cells.
        keys: the columns that tell the row; they come last.
        also: further assignments.
        only: a further condition.

    """

    table: str
    sets: tuple[str, ...]
    keys: tuple[str, ...]
    also: str = ""
    only: str = ""


class QueryResult(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows."""


class Connection(Protocol):
    """One connection that speaks of one application's tables."""

    def now(self) -> Instant:
        """Return the present on the store's clock."""

    def execute(self, text: str, values: Sequence[Cell] = ()) -> QueryResult:
        """Execute one statement."""

    def select_in(self, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
        """Return what a statement says of all *values*, which stand where it says `?*`."""

    def insert_many(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows.

        Raises:
            AlreadyThereError: one is there already; at the end of the call at the latest.

        """

    def update_many(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""

    def update_returning(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it was there, the first of equal ones alone."""


class DueRows(NamedTuple):
    """What one look at the storage has found.

    Attributes:
        now: the store's clock.
        due: rows of tasks in order of `due_at`, see `pulse.store.sql.due_query.DUE`, as far as they
            are asked for.
        pending: runs that nobody holds in order of `retry_at`, see
            `pulse.store.sql.pending_runs.PENDING`.

    """

    now: Instant
    due: Iterable[tuple[Any, ...]]
    pending: Iterable[tuple[Any, ...]]


class Database(Protocol):
    """A database, as one application sees it."""

    name: str
    """What people are told it is."""

    def identity(self) -> str:
        """Return what no two databases share, by whatever name they are called."""

    def open(self) -> None:
        """Reach the database, and make the tables where they are not there yet.

        Raises:
            StoreSchemaError: they have a layout that this version cannot use.
            StoreUnavailableError: it does not answer.

        """

    def close(self) -> None:
        """Leave it."""

    def forked(self) -> None:
        """Leave the connections to the parent: this is a copy, in a forked child; may not wait."""

    def call(self, how: Transaction, work: Callable[[Connection], T]) -> T:
        """Return what *work* does in one transaction; an exception leaves everything as it was.

        Raises:
            StorageReplacedError: another storage is there since it was opened.
            StoreUnavailableError: it does not answer in time.

        """

    def read_due(
        self, connection: Connection, caller: SqlCaller, limit: int, *, spread: int
    ) -> DueRows:
        """Return what may be claimed, of which the caller wants about *limit* rows.

        Where others were seen to want the same, *spread* is not 0: among so many rows that are due
        it may begin with any that leaves as much as is wanted.
        """
