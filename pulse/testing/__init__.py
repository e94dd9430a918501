"""The public test kit: time travel for applications, and the contract of engines.

A module is loaded when one of its names is used: the contract needs pytest, `travel` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.testing.clock import FakeClock
    from pulse.testing.engine_contract import EngineContract
    from pulse.testing.recorder import Recorder
    from pulse.testing.time_travel import TimeTravel, TravelRun, travel

__all__ = [
    "EngineContract",
    "FakeClock",
    "Recorder",
    "TimeTravel",
    "TravelRun",
    "travel",
]

_HOMES = {
    "EngineContract": "pulse.testing.engine_contract",
    "FakeClock": "pulse.testing.clock",
    "Recorder": "pulse.testing.recorder",
    "TimeTravel": "pulse.testing.time_travel",
    "TravelRun": "pulse.testing.time_travel",
    "travel": "pulse.testing.time_travel",
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
