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


pytestmark = pytest.mark.timeout(300)


@pytest.mark.server
def test_postgres_store_fulfils_its_contract_under_gevent(tmp_path: Path) -> None:
    """Every test of the contract passes in a patched process, and none is skipped."""
    find_binary("postgres")
    tally = run_patched("contract_postgres.py", tmp_path / "report.xml")
    assert tally.others == 0, tally.output
    assert tally.passed >= PROMISES, tally.output
