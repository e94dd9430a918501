"""Calls the application for a person who waits: keeps the whole response, and ends at Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.core.run import Outcome
from pulse.engine.base import Interruption
from pulse.wsgi.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.core.run import Claim
    from pulse.wsgi.response import Response

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    Write = Callable[[bytes], object]

STOPPED = "stopped at the terminal"


class KeptResponse(msgspec.Struct):
    """The status line, the headers and the body that an application has sent so far."""

    line: str = ""
    headers: list[tuple[str, str]] = []
    body: bytearray = msgspec.field(default_factory=bytearray)


def keeping(app: WSGIApplication, kept: KeptResponse) -> WSGIApplication:
    """Return an application that does what *app* does, and keeps the response."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(
            status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
        ) -> Write:
            write = start_response(status, headers, exc_info)
            kept.line, kept.headers = status, [*headers]

            def keep(chunk: bytes) -> None:
                write(chunk)
                kept.body += chunk

            return keep

        chunks = app(environ, start)
        return chunks if chunks is None else _KeptBody(chunks, kept)

    return call


class _KeptBody:
    """An iterable of a response, whose chunks are kept."""

    def __init__(self, chunks: Iterable[bytes], kept: KeptResponse) -> None:
        self._chunks = chunks
        self._kept = kept

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, bytes):  # the dispatcher refuses anything else
                self._kept.body += chunk
            yield chunk

    def close(self) -> None:
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()


class ForegroundCaller:
    """Calls an application through the dispatcher, in the main thread of a command.

    Attributes:
        is_calling: whether the application is being called: only then may it be interrupted.

    """

    def __init__(
        self, app: WSGIApplication, *, base_url: str, environ: Mapping[str, object]
    ) -> None:
        self.kept: KeptResponse = KeptResponse()
        self.is_calling: bool = False
        self._dispatcher = Dispatcher(
            keeping(app, self.kept), base_url=base_url, multithread=True, environ=environ
        )

    def call(self, claim: Claim) -> Response:
        """Return the response of the app; Ctrl-C interrupts the run, and not the command."""
        self.is_calling = True
        try:
            return self._dispatcher.call(claim)
        except KeyboardInterrupt as error:
            stop = Interruption(claim, Outcome.INTERRUPTED, STOPPED)
            raise stop.with_traceback(error.__traceback__) from None
        finally:
            self.is_calling = False
