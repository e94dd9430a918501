"""The loop of one process, stepped by hand on a clock that stands still."""

import logging
import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from pulse import events
from pulse.clock import SECOND, moment_of
from pulse.core.policies import Scope
from pulse.core.run import Claim, CompletedRun, Outcome, RecordResult, Trigger
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import Task, build_definition
from pulse.engine.inline import InlineEngine, InlineLoop
from pulse.engine.threads import ThreadEngine
from pulse.errors import (
    ConfigTaskError,
    NotServingError,
    PulseError,
    StoreInUseError,
    StoreUnavailableError,
)
from pulse.forks import ForkMark
from pulse.handle.handle import SchedulerHandle
from pulse.log.messages import subscribe_log
from pulse.scheduler.heartbeat import HEARTBEAT_INTERVAL
from pulse.scheduler.loop import Scheduler, SchedulerParts
from pulse.scheduler.offloaded_store import OffloadedStore
from pulse.scheduler.poll_delay import MAX_SLEEP
from pulse.store.backoff import LONGEST_BACK_OFF
from pulse.store.base import Claimed, FailedTask, HeartbeatResult, SyncResult
from pulse.store.memory.store import MemoryStore
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from pulse.testing.recorder import Recorder
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner
from tests.support.setups import require

AN_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class FaultyStore:
    """A memory store that fails on demand; it says that it blocks, so that calls are offloaded."""

    blocking = True

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.error: Exception | None = None
        self.asked = 0
        self.called: list[str] = []
        self.chokes_on = ""
        self.answers: dict[str, object] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self._failing: dict[str, Exception | None] = {}

    def fail(self, name: str, error: Exception | None) -> None:
        """Let calls of one method raise; None lets them succeed again."""
        self._failing[name] = error

    def finish(self, completed: list[CompletedRun]) -> list[RecordResult]:
        """Record the endings, unless the words of one are not to the store's taste."""
        if any(self.chokes_on and self.chokes_on in one.result.message for one in completed):
            raise ValueError(self.chokes_on)
        return self.__getattr__("finish")(completed)

    def __getattr__(self, name: str) -> object:
        member = getattr(self._store, name)
        if not callable(member):
            return member

        def call(*args: object, **kwargs: object) -> object:
            self.asked += 1
            self.called.append(name)
            error = self.error or self._failing.get(name)
            if error is not None:
                raise error
            self.meanwhile.pop(name, lambda: None)()
            if name in self.answers:
                return self.answers[name]
            return member(*args, **kwargs)

        return call


class HeldEngine(InlineEngine):
    """An engine whose runs end when the test says so."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.held: list[Claim] = []

    def submit(self, claim: Claim) -> None:
        """Keep the claim."""
        self.held.append(claim)

    def end(self, claim: Claim) -> None:
        """Perform the claim, and report it."""
        super().submit(claim)


class Bench:
    """A scheduler with everything around it, and a record of what happened."""

    def __init__(self, **tasks: Task) -> None:
        self.clock = FakeClock()
        self.bus = events.EventBus()
        self.seen = Recorder(self.bus)
        self.paths: list[str] = []
        self.store = FaultyStore(MemoryStore(self.clock))
        self.serving = True
        self.view: Callable[[], None] = lambda: None
        self.scheduler = Scheduler(self.parts(tasks, InlineEngine(self.clock)))

    def parts(self, tasks: dict[str, Task], engine: object) -> SchedulerParts:
        """Return what a scheduler is made from."""
        mark = ForkMark()
        return SchedulerParts(
            definitions={name: build_definition(name, task) for name, task in tasks.items()},
            member=this_member("inline", "digest", 30 * SECOND),
            store=OffloadedStore(self.store, mark, offload=engine.loop.offload),
            engine=engine,
            bus=self.bus,
            clock=self.clock,
            perform=Runner(Dispatcher(self.app, multithread=False), self.clock).perform,
            concurrency=10,
            serving=lambda: self.serving,
            mark=mark,
        )

    def app(self, environ: dict, start_response: Callable) -> list[bytes]:
        """Note the path that was asked for."""
        self.paths.append(environ["PATH_INFO"])
        self.view()
        start_response("200 OK", [])
        return [b"said ", environ["PATH_INFO"].encode()]

    def forward(self, seconds: float) -> None:
        """Let time pass and do the steps that a loop would."""
        self.clock.forward(seconds)
        while self.scheduler.step() == 0:
            pass


@pytest.fixture
def bench() -> Bench:
    """Return an opened scheduler with one task a minute."""
    made = Bench(cleanup=Task(action="cleanup", interval=60))
    made.scheduler.open()
    return made


def test_a_due_tick_is_dispatched_and_recorded(bench: Bench) -> None:
    """What is due at a step is requested, and its end is in the history."""
    bench.forward(60)
    assert bench.paths == ["/cleanup"]
    assert [run.outcome for run in bench.store.runs()] == [Outcome.SUCCEEDED]


def test_nothing_is_dispatched_before_it_is_due(bench: Bench) -> None:
    """A step a moment before the fire time requests nothing."""
    bench.forward(59.999999)
    assert bench.paths == []


def test_a_run_is_told_of_after_it_is_recorded(bench: Bench) -> None:
    """When a listener hears of an end, the store has it already."""
    recorded = []
    bench.bus.subscribe(events.RunEnded, lambda _: recorded.append(bench.store.runs()[0].outcome))
    bench.forward(60)
    assert recorded == [Outcome.SUCCEEDED]


def test_the_sleep_ends_at_the_next_fire_time(bench: Bench) -> None:
    """A step returns how long it is to the next fire time when that is near."""
    bench.clock.forward(59.5)
    assert bench.scheduler.step() == SECOND // 2


def test_the_sleep_is_never_longer_than_a_second(bench: Bench) -> None:
    """Somebody may set the clock, so the loop looks at least once a second."""
    assert 0 < bench.scheduler.step() <= MAX_SLEEP


def test_the_sleep_ends_at_the_next_look_at_leases(bench: Bench) -> None:
    """Others' leases are looked at in steps of three quarters of a second, however quiet it is."""
    slept = bench.scheduler.step()
    bench.clock.forward(0.5)
    assert (slept, bench.scheduler.step()) == (HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL - SECOND // 2)


def test_leases_are_looked_at_as_soon_as_a_process_takes_part(bench: Bench) -> None:
    """What a dead holder left behind is watched from the first step on."""
    bench.scheduler.step()
    assert bench.store.called.count("heartbeat") == 1


def test_a_lease_is_looked_at_when_it_would_be_over(bench: Bench) -> None:
    """Where the store tells when a lease ends, the loop is there."""
    at = bench.clock.boot() + SECOND // 4
    bench.store.answers["heartbeat"] = HeartbeatResult((), (), (), at)
    assert bench.scheduler.step() == SECOND // 4


def test_fire_times_that_passed_are_told_of(bench: Bench) -> None:
    """After three minutes away one run catches up and two fire times are told as missed."""
    bench.forward(180)
    missed = bench.seen.of(events.TickMissed)
    assert [event.run.count for event in missed] == [2]
    assert bench.store.runs(task="cleanup")[0].trigger is Trigger.CATCH_UP


def test_a_quiet_process_claims_nothing(bench: Bench) -> None:
    """Once the server stops the process, what is due is left to others."""
    bench.scheduler.stop_claiming()
    bench.forward(60)
    assert bench.paths == []


def test_a_process_that_the_server_is_stopping_claims_nothing(bench: Bench) -> None:
    """The server is asked before each claim."""
    bench.serving = False
    bench.forward(60)
    assert bench.paths == []


def test_nothing_is_dispatched_while_the_store_is_away(bench: Bench) -> None:
    """An outage means no dispatch at all, however much is due."""
    bench.store.error = StoreUnavailableError("away")
    bench.forward(60)
    assert bench.paths == []


def test_an_outage_is_told_once_and_so_is_its_end(bench: Bench) -> None:
    """However many steps fail, there is one StoreLost, and one StoreBack with the time between."""
    bench.store.error = StoreUnavailableError("away")
    for _ in range(3):
        bench.forward(1)
    bench.store.error = None
    bench.forward(1)
    assert [event.error for event in bench.seen.of(events.StoreUnavailable)] == ["away"]
    assert [event.after_us for event in bench.seen.of(events.StoreRecovered)] == [3 * SECOND]


def test_a_step_in_an_outage_sleeps_for_less_than_a_second(bench: Bench) -> None:
    """Ticks resume within a second of the store's return."""
    bench.store.error = StoreUnavailableError("away")
    sleeps = [bench.scheduler.step() for _ in range(10)]
    assert 0 < max(sleeps) < SECOND


def test_a_step_that_failed_slowly_is_followed_sooner(bench: Bench) -> None:
    """A store that is silent is asked as often as one that refuses."""

    def fail() -> None:
        bench.clock.forward(0.4)
        raise StoreUnavailableError("silent")

    sleeps = []
    for _ in range(10):
        bench.store.meanwhile["claim_due"] = fail
        sleeps.append(bench.scheduler.step())
    assert max(sleeps) <= LONGEST_BACK_OFF - 0.4 * SECOND


def test_an_end_in_an_outage_is_recorded_after_it(bench: Bench) -> None:
    """A run that ended while the store was away is recorded when it is back."""
    bench.view = lambda: setattr(bench.store, "error", StoreUnavailableError("away"))
    bench.forward(60)
    bench.scheduler.step()
    bench.store.error = None
    bench.forward(1)
    assert [run.outcome for run in bench.store.runs()] == [Outcome.SUCCEEDED]
    assert len(bench.seen.of(events.RunEnded)) == 1


def test_a_store_that_is_away_at_the_start_is_joined_later() -> None:
    """A process that starts in an outage takes part as soon as it is over."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    bench.store.error = StoreUnavailableError("away")
    bench.scheduler.open()
    bench.store.error = None
    bench.forward(1)
    bench.forward(60)
    assert bench.paths == ["/cleanup"]


def test_an_unexpected_error_does_not_end_the_loop(bench: Bench) -> None:
    """An error that nobody foresaw is told once, and the next good step goes on."""
    error = RuntimeError("unforeseen")
    bench.store.error = error
    bench.forward(60)
    bench.forward(1)
    bench.store.error = None
    bench.forward(1)
    assert [event.error for event in bench.seen.of(events.SchedulerError)] == [error]
    assert bench.paths == ["/cleanup"]


def test_what_keeps_the_store_from_opening_is_raised() -> None:
    """A second pulse on the same store is an error of the start, not an outage."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    bench.store.error = StoreInUseError("pulse.config.name")
    with pytest.raises(StoreInUseError):
        bench.scheduler.open()


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), StoreInUseError("taken")])
def test_a_start_that_fails_leaves_no_slots_behind(error: Exception) -> None:
    """Whatever keeps the store from opening, the engine has been stopped."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    engine = InlineEngine(bench.clock)
    bench.store.error = error
    with pytest.raises(type(error)):
        Scheduler(bench.parts({}, engine)).open()
    assert engine.free() == 0


def test_a_start_that_fails_after_the_store_was_opened_closes_it() -> None:
    """A member that will never beat is not left on the list."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    bench.store.fail("sync", RuntimeError("unforeseen"))
    with pytest.raises(RuntimeError):
        bench.scheduler.open()
    bench.store.open(this_member("inline", "digest", 30 * SECOND))


def test_an_end_that_cannot_be_recorded_keeps_no_other_from_it() -> None:
    """Both runs of a batch are in the history, the one in question without its words."""
    bench = Bench(bad=Task(action="bad", interval=60), good=Task(action="good", interval=60))
    bench.scheduler.open()
    bench.store.chokes_on = "bad"
    bench.forward(60)
    assert {run.outcome for run in bench.store.runs()} == {Outcome.SUCCEEDED}
    assert bench.store.runs(task="bad")[0].message == "the message of the run could not be recorded"
    assert bench.store.runs(task="good")[0].message == "said /good"


def test_an_end_that_cannot_be_recorded_at_all_is_told_and_left(bench: Bench) -> None:
    """It is told with the task's name, and the loop goes on."""
    error = RuntimeError("unforeseen")
    bench.store.fail("finish", error)
    bench.forward(60)
    assert [(event.task, event.error) for event in bench.seen.of(events.SchedulerError)] == [
        ("cleanup", error)
    ]
    assert bench.scheduler.step() > 0


def test_a_claim_that_is_kept_outlives_the_end_of_a_lost_one() -> None:
    """A second attempt in the same process is renewed when the first one ends late."""
    tasks = {"work": Task(action="work", interval=3600, run_at_start=True, on_abandoned="rerun")}
    bench = Bench(**tasks)
    engine = HeldEngine(bench.clock)
    scheduler = Scheduler(bench.parts(tasks, engine))
    scheduler.open()
    scheduler.step()
    (first,) = engine.held
    for _ in range(4):
        bench.clock.forward(10)
        bench.store.heartbeat()
    scheduler.step()
    engine.end(first)
    for _ in range(5):
        bench.clock.forward(10)
        scheduler.step()
    assert [claim.run.attempt for claim in engine.held] == [1, 2]


def test_a_renewal_that_failed_is_tried_at_the_next_step() -> None:
    """A store that was busy for a moment does not cost a third of the lease."""
    tasks = {"work": Task(action="work", interval=3600, run_at_start=True)}
    bench = Bench(**tasks)
    scheduler = Scheduler(bench.parts(tasks, HeldEngine(bench.clock)))
    scheduler.open()
    scheduler.step()
    bench.clock.forward(10)
    bench.store.fail("renew", StoreUnavailableError("busy"))
    scheduler.step()
    bench.store.fail("renew", None)
    bench.store.called.clear()
    scheduler.step()
    assert "renew" in bench.store.called


def test_a_claim_on_its_way_is_drained_like_the_others() -> None:
    """A stop in the middle of a claim lets its run begin, and waits for it."""
    tasks = {"work": Task(action="work", interval=3600, run_at_start=True)}
    bench = Bench(**tasks)
    scheduler = Scheduler(bench.parts(tasks, ThreadEngine(bench.clock)))
    completed_run = threading.Thread(target=scheduler.stop, args=(10 * SECOND,))

    def stop_meanwhile() -> None:
        completed_run.start()
        completed_run.join(0.1)

    bench.store.meanwhile["claim_due"] = stop_meanwhile
    scheduler.start()
    ended = bench.seen.wait_for(events.RunEnded)
    completed_run.join(10)
    assert [event.result.outcome for event in ended] == [Outcome.SUCCEEDED]


def test_a_stop_before_the_store_answered_leaves_nothing_to_do() -> None:
    """A process that was told to stop joins no more, and its end is no recovery of the store."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    bench.store.error = StoreUnavailableError("away")
    bench.scheduler.open()
    bench.scheduler.stop_claiming()
    bench.store.error = None
    bench.store.called.clear()
    bench.forward(60)
    bench.scheduler.stop(0)
    assert bench.store.called == ["close"]
    assert bench.seen.of(events.StoreRecovered) == bench.seen.of(events.SchedulerStarted) == []


def test_a_stop_waits_a_second_for_a_claim_that_hangs() -> None:
    """The store may not answer before the server kills the process."""
    tasks = {"work": Task(action="work", interval=3600, run_at_start=True)}
    bench = Bench(**tasks)
    scheduler = Scheduler(bench.parts(tasks, ThreadEngine(bench.clock)))
    claiming, answer = threading.Event(), threading.Event()

    def hang() -> None:
        claiming.set()
        answer.wait(10)

    bench.store.meanwhile["claim_due"] = hang
    scheduler.start()
    assert claiming.wait(10)
    stopping = threading.Thread(target=scheduler.stop, args=(0,))
    stopping.start()
    while scheduler._engine.free():
        stopping.join(0.01)
    answer.set()
    stopping.join(10)
    assert [event.result.outcome for event in bench.seen.of(events.RunEnded)] == [
        Outcome.INTERRUPTED
    ]


def test_a_schedule_that_raises_is_told_once_with_its_task(bench: Bench) -> None:
    """However often the store tells of it, people are told once."""
    error = RuntimeError("no such month")
    now = bench.clock.wall()
    claimed = Claimed((), (), now, None, [FailedTask("cleanup", error)])
    bench.store.answers["claim_due"] = claimed
    bench.forward(1)
    bench.forward(1)
    assert [(event.task, event.error) for event in bench.seen.of(events.SchedulerError)] == [
        ("cleanup", error)
    ]


def test_a_run_whose_claim_was_lost_is_told_apart(bench: Bench) -> None:
    """A process that was away for longer than its lease hears that its record was refused."""

    def oversleep() -> None:
        bench.view = lambda: None
        for _ in range(12):
            bench.clock.forward(10)
            bench.store.heartbeat()

    bench.view = oversleep
    bench.forward(60)
    assert len(bench.seen.of(events.ClaimLost)) == 1
    assert bench.store.runs(task="cleanup")[-1].outcome is Outcome.ABANDONED


def test_the_start_is_told_with_its_reach(bench: Bench) -> None:
    """One event says how far "once" goes."""
    started = bench.seen.of(events.SchedulerStarted)
    assert [(event.scope, event.tasks) for event in started] == [("process", 1)]


def test_stopping_tells_once_however_often_it_is_called(bench: Bench) -> None:
    """Stop and close are harmless a second time."""
    bench.scheduler.stop(0)
    bench.scheduler.stop(0)
    bench.scheduler.close()
    assert len(bench.seen.of(events.SchedulerStopped)) == 1


def test_stopping_in_an_outage_without_a_drain_gives_up_at_once(bench: Bench) -> None:
    """A process that ends while the store is away leaves its runs to their leases."""
    bench.view = lambda: setattr(bench.store, "error", StoreUnavailableError("away"))
    bench.clock.forward(60)
    bench.scheduler.step()
    bench.store.asked = 0
    bench.scheduler.stop(0)
    assert bench.store.asked == 2
    assert [event.error for event in bench.seen.of(events.SchedulerError)] == [bench.store.error]
    assert len(bench.seen.of(events.SchedulerStopped)) == 1


class PatientLoop(InlineLoop):
    """A loop whose sleeps take no real time."""

    __slots__ = ("after", "clock", "slept")

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.slept: list[int] = []
        self.after: Callable[[], None] = lambda: None

    def wait(self, timeout_us: int) -> None:
        """Move the clock, and do what the test wants to happen meanwhile."""
        self.slept.append(timeout_us)
        self.clock.forward(timeout_us / SECOND)
        self.after()


def patient() -> tuple[Bench, PatientLoop]:
    """Return a bench on whose store a run's end cannot be recorded, and its engine's loop."""
    bench = Bench()
    engine = InlineEngine(bench.clock)
    engine.loop = PatientLoop(bench.clock)
    tasks = {"cleanup": Task(action="cleanup", interval=60)}
    bench.scheduler = Scheduler(bench.parts(tasks, engine))
    bench.scheduler.open()
    bench.view = lambda: setattr(bench.store, "error", StoreUnavailableError("away"))
    bench.clock.forward(60)
    bench.scheduler.step()
    return bench, engine.loop


def test_stopping_in_an_outage_waits_for_the_store_as_long_as_the_drain() -> None:
    """And not a moment longer."""
    bench, loop = patient()
    bench.scheduler.stop(2 * SECOND)
    assert sum(loop.slept) == 2 * SECOND
    assert bench.seen.of(events.RunEnded) == []


def test_an_end_is_recorded_when_the_store_comes_back_within_the_drain() -> None:
    """What ran while the store was away is on record although the process ends."""
    bench, loop = patient()
    loop.after = lambda: setattr(bench.store, "error", None)
    bench.scheduler.stop(2 * SECOND)
    assert [event.result.outcome for event in bench.seen.of(events.RunEnded)] == [Outcome.SUCCEEDED]
    assert len(loop.slept) == 1


def test_an_error_in_the_last_record_is_told(bench: Bench) -> None:
    """An unforeseen error at the end is told and does not keep the process from ending."""
    bench.view = lambda: setattr(bench.store, "error", RuntimeError("unforeseen"))
    bench.clock.forward(60)
    bench.scheduler.step()
    bench.store.error = None
    bench.scheduler.stop(0)
    assert bench.seen.of(events.SchedulerStopped)[0].interrupted == 0


def test_a_loop_in_a_thread_runs_and_drains() -> None:
    """With a real engine the loop goes by itself, and a stop lets the run in hand end."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60, run_at_start=True))
    entered, leave = threading.Event(), threading.Event()

    def view() -> None:
        entered.set()
        leave.wait(10)

    bench.view = view
    definitions = {"cleanup": Task(action="cleanup", interval=60, run_at_start=True)}
    scheduler = Scheduler(bench.parts(definitions, ThreadEngine(bench.clock)))
    scheduler.start()
    assert entered.wait(10)
    completed_run = threading.Thread(target=scheduler.stop, args=(10 * SECOND,))
    completed_run.start()
    leave.set()
    completed_run.join(10)
    ended = bench.seen.wait_for(events.RunEnded)
    assert [event.result.outcome for event in ended] == [Outcome.SUCCEEDED]
    assert bench.seen.of(events.SchedulerStopped)[0].interrupted == 0


def handle_of(bench: Bench) -> SchedulerHandle:
    """Return a handle of the bench's scheduler."""
    handle = SchedulerHandle()
    handle.attach(bench.scheduler)
    return handle


def test_a_trigger_runs_beside_the_schedule(bench: Bench) -> None:
    """A manual run is requested at the next step and leaves the schedule alone."""
    handle = handle_of(bench)
    run = handle.trigger("cleanup", body="now")
    bench.forward(0)
    assert run is not None
    assert bench.paths == ["/cleanup"]
    assert handle.runs(task="cleanup", limit=1)[0].trigger is Trigger.MANUAL
    assert handle.tasks()[0].next_fire == bench.clock.wall() + 60 * SECOND


def test_a_paused_task_does_not_fire_until_it_is_resumed(bench: Bench) -> None:
    """What passes in a pause is missed; the first fire time after it runs."""
    handle = handle_of(bench)
    handle.pause("cleanup")
    bench.forward(60)
    handle.resume("cleanup")
    bench.forward(0)
    assert bench.paths == []
    bench.forward(60)
    assert bench.paths == ["/cleanup"]


def test_the_handle_knows_the_members(bench: Bench) -> None:
    """This process is among those that take part."""
    assert [member.mode for member in handle_of(bench).members()] == ["inline"]


def test_a_handle_without_a_scheduler_says_so() -> None:
    """In a process that does not serve, the handle's verbs raise an error with words."""
    with pytest.raises(NotServingError, match="has started") as caught:
        SchedulerHandle().tasks()
    assert f"process {os.getpid()}, in which it has not" in str(caught.value)
    assert "the scheduler starts with the server, or at the first" in str(caught.value)


def test_a_handle_in_a_forked_child_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the process that has the scheduler, and what to do."""
    handle, parent = handle_of(bench), os.getpid()
    monkeypatch.setattr("os.getpid", lambda: parent + 1)
    with pytest.raises(NotServingError, match=f"in process {parent}, where the scheduler has"):
        handle.trigger("cleanup")


def test_an_unknown_task_is_named_with_its_neighbour(bench: Bench) -> None:
    """A misspelt name is answered with the nearest one."""
    with pytest.raises(PulseError, match="did you mean 'cleanup'"):
        handle_of(bench).trigger("clenup")


def test_a_task_is_added_and_removed_by_the_handle(bench: Bench) -> None:
    """It runs at the step that follows its fire time, and after its removal no more."""
    handle = handle_of(bench)
    handle.add("report", Task(action="report", interval=7))
    bench.forward(7)
    handle.remove("report")
    bench.forward(7)
    assert bench.paths == ["/report"]


def test_the_handle_adds_below_the_context(bench: Bench) -> None:
    """What a task leaves open is what the configuration says."""
    handle = SchedulerHandle(TaskDefaults(context="reports", timeout_us=7 * SECOND))
    handle.attach(bench.scheduler)
    handle.add("report", Task(action="send", interval=7))
    bench.forward(7)
    (ended,) = bench.seen.of(events.RunEnded)
    assert ended.claim.definition.timeout_us == 7 * SECOND
    assert bench.paths == ["/reports/send"]


def test_the_handle_refuses_a_bad_task_at_once() -> None:
    """Whether the scheduler runs or not."""
    with pytest.raises(PulseError, match="task: expected a Task, got None"):
        SchedulerHandle().add("report", None)


def test_a_name_that_the_configuration_takes_is_told_of() -> None:
    """What somebody has added is no more."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    member = this_member("inline", "digest", 30 * SECOND)
    bench.store.open(member)
    bench.store.add(make_runtime_task("cleanup", Task(action="other", interval=60), TaskDefaults()))
    bench.store.close()
    bench.scheduler.open()
    assert [event.tasks for event in bench.seen.of(events.TasksOverridden)] == [("cleanup",)]


def test_what_the_handle_does_to_a_task_is_told_of(bench: Bench) -> None:
    """By the process in which it was asked for, once it is done."""
    handle = SchedulerHandle(TaskDefaults())
    handle.attach(bench.scheduler)
    for replace in (False, True):
        handle.add("report", Task(action="send", interval=7), replace=replace)
    handle.remove("report")
    assert bench.seen.events[-3:] == [
        events.TaskAdded("report", replace=False),
        events.TaskAdded("report", replace=True),
        events.TaskRemoved("report"),
    ]


def test_what_the_handle_is_refused_is_not_told_of(bench: Bench) -> None:
    """Nothing has happened."""
    handle = SchedulerHandle(TaskDefaults())
    handle.attach(bench.scheduler)
    with pytest.raises(ConfigTaskError):
        handle.remove("cleanup")
    assert bench.seen.of(events.TaskRemoved) == []


def test_a_definition_that_a_start_changes_is_told_of(bench: Bench) -> None:
    """By the process that was first to hold it."""
    bench.store.close()
    bench.scheduler = Scheduler(
        bench.parts({"cleanup": Task(action="cleanup", interval=90)}, InlineEngine(bench.clock))
    )
    bench.scheduler.open()
    assert [event.tasks for event in bench.seen.of(events.TasksChanged)] == [("cleanup",)]


def test_what_a_changed_schedule_misses_is_told_of(bench: Bench) -> None:
    """By the process that changes it: at its start, in a deploy, or through the handle."""
    handle = SchedulerHandle(TaskDefaults())
    handle.attach(bench.scheduler)
    handle.add("report", Task(action="send", interval=7))
    bench.clock.forward(20)
    handle.add("report", Task(action="send", interval=9), replace=True)
    missed = [event.run for event in bench.seen.of(events.TickMissed)]
    bench.store.answers["sync"] = SyncResult((), (), (), (), missed)
    bench.store.answers["heartbeat"] = HeartbeatResult((), (), (), missed=missed)
    other = Bench(cleanup=Task(action="cleanup", interval=60))
    other.store.answers = bench.store.answers
    other.scheduler.open()
    other.forward(1)
    assert [run.count for run in missed] == [2]
    assert [event.run for event in other.seen.of(events.TickMissed)] == missed * 2


def test_tasks_that_nobody_wants_any_more_are_told_of(bench: Bench) -> None:
    """So a task that was forgotten in a configuration shows."""
    bench.store.answers["heartbeat"] = HeartbeatResult((), ("gone",), ())
    bench.forward(1)
    assert bench.seen.of(events.TasksArchived)[0].tasks == ("gone",)


def test_members_with_other_tasks_are_reported_once(bench: Bench) -> None:
    """The heartbeat returns the live members."""
    old = msgspec.structs.replace(this_member("inline", "old", SECOND), holder="old:1:x")
    members = [old, this_member("inline", "digest", SECOND)]
    bench.store.answers["heartbeat"] = HeartbeatResult((), (), (), members=members)
    for _ in range(3):
        bench.forward(1)
    assert [event.holders for event in bench.seen.of(events.ConfigMismatch)] == [("old:1:x",)]


class RefusalError(Exception):
    """What the view raises."""


def refuse() -> None:
    """Raise."""
    raise RefusalError


@pytest.fixture
def retrying() -> Bench:
    """Return an opened scheduler with a task that fails, and is tried twice more."""
    words = {"retries": 2, "retry_min_backoff": 5, "retry_max_backoff": 5}
    made = Bench(cleanup=Task(action="cleanup", interval=60, **words))
    made.view = refuse
    made.scheduler.open()
    return made


def test_an_attempt_that_is_retried_is_told_as_such(retrying: Bench) -> None:
    """Each attempt is told once it is recorded, the last one as the run's end."""
    retrying.forward(60)
    told = retrying.seen.of(events.RunRetrying)
    assert [event.retry_at for event in told] == [retrying.clock.wall() + 5 * SECOND]
    assert not retrying.seen.of(events.RunEnded)
    for _ in range(2):
        retrying.forward(5)
    assert len(retrying.seen.of(events.RunRetrying)) == 2
    assert [event.claim.run.attempt for event in retrying.seen.of(events.RunEnded)] == [3]


def test_a_retry_ends_the_sleep(retrying: Bench) -> None:
    """The loop wakes up for it as for a tick."""
    retrying.forward(60)
    retrying.clock.forward(4.5)
    assert retrying.scheduler.step() == SECOND // 2


def test_an_attempt_that_mends_it_ends_the_run(retrying: Bench) -> None:
    """The view is requested again, and its answer is the run's."""
    retrying.forward(60)
    retrying.view = lambda: None
    retrying.forward(5)
    assert retrying.paths == ["/cleanup"] * 2
    (run,) = retrying.store.runs()
    assert (run.outcome, [one.outcome for one in run.attempts]) == (
        Outcome.SUCCEEDED,
        [Outcome.FAILED],
    )


def test_a_retry_that_nobody_took_is_told_once(retrying: Bench) -> None:
    """A process that was away for too long ends the run, and runs the tick."""
    retrying.forward(60)
    retrying.forward(60)
    assert [event.run.outcome for event in retrying.seen.of(events.RetryExpired)] == [
        Outcome.FAILED
    ]
    assert len(retrying.seen.of(events.RunRetrying)) == 2


def test_the_process_that_ends_a_run_begins_the_waiting_one_at_once() -> None:
    """In the step that records the end, the run that waited for it is claimed."""
    tasks = {"work": Task(action="work", interval=60, overlap="wait")}
    bench = Bench(**tasks)
    engine = HeldEngine(bench.clock)
    scheduler = Scheduler(bench.parts(tasks, engine))
    scheduler.open()
    for _ in range(2):
        bench.clock.forward(60)
        scheduler.step()
    (first,) = engine.held
    engine.end(first)
    scheduler.step()
    assert [claim.run.fire_time - first.run.fire_time for claim in engine.held] == [0, 60 * SECOND]


def test_a_waiting_run_does_not_keep_the_loop_awake() -> None:
    """While the other goes on there is nothing to do."""
    tasks = {"work": Task(action="work", interval=60, overlap="wait")}
    bench = Bench(**tasks)
    scheduler = Scheduler(bench.parts(tasks, HeldEngine(bench.clock)))
    scheduler.open()
    for _ in range(2):
        bench.clock.forward(60)
        scheduler.step()
    assert scheduler.step() == HEARTBEAT_INTERVAL


# Log lines of outages, of a wrong clock, and of what people do


@pytest.fixture
def lines(bench: Bench, caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """Return a function that returns the log lines of some levels so far."""
    caplog.set_level(logging.INFO, "pulse")
    subscribe_log(bench.bus, bench.clock)
    return lambda *levels: [one.getMessage() for one in caplog.records if one.levelno in levels]


def test_outage_whose_reason_changes_is_logged_again(
    bench: Bench, lines: Callable[..., list[str]]
) -> None:
    """The new reason is what the administrator has to mend."""
    for reason in ("connection refused", "connection refused", "no such database"):
        bench.store.error = StoreUnavailableError(reason)
        bench.forward(1)
    errors = lines(logging.ERROR)
    require("connection refused" in errors[0], "a line when the outage begins")
    assert ["no such database" in line for line in errors] == [False, True]


def test_long_outage_is_logged_every_five_minutes(
    bench: Bench, lines: Callable[..., list[str]]
) -> None:
    """The end of the log shows that the outage still lasts."""
    bench.store.error = StoreUnavailableError("away")
    bench.forward(1)
    require(len(lines(logging.ERROR)) == 1, "a line when the outage begins")
    for _ in range(11 * 60):
        bench.forward(1)
    assert len(lines(logging.ERROR)) == 3


@pytest.mark.parametrize("method", ["heartbeat"])
def test_outage_of_some_calls_is_reported_once(bench: Bench, method: str) -> None:
    """A success of another call, such as a read, does not end the outage."""
    bench.scheduler.store.reach = Scope.HOST
    bench.store.fail(method, StoreUnavailableError("read-only"))
    for _ in range(120):
        bench.forward(0.5)
    kinds = (events.StoreUnavailable, events.StoreRecovered)
    assert [len(bench.seen.of(kind)) for kind in kinds] == [1, 0]


@pytest.mark.parametrize("method", ["claim_due", "finish"])
def test_outage_of_a_call_of_each_turn_is_reported_once(bench: Bench, method: str) -> None:
    """No turn of the loop succeeds during the outage."""
    bench.store.fail(method, StoreUnavailableError("read-only"))
    for _ in range(240):
        bench.forward(0.5)
    kinds = (events.StoreUnavailable, events.StoreRecovered)
    assert [len(bench.seen.of(kind)) for kind in kinds] == [1, 0]


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=2)], ids=str)
def test_refused_fire_time_is_logged(
    bench: Bench, lines: Callable[..., list[str]], ahead: timedelta
) -> None:
    """A tick that ran while the clock was ahead is refused at its real time, with a line."""
    right = moment_of(bench.clock.wall())
    bench.clock.set_wall(right + ahead)
    bench.forward(0)
    require(bench.paths == ["/cleanup"], "a run by the wrong clock")
    bench.clock.set_wall(right)
    before = len(lines(logging.WARNING, logging.ERROR))
    require(before, "a line of the ticks that were missed by the wrong clock")
    for _ in range(int(ahead / timedelta(minutes=1)) + 5):
        bench.forward(60)
    later = lines(logging.WARNING, logging.ERROR)[before:]
    assert [line for line in later if "cleanup" in line and AN_INSTANT.search(line)]


@pytest.mark.parametrize("verb", ["pause", "resume", "trigger"])
def test_verb_of_the_handle_is_logged(
    bench: Bench, lines: Callable[..., list[str]], verb: str
) -> None:
    """The process that was asked logs the verb and the task at INFO."""
    getattr(handle_of(bench), verb)("cleanup")
    assert [line for line in lines(logging.INFO) if "cleanup" in line and verb in line]


@pytest.mark.parametrize(("verb", "word"), [("add", "added"), ("remove", "removed")])
def test_change_of_runtime_tasks_is_logged(
    bench: Bench, lines: Callable[..., list[str]], verb: str, word: str
) -> None:
    """The process that was asked logs the task at INFO."""
    handle = handle_of(bench)
    handle.add("report", Task(action="report", interval=7))
    if verb == "remove":
        handle.remove("report")
    assert [line for line in lines(logging.INFO) if "report" in line and word in line]


# In a forked child ----------------------------------------------------------------------------


def test_a_copy_claims_records_and_emits_nothing(bench: Bench) -> None:
    """From the fork on neither the store nor a listener hears of it, whatever goes on in it."""
    bench.scheduler.forked()
    bench.seen.events.clear()
    bench.store.called.clear()
    bench.clock.forward(60)
    bench.scheduler.step()
    bench.scheduler.emit(events.Notice("done through the handle"))
    bench.scheduler.stop_claiming()
    bench.scheduler.stop(0)
    bench.scheduler.close()
    assert (bench.seen.events, bench.store.called, bench.paths) == ([], [], [])


def test_a_copy_refuses_the_calls_of_the_application(bench: Bench) -> None:
    """They belong into the parent process."""
    bench.scheduler.forked()
    with pytest.raises(NotServingError, match="its forked child"):
        bench.scheduler.store.tasks()


def test_a_fork_in_the_middle_of_a_claim_dispatches_nothing(bench: Bench) -> None:
    """The answer that the copy gets is the parent's."""
    bench.store.meanwhile["claim_due"] = bench.scheduler.forked
    bench.forward(60)
    assert bench.paths == []


def test_a_fork_in_the_middle_of_a_run_is_not_recorded(bench: Bench) -> None:
    """What the view returns in the child is nobody's result."""
    bench.view = bench.scheduler.forked
    bench.store.called.clear()
    bench.forward(60)
    assert bench.paths == ["/cleanup"]
    assert "finish" not in bench.store.called
    assert bench.seen.of(events.RunEnded) == []


def test_a_fork_in_a_listener_keeps_the_claims_from_being_dispatched() -> None:
    """A listener hears of a claim before it is handed to the engine, and may wait."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    bench.bus.subscribe(events.RunClaimed, lambda _: bench.scheduler.forked())
    bench.scheduler.open()
    bench.forward(60)
    assert bench.paths == []


def test_the_loop_of_a_copy_ends_without_a_word() -> None:
    """It neither leaves the store nor tells of its end: both are the parent's."""
    bench = Bench(cleanup=Task(action="cleanup", interval=60))
    engine = ThreadEngine(bench.clock)
    scheduler = Scheduler(bench.parts({}, engine))
    scheduler.start()
    scheduler.forked()
    bench.store.called.clear()
    engine.loop.wake()
    assert engine.loop.join(10 * SECOND)
    assert bench.store.called == []
    assert bench.seen.of(events.SchedulerStopped) == []
    engine.stop(0)  # the fork is simulated: the engine's threads run in this process
