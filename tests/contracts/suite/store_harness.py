"""Processes that share a store, stepped by hand, for the contract of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pulse.clock import SECOND
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import Task, build_definition
from pulse.store.base import Member
from pulse.store.steering import MemberReport
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Clock, Instant
    from pulse.core.run import Claim, Run
    from pulse.store.base import Claimed, HeartbeatResult, Store, SyncResult

LEASE_S = 30
EVERY = 10
"""The interval of a task that says no other, in seconds."""


STOPS_RUNS = MemberReport("1.0", "gunicorn", slots=10, used=2, lag_us=3_000, stops_runs=True)


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
    ) -> Process:
        """Return a new process on *host* that holds *tasks*, or does not yet say what it holds.

        Its pid compares with no other.
        """
        store = self._make(self.clock, name=space, keep_runs=keep_runs)
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
        store.open(member, report=lambda: report)
        process = Process(store, member)
        self._processes.append(process)
        if tasks is not None:
            process.sync(tasks)
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
