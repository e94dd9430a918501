"""The page of the command line: each of its examples prints what it shows."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from pulse.cli.main import main
from tests.support.markdown import Block, blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
BLOCKS = list(blocks_of(PAGE))
EXAMPLES = [block for block in BLOCKS if block.code.startswith("$ pulse ")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's folder, with the file that the page shows."""
    (ini,) = (block.code for block in BLOCKS if block.language == "ini")
    (tmp_path / "site.ini").write_text(ini)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_an_example_prints_what_it_shows(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """To the letter, with exit status 0."""
    command, _, shown = block.code.partition("\n")

    status = main(shlex.split(command.removeprefix("$ pulse ")))

    assert (capsys.readouterr().out, status) == (shown, 0)
