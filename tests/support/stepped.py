"""A scheduler on a real store and a fake clock, which a test steps by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse import events
from pulse.clock import SECOND
from pulse.core.run import Outcome, Result
from pulse.core.task import Task, build_definition
from pulse.engine.inline import InlineEngine
from pulse.log.messages import subscribe_log
from pulse.scheduler.loop import Scheduler, SchedulerParts
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.run import Claim
    from pulse.store.base import Store

MOST_TURNS = 50


class Stepped:
    """One process whose loop is stepped by the test; it logs to the logger `pulse`.

    Args:
        make: makes the store, on the clock of this process.
        tasks: the tasks of its configuration.

    """

    def __init__(self, make: Callable[[FakeClock], Store], tasks: Mapping[str, Task]) -> None:
        self.clock = FakeClock()
        self.store = make(self.clock)
        self.ran: list[str] = []
        bus = events.EventBus()
        subscribe_log(bus, self.clock)
        parts = SchedulerParts(
            definitions={name: build_definition(name, task) for name, task in tasks.items()},
            member=this_member("inline", "digest", 30 * SECOND),
            store=self.store,
            engine=InlineEngine(self.clock),
            bus=bus,
            clock=self.clock,
            perform=self._perform,
            concurrency=10,
        )
        self._scheduler = Scheduler(parts)
        self._scheduler.open()

    def _perform(self, claim: Claim) -> Result:
        self.ran.append(claim.run.task)
        return Result(Outcome.SUCCEEDED, claim.run.fire_time, 1)

    def forward(self, seconds: int) -> None:
        """Advance the clock, and step the loop every half second."""
        for _ in range(2 * seconds):
            self.clock.forward(0.5)
            for _ in range(MOST_TURNS):
                if self._scheduler.step():
                    break

    def close(self) -> None:
        """Stop the scheduler at once."""
        self._scheduler.stop(0)


def redis_at(url: str) -> Callable[[FakeClock], RedisStore]:
    """Return a function that makes a Redis store on the clock of a test."""
    return lambda clock: RedisStore(url, clock, stand_in=clock, opened={}, patience_us=SECOND)
