"""The SQLite store keeps the contract, among processes of one host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.store.sqlite import SqliteStore
from pulse.testing.store import SharedStoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.clock import Clock


class TestSqliteStore(SharedStoreContract):
    """Many processes, one file."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> SqliteStore:
        """Return a store on the test's file, which may be open in this process already."""
        path = self.folder / "pulse.db"
        return SqliteStore(path, clock, name=name, keep_runs=keep_runs, opened={})
