"""What the contract of engines accepts, and what it rejects."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from pulse.engine.threads import ThreadEngine
from pulse.testing.engine_contract import EngineContract

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.clock import Clock

BOUND_S = 20


class ContractOfEngineThatActs(EngineContract):
    """The contract of an engine that does something while it is built."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def make(self, clock: Clock) -> ThreadEngine:
        """Return an engine after the act."""
        self.act()
        return ThreadEngine(clock)


@pytest.fixture
def foreign() -> Iterator[Callable[[], None]]:
    """Start a thread; return a function that ends it."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)

    def end() -> None:
        gate.set()
        thread.join(BOUND_S)

    thread.start()
    yield end
    end()


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Return a list of child processes that end after the test."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.communicate(timeout=BOUND_S)


def test_thread_of_another_test_may_end_while_an_engine_is_built(
    foreign: Callable[[], None],
) -> None:
    """An earlier test may have left a run behind that ends at any time."""
    ContractOfEngineThatActs(foreign).test_building_an_engine_starts_nothing()


def test_engine_that_starts_a_thread_when_it_is_built_breaks_its_contract() -> None:
    """The thread is found."""
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    with pytest.raises(AssertionError):
        ContractOfEngineThatActs(thread.start).test_building_an_engine_starts_nothing()
    gate.set()
    thread.join(BOUND_S)


def test_engine_that_starts_a_child_when_it_is_built_breaks_its_contract(
    started: list[subprocess.Popen[bytes]],
) -> None:
    """The child process is found."""
    command = [sys.executable, "-c", "input()"]

    def start() -> None:
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL))

    with pytest.raises(AssertionError):
        ContractOfEngineThatActs(start).test_building_an_engine_starts_nothing()
