"""The base of all parts of the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contracts.suite.store_harness import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.clock import Clock
    from pulse.store.base import Store


class ContractPart:
    """Provides a fleet whose stores `make` creates."""

    def make(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        """Return a store that is not open; a subclass defines which."""
        raise NotImplementedError

    @pytest.fixture
    def fleet(self) -> Iterator[Fleet]:
        """Return a fleet without processes; all its processes are closed after the test."""
        made = Fleet(self.make)
        yield made
        made.close()
