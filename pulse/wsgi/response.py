"""Reads the response of the application according to PEP 3333."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.errors import PulseError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    Headers = Sequence[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

MAX_KEPT_BODY = 2_048
"""The number of bytes of a body that are kept."""

MAX_BODY = 1_048_576
"""The number of bytes of a body after which it is truncated."""


_COMMON_STATUS = "200 OK"  # most calls do not need to parse their status


class AppProtocolError(PulseError):
    """The application violated a rule of PEP 3333, which the message names."""


class Response(msgspec.Struct, frozen=True, gc=False):
    """The response of the application to one call, after its body was read and closed.

    Attributes:
        status: the status code, such as 200.
        line: the status line, such as `200 OK`.
        body: the first 2 KiB of the body.
        location: the Location header, if the status is not a 2xx.
        retry_after: the Retry-After header, if the status is not a 2xx.
        truncated: whether the body was longer than 1 MiB and was closed before its end.

    """

    status: int
    line: str
    body: bytes = b""
    location: str | None = None
    retry_after: str | None = None
    truncated: bool = False


class ResponseReader(msgspec.Struct, eq=False):
    """Collects a response: the app calls `start_response` and `write`, the dispatcher the rest."""

    _status: int = 0
    _line: str = ""
    _headers: Headers = ()
    _body: bytes = b""
    _size: int = 0

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """Store status and headers; with *exc_info*, replace earlier headers before any output."""
        if exc_info is None:
            if self._status:
                raise AppProtocolError("the app called start_response twice, without exc_info")
        elif self._size and exc_info[1] is not None:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # breaks the cycle of traceback and this frame
        self._status = 200 if status == _COMMON_STATUS else _status_code(status)
        self._line = status
        self._headers = headers
        return self.write

    def write(self, chunk: bytes, /) -> None:
        """Store a chunk of the body from an application that calls `write`."""
        if not self.take(chunk):
            raise AppProtocolError(
                "the app wrote more than 1 MiB; a scheduled view must send a short body"
            )

    def take(self, chunk: bytes) -> bool:
        """Store a chunk of the body and return whether the body is within its limit."""
        if not isinstance(chunk, bytes):
            raise AppProtocolError(f"the app's body: expected bytes, got {shown(chunk)}")
        if not self._status:
            raise AppProtocolError("the app sent a body without having called start_response")
        size = self._size
        if size < MAX_KEPT_BODY:
            self._body += chunk[: MAX_KEPT_BODY - size]
        self._size = size = size + len(chunk)
        return size <= MAX_BODY

    def end(self) -> Response:
        """Return the response, after the body was read and closed."""
        status = self._status
        if not status:
            raise AppProtocolError("the app returned without having called start_response")
        cut = self._size > MAX_BODY
        if 200 <= status < 300:  # noqa: PLR2004 - the class of success
            return Response(status, self._line, self._body, truncated=cut)
        location, retry_after = self._header("location"), self._header("retry-after")
        return Response(status, self._line, self._body, location, retry_after, cut)

    def _header(self, name: str) -> str | None:
        return next((value for key, value in self._headers if key.lower() == name), None)


def _status_code(status: str) -> int:
    code = status[:3] if isinstance(status, str) else ""
    if len(code) == 3 and code.isdecimal() and code >= "100":  # noqa: PLR2004 - digits of a status
        return int(code)
    raise AppProtocolError(
        f"start_response: expected a status such as '200 OK', got {shown(status)}"
    )
