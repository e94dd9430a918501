"""`pulse hash-password` makes a hash that the setting `access` takes."""

from __future__ import annotations

import getpass
import io
import sys

import pytest

from pulse.cli.main import main
from pulse.config.access_rules import PasswordRule, access_rules
from pulse.web.passwords import is_password


def test_password_of_a_pipe_is_hashed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two calls give two hashes of it."""
    found = []
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse\n"))
        assert main(["hash-password"]) == 0
        found.append(capsys.readouterr().out.strip())
    assert found[0] != found[1]
    for hashed in found:
        assert is_password("correct horse", hashed)
        (rule,) = access_rules(f"act basic:anna:{hashed}")
        assert isinstance(rule, PasswordRule)


class Terminal(io.StringIO):
    """A text stream that says that it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        (["correct horse", "correct house"], "expected the same text twice"),
        (["short", "short"], "expected at least 8 characters, got 5"),
    ],
)
def test_password_that_is_typed_wrong_is_refused(
    typed: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is printed but the error, which does not show it."""
    words = iter(typed)
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(getpass, "getpass", lambda _: next(words))
    assert main(["hash-password"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert problem in printed.err
    assert typed[0] not in printed.err
