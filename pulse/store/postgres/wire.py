"""The driver's connection, with a time limit on whatever waits for the server.

Imported when a store is opened, in the process that will use it: psycopg looks once, when it is
imported, whether gevent has patched the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from pulse.clock import SECOND, SystemClock

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from pulse.clock import Span

T = TypeVar("T")

Answered = psycopg.Cursor[TupleRow]
DriverError = psycopg.Error
TAKEN = (errors.UniqueViolation,)
TRY_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
TABLES_GONE = (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn)

_CLOCK = SystemClock()


class TooSlowError(psycopg.OperationalError):
    """The server did not answer in time."""


class Wire(psycopg.Connection[TupleRow]):
    """A connection whose waits end at `deadline`, an instant of the boot clock.

    What was cut short leaves it in the middle of an answer: it is good for nothing but `close`.
    """

    deadline: Span | None = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **words: Any) -> T:  # noqa: ANN401 - the driver's own
        """Return what *gen* returns, unless the deadline comes first."""
        return super().wait(_bounded(gen, self.deadline), *args, **words)


def _bounded(gen: Generator[Any, Any, T], deadline: Span | None) -> Generator[Any, Any, T]:
    try:
        asked = next(gen)
        while True:
            ready = yield asked
            if not ready and deadline is not None and _CLOCK.boot() >= deadline:
                raise TooSlowError("the server did not answer in time")
            asked = gen.send(ready)
    except StopIteration as ended:
        answer: T = ended.value
        return answer


def dial(url: str, words: Mapping[str, str | int], limit_us: Span) -> Wire:
    """Return a connection to the server, which commits each statement by itself."""
    limits: dict[str, Any] = {"connect_timeout": max(2, limit_us // SECOND)} | dict(words)
    wire = Wire.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        **limits,
    )
    wire.deadline = None
    return wire
