"""The how-to on testing: its files, run by pytest as a reader would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from markdown import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "testing.md"


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    """Each block that begins with a file's name is saved; the three tests in them pass."""
    for block in blocks_of(PAGE):
        name, _, code = block.code.partition("\n")
        if name.startswith("# "):
            (tmp_path / name.removeprefix("# ")).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert "3 passed" in ended.stdout, ended.stdout + ended.stderr
