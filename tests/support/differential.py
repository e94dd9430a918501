"""One process with two stores that get the same calls and must return the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pulse.clock import SECOND, moment_of
from pulse.core.run import Claim, CompletedRun, Outcome, Result, Run
from pulse.core.run_query import RunQuery
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import Task, TaskDefinition, build_definition
from pulse.errors import PulseError
from pulse.store.accounts import account
from pulse.store.base import Claimed, HeartbeatResult, Member, StoreOptions
from pulse.store.memory.store import MemoryStore
from pulse.store.steering import MemberReport, Pause
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.store.base import Store

MEMBER = Member(
    holder="alpha:1:nonce",
    host="alpha",
    machine="",
    pid=1,
    pid_started=0,
    mode="inline",
    digest="digest",
    lease_us=30 * SECOND,
)
SHRINKING_S = 600
"""The timeout of a test in seconds: a difference is reported once its steps are few."""

REPORT = MemberReport(stops_runs=True)
NAMES = ("a", "b", "c")
TASKS = st.fixed_dictionaries(
    {
        "interval": st.sampled_from([3, 7, 20]),
        "run_at_start": st.booleans(),
        "overlap": st.sampled_from(["skip", "wait", "allow"]),
        # Where a tick under `all` waits for room, others look at each claim whether its grace is
        # over, and memory when a run has ended: so there is no grace here.
        "misfire, grace": st.sampled_from(
            [("latest", None), ("latest", 5), ("skip", 0), ("skip", 5), ("all", None)]
        ),
        "on_abandoned": st.sampled_from(["record", "rerun"]),
        "retries": st.sampled_from([0, 1, 3]),
    }
).map(
    lambda words: Task(
        action="/work",
        max_running=2,
        # Two spans that are equal leave no room for a hash of the run's id, which may be random.
        retry_min_backoff=2,
        retry_max_backoff=2,
        misfire=words["misfire, grace"][0],
        grace=words["misfire, grace"][1],
        **{name: word for name, word in words.items() if name != "misfire, grace"},
    )
)
OUTCOMES = st.sampled_from(
    [
        (Outcome.SUCCEEDED, 200),
        (Outcome.FAILED, 404),
        (Outcome.FAILED, 503),
        (Outcome.TIMED_OUT, None),
        (Outcome.ABANDONED, None),
    ]
)


class StorePair(RuleBasedStateMachine):
    """One process with two stores that get the same calls."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.shared = self.make(self.clock)
        self.memory = MemoryStore(self.clock, StoreOptions(name="twins"))
        self.ids: dict[str, str] = {}
        self.held: list[tuple[Claim, Claim]] = []
        self.declared: dict[str, TaskDefinition] = {}
        self.waits = False
        self.set_back = False
        self.clock_was_set = False
        self.last_seen = self.clock.wall()
        for store in (self.shared, self.memory):
            store.open(MEMBER, report=lambda: REPORT)
            store.sync({})
        self.clock.forward(1)  # memory has no outage after which a skip would have to wait

    def make(self, clock: FakeClock) -> Store:
        """Return the store to compare with memory, empty; its name is `twins`."""
        raise NotImplementedError

    def time_has_passed(self) -> None:
        """Do what is needed whenever the clock has moved."""

    def teardown(self) -> None:
        """Close both stores."""
        self.shared.close()
        self.memory.close()

    @rule(tasks=st.dictionaries(st.sampled_from(NAMES), TASKS, max_size=3))
    def sync(self, tasks: dict[str, Task]) -> None:
        """Declare other tasks."""
        definitions = {name: build_definition(name, task) for name, task in tasks.items()}
        self.declared = definitions
        self.waits = any(map(may_wait, tasks.values()))
        self.agree(self.shared.sync(definitions), self.memory.sync(definitions))
        self.last_seen = self.clock.wall()

    @rule(name=st.sampled_from(NAMES), task=TASKS, replace=st.booleans())
    def add(self, name: str, task: Task, replace: bool) -> None:  # noqa: FBT001 - drawn
        """Add a run-time task, if it may be added."""
        addition = make_runtime_task(name, task, TaskDefaults())
        self.waits = self.waits or may_wait(task)
        said = [told(store.add, addition, replace=replace) for store in (self.shared, self.memory)]
        self.agree(*said)

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        """Remove a run-time task, if it may be removed."""
        self.agree(*[told(store.remove, name) for store in (self.shared, self.memory)])

    @rule(seconds=st.integers(0, 25))
    def forward(self, seconds: int) -> None:
        """Advance the clock."""
        self.clock.forward(seconds)
        self.time_has_passed()

    @rule(seconds=st.integers(-60, 60) | st.sampled_from([-7_200, -3_600, 3_600]))
    def set_wall(self, seconds: int) -> None:
        """Set the wall clock."""
        self.set_back = self.set_back or seconds < 0
        self.clock_was_set = True
        self.clock.set_wall(moment_of(self.clock.wall()) + timedelta(seconds=seconds))
        self.time_has_passed()

    @rule(limit=st.integers(0, 4))
    def claim(self, limit: int) -> None:
        """Claim due runs."""
        ours, theirs = self.shared.claim_due(limit), self.memory.claim_due(limit)
        self.learn(ours.claims, theirs.claims)
        self.held += zip(ours.claims, theirs.claims, strict=True)
        self.agree(self.shown(ours, limit), self.shown(theirs, limit))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=OUTCOMES, asked=st.none() | st.integers(0, 9), keep=st.booleans())
    def finish(
        self,
        data: st.DataObject,
        outcome: tuple[Outcome, int | None],
        asked: int | None,
        keep: bool,  # noqa: FBT001 - drawn
    ) -> None:
        """Finish a run, perhaps one whose claim is lost or that has finished before."""
        pair = data.draw(st.sampled_from(self.held))
        if not keep:
            self.held.remove(pair)
        after = None if asked is None else asked * SECOND
        # A claim is dispatched once, however often its result is sent.
        started = pair[0].run.claimed_at or 0
        result = Result(outcome[0], started, 5, outcome[1], "done", after)
        self.agree(
            self.shared.finish([CompletedRun(pair[0], result)]),
            self.memory.finish([CompletedRun(pair[1], result)]),
        )

    @rule()
    def renew(self) -> None:
        """Renew all claims, including lost ones."""
        ours, theirs = [a for a, _ in self.held], [b for _, b in self.held]
        self.agree(self.shared.renew(ours), self.memory.renew(theirs))

    @rule()
    def beat(self) -> None:
        """Send a heartbeat: abandon runs and archive rows."""
        ours, theirs = self.shared.heartbeat(), self.memory.heartbeat()
        self.last_seen = self.clock.wall()
        self.agree(
            (sorted(map(self.known, ours.abandoned), key=repr), ours.archived, self.asked(ours)),
            (
                sorted(map(self.known, theirs.abandoned), key=repr),
                theirs.archived,
                sorted(theirs.stops),
            ),
        )

    @rule(name=st.sampled_from(NAMES))
    def trigger(self, name: str) -> None:
        """Trigger a task."""
        if name in self.names():
            ours, theirs = (triggered(store, name) for store in (self.shared, self.memory))
            if isinstance(ours, Run) and isinstance(theirs, Run):
                self.ids[ours.id] = theirs.id
            else:
                self.agree(ours, theirs)

    @rule(name=st.sampled_from(NAMES), at_once=st.booleans())
    def begin(self, name: str, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """Begin a manual run, with its definition where a process has it."""
        definition = self.declared.get(name)
        ours, theirs = (
            begun(store, name, definition, at_once=at_once) for store in (self.shared, self.memory)
        )
        if isinstance(ours, Claim) and isinstance(theirs, Claim):
            self.learn([ours], [theirs])
            self.held.append((ours, theirs))
            ours = msgspec.structs.replace(ours, run=self.known(ours.run))
        self.agree(ours, theirs)

    @rule(name=st.sampled_from(NAMES), limit=st.integers(1, 5))
    def delete(self, name: str, limit: int) -> None:
        """Delete the ended ones of the newest runs of a task."""
        query = RunQuery(task=name, limit=limit)
        ours, theirs = (store.delete_runs(query) for store in (self.shared, self.memory))
        self.agree(ours.number, theirs.number)

    @rule(name=st.sampled_from(NAMES), paused=st.booleans())
    def pause(self, name: str, paused: bool) -> None:  # noqa: FBT001 - drawn
        """Pause or resume a task."""
        if name in self.names():
            self.shared.pause(name, Pause() if paused else None)
            self.memory.pause(name, Pause() if paused else None)

    @rule(paused=st.booleans())
    def pause_all(self, paused: bool) -> None:  # noqa: FBT001 - drawn
        """Pause all tasks, or resume them."""
        for store in (self.shared, self.memory):
            store.pause(None, Pause() if paused else None)
        self.agree(self.shared.pause_of_all(), self.memory.pause_of_all())

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        """Stop a run that is held, pending again, finished, or deleted."""
        ours, theirs = data.draw(st.sampled_from(self.held))
        if self.memory.run(theirs.run.id) is None:
            self.agree(self.shared.run(ours.run.id), None)
        else:
            found = self.known(self.shared.stop(ours.run.id)), self.memory.stop(theirs.run.id)
            self.agree(*found)

    @rule(name=st.sampled_from(NAMES))
    def ledger(self, name: str) -> None:
        """Account for all fire times: nothing is unexplained, whatever has happened."""
        ours, theirs = account(self.shared, name), account(self.memory, name)
        if not self.clock_was_set:
            self.agree(ours, theirs)
            assert ours.unexplained_ticks == ()
        assert ours.twice == ()

    @invariant()
    def rows_and_runs_agree(self) -> None:
        """The rows and the history are the same after every step."""
        self.agree(self.shared.tasks(), self.memory.tasks())
        ours, theirs = self.shared.runs(limit=1_000), self.memory.runs(limit=1_000)
        self.learn_runs(ours, theirs)
        self.agree([self.known(run) for run in ours], theirs)

    def has_pending_runs(self) -> bool:
        """Return whether a run waits: for its time, or for another run."""
        return any(run.outcome is None and not run.holder for run in self.memory.runs(limit=1_000))

    def names(self) -> set[str]:
        """Return the tasks that have a row."""
        return {row.name for row in self.memory.tasks()}

    def agree(self, ours: object, theirs: object) -> None:
        """Compare the result of the shared store with that of memory."""
        assert ours == theirs

    def learn(self, ours: list[Claim], theirs: list[Claim]) -> None:
        """Remember which random ids stand for the same run."""
        self.learn_runs([one.run for one in ours], [one.run for one in theirs])

    def learn_runs(self, ours: list[Run], theirs: list[Run]) -> None:
        """Remember which random ids stand for the same run."""
        for one, other in zip(ours, theirs, strict=False):
            if one.scheduled_for is None and other.scheduled_for is None:
                self.ids.setdefault(one.id, other.id)

    def known(self, run: Run) -> Run:
        """Return a run with the id that memory gave to it."""
        return msgspec.structs.replace(run, id=self.ids.get(run.id, run.id))

    def asked(self, beat: HeartbeatResult) -> list[str]:
        """Return the runs that are to be stopped, by the ids that memory gave to them."""
        return sorted(self.ids.get(ident, ident) for ident in beat.stops)

    def shown(self, claimed: Claimed, limit: int) -> tuple[object, ...]:
        """Return a result in a form that can be compared.

        Two differences are allowed. When the limit is reached, a wake-up in the past equals now.
        After the clock was set back, what waits for another run has no wake-up in memory until a
        run finishes, while other stores return when it is due again.
        """
        next_wakeup = claimed.next_wakeup
        if limit == len(claimed.claims) and next_wakeup is not None:
            next_wakeup = max(next_wakeup, claimed.now)
        if self.set_back and (self.waits or self.has_pending_runs()):
            next_wakeup = None
        claims = [(self.known(one.run), one.definition, one.good_until) for one in claimed.claims]
        expired_retries = [self.known(run) for run in claimed.expired_retries]
        rewound = list(claimed.rewound)
        return claims, list(claimed.not_run), expired_retries, rewound, claimed.now, next_wakeup


def may_wait(task: Task) -> bool:
    """Return whether a tick or a run of a task may wait for another run."""
    return task.misfire == "all" or task.overlap == "wait"


def triggered(store: Store, name: str) -> Run | str | None:
    """Return a manual run; None or the error if it is refused."""
    try:
        return store.trigger(name)
    except PulseError as error:
        return f"{type(error).__name__}: {error}"


def begun(
    store: Store, name: str, definition: TaskDefinition | None, *, at_once: bool
) -> Claim | str | None:
    """Return the claim of a manual run; None or the error if it is refused."""
    try:
        return store.begin(name, definition, at_once=at_once)
    except PulseError as error:
        return f"{type(error).__name__}: {error}"


def told(call: Callable[..., None], *words: object, **more: object) -> str:
    """Return the error with which a call is refused; empty if it is not."""
    try:
        call(*words, **more)
    except PulseError as error:
        return f"{type(error).__name__}: {error}"
    return ""
