"""The PostgreSQL store fulfils its contract in an interpreter that gevent has patched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.suite.store import SharedStoreContract
from tests.support.patched import run_patched
from tests.support.postgres import find_binary

if TYPE_CHECKING:
    from pathlib import Path

PROMISES = sum(name.startswith("test_") for name in dir(SharedStoreContract))
PARTS = 2
"""In so many processes: one alone would keep the last of several runners waiting."""


pytestmark = pytest.mark.timeout(300)


@pytest.mark.server
@pytest.mark.parametrize("part", range(PARTS))
def test_postgres_store_fulfils_its_contract_under_gevent(tmp_path: Path, part: int) -> None:
    """Every test of the contract passes in a patched process, and none is skipped."""
    find_binary("postgres")
    tally = run_patched("contract_postgres.py", tmp_path / "report.xml", part=part, parts=PARTS)
    assert tally.others == 0, tally.output
    assert tally.passed >= PROMISES // PARTS, tally.output
