"""The memory store keeps the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.core.task import build_definition
from pulse.errors import NotServingError
from pulse.store.base import StoreOptions
from pulse.store.memory.store import MemoryStore
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store import StoreContract
from tests.contracts.suite.store_harness import make_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock

MEMBER = this_member("inline", "digest", 30 * SECOND)
WORK = build_definition("work", make_task())


class TestMemoryStore(StoreContract):
    """One process with its own storage."""

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> MemoryStore:
        """Return a new store."""
        return MemoryStore(clock, StoreOptions(name=name, keep_runs=keep_runs))


REFUSED: dict[str, Callable[[MemoryStore], object]] = {
    "post": lambda store: store.post([]),
    "take": lambda store: store.take("0" * 32, 1, poster="a", definition=WORK),
    "give_back": lambda store: store.give_back([]),
    "runtime_definition": lambda store: store.runtime_definition("work"),
    "open_as_worker": lambda store: store.open_as_worker(MEMBER),
    "open_as_client": lambda store: store.open_as_client(MEMBER),
}


@pytest.mark.parametrize("verb", REFUSED)
def test_memory_store_serves_no_worker(verb: str) -> None:
    """Its memory cannot be reached from another process; the error says which store to use."""
    store = MemoryStore(FakeClock())
    store.open(MEMBER)
    with pytest.raises(NotServingError) as raised:
        REFUSED[verb](store)
    expected = f"expected a store that processes share, got memory:, which only {MEMBER.holder} can"
    assert str(raised.value).startswith(expected)


def test_memory_store_runs_ticks_once_per_process() -> None:
    """The store declares that other processes run the tick as well."""
    assert MemoryStore.reach is Scope.PROCESS
