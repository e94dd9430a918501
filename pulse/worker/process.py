"""Takes posted runs in one process of a worker, and executes them."""

from __future__ import annotations

import logging
import os
import signal
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from pulse.carrier.base import VERSION
from pulse.clock import SECOND, Span, SystemClock
from pulse.core.policies import StoreFallback
from pulse.core.run import QUEUE_HOLDER, Outcome, attempt_of
from pulse.engine.base import EngineCallbacks
from pulse.engine.in_flight import NEVER
from pulse.errors import ConfigError, StoreError
from pulse.events import RunOverdue
from pulse.forks import ForkMark
from pulse.log.format import escape_control_characters
from pulse.logger import log
from pulse.serving.exclusions import START_VARIABLE
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.worker.bells import make_bell
from pulse.worker.main_thread import NO_RUN, MainThreadEngine
from pulse.worker.settings import load_worker_runtime
from pulse.worker.store_thread import StoreThread, WorkerParts
from pulse.wsgi.dispatcher import Dispatcher, version
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.carrier.base import Parcel
    from pulse.clock import Clock
    from pulse.config.settings import Settings
    from pulse.core.run import AttemptKey, Claim, CompletedRun, Result
    from pulse.core.task import TaskDefinition
    from pulse.engine.base import Engine
    from pulse.store.base import Store
    from pulse.worker.bells import Bell
    from pulse.worker.settings import WorkerTarget

TAKE_WITHIN: Span = 5 * SECOND
"""How long it may take to take a run; after that the run is given back, as another worker may be
faster."""

SLOW = "the store took too long to give it to a worker"
_ANY_RUN = ("", "")
UNKNOWN = (
    "left to another worker: its run is not in {store}; web processes and workers need the same"
    " store and the same pulse.config.name (without both, the same ini file or working directory)"
)
NOT_TAKEN = "not run, its claim is over or another process has it"


class Pool(Enum):
    """How a worker executes runs at once."""

    PREFORK = "prefork"
    THREADS = "threads"
    GEVENT = "gevent"


class ParcelResult(Enum):
    """What became of a parcel.

    RAN: this process has executed the run.
    REFUSED: there is nothing to run: the attempt was taken, or has ended.
    LEFT: this process cannot execute the run, which another worker may.
    """

    RAN = "ran"
    REFUSED = "refused"
    LEFT = "left"


class _Executor(Protocol):
    """What executes the claims of a process."""

    def submit(self, claim: Claim) -> None:
        """Execute a claim now or soon, and report it."""


class _Site(NamedTuple):
    """The application in this process, which keeps its middleware alive, and its settings."""

    app: object
    settings: Settings


class WorkerProcess:
    """Executes the runs that parcels name; make it in the process, after any fork.

    Args:
        target: the application.
        pool: how runs are executed.
        slots: how many of them at once.

    Raises:
        ConfigError: the application cannot be loaded.

    """

    def __init__(self, target: WorkerTarget, pool: Pool, *, slots: int) -> None:
        os.environ[START_VARIABLE] = "off"
        app, runtime = load_worker_runtime(target)
        settings, self._bus = runtime.settings, runtime.bus
        self._site = _Site(app, settings)
        self._clock: Clock = SystemClock()
        self._mark = ForkMark()
        self._waiting: dict[AttemptKey, tuple[Bell, Bell]] = {}
        self._said: set[tuple[str, str]] = set()
        self._stopping = False
        dispatcher = Dispatcher(
            runtime.app,
            base_url=settings.base_url,
            multithread=pool is not Pool.PREFORK,
            multiprocess=pool is Pool.PREFORK,
            environ=runtime.extra,
        )
        self._runner = Runner(dispatcher, self._clock, self._mark)
        self._engine: Engine | None = None
        self._main: MainThreadEngine | None = None
        executor, watch, interrupt = self._make_executor(pool, slots)
        self._executor: _Executor = executor
        store = _store_of(settings, self._clock)
        self._store = store
        member = this_member(f"celery {pool.value}", settings.digest, settings.lease_us)
        self._thread = StoreThread(
            WorkerParts(
                member=member,
                store=store,
                bus=runtime.bus,
                clock=self._clock,
                interrupt=interrupt,
                watch=watch,
                slots=slots,
                stops_runs=pool is not Pool.THREADS,
                version=version(),
                mark=self._mark,
            )
        )
        self._refuse_process_store(store)

    def start(self) -> None:
        """Join the fleet, and be ready to execute runs."""
        os.register_at_fork(after_in_child=self._forked)
        if self._main is not None:
            self._main.fork_signals.register()
        self._thread.start()
        settings = self._site.settings
        name = f", name {settings.name}" if settings.name else ""
        number = "1 task" if len(settings.tasks) == 1 else f"{len(settings.tasks)} tasks"
        text = f"executes posted runs of {number}, store {self._store.name}{name}"
        log(logging.INFO, f"{text} [pid {os.getpid()}]")

    def perform(self, parcel: Parcel) -> ParcelResult:
        """Take the run that a parcel names, execute it, and return once its end is recorded."""
        main = self._main
        if main is None:
            return self._perform(parcel)
        with main.undisturbed():
            return self._perform(parcel)

    def _perform(self, parcel: Parcel) -> ParcelResult:
        if self._stopping:
            return ParcelResult.LEFT
        try:
            definition = self._definition_of(parcel)
            if definition is None:
                return self._leave(parcel)
            claim = self._take(parcel, definition)
        except StoreError as error:
            self._say(parcel, f"left to another worker: {error}", level=logging.WARNING)
            return ParcelResult.LEFT
        if claim is None:
            return self._refuse(parcel)
        self._execute(claim)
        return ParcelResult.RAN

    def interrupt_all(self) -> None:
        """Interrupt what is in progress: the worker stops at once, and takes no further run."""
        self._stopping = True
        if self._engine is not None:
            self._engine.stop(0)

    def stop(self) -> None:
        """Record what has ended, and leave the fleet."""
        if not self._mark.in_child:
            self._thread.stop()

    def _forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a process that the app has forked."""
        self._mark.set()
        self._store.forked()
        if self._engine is not None:
            self._engine.forked()
        if self._main is not None:
            self._main.forked()

    # Taking a run -------------------------------------------------------------------------

    def _definition_of(self, parcel: Parcel) -> TaskDefinition | None:
        """Return the definition of the parcel's task; None if this process has another one."""
        if parcel.version != VERSION:
            return None
        declared = self._site.settings.tasks.get(parcel.task)
        if declared is not None:
            return declared if declared.digest == parcel.digest else None
        try:
            return self._thread.call(lambda store: store.runtime_definition(parcel.task))
        except ConfigError:  # a newer release wrote the task
            return None

    def _take(self, parcel: Parcel, definition: TaskDefinition) -> Claim | None:
        began = self._clock.boot()
        # Whoever writes messages could name a process that executes the run.
        poster = "" if self._thread.is_worker(parcel.poster) else parcel.poster

        taken: list[Claim] = []

        def take(store: Store) -> Claim | None:
            claim = store.take(parcel.run, parcel.attempt, poster=poster, definition=definition)
            if claim is None:
                return None
            if self._clock.boot() - began > TAKE_WITHIN:
                self._thread.give_back(claim, SLOW)
                return None
            # The lease is renewed before the run begins too, which a hub may delay.
            lasting = msgspec.structs.replace(claim, good_until=NEVER)
            self._thread.track(lasting, claim.good_until)
            taken.append(lasting)
            return lasting

        try:
            return self._thread.call(take)
        except BaseException:  # Celery may end the greenlet that waits, and the call is made
            self._thread.leave_taken(taken)
            raise

    def _leave(self, parcel: Parcel) -> ParcelResult:
        """Return whether another worker may still take the run of a parcel."""
        run = self._thread.call(lambda store: store.run(parcel.run))
        waits = run is not None and run.outcome is None and run.attempt == parcel.attempt
        if run is None:
            return self._miss(parcel)
        if not waits or run.holder not in {QUEUE_HOLDER, parcel.poster}:
            self._say(parcel, NOT_TAKEN)
            return ParcelResult.REFUSED
        if (parcel.task, parcel.digest) not in self._said:
            self._said.add((parcel.task, parcel.digest))
            self._say(parcel, "left to a worker with the configuration of the run")
        return ParcelResult.LEFT

    def _refuse(self, parcel: Parcel) -> ParcelResult:
        """Report a run that this process did not get, which is usual for a second message."""
        try:
            run = self._thread.call(lambda store: store.run(parcel.run))
        except StoreError:
            run = None
        else:
            if run is None:
                return self._miss(parcel)
        self._say(parcel, NOT_TAKEN)
        return ParcelResult.REFUSED

    def _miss(self, parcel: Parcel) -> ParcelResult:
        """Leave a run that the store does not know to another worker: it is in another store."""
        level = logging.DEBUG if _ANY_RUN in self._said else logging.WARNING
        self._said.add(_ANY_RUN)
        self._say(parcel, UNKNOWN.format(store=self._store.name), level=level)
        return ParcelResult.LEFT

    def _say(self, parcel: Parcel, text: str, *, level: int = logging.INFO) -> None:
        name = escape_control_characters(parcel.task)
        facts = {"pulse_task": parcel.task, "pulse_run_id": parcel.run}
        log(level, f"{name}: {text} [pid {os.getpid()}]", facts)

    # Executing it -------------------------------------------------------------------------

    def _execute(self, claim: Claim) -> None:
        """Execute a claim, and wait until its end is recorded.

        The end is recorded whatever becomes of this call: Celery may end the greenlet that waits.
        """
        ended, recorded = make_bell(), make_bell()
        self._waiting[attempt_of(claim)] = (ended, recorded)
        self._executor.submit(claim)
        ended.wait()
        self._thread.wait_until_recorded(recorded)

    def _perform_claim(self, claim: Claim) -> Result:
        if not self._thread.is_valid(claim):
            claim = msgspec.structs.replace(claim, good_until=0)  # the runner then refuses it
        return self._runner.perform(claim)

    def _report(self, completed_run: CompletedRun) -> None:
        claim, result = completed_run
        ended, recorded = self._waiting.pop(attempt_of(claim))
        if result.outcome is Outcome.INTERRUPTED and not result.was_dispatched:
            self._thread.leave(claim)
            recorded.ring()
        else:
            self._thread.record(completed_run, recorded)
        ended.ring()

    def _make_executor(
        self, pool: Pool, slots: int
    ) -> tuple[_Executor, Callable[[Span], Span], Callable[[Claim, str], None]]:
        """Return what executes claims, what watches it, and what interrupts a claim."""
        if pool is Pool.PREFORK:
            main = self._main = MainThreadEngine(
                self._clock,
                perform=self._perform_claim,
                report=self._report,
                begun=self._wake,
                outlast=self._kill,
            )
            return main, main.watch, main.interrupt
        engine = self._engine = _engine_of(pool, self._clock)
        work = EngineCallbacks(self._perform_claim, self._report, self._overdue)
        engine.start(work, concurrency=slots)
        return engine, lambda _: NO_RUN, _interrupter(engine, pool)

    def _wake(self) -> None:
        """Let the native thread watch the deadline of the run that has begun."""
        self._thread.wake()

    def _overdue(self, claim: Claim, left_behind: int) -> None:
        self._bus.emit(RunOverdue(claim, left_behind))

    def _kill(self, completed_run: CompletedRun) -> None:
        """Record the end of a run that resists, and kill this process; in the native thread."""
        self._thread.record_now(completed_run)
        os.kill(os.getpid(), signal.SIGKILL)

    def _refuse_process_store(self, store: Store) -> None:
        if store.name == "memory:":
            raise ConfigError(
                ["pulse.config.store: expected a store that workers reach, got memory:"]
            )


def _store_of(settings: Settings, clock: Clock) -> Store:
    store, _ = choose_store(
        settings.store,
        settings.store_options(),
        clock=clock,
        origin=settings.origin,
        fallback=StoreFallback.REFUSE,
        tasks=settings.tasks,
    )
    return store


def _engine_of(pool: Pool, clock: Clock) -> Engine:
    if pool is Pool.GEVENT:
        from pulse.engine.greenlets import GreenletEngine

        return GreenletEngine(clock)
    from pulse.engine.threads import ThreadEngine

    return ThreadEngine(clock)


def _interrupter(engine: Engine, pool: Pool) -> Callable[[Claim, str], None]:
    """Return what interrupts a claim, callable in the native thread."""
    if pool is not Pool.GEVENT:
        return engine.interrupt
    from gevent import get_hub

    loop = get_hub().loop
    return lambda claim, reason: loop.run_callback_threadsafe(engine.interrupt, claim, reason)
