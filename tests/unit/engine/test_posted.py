"""What the engine that posts runs does beyond its contract: bounds, failures and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from pulse.carrier.base import CarrierDownError, CarrierSetup
from pulse.clock import SECOND, SystemClock
from pulse.engine import posted
from pulse.engine.base import EngineCallbacks
from pulse.engine.posted import PostedEngine
from pulse.errors import ConfigError
from pulse.events import BrokerRecovered, BrokerUnavailable
from pulse.testing.clock import FakeClock
from pulse.testing.engine_harness import BOUND, EngineHarness
from pulse.testing.memory_carrier import MemoryBroker, MemoryCarrier
from pulse.testing.posted_harness import PostedHarness
from pulse.testing.sample_runs import make_claim, read_seconds
from tests.support.interrupted import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.carrier.base import Carrier, Parcel

SETUP = CarrierSetup()
IDLE = EngineCallbacks(*[lambda *_: None] * 3)
word: ContextVar[str] = ContextVar("word", default="unset")


def engine_of(make_carrier: Callable[[], Carrier], clock: FakeClock | None = None) -> PostedEngine:
    """Return an engine, not started."""
    return PostedEngine("posted", clock or FakeClock(), make_carrier=make_carrier, setup=SETUP)


@pytest.fixture
def site() -> Iterator[PostedHarness]:
    """Start an engine with a broker in memory, and stop both after the test."""
    clock = FakeClock()
    broker = MemoryBroker(clock)
    site = PostedHarness(engine_of(broker.make_carrier, clock), broker, clock, concurrency=4)
    yield site
    broker.release()
    site.engine.stop(0)


def test_a_stop_with_a_long_drain_is_bounded(
    site: PostedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A carrier that hangs is waited for no longer than in operation."""
    site.submit_to_hung(make_claim("quick"))
    monkeypatch.setattr(posted, "HUNG_AFTER", SECOND // 20)
    before = read_seconds()
    site.engine.stop(BOUND)
    assert read_seconds() - before < BOUND / SECOND / 4
    assert len(site.returned) == 1


@pytest.mark.parametrize("nth", range(1, 16))
def test_a_stop_that_is_cut_short_anywhere_can_be_repeated(site: PostedHarness, nth: int) -> None:
    """A Ctrl-C at any line of `stop` loses no claim: one may be given back twice."""
    claims = [make_claim("quick") for _ in range(3)]
    site.submit_to_hung(*claims)
    with Interrupted(nth), suppress(KeyboardInterrupt):
        site.engine.stop(0)
    site.engine.stop(0)
    returned = [claim.run.id for claim in site.returned_claims()]
    assert list(dict.fromkeys(returned)) == [claim.run.id for claim in claims]
    assert len(returned) <= len(claims) + 1


def test_a_carrier_that_cannot_be_made_keeps_the_engine_from_starting() -> None:
    """The caller gets the error of the carrier, and an engine that can be stopped."""

    def make_none() -> Carrier:
        raise ConfigError(["pulse.config.broker: expected a Celery application, got None"])

    engine = engine_of(make_none)
    with pytest.raises(ConfigError, match=r"pulse\.config\.broker"):
        engine.start(IDLE, concurrency=1)
    engine.stop(0)
    assert engine.free() == 0


def test_a_system_out_of_threads_waits_for_the_one_that_hangs(
    site: PostedHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim is given back all the same; the next look takes another publisher."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    site.submit_to_hung(make_claim("quick"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        site.forward(posted.HUNG_AFTER + SECOND)
    assert (len(site.returned), site.engine.free(), len(site.events)) == (1, 0, 1)
    site.recover(30 * SECOND)
    site.post(make_claim("quick"))
    assert len(site.posted) == 1


class Faulty(MemoryCarrier):
    """Fails when it is closed."""

    def close(self) -> None:
        """Raise what a client may raise."""
        super().close()
        raise OSError("the connection is gone")


def test_a_carrier_that_fails_when_it_is_closed_does_no_harm() -> None:
    """Pytest reports an exception that leaves a thread."""
    clock = SystemClock()
    carrier = Faulty(MemoryBroker(clock))
    engine = PostedEngine("posted", clock, make_carrier=lambda: carrier, setup=SETUP)
    stage = EngineHarness(engine, concurrency=1)
    engine.stop(0)
    stage.until(lambda: carrier.closed == 1, "a closed carrier")
    assert stage.events == []


def test_a_probe_needs_no_call_of_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process for which another one of its host looks notices that the broker is back."""
    monkeypatch.setattr(posted, "FIRST_PAUSE", SECOND // 100)
    clock = SystemClock()
    broker = MemoryBroker(clock)
    broker.problem = CarrierDownError("no answer")
    engine = PostedEngine("posted", clock, make_carrier=broker.make_carrier, setup=SETUP)
    stage = EngineHarness(engine, concurrency=1)
    engine.submit(make_claim("quick"))
    stage.until(lambda: len(stage.events) == 2, "a broker that is back")
    engine.stop(0)
    assert [type(event) for event in stage.events] == [BrokerUnavailable, BrokerRecovered]


class Witness(MemoryCarrier):
    """Notes the context of each parcel."""

    seen: list[str]

    def send(self, parcel: Parcel, *, queue: str) -> None:
        """Note a variable of the context."""
        self.seen.append(word.get())
        super().send(parcel, queue=queue)


def test_the_publisher_inherits_no_context() -> None:
    """An engine that is started in a request sends parcels without its variables."""
    clock = SystemClock()
    carrier = Witness(MemoryBroker(clock))
    carrier.seen = []
    word.set("the request's")
    engine = PostedEngine("posted", clock, make_carrier=lambda: carrier, setup=SETUP)
    stage = EngineHarness(engine, concurrency=1)
    stage.submit(make_claim("quick"))
    stage.until(lambda: len(stage.posted) == 1, "a posted claim")
    engine.stop(0)
    assert carrier.seen == ["unset"]


FORKS = """
import gc, os, sys
from pulse.carrier.base import CarrierSetup
from pulse.clock import SystemClock
from pulse.engine.base import EngineCallbacks
from pulse.engine.posted import PostedEngine
from pulse.testing.memory_carrier import MemoryBroker, MemoryCarrier

class Ending(MemoryCarrier):
    def __del__(self):
        os.write(1, b"ended by %d\\n" % os.getpid())

broker = MemoryBroker(SystemClock())
engine = PostedEngine(
    "posted", SystemClock(), make_carrier=lambda: Ending(broker), setup=CarrierSetup()
)
engine.start(EngineCallbacks(*[lambda *_: None] * 3), concurrency=1)
child = os.fork()
if child == 0:
    engine.forked()
    engine.stop(0)
    del engine
    gc.collect()
    os.write(1, b"child %d\\n" % os.getpid())
    sys.exit(0)
os.waitpid(child, 0)
engine.stop(0)
"""


def test_a_copy_of_a_carrier_is_not_freed_in_a_forked_child() -> None:
    """A client may end the connection, which belongs to the parent, when it is freed."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    (child,) = [line.split()[1] for line in lines if line.startswith("child")]
    assert child != str(os.getpid())
    assert f"ended by {child}" not in lines
