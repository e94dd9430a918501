"""A turn that only records ends claims nothing, and no run starts later for it.

The claim that a turn leaves out is compared with a scheduler that claims in every turn, on the
memory store and a clock that the test advances.
"""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse import events
from pulse.clock import SECOND
from pulse.core.policies import Misfire, OnAbandoned, Overlap
from pulse.core.run import Claim, Outcome, Result
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import Task, build_definition
from pulse.errors import PulseError, StoreUnavailableError
from pulse.handle.handle import SchedulerHandle
from pulse.scheduler.loop import MAX_UNINTERRUPTED_SLEEP, Scheduler, SchedulerParts
from pulse.scheduler.poll_delay import NextClaim
from pulse.store.memory.store import MemoryStore
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from pulse.testing.virtual_engine import VirtualEngine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.clock import Instant, Span
    from pulse.store.base import Claimed

NAMES = ("one", "two", "three")
SPANS = (40_000, 300_000, 1_300_000, 2_100_000, 0, 7 * SECOND)


class AlwaysClaims(NextClaim):
    """Lets every turn claim."""

    def idle(self, now: Span) -> bool:  # noqa: ARG002 - the signature
        """Return False: the turn claims."""
        return False


class CountingStore(MemoryStore):
    """Counts its claims."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.claims = 0

    def claim_due(self, limit: int) -> Claimed:
        """Count the call, and make it."""
        self.claims += limit > 0
        return super().claim_due(limit)


class Start(NamedTuple):
    """A call of the application."""

    at: Instant
    task: str
    fire_time: Instant
    attempt: int


class World:
    """One process on a clock that the test advances, whose loop wakes as that of an engine does."""

    def __init__(
        self,
        tasks: Mapping[str, Task],
        *,
        took: Mapping[str, Span] | None = None,
        concurrency: int = 10,
        failing: int = 0,
    ) -> None:
        self.clock = FakeClock()
        self.store = CountingStore(self.clock)
        self.starts: list[Start] = []
        self._failing = failing
        self._engine = VirtualEngine(self.clock, took or {})
        self.scheduler = Scheduler(
            SchedulerParts(
                definitions={name: build_definition(name, task) for name, task in tasks.items()},
                member=this_member("inline", "digest", 30 * SECOND),
                store=self.store,
                engine=self._engine,
                bus=events.EventBus(),
                clock=self.clock,
                perform=self._perform,
                concurrency=concurrency,
            )
        )
        self.handle = SchedulerHandle(TaskDefaults())
        self.handle.attach(self.scheduler)
        self._pause: Span = 0

    def open(self) -> World:
        """Join the store, and do the first turns."""
        self.scheduler.open()
        self._turn()
        return self

    def claims_always(self) -> World:
        """Let every turn of the scheduler claim."""
        self.scheduler._next_claim = AlwaysClaims()
        return self

    def _perform(self, claim: Claim) -> Result:
        run = claim.run
        self.starts.append(Start(self.clock.wall(), run.task, run.fire_time, run.attempt))
        text = f"{run.task}{run.fire_time}{run.attempt}".encode()
        fails = blake2b(text, digest_size=1).digest()[0] % 10 < self._failing
        outcome = Outcome.FAILED if fails else Outcome.SUCCEEDED
        return Result(outcome, self.clock.wall(), 0, status=503 if fails else 200)

    def _turn(self) -> None:
        self._engine.end_due()
        while (pause := self.scheduler.step()) == 0:
            pass
        self._pause = pause

    def forward(self, span: Span) -> None:
        """Let time pass; the loop wakes at the end of its sleep, or of a run in a long sleep."""
        until = self.clock.boot() + span
        while True:
            wakes = self.clock.boot() + self._pause
            end = self._engine.next_end()
            if end is not None and self._pause > MAX_UNINTERRUPTED_SLEEP:
                wakes = min(wakes, max(end, self.clock.boot()))
            if wakes > until:
                break
            self._advance(wakes - self.clock.boot())
            self._turn()
        self._pause -= until - self.clock.boot()
        self._advance(until - self.clock.boot())

    def _advance(self, span: Span) -> None:
        self.clock.forward(timedelta(microseconds=span).total_seconds())

    def act(self, action: tuple[str, str, Task]) -> None:
        """Do what the application does through the handle, which wakes the loop for some of it."""
        verb, name, task = action
        before = self.scheduler._engine.loop._woken
        before.clear()
        try:
            if verb == "add":
                self.handle.add(name, task, replace=True)
            else:
                getattr(self.handle, verb)(name)
        except PulseError:
            return
        if before.is_set():
            self._turn()


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Draw a task of any policy."""
    overlap = draw(st.sampled_from(Overlap))
    backoff = draw(st.sampled_from([0.1, 0.3, 1]))
    return Task(
        action="/",
        interval=draw(st.sampled_from([1, 1, 2, 5])),
        overlap=overlap,
        misfire=draw(st.sampled_from(Misfire)),
        jitter=draw(st.sampled_from([0, 0, 1])),
        grace=draw(st.sampled_from([None, 1, 10])),
        retries=draw(st.sampled_from([0, 0, 2])),
        retry_min_backoff=backoff,
        retry_max_backoff=backoff,
        run_at_start=draw(st.booleans()),
        on_abandoned=draw(st.sampled_from(OnAbandoned)),
        max_running=draw(st.integers(1, 3)) if overlap is Overlap.ALLOW else 10,
    )


ACTIONS = st.tuples(
    st.sampled_from(["trigger", "pause", "resume", "add", "remove"]),
    st.sampled_from([*NAMES, "added"]),
    tasks(),
)


@settings(max_examples=200, deadline=None)
@given(
    config=st.lists(tasks(), min_size=1, max_size=len(NAMES)),
    took=st.tuples(*[st.sampled_from(SPANS)] * 4),
    concurrency=st.integers(1, 4),
    failing=st.integers(0, 5),
    course=st.lists(st.tuples(st.integers(0, 4 * SECOND), st.none() | ACTIONS), max_size=12),
)
def test_runs_start_as_early_as_with_a_claim_in_every_turn(
    config: list[Task],
    took: tuple[Span, ...],
    concurrency: int,
    failing: int,
    course: list[tuple[Span, tuple[str, str, Task] | None]],
) -> None:
    """Every run starts at the same instant, for all tasks, outcomes and calls of the handle."""
    declared = dict(zip(NAMES, config, strict=False))
    spans = dict(zip((*NAMES, "added"), took, strict=True))
    limits = {"took": spans, "concurrency": concurrency, "failing": failing}
    skips = World(declared, **limits).open()
    claims = World(declared, **limits).claims_always().open()
    for world in (skips, claims):
        for span, action in course:
            world.forward(span)
            if action is not None:
                world.act(action)
        world.forward(10 * SECOND)
    assert skips.starts == claims.starts
    assert skips.store.claims <= claims.store.claims


# Each reason to claim ------------------------------------------------------------------------

TICK = Task(action="/", interval=60)
TENTH = {"tick": SECOND // 10}


def claims_of_an_end(world: World, *, begins: Span = 60 * SECOND) -> int:
    """Return how many claims the turn makes that records the end of a run of a tenth of a second.

    Args:
        world: an open one.
        begins: after how long the run begins.

    """
    world.forward(begins + SECOND // 20)
    assert world._engine.next_end() is not None
    before = world.store.claims
    world.forward(SECOND // 10)
    assert world._engine.next_end() is None
    return world.store.claims - before


def test_an_end_that_makes_nothing_claimable_causes_no_claim() -> None:
    """One claim a tick is left: that of the fire time."""
    assert claims_of_an_end(World({"tick": TICK}, took=TENTH).open()) == 0


def test_a_minute_of_ticks_costs_a_claim_each() -> None:
    """A task that ticks each second, and takes a tenth of one."""
    config = {"tick": Task(action="/", interval=1)}
    skips = World(config, took=TENTH).open()
    always = World(config, took=TENTH).claims_always().open()
    for world in (skips, always):
        before = world.store.claims
        world.forward(60 * SECOND + SECOND // 2)
        world.store.claims -= before
    ticks, heartbeats = 60, 60
    assert skips.store.claims == ticks + heartbeats
    assert always.store.claims == ticks + heartbeats + ticks


@pytest.mark.parametrize(
    "policy", [{"overlap": Overlap.WAIT}, {"misfire": Misfire.ALL}], ids=["wait", "all"]
)
def test_an_end_that_others_may_wait_for_causes_a_claim(policy: dict[str, object]) -> None:
    """Under these policies a fire time may have come meanwhile that waits."""
    task = Task(action="/", interval=60, **policy)
    assert claims_of_an_end(World({"tick": task}, took=TENTH).open()) == 1


def test_a_run_that_is_retried_causes_a_claim() -> None:
    """The next attempt may be due before the deadline of the last claim."""
    task = Task(action="/", interval=60, retries=1, retry_min_backoff=1, retry_max_backoff=1)
    assert claims_of_an_end(World({"tick": task}, took=TENTH, failing=10).open()) == 1


def test_the_end_of_a_second_attempt_causes_a_claim() -> None:
    """It was pending, so others may be."""
    task = Task(action="/", interval=60, retries=1, retry_min_backoff=1, retry_max_backoff=1)
    world = World({"tick": task}, took=TENTH, failing=10).open()
    world.forward(60 * SECOND)
    while len(world.starts) == 1:
        world.forward(SECOND // 100)
    assert claims_of_an_end(world, begins=0) == 1


def test_the_end_of_a_task_that_was_added_causes_a_claim() -> None:
    """It may have been replaced meanwhile by one whose fire times wait."""
    world = World({}, took={"added": SECOND // 10}).open()
    world.act(("add", "added", TICK))
    assert claims_of_an_end(world) == 1


def test_the_end_of_a_manual_run_causes_a_claim() -> None:
    """It was pending, so others may be."""
    world = World({"tick": TICK}, took=TENTH).open()
    world.act(("trigger", "tick", TICK))
    assert claims_of_an_end(world, begins=0) == 1


def test_an_end_after_the_deadline_causes_a_claim() -> None:
    """Never later than a second after the last claim: somebody may have set the clock."""
    deadline = NextClaim()
    deadline.begin()
    deadline._idle_until = SECOND
    assert [deadline.idle(SECOND - 1), deadline.idle(SECOND)] == [True, False]


def test_a_request_of_the_application_causes_a_claim() -> None:
    """The handle changed the store, so the last claim's answer is out of date."""
    world = World({"tick": TICK}).open()
    world.forward(SECOND // 2)
    now = world.clock.boot()
    before = world.scheduler._next_claim.idle(now)
    world.scheduler.wake()
    assert (before, world.scheduler._next_claim.idle(now)) == (True, False)


def test_an_end_while_more_is_due_than_slots_were_free_causes_a_claim() -> None:
    """The slot that the run leaves takes the next one at once."""
    config = {"a": TICK, "b": TICK}
    world = World(config, took={"a": SECOND // 10, "b": SECOND // 10}, concurrency=1).open()
    world.forward(61 * SECOND)
    first, second = (start.at for start in world.starts)
    assert second - first == SECOND // 10


def test_a_claim_that_is_refused_at_its_end_causes_a_claim() -> None:
    """Another process took the run away: what else it did is not known."""
    world = World({"tick": TICK}, took=TENTH)
    world.open()
    world.forward(60 * SECOND)
    world.store._runs.open.clear()
    before = world.store.claims
    world.forward(SECOND // 10)
    assert world.store.claims == before + 1


def test_a_task_whose_schedule_raised_is_considered_after_its_runs() -> None:
    """The store set it aside until one of its runs ends."""
    world = World({"tick": TICK}, took=TENTH).open()
    world.scheduler._completer.forget_independent("tick")
    world.forward(60 * SECOND)
    before = world.store.claims
    world.forward(SECOND // 10)
    assert world.store.claims == before + 1


def test_an_end_that_made_work_is_not_forgotten_when_the_next_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A turn that fails before its claim leaves the claim to the next turn."""
    task = Task(action="/", interval=60, overlap=Overlap.WAIT)
    world = World({"tick": task}, took=TENTH).open()
    world.forward(60 * SECOND)

    def fail() -> None:
        raise StoreUnavailableError("away")

    world.scheduler._heartbeat.next_at = world.clock.boot()
    world.scheduler._heartbeat._beat_at = world.clock.boot()
    with monkeypatch.context() as patch:
        patch.setattr(world.store, "heartbeat", fail)
        world.forward(SECOND // 10)
    assert not world.scheduler._next_claim.idle(world.clock.boot())


def test_claims_hold_the_definitions_of_the_configuration() -> None:
    """The completer compares definitions by identity."""
    world = World({"tick": TICK}, took={"tick": SECOND}).open()
    world.forward(60 * SECOND)
    (claim,) = world.scheduler._completer.in_progress()
    assert claim.definition is world.scheduler._parts.definitions["tick"]
