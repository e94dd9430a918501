"""The logger `pulse`, and its failures when the application has disabled the logger.

`logging.config.dictConfig` and `fileConfig` disable by default every logger that exists and that
the configuration does not name. The logger `pulse` exists as soon as pulse is imported. A disabled
logger emits nothing, so failed runs and outages would be lost by accident. Therefore lines of level
WARNING and above are passed to the handlers that the logger would have, and to stderr unless one
of these handlers writes the line there, which its level and its filters decide. The first such line
of a process follows a line of the same level with the remedy.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOGGER = logging.getLogger("pulse")

REMEDY = (
    "the logger 'pulse' is disabled, so only its warnings and errors appear: dictConfig and"
    " fileConfig disable every logger that they do not name, unless disable_existing_loggers is"
    " False; set it to False, or name the logger 'pulse' in the logging configuration"
)


class _RemedyState:
    """The process that has reported the remedy."""

    __slots__ = ("pid",)

    def __init__(self) -> None:
        self.pid: int = 0


_REPORTED = _RemedyState()
"""One for the process, as the logger is."""


def is_enabled_for(level: int) -> bool:
    """Return whether a line of this level appears."""
    if not LOGGER.disabled:
        return LOGGER.isEnabledFor(level)
    wanted = max(logging.WARNING, LOGGER.getEffectiveLevel(), LOGGER.manager.disable + 1)
    return level >= wanted


def log(
    level: int,
    text: str,
    extra: Mapping[str, object] | None = None,
    *,
    error: BaseException | None = None,
) -> None:
    """Log a line, with the traceback of *error*; *extra* becomes attributes of the record.

    Without a handler, which would show the name of the logger, the line begins with `pulse:`.
    """
    if not is_enabled_for(level):
        return
    if LOGGER.disabled and _REPORTED.pid != os.getpid():
        _REPORTED.pid = os.getpid()
        _log(level, REMEDY)
    _log(level, text, extra, error)


def _log(
    level: int,
    text: str,
    extra: Mapping[str, object] | None = None,
    error: BaseException | None = None,
) -> None:
    line = text if LOGGER.hasHandlers() else f"pulse: {text}"
    trace = None if error is None else (type(error), error, error.__traceback__)
    if not LOGGER.disabled:
        LOGGER.log(level, line, extra=extra, exc_info=trace)
        return
    record = LOGGER.makeRecord(LOGGER.name, level, __file__, 0, line, (), trace, extra=extra)
    if not LOGGER.filter(record):
        return
    LOGGER.callHandlers(record)
    if logging.lastResort is not None and not _reaches_stderr(record):
        logging.lastResort.handle(record)


def _reaches_stderr(record: logging.LogRecord) -> bool:
    """Return whether a handler of the logger writes *record* to stderr, or no handler exists."""
    handlers = [*_handlers()]
    return not handlers or any(_writes_to_stderr(handler, record) for handler in handlers)


def _writes_to_stderr(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Return whether *handler* writes *record* to stderr: its level and its filters let it pass."""
    stream = getattr(handler, "stream", None)
    if stream is not sys.stderr and stream is not sys.__stderr__:
        return False
    return record.levelno >= handler.level and bool(handler.filter(record))


def _handlers() -> Iterator[logging.Handler]:
    current: logging.Logger | None = LOGGER
    while current is not None:
        yield from current.handlers
        current = current.parent if current.propagate else None
