"""The call of a claim: makes a WSGI environ, calls the wrapped app, and reads its response.

Only this module calls the app with scheduled requests. The app receives an ordinary HTTP/1.1
request with these headers:

`User-Agent`
    `pulse/<version>`, unless the task sets its own.
`X-Pulse-Task`
    The name of the task; `%` and everything but visible ASCII is percent-encoded UTF-8.
`X-Pulse-Fire-Time`
    RFC 3339, UTC, with microseconds if they are not zero.
`X-Pulse-Run-Id` and `Idempotency-Key`
    The id of the run, which is equal in all attempts. Neither has the quotes of the draft of
    structured fields, so that both can be compared with a stored id.
`X-Pulse-Attempt`, `X-Pulse-Trigger`
    The number of the attempt, from 1; `schedule`, `catch_up`, `manual` or `startup`.

If the task sets no `Content-Type`, a body is `application/octet-stream`.
`environ["pulse.run"]` is the `Run` itself. It proves that pulse sends the request, since a header
can be forged and an environ entry of this name cannot.
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
"""The entries that each call sets."""

_HEADER_SETS = 1_024
"""How many sets of headers are cached with their environment variables replaced."""


class ClaimCaller(Protocol):
    """Calls the app for a claim."""

    def call(self, claim: Claim) -> Response:
        """Return the response of the app; exceptions of the app propagate."""


class Dispatcher:
    """Calls *app* for claims.

    Args:
        app: the wrapped WSGI app.
        base_url: the scheme, host, port and script name of the requests.
        multithread: whether this process may make several calls at the same time.
        multiprocess: whether other processes run the same app.
        environ: further entries of the environ of every call.

    Raises:
        BadValueError: *base_url* is not a URL with these parts.

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
            # Placeholders: a copy then does not grow while it is filled, which halves its cost.
            **dict.fromkeys(_EACH_CALL, ""),
        }

    def check(self, definition: TaskDefinition) -> None:
        """Check that the headers of a task can be sent.

        Raises:
            ConfigError: a header cannot be sent; each problem names task, header and variable.

        """
        try:
            self._fill(definition.headers)
        except ConfigError as error:
            raise ConfigError(f"{definition.name}.{line}" for line in error.problems) from None

    def call(self, claim: Claim) -> Response:
        """Return the response of the app, after its body was read and closed.

        The body is closed also if an exception is raised in this call, and after 1 MiB of it was
        read. Exceptions of the app propagate.

        Raises:
            AppProtocolError: the app broke PEP 3333.

        """
        reader = ResponseReader()
        chunks = self._app(self._environ(claim), reader.start_response)
        if chunks is None:
            raise AppProtocolError("the app's answer: expected an iterable of bytes, got None")
        try:
            for chunk in chunks:
                if not reader.take(chunk):
                    break
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return reader.end()

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
        # Six digits, as the format :06d gives them, in half the time.
        return f"{text}.{str(SECOND + micros)[1:]}Z" if micros else f"{text}Z"


def version() -> str:
    """Return the version of pulse, or `unknown` if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("pulse")
    except metadata.PackageNotFoundError:
        return "unknown"
