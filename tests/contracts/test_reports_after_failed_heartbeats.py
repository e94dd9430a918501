"""Rows that a failed heartbeat has written are reported by a later heartbeat.

A heartbeat makes several calls to the storage, and any of them can fail. Each missed tick and each
abandoned run that is in the store is returned by a heartbeat that succeeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pulse.core.run import Outcome
from pulse.errors import StoreUnavailableError
from tests.contracts.suite.store_harness import EVERY, LEASE_S, holders, make_task
from tests.support.setups import require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.store.base import HeartbeatResult
    from tests.contracts.suite.store_harness import Fleet, Process

    Scene = Callable[[Fleet, str], Process]

MOST_CALLS = 40
REPORTED = {Outcome.MISSED, Outcome.ABANDONED}


class Faults:
    """Makes one of the next calls of a store to its storage fail, as in an outage."""

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left: int | None = None
        store: Any = process.store
        backend = store._backend
        if hasattr(backend, "server"):
            monkeypatch.setattr(backend.server, "_calling", self._before(backend.server._calling))
        else:
            database = backend.database
            monkeypatch.setattr(database, "run", self._before(database.run))

    def fail_at(self, number: int) -> None:
        """Make the call of that number fail, counted from 1."""
        self._left = number

    def happened(self) -> bool:
        """Return whether that call was made; later calls do not fail."""
        happened = self._left == 0
        self._left = None
        return happened

    def _before(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: object, **more: object) -> Any:
            if self._left:
                self._left -= 1
                if self._left == 0:
                    raise StoreUnavailableError("it was made to fail")
            return real(*words, **more)

        return call


def return_after_silence(fleet: Fleet, space: str) -> Process:
    """Return a removed process whose next heartbeat replaces the schedule of its task."""
    silent = fleet.join({"work": make_task(interval=20)}, space=space)
    other = fleet.join({"work": make_task()}, space=space)
    fleet.wait(3 * LEASE_S + 10, other)
    require(holders(other.store) == [other.member.holder], "a process that was given up")
    other.store.close()
    fleet.clock.forward(3 * EVERY)
    return silent


def take_over(fleet: Fleet, space: str) -> Process:
    """Return a process whose next heartbeat takes over the task of an ended newer process."""
    old = fleet.join({"work": make_task(interval=20)}, space=space)
    new = fleet.join({"work": make_task()}, space=space)
    new.store.close()
    fleet.clock.forward(3 * EVERY)
    return old


def find_abandoned(fleet: Fleet, space: str) -> Process:
    """Return a process whose next heartbeat abandons a run of a silent process."""
    silent, other = (fleet.join({"work": make_task()}, space=space) for _ in range(2))
    fleet.clock.forward(EVERY)
    silent.claim_one()
    fleet.wait(LEASE_S - 5, other)
    fleet.clock.forward(EVERY)
    return other


SCENES = [return_after_silence, take_over, find_abandoned]


def reported_by(beats: list[HeartbeatResult]) -> set[str]:
    """Return the ids of the runs that the heartbeats returned."""
    return {run.id for beat in beats for run in (*beat.missed, *beat.abandoned)}


def beat_on(fleet: Fleet, process: Process) -> list[HeartbeatResult]:
    """Return the heartbeats of the next three leases."""
    return [process.store.heartbeat(), *fleet.wait(3 * LEASE_S, process)]


def unreported(fleet: Fleet, process: Process, faults: Faults, number: int) -> set[str] | None:
    """Make call *number* of a heartbeat fail; return the ids of rows that no heartbeat returns.

    None means that the heartbeat makes fewer calls.
    """
    faults.fail_at(number)
    beats = []
    try:
        beats.append(process.store.heartbeat())
    except StoreUnavailableError as error:
        require("made to fail" in str(error), "no other error than the one of the test")
    if not faults.happened():
        return None
    beats += beat_on(fleet, process)
    stored = {run.id for run in process.store.runs() if run.outcome in REPORTED}
    require(stored, "a row that is to be reported")
    return stored - reported_by(beats)


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("fleet", SHARED, indirect=True)
def test_row_that_a_failed_heartbeat_wrote_is_reported_later(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    """The test makes each call of the heartbeat fail in turn."""
    lost = {}
    for number in range(1, MOST_CALLS):
        process = scene(fleet, f"call {number}")
        found = unreported(fleet, process, Faults(process, monkeypatch), number)
        if found is None:
            break
        lost[number] = found
    require(lost, "calls that fail")
    assert {number: ids for number, ids in lost.items() if ids} == {}
