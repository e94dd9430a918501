"""The call: a claim becomes a WSGI environ, goes into the wrapped app, and its reply comes back.

This is the only caller of the app. The app sees an ordinary HTTP/1.1 request with these headers:

`User-Agent`
    `pulse/<version>`, unless the task sets its own.
`X-Pulse-Task`
    The task's name; all but visible ASCII, and `%` itself, is percent-encoded UTF-8.
`X-Pulse-Fire-Time`
    RFC 3339, UTC, with microseconds where there are any.
`X-Pulse-Run-Id` and `Idempotency-Key`
    The run's id, the same over all attempts. Both carry it bare, without the quotes of the
    structured-field draft, so that either can be compared with a stored id as it is.
`X-Pulse-Attempt`, `X-Pulse-Trigger`
    1 at the first try; `schedule`, `catch_up`, `manual` or `startup`.

A body without a `Content-Type` of the task's own is `application/octet-stream`.
`environ["pulse.run"]` is the `Run` itself: the proof, which no header can carry, that pulse asks.
"""

from __future__ import annotations

import io
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol
from wsgiref.util import FileWrapper

from pulse.clock import SECOND, rfc3339
from pulse.errors import ConfigError
from pulse.wsgi.environ import header_entries, query_of, quote_header_value, server_environ
from pulse.wsgi.response import AppProtocolError, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import WSGIApplication

    from pulse.clock import Instant
    from pulse.core.run import Claim
    from pulse.core.task import TaskDefinition
    from pulse.wsgi.response import Response

_BODILESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})
"""Methods that need no `Content-Length: 0`."""

_EACH_CALL = (
    "REQUEST_METHOD",
    "PATH_INFO",
    "QUERY_STRING",
    "wsgi.input",
    "wsgi.errors",
    "HTTP_X_PULSE_TASK",
    "HTTP_X_PULSE_FIRE_TIME",
    "HTTP_X_PULSE_RUN_ID",
    "HTTP_X_PULSE_ATTEMPT",
    "HTTP_X_PULSE_TRIGGER",
    "HTTP_IDEMPOTENCY_KEY",
    "pulse.run",
)
"""The entries that each call sets anew."""

_HEADER_SETS = 1_024
"""How many different sets of headers are kept filled in."""


class ClaimCaller(Protocol):
    """Anything that takes a claim's call to the app."""

    def call(self, claim: Claim) -> Response:
        """Return what the app answered; what it raises passes through."""


class Dispatcher:
    """Sends the calls of claims into *app*.

    Args:
        app: the wrapped WSGI app.
        base_url: the scheme, host, port and script name at which the app believes to be asked.
        multithread: whether another call may go on in this process at the same time.
        multiprocess: whether other processes hold the same app.
        environ: further entries of every call.

    Raises:
        BadValueError: *base_url* is no such URL.

    """

    __slots__ = ("_app", "_fill", "_second", "_template")

    def __init__(
        self,
        app: WSGIApplication,
        *,
        base_url: str = "http://localhost",
        multithread: bool,
        multiprocess: bool = False,
        environ: Mapping[str, object] | None = None,
    ) -> None:
        self._app = app
        self._fill = lru_cache(_HEADER_SETS)(header_entries)
        self._second = (0, rfc3339(0)[:-1])
        self._template: dict[str, object] = {
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_USER_AGENT": f"pulse/{version()}",
            "wsgi.version": (1, 0),
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            **server_environ(base_url),
            **(environ or {}),
            # A copy has room for these already: a dict that grows while it is filled costs twice.
            **dict.fromkeys(_EACH_CALL, ""),
        }

    def check(self, definition: TaskDefinition) -> None:
        """Find out now what would keep a task's calls from being made.

        Raises:
            ConfigError: a header cannot be sent; each problem names task, header and variable.

        """
        try:
            self._fill(definition.headers)
        except ConfigError as error:
            raise ConfigError(f"{definition.name}.{line}" for line in error.problems) from None

    def call(self, claim: Claim) -> Response:
        """Return the app's reply, its body drained and closed; what the app raises passes through.

        The body is closed also when something is raised into this call. One that is longer than
        1 MiB is closed there.

        Raises:
            AppProtocolError: the app broke PEP 3333.

        """
        reception = ResponseReader()
        chunks = self._app(self._environ(claim), reception.start_response)
        if chunks is None:
            raise AppProtocolError("the app's answer: expected an iterable of bytes, got None")
        try:
            for chunk in chunks:
                if not reception.take(chunk):
                    break
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return reception.end()

    def _environ(self, claim: Claim) -> dict[str, object]:
        definition, run = claim.definition, claim.run
        body = definition.body if run.body is None else run.body
        environ = self._template.copy()
        environ["REQUEST_METHOD"] = definition.method
        environ["PATH_INFO"] = definition.path
        environ["QUERY_STRING"] = query_of(definition.query) if definition.query else ""
        environ["wsgi.input"] = io.BytesIO(body)
        environ["wsgi.errors"] = sys.stderr or io.StringIO()
        environ["HTTP_X_PULSE_TASK"] = quote_header_value(run.task)
        environ["HTTP_X_PULSE_FIRE_TIME"] = self._text_of(run.fire_time)
        environ["HTTP_X_PULSE_RUN_ID"] = environ["HTTP_IDEMPOTENCY_KEY"] = run.id
        environ["HTTP_X_PULSE_ATTEMPT"] = str(run.attempt)
        environ["HTTP_X_PULSE_TRIGGER"] = run.trigger._value_  # `value` is a slow property
        environ["pulse.run"] = run
        if definition.headers:
            environ.update(self._fill(definition.headers))
        if body:
            environ.setdefault("CONTENT_TYPE", "application/octet-stream")
        if body or definition.method not in _BODILESS:
            environ["CONTENT_LENGTH"] = str(len(body))
        return environ

    def _text_of(self, instant: Instant) -> str:
        seconds, micros = divmod(instant, SECOND)
        known, text = self._second
        if known != seconds:
            text = rfc3339(seconds * SECOND)[:-1]
            self._second = seconds, text
        # Six digits: what a format such as :06d gives, at half the price.
        return f"{text}.{str(SECOND + micros)[1:]}Z" if micros else f"{text}Z"


def version() -> str:
    """Return pulse's own version, as far as it is installed."""
    from importlib import metadata

    try:
        return metadata.version("pulse")
    except metadata.PackageNotFoundError:
        return "unknown"
