"""Checks the arguments of the handle: a view may pass what it got in a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import instant_of
from pulse.config.run_filters import is_encodable
from pulse.core.run import Run
from pulse.errors import BadValueError, ConfigError, UnknownTaskError, shown
from pulse.settings.converters import body as convert_body
from pulse.settings.converters import duration_or_zero

if TYPE_CHECKING:
    from datetime import datetime

    from pulse.clock import Instant, Span


def checked_name(name: object) -> str:
    """Return *name* if a task can have it: a view may pass what it got in a request.

    Raises:
        UnknownTaskError: it is no text, or text that UTF-8 cannot encode.

    """
    if not isinstance(name, str):
        raise UnknownTaskError(f"name: expected the name of a task as text, got {shown(name)}")
    if not is_encodable(name):
        raise UnknownTaskError(
            f"name: expected the name of a task without lone surrogates, got {shown(name)}"
        )
    return name


LONGEST_TEXT = 200


def checked_by(by: object) -> str:
    """Return who asked; empty for nobody."""
    return checked_text("by", by, example=", such as the name of a user")


def checked_text(argument: str, value: object, *, example: str = "") -> str:
    """Return a short text; empty for none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError([f"{argument}: expected text{example}, got {shown(value)}"])
    if len(value) > LONGEST_TEXT:
        got = f"{len(value):,} characters"
        raise ConfigError([f"{argument}: expected at most {LONGEST_TEXT} characters, got {got}"])
    if not is_encodable(value):
        raise ConfigError([f"{argument}: expected text without surrogates, got {shown(value)}"])
    return value


def checked_end(until: datetime) -> Instant:
    """Return the instant at which a pause ends."""
    return checked_moment("until", until, example="datetime.now(UTC) + timedelta(hours=1)")


def checked_moment(
    argument: str, moment: datetime, *, example: str = "datetime(2027, 1, 1, tzinfo=UTC)"
) -> Instant:
    """Return the instant of an aware datetime."""
    try:
        return instant_of(moment)
    except BadValueError as error:
        raise ConfigError([f"{argument}: {error}, such as {example}"]) from None


def checked_body(body: object) -> bytes:
    """Return a body as bytes."""
    try:
        return convert_body(body)
    except BadValueError as error:
        raise ConfigError([f"body: {error}"]) from None


def checked_run(run: object) -> str:
    """Return the id of a run, which may be given as the run itself."""
    ident = run.id if isinstance(run, Run) else run
    if not isinstance(ident, str) or not is_encodable(ident):
        raise ConfigError([f"run: expected a run or the id of one as text, got {shown(run)}"])
    return ident


def checked_timeout(timeout: object, *, name: str = "timeout") -> Span | None:
    """Return a span; None for no limit."""
    if timeout is None:
        return None
    try:
        return duration_or_zero(timeout)
    except BadValueError as error:
        raise ConfigError([f"{name}: {error}"]) from None
