"""What the API and the dashboard have in common: who may send a request, and how it may fail."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from pulse.clock import SECOND, SystemClock
from pulse.core.access import Access, Level
from pulse.core.error_text import traceback_text
from pulse.errors import (
    BadValueError,
    ConfigError,
    NotServingError,
    PulseError,
    RunNotStoppableError,
    StoreError,
    UndeclaredTaskError,
    UnknownRunError,
    UnknownTaskError,
)
from pulse.logger import log
from pulse.web.cross_site import cross_site_problem
from pulse.web.documents import ShownOutput
from pulse.web.gate import AccessFailedError, TooManyAttemptsError, access_function
from pulse.web.limits import RateLimit
from pulse.web.responses import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.clock import Clock
    from pulse.handle.handle import SchedulerHandle
    from pulse.web.responses import HttpAnswer

RETRY_AFTER = "2"
"""After how many seconds a client asks again while the store does not answer."""

_ACTIONS_AT_ONCE, _ACTION_EVERY = 30, SECOND // 5
_REPORTS_AT_ONCE, _REPORT_EVERY = 10, SECOND

_STATUSES: tuple[tuple[type[PulseError], int], ...] = (
    (UndeclaredTaskError, 409),
    (RunNotStoppableError, 409),
    (UnknownTaskError, 404),
    (UnknownRunError, 404),
    (StoreError, 503),
    (NotServingError, 503),
    (ConfigError, 400),
    (BadValueError, 400),
)
"""The status of an error: that of the first class that it is of."""


class GatedApplication:
    """A WSGI application that works on a scheduler, for those who have the right.

    Args:
        access: what the sender of a request may do: a bool, where True means act; an `Access`; or
            a function of the environ that returns one of these.
        trusted_origins: other origins whose pages may act.
        output: what is shown of responses and tracebacks.
        handle: the scheduler; None for that of `environ["pulse.scheduler"]`.
        challenges: the values of `WWW-Authenticate`.
        clock: measures the rates of actions and reports.

    Raises:
        ConfigError: *access* is something else.

    """

    what = "application"
    """What a failure names."""

    def __init__(
        self,
        *,
        access: bool | Access | Callable[[Mapping[str, Any]], object],
        trusted_origins: Collection[str] = (),
        output: ShownOutput | None = None,
        handle: SchedulerHandle | None = None,
        challenges: Collection[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._access_of = access_function(access)
        self._trusted = frozenset(trusted_origins)
        self._output = output or ShownOutput()
        self._handle = handle
        self._challenges = tuple(("WWW-Authenticate", one) for one in challenges)
        self._clock: Clock = clock or SystemClock()
        self._actions = RateLimit(self._clock, burst=_ACTIONS_AT_ONCE, every=_ACTION_EVERY)
        self._reports = RateLimit(self._clock, burst=_REPORTS_AT_ONCE, every=_REPORT_EVERY)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        return self._answer_to(environ).send(environ, start_response)

    def _answer_to(self, environ: WSGIEnvironment) -> HttpAnswer:
        try:
            return self._answer(environ)
        except HttpError as error:
            return self._shown(environ, error)
        except PulseError as error:
            status = next((one for kind, one in _STATUSES if isinstance(error, kind)), 500)
            if status == 500:  # noqa: PLR2004 - what is not expected
                return self._shown(environ, self._failure(error))
            headers = (("Retry-After", RETRY_AFTER),) if status == 503 else ()  # noqa: PLR2004 - the store is away
            return self._shown(environ, HttpError(status, " ".join(str(error).split()), *headers))
        # The sender learns an id, and the log has the traceback: it may hold secrets.
        except Exception as error:  # noqa: BLE001 - the reason is above
            return self._shown(environ, self._failure(error))

    def _answer(self, environ: WSGIEnvironment) -> HttpAnswer:
        raise NotImplementedError

    def _shown(self, environ: WSGIEnvironment, error: HttpError) -> HttpAnswer:  # noqa: ARG002 - pages show where they are
        """Return the response of an error."""
        return error.answer()

    def _failure(self, error: Exception) -> HttpError:
        ident = os.urandom(4).hex()
        text = f"the {self.what} failed, {ident}: {traceback_text(error)}"
        log(logging.ERROR, text, {"pulse_error_id": ident})
        failed = "setting access" if isinstance(error, AccessFailedError) else self.what
        return HttpError(500, f"the {failed} failed; the log of the server has the error {ident}")

    def _handle_of(self, environ: WSGIEnvironment) -> SchedulerHandle:
        handle = self._handle if self._handle is not None else environ.get("pulse.scheduler")
        if handle is None:
            raise HttpError(
                503, 'expected environ["pulse.scheduler"], as below a PulseMiddleware, got none'
            )
        found: SchedulerHandle = handle
        return found

    def _admitted(self, environ: WSGIEnvironment, needed: Level) -> Access:
        """Return the access of a sender who has the right that is needed.

        Raises:
            HttpError: the sender has not.

        """
        try:
            access = self._access_of(environ)
        except TooManyAttemptsError as error:
            raise HttpError(
                429, "too many wrong passwords; wait", ("Retry-After", str(error.wait))
            ) from None
        level = Level(access.level)
        if level.covers(needed):
            return Access(level, access.who)
        if level is Level.NONE:
            text = "expected the credentials of somebody who has access, got none or others"
            raise HttpError(401, text, *self._challenges)
        raise HttpError(403, f"expected the right to {needed.value}, got that to {level.value}")

    def _refuse_other_site(self, environ: WSGIEnvironment) -> None:
        problem = cross_site_problem(environ, self._trusted)
        if problem:
            raise HttpError(403, problem)

    def _count_action(self) -> None:
        _count(self._actions, "actions")

    def _count_report(self) -> None:
        _count(self._reports, "reports")


def _count(limit: RateLimit, what: str) -> None:
    if wait := limit.wait():
        raise HttpError(429, f"too many {what}; wait", ("Retry-After", str(wait)))
