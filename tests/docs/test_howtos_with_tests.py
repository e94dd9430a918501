"""The how-tos that hold tests: their files, run by pytest as a reader would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.markdown import blocks_of

HOWTOS = Path(__file__).parents[2] / "docs" / "howto"


@pytest.mark.parametrize(
    ("page", "tests"),
    [("testing.md", 3), ("run-time-tasks.md", 1), ("see-and-steer.md", 1), ("dashboard.md", 1)],
)
def test_the_tests_of_a_page_pass(page: str, tests: int, tmp_path: Path) -> None:
    """Each block that begins with a file's name is saved, and pytest finds all of them."""
    for block in blocks_of(HOWTOS / page):
        name, _, code = block.code.partition("\n")
        if name.startswith("# "):
            (tmp_path / name.removeprefix("# ")).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

    ended = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert f"{tests} passed" in ended.stdout, ended.stdout + ended.stderr
