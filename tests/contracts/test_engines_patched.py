"""Engines keep their contract in an interpreter that gevent has patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.testing.posted_contract import PostedContract
from pulse.testing.slot_contract import SlotContract
from tests.support.patched import run_patched

if TYPE_CHECKING:
    from pathlib import Path

PROMISES, POSTED = (
    sum(name.startswith("test_") for name in dir(contract))
    for contract in (SlotContract, PostedContract)
)


pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("file", "at_least"),
    [
        ("contract_greenlets.py", PROMISES),
        ("contract_threads.py", PROMISES),
        ("contract_posted.py", POSTED),
        ("greenlets.py", 15),
    ],
)
def test_engines_keep_their_contract_under_gevent(tmp_path: Path, file: str, at_least: int) -> None:
    """Every test of the file passes in a patched process, and none is skipped."""
    tally = run_patched(file, tmp_path / "report.xml")
    assert tally.others == 0, tally.output
    assert tally.passed >= at_least, tally.output
