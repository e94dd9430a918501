"""The Redis store keeps its contract in an interpreter that gevent has patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.suite.store import SharedStoreContract
from tests.support.patched import run_patched

if TYPE_CHECKING:
    from pathlib import Path

PROMISES = sum(name.startswith("test_") for name in dir(SharedStoreContract))
PARTS = 2
"""In so many processes: one alone would keep the last of several runners waiting."""


pytestmark = pytest.mark.timeout(300)


@pytest.mark.server
@pytest.mark.parametrize("part", range(PARTS))
def test_store_keeps_its_contract_under_gevent(tmp_path: Path, part: int) -> None:
    """Every test of the file passes in a patched process, and none is skipped."""
    tally = run_patched("contract_redis.py", tmp_path / "report.xml", part=part, parts=PARTS)
    assert tally.others == 0, tally.output
    assert tally.passed >= PROMISES // PARTS, tally.output
