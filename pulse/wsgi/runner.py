"""Executes one claim: checks the lease, calls the app, and makes a result of every outcome."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import msgspec

from pulse.core.error_text import LONGEST_TRACEBACK, bounded, message_of, traceback_text
from pulse.core.retry import read_retry_after
from pulse.core.run import Outcome, Result
from pulse.engine.base import Interruption
from pulse.forks import ForkMark
from pulse.settings.converters import duration_text
from pulse.wsgi.response import AppProtocolError

if TYPE_CHECKING:
    from types import TracebackType

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.wsgi.dispatcher import ClaimCaller
    from pulse.wsgi.response import Response

_FRAMES = 40
_HANDLERS = (
    "/pulse/child/__main__.py",
    "/pulse/cli/run_watch.py",
    "/pulse/worker/main_thread.py",
)
_OWN = frozenset(
    {__name__, "pulse.wsgi.dispatcher", "pulse.wsgi.foreground", "pulse.wsgi.response"}
)


__all__ = [
    "LONGEST_TRACEBACK",
    "CallResult",
    "Runner",
    "dropped",
    "result_of_error",
    "result_of_response",
    "with_timeout",
]


class CallResult(msgspec.Struct, frozen=True, gc=False):
    """The result of a call before its duration is checked; *retry_after* is the header."""

    outcome: Outcome
    status: int | None = None
    message: str = ""
    retry_after: str | None = None


class Runner:
    """Executes claims, and makes their results.

    Args:
        dispatcher: calls the app.
        clock: measures the runs.
        mark: whether this runner is a copy in a forked child, where no claim is dispatched.

    """

    __slots__ = ("__weakref__", "_clock", "_dispatcher", "_mark")

    def __init__(self, dispatcher: ClaimCaller, clock: Clock, mark: ForkMark | None = None) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._mark = mark or ForkMark()

    def perform(self, claim: Claim) -> Result:
        """Return the result of the claim; exceptions of the app do not propagate.

        A claim whose lease has ended is not dispatched: its result is `abandoned`. In a child that
        the app has forked, an exception that ends a program (`SystemExit`) propagates, and ends the
        child.
        """
        clock = self._clock
        begun, started_at = clock.boot(), clock.wall()
        if begun >= claim.good_until or self._mark.in_child:
            return Result(
                Outcome.ABANDONED, started_at, 0, message=_LEASE_OVER, was_dispatched=False
            )
        try:
            reply = self._dispatcher.call(claim)
            settled = result_of_response(reply, method=claim.definition.method)
        # The app may raise anything, even SystemExit; each exception fails this run only.
        except BaseException as error:
            if self._mark.ends_child(error):
                raise
            settled = result_of_error(error, claim)
        took = clock.boot() - begun
        if took >= claim.definition.timeout_us:
            settled = with_timeout(settled, took, claim.definition.timeout_us)
        result = Result(settled.outcome, started_at, took, settled.status, settled.message)
        if settled.retry_after is None:
            return result
        after = read_retry_after(settled.retry_after, clock.wall())
        return msgspec.structs.replace(result, retry_after_us=after)


def dropped(clock: Clock) -> Result:
    """Return the result of a claim whose application was dropped before the call."""
    return Result(Outcome.INTERRUPTED, clock.wall(), 0, message=_DROPPED, was_dispatched=False)


def result_of_response(reply: Response, *, method: str = "GET") -> CallResult:
    """Return the result of a response; only a 2xx with a body that was read to its end succeeds.

    Args:
        reply: the response.
        method: the method of the request, to explain why the application refused it.

    """
    status = reply.status
    body = reply.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    if 200 <= status < 300:  # noqa: PLR2004 - the class of success
        if reply.truncated:
            return CallResult(Outcome.FAILED, status, _CUT)
        return CallResult(_SUCCEEDED, status, body)
    if 300 <= status < 400:  # noqa: PLR2004 - the class of redirections
        return CallResult(Outcome.FAILED, status, bounded(_redirected(reply)))
    words = body or bounded(reply.line)
    if hint := _hint_of(status, method):
        words = f"{bounded(reply.line)}: {hint}\n{words}"
    return CallResult(Outcome.FAILED, status, words, reply.retry_after)


def result_of_error(error: BaseException, claim: Claim) -> CallResult:
    """Return the result of an exception: the interruption of this claim, or a failure."""
    stop = _interruption(error, claim)
    if stop is None:
        return CallResult(Outcome.FAILED, None, _failure_text(error))
    frames = traceback.extract_tb(_below_pulse(stop), limit=-_FRAMES)
    if frames and frames[-1].filename.endswith(_HANDLERS):
        frames.pop()  # that of the signal handler that has raised it
    where = "".join(frames.format())
    first = f"{stop.reason}; it was here:" if stop.reason else _STOPPED[stop.outcome]
    return CallResult(stop.outcome, None, bounded(f"{first}\n{where}".rstrip()))


def with_timeout(settled: CallResult, took: Span, timeout: Span) -> CallResult:
    """Return the result of a call that took longer than its timeout: `timed_out`, same status."""
    if settled.outcome in _STOPPED:
        return settled
    answer = "an exception" if settled.status is None else f"status {settled.status}"
    first = (
        f"ended by itself after {duration_text(took)}, past its timeout of"
        f" {duration_text(timeout)}, with {answer}"
    )
    message = f"{first}\n{settled.message}".rstrip()
    return msgspec.structs.replace(settled, outcome=Outcome.TIMED_OUT, message=message)


_SUCCEEDED = Outcome.SUCCEEDED
_LEASE_OVER = "the lease had ended before the call could begin, so it was not made"
_DROPPED = "the application was dropped before the call could begin, so it was not made"
_BAD_HOST = (
    "if the app checks host names, as Django does by ALLOWED_HOSTS, set base_url to one it knows"
)
_CSRF = (
    "if the app checks CSRF tokens, as Django does for each method but GET, HEAD, OPTIONS and"
    " TRACE, exempt the view (in Django: @csrf_exempt) and protect it by guard or pulse.only"
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CUT = "the body was longer than 1 MiB and was closed there; a scheduled view answers briefly"
_STOPPED = {
    Outcome.TIMED_OUT: "interrupted at its timeout; it was here:",
    Outcome.INTERRUPTED: "interrupted because this process stops; it was here:",
}


def _hint_of(status: int, method: str) -> str:
    """Return what usually helps after a status of the application; empty if that is unknown."""
    match status:
        case 400:
            return _BAD_HOST
        case 403 if method not in _SAFE_METHODS:
            return _CSRF
        case 405:
            return f"the view does not accept {method}; set method to one that it accepts"
    return ""


def _redirected(reply: Response) -> str:
    target = reply.location or "nowhere (there is no Location header)"
    return (
        f"redirected to {target}, which is not followed. "
        "Is a slash missing at the end of the action, or does the view ask for a login? "
        "(From http to https: set base_url.)"
    )


def _interruption(error: BaseException, claim: Claim) -> Interruption | None:
    """Find the interruption of *claim*, also in the context of a later exception.

    A `finally` clause or `close()` of the app may raise while the interruption propagates.
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, Interruption) and cause.claim is claim:
            return cause
        seen.add(id(cause))
        cause = cause.__context__
    return None


def _failure_text(error: BaseException) -> str:
    if isinstance(error, AppProtocolError):
        return message_of(error)
    return traceback_text(error, _below_pulse(error), limit=-_FRAMES)


def _below_pulse(error: BaseException) -> TracebackType | None:
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in _OWN:
        frames = frames.tb_next
    return frames
