"""SQLite and Redis return the same results while runs are posted, taken and given back."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pulse.core.run import QUEUE_HOLDER
from pulse.errors import PulseError
from pulse.store.base import StoreOptions
from pulse.store.redis.store import RedisStore
from pulse.store.sqlite.store import SqliteStore
from tests.contracts.suite.store_harness import Fleet, Process, fail, make_task, succeed
from tests.support.differential import SHRINKING_S
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock
    from pulse.core.run import Claim, Run
    from pulse.core.task import Task
    from pulse.store.base import Store

T = TypeVar("T")

pytestmark = [pytest.mark.server, pytest.mark.timeout(SHRINKING_S)]

NAMES = ("a", "b")
TASKS = st.fixed_dictionaries(
    {
        "interval": st.sampled_from([3, 7, 20]),
        "overlap": st.sampled_from(["skip", "wait", "allow"]),
        "on_abandoned": st.sampled_from(["record", "rerun"]),
        "retries": st.sampled_from([0, 2]),
        "grace": st.sampled_from([None, 5]),
    }
).map(lambda words: make_task(retry_min_backoff=2, retry_max_backoff=2, **words))
LATELY = 4
FOREVER_S = 10**6
"""How long a posted run waits: the contract tests the end of a wait."""


class Twin(NamedTuple):
    """One fleet: a process that posts runs, another one, and two workers."""

    fleet: Fleet
    processes: list[Process]
    workers: list[Process]


class Held(NamedTuple):
    """The claims of one run in both fleets, and which of the processes or workers has them."""

    claims: tuple[Claim, Claim]
    kind: str
    number: int


class PostingPair(RuleBasedStateMachine):
    """Two fleets that get the same calls."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.twins = [self._twin(self._sqlite), self._twin(self._redis(empty_redis().url))]
        self.held: list[Held] = []
        self.taken: set[tuple[str, int]] = set()
        self._forward(1)  # after the recovery window
        for name in NAMES:
            self.add(name, make_task(interval=3, overlap="allow", retries=2))

    def _sqlite(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        options = StoreOptions(name=name, keep_runs=keep_runs)
        return SqliteStore(self.folder / "pulse.db", clock, options, opened={})

    def _redis(self, url: str) -> Callable[..., Store]:
        def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
            options = StoreOptions(name=name, keep_runs=keep_runs)
            return RedisStore(url, clock, options, stand_in=clock, opened={})

        return make

    def _twin(self, make: Callable[..., Store]) -> Twin:
        fleet = Fleet(make)
        processes = [fleet.join({}) for _ in range(2)]
        return Twin(fleet, processes, [fleet.join_as_worker() for _ in range(2)])

    def teardown(self) -> None:
        """Close both fleets and forget the file."""
        for twin in self.twins:
            twin.fleet.close()
        shutil.rmtree(self.folder)

    def _both(self, call: Callable[[Twin, int], T]) -> tuple[T, T]:
        """Return what a call returns in each fleet, which is numbered."""
        ours, theirs = (call(twin, number) for number, twin in enumerate(self.twins))
        return ours, theirs

    def _same(self, call: Callable[[Twin, int], T]) -> T | str:
        """Return what a call returns in both fleets, or the text of its error."""

        def returned(twin: Twin, number: int) -> T | str:
            try:
                return call(twin, number)
            except PulseError as error:
                return str(error)

        ours, theirs = self._both(returned)
        assert ours == theirs
        return ours

    def _holder(self, one: Held, twin: Twin) -> Process:
        return (twin.processes if one.kind == "process" else twin.workers)[one.number]

    def _forward(self, seconds: int) -> None:
        """Advance the clock; holders renew, and all processes beat, so that nobody is lost."""
        for twin in self.twins:
            twin.fleet.clock.forward(seconds)

        def beat(twin: Twin, number: int) -> object:
            for one in self.held:
                self._holder(one, twin).store.renew([one.claims[number]])
            beats = [each.store.heartbeat() for each in (*twin.processes, *twin.workers)]
            assert not [run for beat in beats for run in beat.abandoned if run.holder]
            return [(sorted(map(repr, each.abandoned)), each.missed, each.stops) for each in beats]

        self._same(beat)

    # Time and tasks ----------------------------------------------------------------------

    @rule(seconds=st.integers(1, 9))
    def forward(self, seconds: int) -> None:
        """Let time pass."""
        self._forward(seconds)

    @rule(name=st.sampled_from(NAMES), task=TASKS)
    def add(self, name: str, task: Task) -> None:
        """Add a task, or replace it."""
        self._same(lambda twin, _: twin.processes[0].add(name, task, replace=True))

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        """Remove a task, if there is one."""
        self._same(lambda twin, _: twin.processes[1].store.remove(name))

    # Runs --------------------------------------------------------------------------------

    @rule(number=st.integers(0, 1), limit=st.integers(1, 3), seconds=st.integers(2, 5))
    def claim(self, number: int, limit: int, seconds: int) -> None:
        """Claim what is due after some seconds."""
        self._forward(seconds)
        claimed = [twin.processes[number].claim(limit) for twin in self.twins]
        pairs = list(zip(*[sorted(one.claims, key=_key) for one in claimed], strict=True))
        assert [one.run for one, _ in pairs] == [other.run for _, other in pairs]
        shown = [(one.not_run, one.expired_retries, one.now) for one in claimed]
        assert shown[0] == shown[1]
        self.held += [Held((one, other), "process", number) for one, other in pairs]

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def post(self, data: st.DataObject) -> None:
        """Post a run whose claim may be lost."""
        one = data.draw(newest(self._of_processes()))
        self._same(
            lambda twin, number: self._holder(one, twin).post(one.claims[number], wait=FOREVER_S)
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data(), worker=st.integers(0, 1))
    def take(self, data: st.DataObject, worker: int) -> None:
        """Deliver a message, perhaps one that was delivered before: each attempt is taken once."""
        one = data.draw(newest(self._of_processes()))
        found = self._both(lambda twin, number: twin.workers[worker].take(one.claims[number]))
        taken = [claim for claim in found if claim is not None]
        if not taken:
            return
        ours, theirs = taken
        assert ours.run == theirs.run
        key = (ours.run.id, ours.run.attempt)
        assert key not in self.taken
        self.taken.add(key)
        self.held.append(Held((ours, theirs), "worker", worker))

    def _of_processes(self) -> list[Held]:
        return [one for one in self.held if one.kind == "process"]

    @precondition(lambda self: self.held)
    @rule(data=st.data(), delay=st.integers(0, 12))
    def give_back(self, data: st.DataObject, delay: int) -> None:
        """Give a claim of a process back; it may be lost."""
        one = data.draw(newest(self._of_processes()))
        self._same(
            lambda twin, number: self._holder(one, twin).give_back(one.claims[number], delay=delay)
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data: st.DataObject, fails: bool) -> None:  # noqa: FBT001 - drawn
        """Record a result, perhaps of a claim that is lost."""
        one = data.draw(newest(self.held))
        end = fail if fails else succeed
        self._same(
            lambda twin, number: self._holder(one, twin).store.finish([end(one.claims[number])])
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        """Stop a run, wherever it is."""
        one = data.draw(newest(self.held))
        self._same(lambda twin, number: twin.processes[0].store.stop(one.claims[number].run.id))

    # What always holds -------------------------------------------------------------------

    @invariant()
    def runs_agree(self) -> None:
        """All that is kept is the same, and who holds a run has a claim on it."""
        found = self._same(lambda twin, _: sorted(twin.processes[0].store.runs(), key=_id))
        assert isinstance(found, list)
        names = {one.member.holder for one in self.twins[0].workers}
        for run in found:
            is_with_worker = run.outcome is None and run.holder in names
            assert not is_with_worker or (run.id, run.attempt) in self.taken
            assert run.outcome is None or run.holder != QUEUE_HOLDER

    @invariant()
    def tasks_agree(self) -> None:
        """The counters of Redis are the numbers that SQL counts."""
        self._same(
            lambda twin, _: [
                (one.name, one.unfinished, one.next_fire) for one in twin.processes[0].store.tasks()
            ]
        )


def newest(held: list[Held]) -> st.SearchStrategy[Held]:
    """Draw one of the newest claims: of most others nothing is left to be seen."""
    return st.sampled_from(held[: -LATELY - 1 : -1])


def _key(claim: Claim) -> tuple[int, str]:
    return claim.run.fire_time, claim.run.id


def _id(run: Run) -> str:
    return run.id


TestAgreement = PostingPair.TestCase
TestAgreement.settings = settings(max_examples=40, stateful_step_count=30)
