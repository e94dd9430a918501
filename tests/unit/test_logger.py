"""The logger `pulse` while it is disabled, as `dictConfig` and `fileConfig` disable it."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from pulse import events, logger
from pulse.logger import REMEDY, is_enabled_for, log

LOGGER = logging.getLogger("pulse")


@pytest.fixture(autouse=True)
def disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the logger; no process has reported the remedy."""
    monkeypatch.setattr(LOGGER, "disabled", True)
    monkeypatch.setattr(logger, "_REPORTED", logger._RemedyState())


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> list[logging.Handler]:
    """Return the handlers of the root logger: none, and not those of pytest either."""
    root = logging.Logger("root of the test")  # noqa: LOG001 - no configuration may find it
    monkeypatch.setattr(LOGGER, "parent", root)
    return root.handlers


@pytest.fixture
def kept(handlers: list[logging.Handler]) -> io.StringIO:
    """Return what a handler writes that does not write to stderr."""
    stream = io.StringIO()
    handlers.append(logging.StreamHandler(stream))
    return stream


def test_failures_reach_stderr_without_handlers(
    handlers: list[logging.Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy comes first, once; then each failure, once."""
    assert handlers == []
    log(logging.WARNING, "failed")
    log(logging.ERROR, "away")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"pulse: {REMEDY}", "pulse: failed", "pulse: away"]


def test_failures_reach_the_handlers_and_stderr(
    kept: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that nobody expects them in is not enough."""
    log(logging.WARNING, "failed")
    assert kept.getvalue().splitlines() == [REMEDY, "failed"]
    assert capsys.readouterr().err.splitlines() == [REMEDY, "failed"]


def test_failures_reach_stderr_once_where_a_handler_writes_there(
    handlers: list[logging.Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    """The handler of `logging.basicConfig` writes to stderr."""
    handlers.append(logging.StreamHandler(sys.stderr))
    log(logging.WARNING, "failed")
    assert capsys.readouterr().err.splitlines() == [REMEDY, "failed"]


def test_lines_below_the_level_of_a_handler_on_stderr_appear_there_once(
    handlers: list[logging.Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    """The handler does not write warnings; the remedy has the level of the line after it."""
    handlers.append(logging.StreamHandler(sys.stderr))
    handlers[0].setLevel(logging.ERROR)
    log(logging.WARNING, "failed")
    log(logging.ERROR, "away")
    assert capsys.readouterr().err.splitlines() == [REMEDY, "failed", "away"]


def test_lines_that_a_handler_on_stderr_filters_appear_there_once(
    handlers: list[logging.Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    """A filter of a handler often selects the loggers of the application."""
    handlers.append(logging.StreamHandler(sys.stderr))
    handlers[0].addFilter(lambda record: "away" in record.getMessage())
    log(logging.WARNING, "failed")
    log(logging.ERROR, "away")
    assert capsys.readouterr().err.splitlines() == [REMEDY, "failed", "away"]


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_remedy_has_the_level_of_the_line_that_follows_it(
    handlers: list[logging.Handler], level: int
) -> None:
    """A handler that writes the line writes the remedy, too."""
    records: list[logging.LogRecord] = []
    handlers.append(logging.NullHandler())
    handlers[0].handle = records.append
    log(level, "failed")
    assert [record.levelno for record in records] == [level, level]


@pytest.mark.usefixtures("handlers")
def test_lines_below_warning_do_not_appear(capsys: pytest.CaptureFixture[str]) -> None:
    """They do not cause the remedy, either."""
    log(logging.INFO, "succeeded")
    assert (capsys.readouterr().err, is_enabled_for(logging.INFO)) == ("", False)


@pytest.mark.usefixtures("handlers")
def test_level_of_the_logger_counts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is how to silence the logger on purpose."""
    monkeypatch.setattr(LOGGER, "level", logging.CRITICAL)
    log(logging.ERROR, "away")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("handlers")
def test_logging_that_is_disabled_as_a_whole_stays_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`logging.disable` is a decision about all loggers."""
    logging.disable(logging.ERROR)
    try:
        log(logging.ERROR, "away")
    finally:
        logging.disable(logging.NOTSET)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("handlers")
def test_filters_of_the_logger_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line that a filter drops does not appear."""
    monkeypatch.setattr(LOGGER, "filters", [lambda record: "secret" not in record.getMessage()])
    log(logging.ERROR, "a secret")
    log(logging.ERROR, "away")
    assert capsys.readouterr().err.splitlines() == [f"pulse: {REMEDY}", "pulse: away"]


@pytest.mark.usefixtures("handlers")
def test_failure_of_a_listener_reaches_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Its traceback follows."""
    bus = events.EventBus()
    bus.subscribe(events.Notice, lambda _: 1 / 0)
    bus.emit(events.Notice("hello"))
    found = capsys.readouterr().err
    assert found.count("failed on Notice") == 1
    assert found.splitlines()[-1] == "ZeroDivisionError: division by zero"
