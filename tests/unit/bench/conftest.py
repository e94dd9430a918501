"""Loads scripts of the benchmarks, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCH = Path(__file__).parents[3] / "bench"


def load(name: str) -> ModuleType:
    """Return a script as a module; its dataclasses look for it among the modules."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def compare() -> ModuleType:
    """Return the script that measures two checkouts."""
    return load("compare")


@pytest.fixture(scope="session")
def tick_trace() -> ModuleType:
    """Return the script that traces a tick."""
    return load("tick_trace")
