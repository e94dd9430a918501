"""The server: how it is reached, how long a call waits for it, and what a write is made of.

No lock of this process guards the connections: a call takes one that is free, or makes another,
and gives it back. Nothing is kept in a session: between calls a pooler may give it to others.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from pulse.backoff import Knocks, chance
from pulse.clock import SECOND, SystemClock
from pulse.errors import MissingExtraError, StoreUnavailableError
from pulse.store.postgres.arrays import literal
from pulse.store.postgres.connection import PostgresLink, Texts
from pulse.store.postgres.due_query import SPARE, looking, looking_aside, paged
from pulse.store.postgres.schema import (
    LADDER,
    LOCK,
    Ladder,
    bring_up,
    read_version,
    refuse_other_version,
    schema_of,
)
from pulse.store.postgres.url import shown_url
from pulse.store.sql.database import AlreadyThereError, How, Look, StorageReplacedError
from pulse.store.sql.due_query import DUE
from pulse.store.sql.pending_runs import UNHELD

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Instant, Span
    from pulse.store.postgres.driver import Wire
    from pulse.store.sql.caller import Here
    from pulse.store.sql.database import Link

    Work = Callable[[PostgresLink], "T"]

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


class PostgresServer:
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
        ladder: Ladder = LADDER,
    ) -> None:
        self.name: str = shown_url(url)
        self._url = url
        self._schema = schema_of(space)
        self._limit = limit_us
        self._server_clock = server_clock
        self._ladder = ladder
        self._texts = Texts(self._schema)
        self._idle: deque[PostgresLink] = deque()
        self._clock = SystemClock()
        self._knocks = Knocks(chance)
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
            self._arrange(lambda link: bring_up(link, self._schema, self._ladder))
            version = self._version()
        refuse_other_version(self.name, version, self._ladder)

    def _version(self) -> int | None:
        return self.call(How.READ, lambda link: read_version(link, self._schema))

    def _arrange(self, work: Work[T]) -> T:
        return self._reach(lambda link: self._transact(link, work))

    def close(self) -> None:
        """Close every connection that is not in use; those in use are closed when given back."""
        self._pid = 0
        self._drop_idle()

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().raw.close()

    # Calls -------------------------------------------------------------------------------

    def call(self, how: How, work: Work[T]) -> T:
        """Do *work*: each statement by itself, or all in one transaction."""
        match how:
            case How.READ | How.ONCE:
                return self._reach(work)
            case How.WRITE:
                return self._reach(lambda link: self._write(link, work))
            case _:
                return self._reach(lambda link: self._transact(link, work, first=LOCK))

    def _reach(self, work: Work[T]) -> T:
        from pulse.store.postgres import driver

        for tries_left in reversed(range(_TRIES)):
            try:
                return self._try(work)
            except driver.TAKEN as error:
                raise AlreadyThereError from error
            except driver.TABLES_GONE as error:
                raise StorageReplacedError(f"{self.name}: {error}") from error
            except driver.DriverError as error:
                if tries_left and isinstance(error, driver.TRY_AGAIN):
                    continue
                self._drop_idle()  # what has failed here may have failed there
                self._knocks.failed()
                raise StoreUnavailableError(f"{self.name}: {_words(error)}") from error
        raise AssertionError  # the last try returns or raises

    def _try(self, work: Work[T]) -> T:
        until = self._clock.boot() + self._limit
        link = self._take()
        link.raw.deadline = until
        try:
            result = work(link)
        except BaseException:
            link.raw.close()
            raise
        self._give_back(link)
        self._knocks.answered()
        return result

    def _take(self) -> PostgresLink:
        if self._pid != os.getpid():
            raise StoreUnavailableError(f"{self.name}: the store is not open in this process")
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        return PostgresLink(self._connect(), self._texts, self._given_now)

    def _given_now(self) -> Instant | None:
        return None if self._server_clock is None else self._server_clock()

    def _connect(self) -> Wire:
        from pulse.store.postgres.driver import dial

        words = _DEFAULTS | {"tcp_user_timeout": self._limit // (SECOND // 1000)}
        return dial(self._url, words, self._limit, knocks=self._knocks.is_due())

    def _give_back(self, link: PostgresLink) -> None:
        if self._pid == os.getpid() and len(self._idle) < MOST_IDLE:
            self._idle.append(link)
        else:
            link.raw.close()

    # Transactions ------------------------------------------------------------------------

    def _write(self, link: PostgresLink, work: Work[T]) -> T:
        # In a pipeline what is not looked at is not waited for: begin, lock and read are one round
        # trip, and so are change, add and commit.
        with link.raw.pipeline():
            return self._transact(link, work)

    def _transact(self, link: PostgresLink, work: Work[T], *, first: str = "") -> T:
        link.run("BEGIN")
        link.run(f"SET LOCAL idle_in_transaction_session_timeout = {STOPPED_MS}")
        link.run(f"SET LOCAL statement_timeout = {self._limit // (SECOND // 1000)}")
        if first:
            link.run(first)
        result = work(link)
        link.run("COMMIT")
        return result

    # Looking for work --------------------------------------------------------------------

    def look(self, link: Link, here: Here, limit: int, *, spread: int) -> Look:
        """Return what may be claimed, and the server's clock, in one round trip.

        Unheld runs are rare: where there are any they are read in a second one.
        """
        places, page = sorted(here.places), limit + SPARE
        if spread:
            chance = os.urandom(1)[0]
            text, values = looking_aside(places, page, limit, spread=spread, chance=chance)
        else:
            text, values = looking(places, page)
        found = list(link.run(text, [self._given_now(), literal(places), *values]))
        now, unheld_at = found[0][:2]
        first = [row[2:] for row in found if row[2] is not None]
        due = [row for row in first if row[0] <= now]
        aside = spread > 0 and len(due) >= limit  # else it begins with the first row after all
        # The pages of several places together are more than one page of all: the next one begins
        # where that one ends.
        first = due if aside else first[:page]
        rows = paged(link, DUE, places, page, order="1, 2", key=1, first=first, aside=aside)
        unheld = paged(link, UNHELD, places, page, order="16, 19", key=0)
        return Look(now, rows, () if unheld_at is None else unheld)


def _import_driver() -> None:
    try:
        import pulse.store.postgres.driver  # noqa: F401 - from now on the rest imports it
    except ImportError as error:
        raise MissingExtraError(
            "pulse.config.store: PostgreSQL needs psycopg, which cannot be imported"
            f" ({error}); install pulse[postgres]"
        ) from error


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
