"""The public test kit: time travel for applications, and contracts of engines and carriers.

A module is loaded when one of its names is used: contracts need pytest, `travel` does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.testing.carrier_contract import CarrierContract
    from pulse.testing.clock import FakeClock
    from pulse.testing.engine_contract import EngineContract, StepContract
    from pulse.testing.posted_contract import PostedContract
    from pulse.testing.recorder import Recorder
    from pulse.testing.slot_contract import SlotContract
    from pulse.testing.time_travel import TimeTravel, TravelRun, travel

__all__ = [
    "CarrierContract",
    "EngineContract",
    "FakeClock",
    "PostedContract",
    "Recorder",
    "SlotContract",
    "StepContract",
    "TimeTravel",
    "TravelRun",
    "travel",
]

_HOMES = {
    "CarrierContract": "pulse.testing.carrier_contract",
    "EngineContract": "pulse.testing.engine_contract",
    "FakeClock": "pulse.testing.clock",
    "PostedContract": "pulse.testing.posted_contract",
    "Recorder": "pulse.testing.recorder",
    "SlotContract": "pulse.testing.slot_contract",
    "StepContract": "pulse.testing.engine_contract",
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
