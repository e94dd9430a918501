"""How the shared part of the stores speaks to a database: statements, batches, transactions.

Statements are written once, in words that every database here understands, but for five that a
link replaces: `@` begins the name of a table, `?` is a value, `?*` a list of values, and
`FOR UPDATE`, `SKIP LOCKED` say what is locked; they are left out where a write locks everything.

Nobody who holds the lock of a row waits for another one, except in a call with `How.ALONE`, of
which one goes on at a time: so there are no deadlocks among claims, ends and deploys.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pulse.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pulse.clock import Instant
    from pulse.store.sql.caller import Here

    Cell = str | int | bytes | float | None

T = TypeVar("T")


class AlreadyThereError(Exception):
    """A row was to be added whose key is taken; the call has changed nothing."""


class StorageReplacedError(StoreUnavailableError):
    """The storage was replaced while it was open; `open` goes on with what is there."""


class How(Enum):
    """What a call needs of a transaction."""

    READ = "read"
    ONCE = "one statement that writes"
    WRITE = "a write, beside others"
    ALONE = "a write, while no other of this kind goes on"


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


class Answer(Protocol):
    """What a statement found or changed."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows."""


class Link(Protocol):
    """One connection that speaks of one application's tables."""

    def now(self) -> Instant:
        """Return the present on the store's clock."""

    def run(self, text: str, values: Sequence[Cell] = ()) -> Answer:
        """Execute one statement."""

    def among(self, text: str, values: Iterable[Cell]) -> Iterator[tuple[Any, ...]]:
        """Return what a statement says of all *values*, which stand where it says `?*`."""

    def add(self, insert: Insert, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows.

        Raises:
            AlreadyThereError: one is there already; at the end of the call at the latest.

        """

    def change(self, update: Update, rows: Iterable[Sequence[Cell]]) -> None:
        """Change rows."""

    def change_each(self, update: Update, rows: Sequence[Sequence[Cell]]) -> list[bool]:
        """Change rows; return for each whether it was there, the first of equal ones alone."""


class Look(NamedTuple):
    """What one look at the storage has found.

    Attributes:
        now: the store's clock.
        due: rows of tasks in order of `due_at`, see `pulse.store.sql.due_query.DUE`, as far as they
            are asked for.
        unheld: runs that nobody holds in order of `retry_at`, see
            `pulse.store.sql.pending_runs.UNHELD`.

    """

    now: Instant
    due: Iterable[tuple[Any, ...]]
    unheld: Iterable[tuple[Any, ...]]


class Storage(Protocol):
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

    def call(self, how: How, work: Callable[[Link], T]) -> T:
        """Return what *work* does in one transaction; an exception leaves everything as it was.

        Raises:
            StorageReplacedError: another storage is there since it was opened.
            StoreUnavailableError: it does not answer in time.

        """

    def look(self, link: Link, here: Here, limit: int, *, spread: int) -> Look:
        """Return what may be claimed, of which the caller wants about *limit* rows.

        Where others were seen to want the same, *spread* is not 0: among so many rows that are due
        it may begin with any that leaves as much as is wanted.
        """
