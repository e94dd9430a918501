"""What the app answers, taken as PEP 3333 wants a server to take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.errors import PulseError, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    Headers = Sequence[tuple[str, str]]
    ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

KEPT = 2_048
"""How many bytes of a body are kept."""

LONGEST = 1_048_576
"""How many bytes of a body are taken before it is cut."""


_USUAL = "200 OK"  # spares most calls a look at its digits


class AppProtocolError(PulseError):
    """The app broke a rule of PEP 3333; the message says which."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """The app's answer to one call, its body drained and closed.

    Attributes:
        status: the number, such as 200.
        line: the whole status line, such as `200 OK`.
        body: its first 2 KiB.
        location: the Location header, where the status is not a 2xx.
        retry_after: the Retry-After header, where the status is not a 2xx.
        cut: whether the body was longer than 1 MiB, and so was closed before its end.

    """

    status: int
    line: str
    body: bytes = b""
    location: str | None = None
    retry_after: str | None = None
    cut: bool = False


class Reception(msgspec.Struct, eq=False):
    """Takes one answer: the app calls `start_response` and `write`, the dispatcher the rest."""

    _status: int = 0
    _line: str = ""
    _headers: Headers = ()
    _body: bytes = b""
    _size: int = 0

    def start_response(
        self, status: str, headers: Headers, exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """Take status and headers; with *exc_info* they replace earlier ones before any output."""
        if exc_info is None:
            if self._status:
                raise AppProtocolError("the app called start_response twice, without exc_info")
        elif self._size and exc_info[1] is not None:
            try:
                raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # this frame is in the traceback: it must not hold it
        self._status = 200 if status == _USUAL else _number(status)
        self._line = status
        self._headers = headers
        return self.write

    def write(self, chunk: bytes, /) -> None:
        """Take a piece of the body from an app that writes instead of returning it."""
        if not self.take(chunk):
            raise AppProtocolError(
                "the app wrote more than 1 MiB; a scheduled view answers briefly"
            )

    def take(self, chunk: bytes) -> bool:
        """Take a piece of the body; False when the whole has become too long."""
        if not isinstance(chunk, bytes):
            raise AppProtocolError(f"the app's body: expected bytes, got {shown(chunk)}")
        if not self._status:
            raise AppProtocolError("the app sent a body without having called start_response")
        size = self._size
        if size < KEPT:
            self._body += chunk[: KEPT - size]
        self._size = size = size + len(chunk)
        return size <= LONGEST

    def end(self) -> Reply:
        """Return the reply, once the body was drained and closed."""
        status = self._status
        if not status:
            raise AppProtocolError("the app returned without having called start_response")
        cut = self._size > LONGEST
        if 200 <= status < 300:  # noqa: PLR2004 - the class of success
            return Reply(status, self._line, self._body, cut=cut)
        location, retry_after = self._header("location"), self._header("retry-after")
        return Reply(status, self._line, self._body, location, retry_after, cut)

    def _header(self, name: str) -> str | None:
        return next((value for key, value in self._headers if key.lower() == name), None)


def _number(status: str) -> int:
    word = status[:3] if isinstance(status, str) else ""
    if len(word) == 3 and word.isdecimal() and word >= "100":  # noqa: PLR2004 - digits of a status
        return int(word)
    raise AppProtocolError(
        f"start_response: expected a status such as '200 OK', got {shown(status)}"
    )
