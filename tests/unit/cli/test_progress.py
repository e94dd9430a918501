"""The progress bar: only at a terminal, and only for what takes long."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from pulse.cli import progress
from pulse.cli.progress import ProgressBar, tracked

if TYPE_CHECKING:
    import pytest


class Terminal(io.StringIO):
    """A text stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def stderr_as_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Replace stderr by a terminal; in the test itself, since pytest replaces it before."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_bar_shows_how_far_a_long_command_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text, how much is done, and the total; the items are all yielded."""
    stderr = stderr_as_terminal(monkeypatch)
    monkeypatch.setattr(progress, "AFTER", 0)
    assert list(tracked(["a", "b", "c"], "ledger")) == ["a", "b", "c"]
    assert "ledger" in stderr.getvalue()
    assert "/3" in stderr.getvalue()


def test_bar_without_a_total_shows_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for runs that are deleted."""
    stderr = stderr_as_terminal(monkeypatch)
    monkeypatch.setattr(progress, "AFTER", 0)
    with ProgressBar("deleted") as bar:
        bar.reach(1_500)
    assert "1,500" in stderr.getvalue()


def test_short_command_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would only flicker."""
    stderr = stderr_as_terminal(monkeypatch)
    assert list(tracked([1, 2], "ledger")) == [1, 2]
    assert stderr.getvalue() == ""


def test_pipe_shows_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However long it takes."""
    monkeypatch.setattr(progress, "AFTER", 0)
    assert list(tracked([1, 2], "ledger")) == [1, 2]
    assert capsys.readouterr().err == ""
