"""The public test kit: time travel for applications, contracts for stores and engines.

Nothing is loaded until a name is asked for: the contracts need pytest, `travel` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock
    from pulse.testing.engine import EngineContract
    from pulse.testing.recorder import Recorder
    from pulse.testing.store import SharedStoreContract, StoreContract
    from pulse.testing.trip import Trip, TripRun, travel

__all__ = [
    "EngineContract",
    "FakeClock",
    "Recorder",
    "SharedStoreContract",
    "StoreContract",
    "Trip",
    "TripRun",
    "travel",
]

_HOMES = {
    "EngineContract": "pulse.testing.engine",
    "FakeClock": "pulse.testing.clock",
    "Recorder": "pulse.testing.recorder",
    "SharedStoreContract": "pulse.testing.store",
    "StoreContract": "pulse.testing.store",
    "Trip": "pulse.testing.trip",
    "TripRun": "pulse.testing.trip",
    "travel": "pulse.testing.trip",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module at first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'pulse.testing' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
