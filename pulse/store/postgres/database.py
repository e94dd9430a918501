"""The server: how it is reached, how long a call waits for it, and what a write is made of.

No lock of this process guards the connections: a call takes one that is free, or makes another,
and gives it back. Nothing is kept in a session: between calls a pooler may give it to others.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pulse.backoff import ReconnectProbe, chance
from pulse.clock import SECOND, SystemClock
from pulse.errors import MissingExtraError, StoreUnavailableError
from pulse.store.naming import refuse_other_version, shown_url
from pulse.store.postgres.arrays import literal
from pulse.store.postgres.connection import PostgresConnection, PostgresTexts
from pulse.store.postgres.due_query import SPARE, due_query, due_query_with_offset, paged
from pulse.store.postgres.schema import (
    LOCK,
    MIGRATIONS,
    Migrations,
    migrate,
    read_version,
    schema_of,
)
from pulse.store.sql.database import DatabaseReplacedError, DueRows, DuplicateKeyError, Transaction
from pulse.store.sql.due_query import DUE
from pulse.store.sql.pending_runs import PENDING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.store.postgres.driver import BoundedConnection
    from pulse.store.sql.caller import SqlCaller
    from pulse.store.sql.database import Connection

    Work = Callable[[PostgresConnection], "T"]

T = TypeVar("T")

STOPPED_MS = 2_000
"""After so long a write whose process has stopped is ended by the server."""

MOST_IDLE = 2
_TRIES = 3

_DEFAULTS: dict[str, str | int] = {
    "fallback_application_name": "pulse",
    "client_encoding": "utf8",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


class PostgresDatabase:
    """A database that is read and written in short transactions.

    Args:
        url: where it is.
        space: `pulse.config.name`, which tells applications that share the database apart.
        limit_us: how long a call lasts at most.
        server_clock: what stands for the server's clock in a test.
        ladder: the layout of the tables.

    """

    def __init__(
        self,
        url: str,
        *,
        space: str,
        limit_us: Span,
        server_clock: Callable[[], Instant] | None,
        ladder: Migrations = MIGRATIONS,
    ) -> None:
        self.name: str = shown_url(url)
        self._url = url
        self._schema = schema_of(space)
        self._limit = limit_us
        self._server_clock = server_clock
        self._ladder = ladder
        self._texts = PostgresTexts(self._schema)
        self._idle: deque[PostgresConnection] = deque()
        self._busy: set[PostgresConnection] = set()
        self._clock = SystemClock()
        self._reconnect_probe = ReconnectProbe(chance)
        self._pid = 0

    def identity(self) -> str:
        """Return the address as it was given."""
        return self._url

    def open(self) -> None:
        """Import the driver, reach the server, and make or migrate the tables."""
        self.close()
        _import_driver()
        self._pid = os.getpid()
        version = self._version()
        if version is None or version < self._ladder.version:
            self._arrange(lambda connection: migrate(connection, self._schema, self._ladder))
            version = self._version()
        refuse_other_version(self.name, version, current=self._ladder.version)

    def _version(self) -> int | None:
        return self.call(
            Transaction.READ, lambda connection: read_version(connection, self._schema)
        )

    def _arrange(self, work: Work[T]) -> T:
        return self._reach(lambda connection: self._transact(connection, work))

    def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when given back."""
        self._pid = 0
        self._drop_idle()

    def forked(self) -> None:
        """Leave the connections to the parent: this is a copy, in a forked child."""
        self._pid = 0
        for connection in (*self._idle, *self._busy):
            connection.raw.sever()
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().raw.close()

    # Calls -------------------------------------------------------------------------------

    def call(self, how: Transaction, work: Work[T]) -> T:
        """Do *work*: each statement by itself, or all in one transaction."""
        match how:
            case Transaction.READ | Transaction.SINGLE:
                return self._reach(work)
            case Transaction.WRITE:
                return self._reach(lambda connection: self._write(connection, work))
            case _:
                return self._reach(lambda connection: self._transact(connection, work, first=LOCK))

    def _reach(self, work: Work[T]) -> T:
        from pulse.store.postgres import driver

        for tries_left in reversed(range(_TRIES)):
            try:
                return self._try(work)
            except driver.TAKEN as error:
                raise DuplicateKeyError from error
            except driver.TABLES_GONE as error:
                raise DatabaseReplacedError(f"{self.name}: {error}") from error
            except driver.DriverError as error:
                if tries_left and isinstance(error, driver.TRY_AGAIN):
                    continue
                self._drop_idle()  # what has failed here may have failed there
                self._reconnect_probe.failed()
                raise StoreUnavailableError(f"{self.name}: {_error_text(error)}") from error
        raise AssertionError  # the last try returns or raises

    def _try(self, work: Work[T]) -> T:
        until = self._clock.boot() + self._limit
        connection = self._take()
        connection.raw.deadline = until
        self._busy.add(connection)
        try:
            result = work(connection)
        except BaseException:
            connection.raw.close()
            raise
        finally:
            self._busy.discard(connection)
        self._give_back(connection)
        self._reconnect_probe.answered()
        return result

    def _take(self) -> PostgresConnection:
        if self._pid != os.getpid():
            raise StoreUnavailableError(f"{self.name}: the store is not open in this process")
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return PostgresConnection(self._connect(), self._texts, self._given_now)

    def _given_now(self) -> Instant | None:
        return None if self._server_clock is None else self._server_clock()

    def _connect(self) -> BoundedConnection:
        from pulse.store.postgres.driver import connect

        words = _DEFAULTS | {"tcp_user_timeout": self._limit // (SECOND // 1000)}
        return connect(self._url, words, self._limit, probe=self._reconnect_probe.is_due())

    def _give_back(self, connection: PostgresConnection) -> None:
        if self._pid == os.getpid() and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.raw.close()

    # Transactions ------------------------------------------------------------------------

    def _write(self, connection: PostgresConnection, work: Work[T]) -> T:
        # In a pipeline what is not looked at is not waited for: begin, lock and read are one round
        # trip, and so are change, add and commit.
        with connection.raw.pipeline():
            return self._transact(connection, work)

    def _transact(self, connection: PostgresConnection, work: Work[T], *, first: str = "") -> T:
        connection.execute("BEGIN")
        connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {STOPPED_MS}")
        connection.execute(f"SET LOCAL statement_timeout = {self._limit // (SECOND // 1000)}")
        if first:
            connection.execute(first)
        result = work(connection)
        connection.execute("COMMIT")
        return result

    # Looking for work --------------------------------------------------------------------

    def read_due(
        self, connection: Connection, caller: SqlCaller, limit: int, *, spread: int
    ) -> DueRows:
        """Return what may be claimed, and the server's clock, in one round trip.

        Unheld runs are rare: where there are any they are read in a second one.
        """
        partitions, page = sorted(caller.partitions), limit + SPARE
        if spread:
            chance = os.urandom(1)[0]
            text, values = due_query_with_offset(
                partitions, page, limit, spread=spread, chance=chance
            )
        else:
            text, values = due_query(partitions, page)
        found = list(connection.execute(text, [self._given_now(), literal(partitions), *values]))
        now, unheld_at = found[0][:2]
        first = [row[2:] for row in found if row[2] is not None]
        due = [row for row in first if row[0] <= now]
        aside = spread > 0 and len(due) >= limit  # else it begins with the first row after all
        # The pages of several places together are more than one page of all: the next one begins
        # where that one ends.
        first = due if aside else first[:page]
        rows = paged(
            connection, DUE, partitions, page, order="1, 2", key=1, first=first, aside=aside
        )
        pending = paged(connection, PENDING, partitions, page, order="16, 19", key=0)
        return DueRows(now, rows, () if unheld_at is None else pending)


def _import_driver() -> None:
    try:
        import pulse.store.postgres.driver  # noqa: F401 - from now on the rest imports it
    except ImportError as error:
        raise MissingExtraError(
            "pulse.config.store: PostgreSQL needs psycopg, which cannot be imported"
            f" ({error}); install pulse[postgres]"
        ) from error


def _error_text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
