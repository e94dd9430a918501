"""The SQLite store and the memory store return the same results for the same calls."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from pulse.store.base import StoreOptions
from pulse.store.sqlite.store import SqliteStore
from tests.support.differential import SHRINKING_S, StorePair

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock


class SqlitePair(StorePair):
    """SQLite beside memory."""

    def make(self, clock: FakeClock) -> SqliteStore:
        """Return a store on a file of its own."""
        self.folder = Path(tempfile.mkdtemp())
        return SqliteStore(self.folder / "pulse.db", clock, StoreOptions(name="twins"))

    def teardown(self) -> None:
        """Close both and forget the file."""
        super().teardown()
        shutil.rmtree(self.folder)


TestAgreement = SqlitePair.TestCase
TestAgreement.settings = settings(max_examples=60, stateful_step_count=40)
pytestmark = pytest.mark.timeout(SHRINKING_S)
