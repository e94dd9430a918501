"""The memory store keeps the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.policies import Scope
from pulse.store.base import StoreOptions
from pulse.store.memory.store import MemoryStore
from tests.contracts.suite.store import StoreContract

if TYPE_CHECKING:
    from pulse.clock import Clock


class TestMemoryStore(StoreContract):
    """One process, its own storage."""

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> MemoryStore:
        """Return a store of its own."""
        return MemoryStore(clock, StoreOptions(name=name, keep_runs=keep_runs))


def test_once_goes_as_far_as_the_process() -> None:
    """The store says that other processes tick by themselves."""
    assert MemoryStore.reach is Scope.PROCESS
