"""A forked child of a process that gevent has patched is a copy without any effect."""

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
def test_copies_of_greenlets_have_no_effect(tmp_path: Path) -> None:
    """Every test of the file passes in a patched process, and none is left out."""
    find_binary("postgres")
    tally = run_patched("forks.py", tmp_path / "report.xml")
    assert tally.others == 0, tally.output
    assert tally.passed >= 19, tally.output


def test_the_main_greenlet_ends_the_child_when_nothing_is_left() -> None:
    """Where it stays, and no other greenlet has anything to do, the process would never end."""
    done = subprocess.run(
        [sys.executable, "-c", STAY], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
