"""psycopg's connection, with a time limit for everything that waits for the server.

This module is imported when a store is opened, in the process that uses it: psycopg checks once,
when it is imported, whether gevent has patched the process.

All waits of psycopg 3 go through generators: a generator yields what it waits for (the socket is
readable or writable), and a wait function sends back whether it is ready, or 0 after a short
interval, in which signals are handled. `_bounded` wraps such a generator: it passes all of
that on, and raises an error once the deadline has passed. This works alike with psycopg's C
functions and with gevent. It overrides `Connection.wait` and the private
`Connection._connect_gen`, `Connection._pipeline`, `Pipeline._enqueue_sync` and
`Pipeline._communicate_gen`.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from pulse.clock import SECOND, SystemClock
from pulse.forks import sever, stay
from pulse.store.backoff import PROBE_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from pulse.clock import Span

T = TypeVar("T")

DriverError = psycopg.Error
TAKEN = (errors.UniqueViolation,)
TRY_AGAIN = (errors.DeadlockDetected, errors.SerializationFailure)
OTHER_LAYOUT = errors.UndefinedColumn
TABLES_GONE = (errors.UndefinedTable, errors.InvalidSchemaName, OTHER_LAYOUT)

_CLOCK = SystemClock()


class CallTimeoutError(psycopg.OperationalError):
    """The server did not answer in time."""


class PipelinedResult(psycopg.Cursor[TupleRow]):
    """The result of a statement; in a pipeline, reading it sends a Sync message.

    psycopg would send a Flush message. After a Flush, the server waits for the rest of the pipeline
    and counts the transaction as active. If this process is stopped or cut off at that point, no
    timeout of the server ends the transaction and releases its locks. After a Sync, the transaction
    counts as idle, and `idle_in_transaction_session_timeout` ends it.
    """

    def fetchone(self) -> TupleRow | None:
        """Return the next row, or None."""
        self._request()
        return super().fetchone()

    def __iter__(self) -> Iterator[TupleRow]:  # type: ignore[override] # not the cursor itself
        # The driver converts all rows at once faster than one after another.
        self._request()
        return iter(self.fetchall())

    def _request(self) -> None:
        connection = self.connection
        if self.pgresult is not None or not isinstance(connection, BoundedConnection):
            return
        if connection.piped is not None:
            connection.piped.sync()


class WholePipeline(psycopg.Pipeline):
    """A pipeline whose statements are sent together, with the Sync message that ends them.

    psycopg sends each statement at once, so that the server begins while others are still made. If
    this process were stopped then, the server would wait for the rest in an active transaction: as
    after a Flush, no timeout would end it and release its locks.
    """

    _is_complete = False

    def _enqueue_sync(self) -> None:
        super()._enqueue_sync()
        self._is_complete = True

    def _communicate_gen(self) -> Generator[Any, Any, None]:
        if not self._is_complete:
            return
        self._is_complete = False
        commands = [*self.command_queue]
        self.command_queue.clear()

        def send_all() -> None:
            for command in commands:
                command()

        self.command_queue.append(send_all)
        yield from super()._communicate_gen()


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection whose waits end at a deadline.

    A connection that has passed its deadline has half an answer in its buffers: it is closed at
    once, and later waits return immediately.

    Attributes:
        deadline: the deadline, on the boot clock; None for no deadline.
        longest_silence: for how long the server may be silent during the login; None for any time.
        piped: the open pipeline.

    """

    deadline: Span | None = None
    longest_silence: ClassVar[Span | None] = None
    piped: psycopg.Pipeline | None = None
    _timed_out = False

    def sever(self) -> None:
        """In a forked child, close the socket without ending the parent's session."""
        if not self.closed:
            sever(self.fileno())

    @classmethod
    def _connect_gen(cls, *args: Any, **options: Any) -> Generator[Any, Any, Self]:  # noqa: ANN401 - the driver's own
        # No deadline: libpq has its own limit here. This stops a connect in a forked child.
        return _bounded(super()._connect_gen(*args, **options), longest_silence=cls.longest_silence)

    @contextmanager
    def pipeline(self) -> Iterator[psycopg.Pipeline]:
        """Send statements without waiting for results that are not read."""
        if self._pipeline is None:
            self._pipeline = WholePipeline(self)
        with super().pipeline() as piped:
            self.piped = piped
            try:
                yield piped
            finally:
                self.piped = None

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:  # noqa: ANN401 - the driver's own
        """Return what *gen* returns.

        Raises:
            CallTimeoutError: the deadline has passed.

        """
        if self._timed_out:
            # psycopg waits for the end of a pipeline when the block is left. Without an answer it
            # would log a warning; the error was raised already.
            gen.close()
            return cast("T", None)
        try:
            return super().wait(_bounded(gen, deadline=self.deadline), *args, **options)
        except CallTimeoutError:
            self._timed_out = True
            self.close()
            raise


def _bounded(
    gen: Generator[Any, Any, T],
    *,
    deadline: Span | None = None,
    longest_silence: Span | None = None,
) -> Generator[Any, Any, T]:
    pid, heard_at = os.getpid(), 0 if longest_silence is None else _CLOCK.boot()
    try:
        awaited = next(gen)
        while True:
            ready = yield awaited
            if os.getpid() != pid:
                _stop_forked_copy()
            if ready and longest_silence is not None:
                heard_at = _CLOCK.boot()
            elif not ready:
                _refuse_late(_CLOCK.boot(), deadline, heard_at, longest_silence)
            awaited = gen.send(ready)
    except StopIteration as ended:
        answer: T = ended.value
        return answer


def _refuse_late(
    now: Span, deadline: Span | None, heard_at: Span, longest_silence: Span | None
) -> None:
    is_late = deadline is not None and now >= deadline
    if is_late or (longest_silence is not None and now - heard_at >= longest_silence):
        raise CallTimeoutError("the server did not answer in time")


def _stop_forked_copy() -> None:
    """Let a wait that was copied by a fork end in the parent only, which gets the answer."""
    stay()
    raise CallTimeoutError("this process was forked while it waited for the server")


class ProbeConnection(BoundedConnection):
    """A connection whose login fails if the server is silent for `PROBE_TIMEOUT`.

    libpq's own `connect_timeout` is at least two seconds, and limits the whole login.
    """

    longest_silence: ClassVar[Span | None] = PROBE_TIMEOUT


def connect(
    url: str, options: Mapping[str, str | int], limit_us: Span, *, probe: bool
) -> BoundedConnection:
    """Return a connection in autocommit mode, without prepared statements.

    Prepared statements would fail behind a transaction pooler.

    Args:
        url: the URL of the database.
        options: further options of libpq.
        limit_us: the time limit of the login.
        probe: whether to give up after a short silence.

    """
    limits: dict[str, Any] = {"connect_timeout": max(2, limit_us // SECOND)} | dict(options)
    connection = (ProbeConnection if probe else BoundedConnection).connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        **limits,
    )
    connection.cursor_factory = PipelinedResult
    connection.deadline = None
    return connection
