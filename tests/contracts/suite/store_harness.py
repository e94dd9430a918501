"""Processes that share a store, stepped by hand, for the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import Task, build_definition
from pulse.store.base import Member, PostedRun, ReturnedRun
from pulse.store.steering import MemberReport
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Clock, Instant
    from pulse.core.run import Claim, Run
    from pulse.store.base import Claimed, HeartbeatResult, Store, SyncResult

LEASE_S = 30
WAIT_S = 300
"""How long a posted run waits for a worker, in seconds, unless a test says otherwise."""
QUEUE = "pulse"
EVERY = 10
"""The interval of a task that says no other, in seconds."""


NOT_SENT = "the broker did not take it"
STOPS_RUNS = MemberReport("1.0", "gunicorn", slots=10, used=2, lag_us=3_000, stops_runs=True)


NOWHERE: Mapping[str, object] = {}
"""The identity of a process whose pid compares with no other."""


class MakeStore(Protocol):
    """Creates stores; those of one test share their storage if the implementation can."""

    def __call__(self, clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> Store:
        """Return a store that is not open yet."""


def make_task(**keywords: object) -> Task:
    """Return a task that is due every ten seconds, unless the keywords say otherwise."""
    return Task(**{"action": "/work", "interval": EVERY} | keywords)  # type: ignore[arg-type] # any keyword


def fail(claim: Claim, **parts: object) -> CompletedRun:
    """Return the result of a claim whose call took 5 ms and was answered with 503."""
    started = claim.run.claimed_at or claim.run.fire_time
    words = {"outcome": Outcome.FAILED, "status": 503, "message": "busy"} | parts
    return CompletedRun(claim, Result(started_at=started, took_us=5_000, **words))  # type: ignore[arg-type] # any part


def succeed(claim: Claim, *, outcome: Outcome = Outcome.SUCCEEDED) -> CompletedRun:
    """Return the result of a claim whose call took 5 ms and succeeded."""
    started = claim.run.claimed_at or claim.run.fire_time
    return CompletedRun(claim, Result(outcome, started, 5_000, 200, "done"))


def holders(store: Store) -> list[str]:
    """Return the names of the live processes."""
    return [one.holder for one in store.members()]


class Process:
    """One process of the fleet: its store and its member."""

    def __init__(self, store: Store, member: Member) -> None:
        self.store = store
        self.member = member

    def sync(self, tasks: Mapping[str, Task]) -> SyncResult:
        """Declare these tasks from now on."""
        return self.store.sync({name: build_definition(name, task) for name, task in tasks.items()})

    def add(self, name: str, task: Task, *, replace: bool = False) -> Sequence[Run]:
        """Add a task at run time."""
        return self.store.add(make_runtime_task(name, task, TaskDefaults()), replace=replace)

    def claim(self, limit: int = 100) -> Claimed:
        """Claim due runs."""
        return self.store.claim_due(limit)

    def claim_one(self) -> Claim:
        """Claim the only due run."""
        (claim,) = self.claim().claims
        return claim

    def finish(self, claim: Claim, *, outcome: Outcome = Outcome.SUCCEEDED) -> bool:
        """Record that a run succeeded; return whether the store accepted the result."""
        (became,) = self.store.finish([succeed(claim, outcome=outcome)])
        return became.recorded

    def fail(self, claim: Claim, **parts: object) -> Instant | None:
        """Record that a run failed; return when it is tried again."""
        (became,) = self.store.finish([fail(claim, **parts)])
        return became.retry_at

    def posted(self, claim: Claim, wait: float = WAIT_S) -> PostedRun:
        """Return a claim to post, which waits for so many seconds."""
        return PostedRun(claim, round(wait * SECOND), QUEUE)

    def post(self, *claims: Claim, wait: float = WAIT_S) -> list[bool]:
        """Post runs; return for each whether this process still held it."""
        return self.store.post([self.posted(claim, wait) for claim in claims])

    def take(self, claim: Claim, *, poster: str | None = None) -> Claim | None:
        """Take a run that the holder of *claim* has posted, or is posting."""
        run = claim.run
        return self.store.take(
            run.id, run.attempt, poster=poster or run.holder, definition=claim.definition
        )

    def returned(self, claim: Claim, delay: float = 0) -> ReturnedRun:
        """Return a claim to give back, which is due again after so many seconds."""
        return ReturnedRun(claim, round(delay * SECOND), NOT_SENT)

    def give_back(self, claim: Claim, *, delay: float = 0) -> bool:
        """Give a claim back; return whether this process still held it."""
        (done,) = self.store.give_back([self.returned(claim, delay)])
        return done


class Fleet:
    """Creates processes on one settable clock, and closes them at the end."""

    def __init__(self, make: MakeStore, *, url: str = "") -> None:
        self.clock: FakeClock = FakeClock()
        self.url = url  # with which a command reaches the store; empty for memory
        self._make = make
        self._processes: list[Process] = []
        self._visited: list[Store] = []

    def join(
        self,
        tasks: Mapping[str, Task] | None,
        *,
        host: str = "alpha",
        space: str = "",
        keep_runs: int = 1_000,
        report: MemberReport = STOPS_RUNS,
        identity: Mapping[str, object] = NOWHERE,
    ) -> Process:
        """Return a new process on *host* that holds *tasks*, or does not yet say what it holds.

        Its pid compares with no other, unless *identity* says on which machine it is.
        """
        store = self._make(self.clock, name=space, keep_runs=keep_runs)
        process = self._added(store, host, identity)
        store.open(process.member, report=lambda: report)
        if tasks is not None:
            process.sync(tasks)
        return process

    def join_as_worker(
        self,
        *,
        host: str = "alpha",
        report: MemberReport = STOPS_RUNS,
        identity: Mapping[str, object] = NOWHERE,
    ) -> Process:
        """Return a new worker on *host*, which takes posted runs alone."""
        store = self._make(self.clock)
        process = self._added(store, host, identity)
        store.open_as_worker(process.member, report=lambda: report)
        return process

    def _added(self, store: Store, host: str, identity: Mapping[str, object]) -> Process:
        number = len(self._processes) + 1
        member = Member(
            holder=f"{host}:{number}:nonce",
            host=host,
            machine="",
            pid=number,
            pid_started=0,
            mode="inline",
            digest=f"config {number}",
            lease_us=LEASE_S * SECOND,
        )
        process = Process(store, msgspec.structs.replace(member, **identity))
        self._processes.append(process)
        return process

    def visit(self, process: Process) -> Store:
        """Return a store as a child process of *process* opens it."""
        store = self._make(self.clock)
        store.open_as_client(process.member)
        self._visited.append(store)
        return store

    def wait(
        self, seconds: int, *beating: Process, renewing: Iterable[tuple[Process, Claim]] = ()
    ) -> list[HeartbeatResult]:
        """Advance the clock in steps of five seconds; return the heartbeats of *beating*."""
        beats = []
        for _ in range(seconds // 5):
            self.clock.forward(5)
            for process, claim in renewing:
                process.store.renew([claim])
            beats += [process.store.heartbeat() for process in beating]
        return beats

    def close(self) -> None:
        """Close every store."""
        for store in self._visited:
            store.close()
        for process in self._processes:
            process.store.close()
