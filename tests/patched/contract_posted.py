"""The engine that posts runs keeps its contract where its thread is a greenlet, also in forks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent

from pulse.carrier.base import CarrierSetup
from pulse.clock import SECOND, SystemClock
from pulse.engine.posted import PostedEngine
from pulse.events import BrokerRecovered
from pulse.testing.engine_harness import EngineHarness
from pulse.testing.memory_carrier import MemoryBroker
from pulse.testing.posted_contract import PostedContract
from pulse.testing.sample_runs import make_claim
from tests.support.forks import in_child, status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.carrier.base import Carrier
    from pulse.clock import Clock

BOUND_S = 20


class TestPatchedPostedEngine(PostedContract):
    """Parcels are sent by what gevent makes of a thread."""

    many = 1_000

    def make_posted(
        self, clock: Clock, *, make_carrier: Callable[[], Carrier], setup: CarrierSetup
    ) -> PostedEngine:
        """Return the engine under test, not started."""
        return PostedEngine("posted", clock, make_carrier=make_carrier, setup=setup)


class Site:
    """A started engine on the clock of the system, with a broker in memory."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.broker = MemoryBroker(clock)
        self.engine = PostedEngine(
            "posted", clock, make_carrier=self.broker.make_carrier, setup=CarrierSetup()
        )
        self.stage = EngineHarness(self.engine, concurrency=4)

    def passed_on(self) -> int:
        """Return how many claims were posted or given back."""
        return len(self.stage.posted) + len(self.stage.returned)

    def is_idle_in_child(self, seconds: float) -> bool:
        """Let the copies of greenlets go on in a child; return whether they have no effect."""
        self.engine.forked()
        self.broker.release()
        before = (self.passed_on(), len(self.broker.probed_at), len(self.stage.events))
        gevent.sleep(seconds)
        self.engine.submit(make_claim("quick"))
        self.engine.stop(SECOND)
        after = (self.passed_on(), len(self.broker.probed_at), len(self.stage.events))
        return (before, self.engine.free()) == (after, 0)


def test_claims_that_wait_are_posted_in_the_parent_alone() -> None:
    """The copy of the publisher drops what it was sending, and takes nothing more."""
    site = Site()
    gate = site.broker.hang()
    for _ in range(3):
        site.engine.submit(make_claim("quick"))
    site.stage.until(lambda: site.broker.hanging == 1, "a parcel that is being sent")
    child = in_child(lambda: site.is_idle_in_child(0.3))
    gate.set()
    site.stage.until(lambda: site.passed_on() == 3, "posted claims")
    assert (status_of(child), len(site.stage.posted)) == (0, 3)
    site.engine.stop(0)


def test_a_broker_that_does_not_answer_is_probed_in_the_parent_alone() -> None:
    """The pause of the copy ends without a probe and without an event."""
    site = Site()
    site.broker.is_down = True
    site.engine.submit(make_claim("quick"))
    site.stage.until(lambda: len(site.stage.events) == 1, "an event")
    site.broker.is_down = False
    child = in_child(lambda: site.is_idle_in_child(1.5))
    site.stage.until(lambda: len(site.stage.events) == 2, "a broker that is back")
    assert (status_of(child), type(site.stage.events[1])) == (0, BrokerRecovered)
    site.engine.stop(0)


def test_a_stop_in_progress_gives_nothing_back_in_a_forked_child() -> None:
    """It returns there, without effect."""
    site = Site()
    site.broker.hang()
    site.engine.submit(make_claim("quick"))
    site.stage.until(lambda: site.broker.hanging == 1, "a parcel that is being sent")
    stopping = gevent.spawn(site.engine.stop, SECOND * 3 // 10)
    gevent.sleep(0.05)
    child = in_child(lambda: site.is_idle_in_child(0.6))
    stopping.join(BOUND_S)
    site.broker.release()
    assert (status_of(child), len(site.stage.returned), site.stage.posted) == (0, 1, [])
