"""A harness for engines that hand runs over, with a broker in memory and a clock that it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pulse.clock import SECOND
from pulse.events import BrokerRecovered
from pulse.testing.engine_harness import EngineHarness
from pulse.testing.sample_runs import make_claim, perform

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from pulse.clock import Span
    from pulse.core.run import Claim
    from pulse.engine.base import Engine
    from pulse.testing.clock import FakeClock
    from pulse.testing.memory_carrier import MemoryBroker

_STEPS: Final = 4
"""In how many steps a test moves the clock, so that it notices what happens too early."""


class PostedHarness(EngineHarness):
    """A started engine that posts to a broker in memory, and its reports so far.

    Attributes:
        broker: the broker of its carriers.
        clock: its clock.
        probes: how many probes the test has waited for.
        listener: is called when a claim is posted, before the harness takes it.

    """

    def __init__(
        self, engine: Engine, broker: MemoryBroker, clock: FakeClock, *, concurrency: int
    ) -> None:
        self.broker: MemoryBroker = broker
        self.clock: FakeClock = clock
        self.probes: int = 0
        self.listener: Callable[[], object] = lambda: None
        super().__init__(engine, concurrency=concurrency, perform=perform)

    def _take_posted(self, claim: Claim, wait_us: Span, queue: str) -> None:
        self.listener()
        super()._take_posted(claim, wait_us, queue)

    def post(self, *claims: Claim) -> None:
        """Submit the claims, and wait until the engine has passed each of them on."""
        before = len(self.posted) + len(self.returned)
        self.submit(*claims)
        self.await_passed_on(before + len(claims))

    def await_passed_on(self, count: int) -> None:
        """Wait until so many claims were posted or returned."""
        self.until(
            lambda: len(self.posted) + len(self.returned) >= count, f"{count} claims passed on"
        )

    def submit_to_hung(self, *claims: Claim) -> threading.Event:
        """Submit claims to a broker that does not answer, and wait until the first is being sent.

        Return the event that lets the broker go on.
        """
        gate, before = self.broker.hang(), self.broker.hanging
        for claim in claims:
            self.engine.submit(claim)
        self.until(lambda: self.broker.hanging > before, "a call that hangs")
        return gate

    def forward(self, length: Span) -> None:
        """Move the clock, in steps; the engine looks at it after each of them."""
        for step in range(_STEPS):
            part = length // _STEPS + (length % _STEPS if step == 0 else 0)
            self.clock.forward(part / SECOND)
            self.engine.free()
            self.engine.loop.wait(1_000)

    def await_probe(self, after: Span) -> None:
        """Move the clock, and wait for the probe that is due then."""
        self.probes += 1
        self.forward(after)
        self.until(lambda: len(self.broker.probed_at) >= self.probes, f"probe {self.probes}")

    def go_down(self) -> None:
        """Let the broker stop answering, and a claim show it."""
        self.broker.is_down = True
        self.post(make_claim("quick"))

    def recover(self, after: Span) -> None:
        """Let the broker answer, and wait until the probe that is due shows it."""
        before = len(self.emitted(BrokerRecovered))
        self.broker.is_down = False
        self.broker.answer()
        self.forward(after)
        self.until(lambda: len(self.emitted(BrokerRecovered)) > before, "a broker that is back")
        self.probes = len(self.broker.probed_at)

    def emitted(self, kind: type[object]) -> list[object]:
        """Return the events of a class so far."""
        return [event for event in list(self.events) if isinstance(event, kind)]

    def posted_claims(self) -> list[Claim]:
        """Return the claims that were handed over, in order."""
        return [claim for claim, _, _ in self.posted]

    def returned_claims(self) -> list[Claim]:
        """Return the claims that were given back, in order."""
        return [claim for claim, _, _ in self.returned]

    def pauses(self) -> list[Span]:
        """Return after which times the runs that were given back may be claimed again."""
        return [pause // SECOND for _, pause, _ in self.returned]
