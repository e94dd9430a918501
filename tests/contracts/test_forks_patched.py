"""In a process that gevent has patched, greenlets that a fork copied have no effect."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.patched import run_patched
from tests.support.postgres import find_binary

if TYPE_CHECKING:
    from pathlib import Path

STAY = """
from gevent import monkey; monkey.patch_all()
import gevent
from pulse.forks import ForkMark

mark = ForkMark()
gevent.spawn(mark.set).join()
mark.stay()
print("it went on")
"""


pytestmark = pytest.mark.timeout(300)


@pytest.mark.server
def test_copied_greenlets_have_no_effect(tmp_path: Path) -> None:
    """Every test of the file passes in a patched process, and none is skipped."""
    find_binary("postgres")
    tally = run_patched("forks.py", tmp_path / "report.xml")
    assert tally.others == 0, tally.output
    assert tally.passed >= 19, tally.output


def test_main_greenlet_ends_a_child_without_other_work() -> None:
    """A child that waits in a copied greenlet would never end otherwise."""
    done = subprocess.run(
        [sys.executable, "-c", STAY], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
