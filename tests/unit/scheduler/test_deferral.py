"""Idle processes of a host let one of them look at the store, and lose no tick by it."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse import events
from pulse.clock import SECOND
from pulse.core.run import Outcome, Result
from pulse.core.task import Task, build_definition
from pulse.engine.inline import InlineEngine
from pulse.scheduler.deferral import BUSY
from pulse.scheduler.host_look import HostLook, period_of
from pulse.scheduler.loop import Scheduler, SchedulerParts
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from pulse.store.steering import Pause
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pulse.core.run import Claim

STEP_US = 10_000


class Counted(SqliteStore):
    """Counts the calls of the loop."""

    calls = 0

    def claim_due(self, limit: int):  # noqa: ANN201 - that of the store
        """Count the call, and make it."""
        self.calls += 1
        return super().claim_due(limit)

    def heartbeat(self):  # noqa: ANN201 - that of the store
        """Count the call, and make it."""
        self.calls += 1
        return super().heartbeat()

    def look(self, limit: int, **words: object):  # noqa: ANN201 - that of the store
        """Count the call, and make it."""
        self.calls += 1
        return super().look(limit, **words)


class Process:
    """One process of the host: a scheduler that is stepped when its sleep is over."""

    def __init__(self, folder: Path, clock: FakeClock, pid: int, tasks: dict[str, Task]) -> None:
        member = msgspec.structs.replace(
            this_member("inline", "digest", 30 * SECOND), holder=f"host:{pid}:nonce"
        )
        self.store = Counted(folder / "pulse.db", clock, opened={})
        self.clock = clock
        self.ran: list[tuple[str, float]] = []
        self.serving = True
        self.until = 0
        marked = msgspec.structs.replace(member, pid=pid)
        self.host_look = HostLook(folder, marked, dice=random.Random(pid).random)  # noqa: S311
        self.scheduler = Scheduler(
            SchedulerParts(
                definitions={name: build_definition(name, one) for name, one in tasks.items()},
                member=member,
                store=self.store,
                engine=InlineEngine(clock),
                bus=events.EventBus(),
                clock=clock,
                perform=self._perform,
                concurrency=2,
                serving=lambda: self.serving,
                host_look=self.host_look,
            )
        )
        self.scheduler.open()

    def _perform(self, claim: Claim) -> Result:
        late_us = self.clock.wall() - claim.run.fire_time
        self.ran.append((claim.run.task, late_us / SECOND))
        return Result(Outcome.SUCCEEDED, claim.run.fire_time, 1)

    def step_if_due(self) -> None:
        """Step the loop if its sleep is over."""
        while self.clock.boot() >= self.until:
            self.until = self.clock.boot() + self.scheduler.step()

    def wake(self) -> None:
        """End the sleep, as a call of the application does."""
        self.scheduler.wake()
        self.until = 0


class Host:
    """Processes that share a clock, a store and a mark."""

    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.folder = folder
        self.processes: list[Process] = []
        self.started: list[Process] = []

    def start(self, count: int, **tasks: Task) -> None:
        """Start processes."""
        self.started = [Process(self.folder, self.clock, pid + 1, tasks) for pid in range(count)]
        self.processes = [*self.started]
        self.forward(3)

    def forward(self, seconds: float) -> None:
        """Advance the clock in small steps."""
        for _ in range(round(seconds * SECOND / STEP_US)):
            self.clock.forward(STEP_US / SECOND)
            for process in self.processes:
                process.step_if_due()

    def calls(self, seconds: float) -> list[int]:
        """Return how many calls of the store each process makes in that time."""
        before = [one.store.calls for one in self.processes]
        self.forward(seconds)
        return [one.store.calls - was for one, was in zip(self.processes, before, strict=True)]

    def ran(self) -> list[tuple[str, float]]:
        """Return the runs of all processes: the task, and how late it started in seconds."""
        return [run for one in self.processes for run in one.ran]

    @property
    def looks(self) -> Process:
        """The process that looks."""
        before = [one.store.calls for one in self.processes]
        self.forward(1)
        return max(
            zip(self.processes, before, strict=True), key=lambda pair: pair[0].store.calls - pair[1]
        )[0]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host without processes."""
    one = Host(tmp_path)
    yield one
    for process in one.started:
        process.scheduler.stop(0)


def test_one_of_many_idle_processes_asks_the_store(host: Host) -> None:
    """Each 0.85 s it claims and sends a heartbeat, in one call but for a few."""
    host.start(8, work=Task(action="/work", interval="1h"))
    *others, most = sorted(host.calls(10))
    assert others == [0] * 7
    assert 12 <= most <= 16


@pytest.mark.parametrize(
    ("every", "seconds", "ticks"), [("7s", 61, 9), ("1s", 30.5, 33)], ids=["rare", "frequent"]
)
def test_ticks_run_on_time_and_once(host: Host, every: str, seconds: float, ticks: int) -> None:
    """The process that looks sleeps until the next fire time; one that has won looks by itself."""
    host.start(5, work=Task(action="/work", interval=every))
    host.forward(seconds)
    lateness = [late for _, late in host.ran()]
    assert len(lateness) == ticks
    assert max(lateness) <= 0.02


def test_next_tick_runs_within_a_second_after_the_process_that_looks_has_died(host: Host) -> None:
    """Another process finds the mark stale."""
    host.start(5, work=Task(action="/work", interval="10s"))
    host.processes.remove(host.looks)
    before = len(host.ran())
    host.forward(10)
    (run,) = host.ran()[before:]
    assert run[1] <= 0.2


def test_next_tick_runs_soon_if_its_process_dies_just_before(host: Host) -> None:
    """The others know when the store has work, and wake up shortly after."""
    host.start(5, work=Task(action="/work", interval="10s"))
    host.forward(5.8)
    dead = host.looks  # a fifth of a second before the tick at the latest
    host.processes.remove(dead)
    host.forward(2)
    lateness = [late for _, late in host.ran()]
    assert len(lateness) == 1
    assert lateness[0] <= 1


def test_process_whose_application_asks_for_a_claim_looks_at_once(host: Host) -> None:
    """Such as after `trigger`; the run starts there, in that turn."""
    host.start(3, work=Task(action="/work", interval="1h"))
    looks = host.looks
    asking = next(one for one in host.processes if one is not looks)
    asking.store.trigger("work")
    asking.wake()
    asking.step_if_due()
    assert [task for task, _ in asking.ran] == ["work"]


def test_trigger_of_another_host_is_seen_within_a_second(host: Host) -> None:
    """The process that looks finds it."""
    host.start(3, work=Task(action="/work", interval="1h"))
    host.processes[0].store.trigger("work")
    host.forward(0.6)
    assert [task for task, _ in host.ran()] == ["work"]


def test_process_that_wins_looks_by_itself_for_a_while(host: Host) -> None:
    """Several processes share many runs, as in a fleet without marks."""
    host.start(2, work=Task(action="/work", interval="1h"))
    looks = host.looks
    other = next(one for one in host.processes if one is not looks)
    other.store.trigger("work")
    other.wake()
    other.step_if_due()
    before = other.store.calls
    host.forward(BUSY / SECOND)
    assert other.store.calls - before >= 2


def test_process_that_serves_no_more_leaves_the_looking_to_others(host: Host) -> None:
    """A worker that drains claims nothing."""
    host.start(3, work=Task(action="/work", interval="5s"))
    host.looks.serving = False
    before = len(host.ran())
    host.forward(10)
    lateness = [late for _, late in host.ran()[before:]]
    assert len(lateness) == 2
    assert max(lateness) <= 1


def test_lease_of_a_dead_holder_ends_on_time_although_the_process_that_looks_dies(
    host: Host, tmp_path: Path
) -> None:
    """The process that takes over continues the observation."""
    host.start(3, work=Task(action="/work", interval="1h"))
    holder = msgspec.structs.replace(
        this_member("inline", "digest", 30 * SECOND), holder="other:9:nonce", machine="other"
    )
    dead = SqliteStore(tmp_path / "pulse.db", host.clock, opened={})
    dead.open(holder)
    dead.sync({"mine": build_definition("mine", Task(action="/mine", interval="5s"))})
    host.clock.forward(5)
    assert dead.claim_due(1).claims
    host.forward(15)
    host.processes.remove(host.looks)
    host.forward(15)
    (run,) = host.processes[0].store.runs(task="mine")
    assert run.outcome is Outcome.ABANDONED
    dead.close()


def test_large_fleet_looks_less_often_and_loses_no_process(host: Host) -> None:
    """With 400 hosts a process looks each 20 s, and is kept alive all the same."""
    host.start(4, work=Task(action="/work", interval="1h"))
    for process in host.processes:
        process.host_look.set_hosts = lambda _, look=process.host_look: setattr(  # type: ignore[method-assign] # as with 400 hosts
            look, "period", period_of(400)
        )
    host.forward(30)
    *others, most = sorted(host.calls(60))
    assert sum(others) <= 2
    assert 6 <= most <= 20  # each look writes: as many heartbeats, claims, and calls for the others
    host.forward(200)
    assert len(host.processes[0].store.members()) == 4


def test_claim_of_a_look_runs_although_nothing_can_be_left_to_others(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is submitted before the files of the host are written."""
    host.start(1, work=Task(action="/work", interval="1h"))
    host.processes[0].store.trigger("work")

    def fail(*_: object) -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(host.processes[0].host_look, "leave_observations", fail)
    host.forward(2)
    assert [task for task, _ in host.ran()] == ["work"]


def test_idle_processes_stay_members(host: Host) -> None:
    """The process that looks sends their heartbeats, much longer than a member may be silent."""
    host.start(3, work=Task(action="/work", interval="1h"))
    host.forward(200)
    assert len(host.processes[0].store.members()) == 3


def test_processes_become_members_again_after_the_store_has_lost_them(host: Host) -> None:
    """The process that looks calls those that are no members."""
    host.start(4, work=Task(action="/work", interval="1h"))
    with closing(sqlite3.connect(host.folder / "pulse.db")) as raw, raw:
        (prefix,) = raw.execute("SELECT prefix FROM pulse_schema").fetchone()
        raw.execute(f"DELETE FROM {prefix}members")  # noqa: S608 - a name of the file itself
    host.forward(12)
    assert len(host.processes[0].store.members()) == 4


def test_process_that_hangs_is_no_member_any_more(host: Host) -> None:
    """Three leases after it has last written its slot."""
    host.start(3, work=Task(action="/work", interval="1h"))
    looks = host.looks
    hung = next(one for one in host.processes if one is not looks)
    hung.until = 2**62
    host.forward(120)
    holders = {one.holder for one in looks.store.members()}
    assert len(holders) == 2


def test_processes_with_tasks_of_their_own_let_one_look_too(host: Host) -> None:
    """Each one knows when its own tasks are due."""
    host.start(8, work=Task(action="/work", interval="1h", scope="process"))
    *others, most = sorted(host.calls(10))
    assert sum(others) <= 2
    assert 12 <= most <= 16


def test_tasks_of_each_process_run_on_time(host: Host) -> None:
    """A process wakes up for its own tasks while another one looks."""
    host.start(4, work=Task(action="/work", interval="7s", scope="process"))
    host.forward(61)
    for process in host.processes:
        lateness = [late for _, late in process.ran]
        assert len(lateness) == 9
        assert max(lateness) <= 0.02


def test_process_learns_of_work_that_others_give_it(host: Host) -> None:
    """Its tasks were paused and are resumed elsewhere: it looks when they are due."""
    host.start(3, work=Task(action="/work", interval="8s", scope="process"))
    looks = host.looks
    looks.store.pause("work", Pause())
    host.forward(20)
    before = [len(process.ran) for process in host.processes]
    looks.store.pause("work", None)
    looks.wake()
    host.forward(9)
    for process, was in zip(host.processes, before, strict=True):
        (run,) = process.ran[was:]
        assert run[1] <= 0.02


def spoil_by_deleting(folder: Path) -> None:
    """Delete the mark."""
    (folder / "mark").unlink()


def spoil_by_truncating(folder: Path) -> None:
    """Empty the mark."""
    (folder / "mark").write_bytes(b"")


def spoil_by_writing(folder: Path) -> None:
    """Replace the mark by garbage."""
    (folder / "mark").write_bytes(b"\xff" * 4_096)


@pytest.mark.parametrize(
    "spoil",
    [spoil_by_deleting, spoil_by_truncating, spoil_by_writing],
    ids=lambda one: one.__name__,
)
def test_ticks_run_on_time_while_the_mark_is_spoiled(
    host: Host, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """Each process looks by itself, and the next look makes the mark good."""
    host.start(3, work=Task(action="/work", interval="1s"))
    for _ in range(10):
        spoil(tmp_path)
        host.forward(1)
    lateness = [late for _, late in host.ran()]
    assert len(lateness) == 13
    assert max(lateness) <= 0.02
