"""The PostgreSQL server: connects to it, and runs transactions within a time limit.

No lock guards the idle connections: a call takes one, or opens another, and gives it back. No state
is kept in a session between calls, because a transaction pooler may give the session to others.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pulse.clock import SECOND, SystemClock
from pulse.errors import (
    StoreRefusedError,
    StoreUnavailableError,
    missing_extra,
    shown_url,
)
from pulse.store.backoff import ReconnectProbe, chance
from pulse.store.naming import nothing_kept, refuse_other_version
from pulse.store.postgres.connection import PostgresConnection, PostgresTexts
from pulse.store.postgres.refusals import Login, hint_of, is_refusal
from pulse.store.postgres.schema import (
    LOCK,
    MIGRATIONS,
    Migrations,
    is_current,
    migrate,
    read_version,
    schema_of,
)
from pulse.store.shared.backend import (
    WITHOUT_DATA,
    DuplicateKeyError,
    StorageReplacedError,
    Transaction,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from pulse.clock import Instant, Span
    from pulse.store.postgres.driver import BoundedConnection

T = TypeVar("T")

STOPPED_MS = 2_000
"""How long an idle transaction may keep its locks: its process may be stopped or cut off."""

MOST_IDLE = 2

MIGRATION_LIMIT: Span = 60 * SECOND
"""The time limit of a migration, which may build an index of all runs."""

_MAX_ATTEMPTS = 3

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
        url: the URL of the database.
        space: `pulse.config.name`, which separates applications that share the database.
        limit_us: the time limit of a call.
        server_clock: replaces the server's clock in a test.
        ladder: the layout of the tables, and the migrations of older layouts.

    """

    def __init__(
        self,
        url: str,
        *,
        space: str,
        limit_us: Span,
        server_clock: Callable[[], Instant] | None,
        ladder: Migrations = MIGRATIONS,
        creates: bool = True,
    ) -> None:
        self.name: str = shown_url(url)
        self._url = url
        self._space, self._schema = space, schema_of(space)
        self._creates = creates
        self._limit = limit_us
        self._server_clock = server_clock
        self._ladder = ladder
        self._texts = PostgresTexts(self._schema)
        self._idle: deque[PostgresConnection] = deque()
        self._busy: set[PostgresConnection] = set()
        self._begin: tuple[str, ...] = ("BEGIN", _limits(limit_us // (SECOND // 1000)))
        self._clock = SystemClock()
        self._reconnect_probe = ReconnectProbe(chance)
        self._login = Login()
        self._pid = 0

    def identity(self) -> str:
        """Return the URL."""
        return self._url

    def open(self) -> None:
        """Import psycopg, connect, and create or migrate the tables."""
        self.close()
        _import_driver()
        self._pid = os.getpid()
        schema, ladder = self._schema, self._ladder
        read = partial(read_version, schema=schema)
        if not self._creates and self.run(Transaction.READ, read) is None:
            raise nothing_kept(self.name, self._space)
        if not self.run(Transaction.READ, partial(is_current, schema=schema, ladder=ladder)):
            begin = ("BEGIN", _limits(MIGRATION_LIMIT // (SECOND // 1000)))
            work = partial(migrate, schema=schema, ladder=ladder)
            self._run(begin, work, limit=MIGRATION_LIMIT)
        version = self.run(Transaction.READ, read)
        refuse_other_version(self.name, version, current=ladder.version)

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        self._pid = 0
        self._drop_idle()

    def rest(self) -> None:
        """Close the idle connections; the next call opens one again."""
        self._drop_idle()

    def forked(self) -> None:
        """Close this process's copies of the sockets; the sessions belong to the parent."""
        self._pid = 0
        for connection in (*self._idle, *self._busy):
            connection.raw.sever()
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().raw.close()

    # Transactions ------------------------------------------------------------------------

    def run(self, transaction: Transaction, work: Callable[[PostgresConnection], T]) -> T:
        """Return what *work* returns, within a transaction: see `Database.run`.

        In READ and SINGLE each statement commits by itself. A WRITE is a pipeline, in which only a
        result that is read is waited for: begin, lock and read are one round trip, and so are
        change, add and commit. EXCLUSIVE takes its lock in a round trip before that.
        """
        match transaction:
            case Transaction.READ | Transaction.SINGLE:
                return self._run((), work)
            case Transaction.WRITE:
                return self._run(self._begin, work)
            case _:
                return self._run(self._begin, work, lock=LOCK)

    def _run(
        self,
        begin: Sequence[str],
        work: Callable[[PostgresConnection], T],
        *,
        lock: str = "",
        limit: Span | None = None,
    ) -> T:
        from pulse.store.postgres import driver

        attempts_left = _MAX_ATTEMPTS
        while True:
            attempts_left -= 1
            try:
                result = self._attempt(begin, work, lock, limit or self._limit)
            except driver.TAKEN as error:
                raise DuplicateKeyError from error
            except driver.TABLES_GONE as error:
                other_layout = isinstance(error, driver.OTHER_LAYOUT)
                text = _error_text(error) if other_layout else WITHOUT_DATA
                raise StorageReplacedError(f"{self.name}: {text}") from error
            except driver.DriverError as error:
                if not attempts_left or not isinstance(error, driver.TRY_AGAIN):
                    raise self._failed(error) from error
            else:
                self._reconnect_probe.answered()
                return result

    def _attempt(
        self,
        begin: Sequence[str],
        work: Callable[[PostgresConnection], T],
        lock: str,
        limit: Span,
    ) -> T:
        """Return what *work* returns, within a time limit.

        After an error the connection is closed, which rolls the transaction back.
        """
        until = self._clock.boot() + limit
        connection = self._take()
        connection.raw.deadline = until
        self._busy.add(connection)
        try:
            result = connection.transact(begin, work, lock=lock) if begin else work(connection)
        except BaseException:
            connection.raw.close()
            raise
        finally:
            self._busy.discard(connection)
        self._give_back(connection)
        return result

    def _failed(self, error: psycopg.Error) -> StoreUnavailableError:
        """Prepare for a reconnect; return the error to raise."""
        self._drop_idle()  # the other connections probably fail in the same way
        self._reconnect_probe.failed()
        text = f"{self.name}: {_error_text(error)}"
        if not is_refusal(error):
            return StoreUnavailableError(text)
        hint = hint_of(error, self._login, self._schema)
        return StoreRefusedError(f"{text}; {hint}" if hint else text)

    # Connections -------------------------------------------------------------------------

    def _take(self) -> PostgresConnection:
        if self._pid != os.getpid():
            raise StoreUnavailableError(f"{self.name}: the store is not open in this process")
        with suppress(IndexError):
            return self._idle.pop()
        return PostgresConnection(self._connect(), self._texts, self._given_now)

    def _given_now(self) -> Instant | None:
        return None if self._server_clock is None else self._server_clock()

    def _connect(self) -> BoundedConnection:
        from pulse.store.postgres.driver import connect

        options = _DEFAULTS | {"tcp_user_timeout": self._limit // (SECOND // 1000)}
        raw = connect(self._url, options, self._limit, probe=self._reconnect_probe.is_due())
        self._login = Login(raw.info.user, raw.info.dbname)
        return raw

    def _give_back(self, connection: PostgresConnection) -> None:
        if self._pid == os.getpid() and len(self._idle) < MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.raw.close()


def _limits(limit_ms: int) -> str:
    """Return the statement that sets the time limits of a transaction."""
    settings = {"idle_in_transaction_session_timeout": STOPPED_MS, "statement_timeout": limit_ms}
    terms = [f"set_config('{name}', '{value}', true)" for name, value in settings.items()]
    return f"SELECT {', '.join(terms)}"


def _import_driver() -> None:
    try:
        import pulse.store.postgres.driver  # noqa: F401 - from now on the rest imports it
    except ImportError as error:
        raise missing_extra("pulse.config.store", "psycopg", "postgres", cause=error) from error


def _error_text(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
