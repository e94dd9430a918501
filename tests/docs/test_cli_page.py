"""The page of the command line: each of its examples prints what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.markdown import Block, blocks_of
from tests.support.terminal import at_terminal

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
BLOCKS = list(blocks_of(PAGE))
EXAMPLES = [block for block in BLOCKS if block.code.startswith("$ pulse ")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's folder, with the file that the page shows."""
    (ini,) = (block.code for block in BLOCKS if block.language == "ini")
    (tmp_path / "site.ini").write_text(ini)
    lines = ("CRON_TZ=Europe/Berlin", "*/5 * * * * curl -fsS http://localhost/sessions/cleanup")
    (tmp_path / "crontab").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_an_example_prints_what_it_shows(block: Block) -> None:
    """At a wide terminal, with exit status 0."""
    command, _, shown = block.code.partition("\n")

    words = shlex.split(command.removeprefix("$ pulse "))
    printed, status = at_terminal(words, COLUMNS="160", NO_COLOR="1")

    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", printed).splitlines()]
    assert (lines, status) == (shown.splitlines(), 0)
