"""What the tests of stores share: processes of the test's own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.children import RunChild


@pytest.fixture
def run_child() -> Iterator[RunChild]:
    """Return what starts a Python process that reads from and writes to this one."""
    children = []

    def run(program: str, *words: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield run
    for child in children:
        child.kill()
        child.communicate()
