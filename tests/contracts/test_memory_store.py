"""The memory store keeps the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.policies import Scope
from pulse.store.base import StoreOptions
from pulse.store.memory.store import MemoryStore
from tests.contracts.suite.store import StoreContract

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestMemoryStore(StoreContract):
    """One process with its own storage."""

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> MemoryStore:
        """Return a new store."""
        return MemoryStore(clock, StoreOptions(name=name, keep_runs=keep_runs))


def test_memory_store_runs_ticks_once_per_process() -> None:
    """The store declares that other processes run the tick as well."""
    assert MemoryStore.reach is Scope.PROCESS
