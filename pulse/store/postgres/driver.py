"""The driver's connection, with a time limit on whatever waits for the server.

Imported when a store is opened, in the process that will use it: psycopg looks once, when it is
imported, whether gevent has patched the process.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from pulse.backoff import PROBE_TIMEOUT
from pulse.clock import SECOND, SystemClock
from pulse.forks import sever, stay

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from pulse.clock import Span

T = TypeVar("T")

DriverError = psycopg.Error
TAKEN = (errors.UniqueViolation,)
TRY_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
TABLES_GONE = (errors.UndefinedTable, errors.InvalidSchemaName, errors.UndefinedColumn)

_CLOCK = SystemClock()


class CallTimeoutError(psycopg.OperationalError):
    """The server did not answer in time."""


class PipelinedResult(psycopg.Cursor[TupleRow]):
    """What a statement found; in a pipeline a Sync asks for it when it is looked at.

    The driver asks by a Flush, after which the server waits for the rest of the pipeline and counts
    the transaction as active: no timeout would end it, and its locks, when this process is stopped
    or cut off there.
    """

    def fetchone(self) -> TupleRow | None:
        """Return the next row, or None."""
        self._ask()
        return super().fetchone()

    def __iter__(self) -> Self:
        self._ask()
        return super().__iter__()

    def _ask(self) -> None:
        wire = self.connection
        if self.pgresult is None and isinstance(wire, BoundedConnection) and wire.piped is not None:
            wire.piped.sync()


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection whose waits end at `deadline`, an instant of the boot clock.

    One that was cut short is in the middle of an answer: it is closed at once, and nothing in it
    is waited for any more.

    Attributes:
        deadline: when it is cut short.
        piped: the pipeline that is open.

    """

    deadline: Span | None = None
    piped: psycopg.Pipeline | None = None
    _cut = False

    def sever(self) -> None:
        """Leave the session to the parent: this is a copy, in a forked child."""
        if not self.closed:
            sever(self.fileno())

    @classmethod
    def _connect_gen(cls, *args: Any, **words: Any) -> Generator[Any, Any, Self]:  # noqa: ANN401 - the driver's own
        return _bounded(super()._connect_gen(*args, **words), None)

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Send statements without waiting for what nobody looks at."""
        with super().pipeline() as piped:
            self.piped = piped
            try:
                yield piped
            finally:
                self.piped = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **words: Any) -> T:  # noqa: ANN401 - the driver's own
        """Return what *gen* returns, unless the deadline comes first."""
        if self._cut:  # the driver leaves a pipeline, and would tell that it cannot
            gen.close()
            return cast("T", None)
        try:
            return super().wait(_bounded(gen, self.deadline), *args, **words)
        except CallTimeoutError:
            self._cut = True
            self.close()
            raise


def _bounded(gen: Generator[Any, Any, T], deadline: Span | None) -> Generator[Any, Any, T]:
    pid = os.getpid()
    try:
        asked = next(gen)
        while True:
            ready = yield asked
            if os.getpid() != pid:
                _leave_answer()
            if not ready and deadline is not None and _CLOCK.boot() >= deadline:
                raise CallTimeoutError("the server did not answer in time")
            asked = gen.send(ready)
    except StopIteration as ended:
        answer: T = ended.value
        return answer


def _leave_answer() -> None:
    """Take no answer in a forked child: what waited for it as the fork came is a copy."""
    stay()
    raise CallTimeoutError("this process was forked while it waited for the server")


class ProbeConnection(BoundedConnection):
    """A connection that is not made where the server is silent for the length of a knock.

    A timeout of the driver's is of two seconds at least, and counts the whole of a login.
    """

    @classmethod
    def _connect_gen(cls, *args: Any, **words: Any) -> Generator[Any, Any, Self]:  # noqa: ANN401 - the driver's own
        return _unless_silent(super()._connect_gen(*args, **words))


def _unless_silent(gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
    try:
        asked, heard_at = next(gen), _CLOCK.boot()
        while True:
            ready = yield asked
            if ready:
                heard_at = _CLOCK.boot()
            elif _CLOCK.boot() - heard_at >= PROBE_TIMEOUT:
                raise CallTimeoutError("the server did not answer in time")
            asked = gen.send(ready)
    except StopIteration as ended:
        answer: T = ended.value
        return answer


def connect(
    url: str, words: Mapping[str, str | int], limit_us: Span, *, probe: bool
) -> BoundedConnection:
    """Return a connection to the server, which commits each statement by itself."""
    limits: dict[str, Any] = {"connect_timeout": max(2, limit_us // SECOND)} | dict(words)
    wire = (ProbeConnection if probe else BoundedConnection).connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        **limits,
    )
    wire.cursor_factory = PipelinedResult
    wire.deadline = None
    return wire
