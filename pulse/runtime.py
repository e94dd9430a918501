"""Builds everything that belongs to one middleware; the only module that knows every part.

Building opens nothing and starts nothing. What belongs to one process (engine, store, scheduler)
is made in `start`, after any fork.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pulse import events
from pulse.carrier.base import CarrierSetup
from pulse.child.client import client_access
from pulse.clock import SECOND
from pulse.core.policies import Scope, StoreFallback
from pulse.core.task_warnings import never_fires
from pulse.engine.child_protocol import ChildSetup, StoreSetup
from pulse.engine.factory import EngineSetup, load_engine, posts_runs, resolve
from pulse.errors import ConfigError, TravelError
from pulse.forks import ForkMark
from pulse.guard.guard import Guard
from pulse.handle.handle import SchedulerHandle
from pulse.log.messages import subscribe_claims, subscribe_log
from pulse.scheduler.condition import NOT_STARTED
from pulse.scheduler.loop import Scheduler, SchedulerParts
from pulse.scheduler.offloaded_store import OffloadedStore
from pulse.serving.identity import fingerprint_of, server_name
from pulse.serving.lifecycle import REGISTRY
from pulse.serving.one_process import serves_alone
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.wsgi.dispatcher import Dispatcher, version
from pulse.wsgi.runner import Runner, dropped

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from pulse.child.application_check import ApplicationCheck
    from pulse.clock import Clock, Span
    from pulse.config.settings import Settings
    from pulse.core.run import Claim, Result
    from pulse.core.task import TaskDefinition
    from pulse.engine.base import Engine
    from pulse.engine.child_protocol import MiddlewareFingerprint
    from pulse.scheduler.condition import Condition
    from pulse.scheduler.host_look import HostLook
    from pulse.store.base import Member, Store
    from pulse.web.mounts import Mounts


TEST_HOST = "test"
"""The host of a scheduler that a test steps."""


class PulseRuntime:
    """Everything of one middleware: the service that `pulse.serving` starts and shuts down.

    Raises:
        ConfigError: a header of a task cannot be sent, or `mode = processing` does not know where
            its children find the application.

    """

    def __init__(self, app: WSGIApplication, settings: Settings, *, clock: Clock) -> None:
        self.settings = settings
        self.app: WSGIApplication = app
        self.fingerprint: MiddlewareFingerprint = fingerprint_of(settings)
        self.bus: events.EventBus = events.EventBus()
        self.handle: SchedulerHandle = SchedulerHandle(
            settings.task_defaults(), make_client=partial(client_access, settings, clock, self.bus)
        )
        self.guard: Guard | None = _guard(settings)
        self.extra: dict[str, object] = {"pulse.scheduler": self.handle}
        self._dispatcher = Dispatcher(
            app, base_url=settings.base_url, multithread=True, environ=self.extra
        )
        self._clock = clock
        self._runner: Runner | None = None
        self._running: RunningScheduler | None = None
        self._stepped: RunningScheduler | None = None
        self._scheduler: Scheduler | None = None
        self._inherited: list[Scheduler] = []
        self._accepts_work: Callable[[], bool] = lambda: True
        subscribe_log(self.bus, clock)
        _check(settings, self._dispatcher)
        self.mounts: Mounts | None = self._mounts()

    def _mounts(self) -> Mounts | None:
        """Return what pulse answers itself; None for nothing, which imports nothing either."""
        settings = self.settings
        if settings.api is settings.dashboard is settings.health is None:
            return None
        from pulse.web.build import build_mounts

        return build_mounts(settings, self.handle, self.condition, self._clock)

    def condition(self) -> Condition:
        """Return how this process is."""
        scheduler = self._scheduler
        return NOT_STARTED if scheduler is None else scheduler.condition()

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Call *accepts_work* before each claim: does this process still accept new work?"""
        self._accepts_work = accepts_work

    def start(self) -> RunningScheduler:
        """Start a scheduler in this process, unless a test steps one; return the running service.

        Raises:
            StoreFolderError: there is no folder for the default store.
            PulseError: the scheduler cannot start; an outage of the store is no such reason.

        """
        if self._stepped is not None and not self._stepped.ended:
            return self._stepped
        scheduler = self.build()
        now = self._clock.wall()
        for definition in self.settings.tasks.values():
            self.note(never_fires(definition, now))
        scheduler.start()
        return self._attach(scheduler)

    def start_for_test(self, *, clock: Clock, engine: Engine, store: Store) -> Scheduler:
        """Return an open scheduler that a test steps itself, until `shutdown`.

        The application is called and the handle works; the mode, the store and the clock of the
        settings are not used.

        Raises:
            TravelError: a scheduler runs already, or another test steps one.

        """
        if self._running is not None and not self._running.ended:
            raise TravelError(
                "expected a middleware that has not started, got one that runs already"
            )
        self.handle.refuse_clients()
        member = this_member(engine.name, self.settings.digest, self.settings.lease_us)
        # The jitter of a task may depend on its host and its process: every test gets the same one.
        same = msgspec.structs.replace(member, host=TEST_HOST, holder=f"{TEST_HOST}:1:test")
        scheduler = self._scheduler_of(same, store=store, engine=engine, clock=clock)
        scheduler.open()
        self._stepped = self._attach(scheduler)
        return scheduler

    def _attach(self, scheduler: Scheduler) -> RunningScheduler:
        self.handle.attach(scheduler)
        self._running = RunningScheduler(scheduler, self.handle, drain_us=self.settings.drain_us)
        return self._running

    def stop_claiming(self) -> None:
        """Claim nothing more."""
        if self._running is not None:
            self._running.stop_claiming()

    def shutdown(self, limit_s: float | None) -> None:
        """Drain for the time of the setting, but at most one second less than *limit_s*."""
        if self._running is not None:
            self._running.shutdown(limit_s)

    def forked(self) -> None:
        """Give up the parent's scheduler: this is a forked child, which may start its own."""
        if self._scheduler is not None:
            self._inherited.append(self._scheduler)  # kept, as `pulse.forks` says
        self._scheduler = self._running = self._stepped = None
        self.handle.forked()
        for copy in self._inherited:
            copy.forked()

    def build(self) -> Scheduler:
        """Return a scheduler for this process that is not open yet."""
        settings = self.settings
        store = self._store()
        mode, notice = resolve(settings.mode)
        member = this_member(mode, settings.digest, settings.lease_us)
        child = child_setup_of(settings, holder=member.holder)
        carrier = CarrierSetup(
            broker=settings.broker, queue=settings.queue, wait_us=settings.wait_us
        )
        engine = load_engine(mode, EngineSetup(clock=self._clock, child=child, carrier=carrier))
        if posts_runs(mode):
            self._check_reach(store, mode)
        serving = self._accepts_work
        if mode == "processing" and child is not None:
            serving = self._check_of(child).at_start(serving)
        self.note(notice)
        subscribe_claims(self.bus)
        return self._scheduler_of(
            member,
            store=store,
            engine=engine,
            clock=self._clock,
            serving=serving,
            host_look=self._host_look(member, store),
        )

    def _check_reach(self, store: Store, mode: str) -> None:
        """Check that workers reach the store; note where only those of this host do.

        Raises:
            ConfigError: the store is inside this process.

        """
        if store.reach is Scope.PROCESS:
            expected = f"a store that workers reach under mode = {mode}"
            raise ConfigError([f"pulse.config.store: expected {expected}, got {store.name}"])
        if store.reach is Scope.HOST:
            self.note(
                f"mode {mode} with a store on this host: only workers on this host can execute its"
                " runs"
            )

    def _host_look(self, member: Member, store: Store) -> HostLook | None:
        """Return the mark by which processes of this host let one of them look; None for none."""
        if store.reach is Scope.PROCESS:
            return None
        from pulse.scheduler.host_look import open_host_look

        return open_host_look(member, store=store.name, name=self.settings.name or "")

    def _check_of(self, child: ChildSetup) -> ApplicationCheck:
        from pulse.child.application_check import ApplicationCheck

        bus = self.bus
        return ApplicationCheck(
            self,
            child,
            beside=_runtimes,
            clock=self._clock,
            report=lambda problem: bus.emit(events.StartFailed(problem)),
        )

    def _scheduler_of(
        self,
        member: Member,
        *,
        store: Store,
        engine: Engine,
        clock: Clock,
        serving: Callable[[], bool] = lambda: True,
        host_look: HostLook | None = None,
    ) -> Scheduler:
        mark = ForkMark()
        self._runner = Runner(self._dispatcher, clock, mark)
        parts = SchedulerParts(
            definitions=self.settings.tasks,
            member=member,
            store=OffloadedStore(store, mark, offload=engine.loop.offload),
            engine=engine,
            bus=self.bus,
            clock=clock,
            perform=_weak_perform(self._runner, clock),
            concurrency=self.settings.concurrency or engine.default_concurrency,
            name=self.settings.name or "",
            chosen=self.settings.store is not None,
            serving=serving,
            mark=mark,
            host_look=host_look,
            version=version(),
            server=server_name(),
        )
        self._scheduler = scheduler = Scheduler(parts)
        return scheduler

    def _store(self) -> Store:
        settings = self.settings
        store, notice = choose_store(
            settings.store,
            settings.store_options(),
            clock=self._clock,
            origin=settings.origin,
            fallback=StoreFallback.MEMORY if serves_alone() else settings.store_fallback,
            tasks=settings.tasks,
        )
        self.note(notice)
        return store

    def note(self, text: str) -> None:
        """Emit a notice about how pulse runs in this process, unless *text* is empty."""
        if text:
            self.bus.emit(events.Notice(text))

    def fail(self, problem: str) -> None:
        """Emit an event that no task can run in this process, with the reason."""
        self.bus.emit(events.StartFailed(problem))

    def disabled(self, reason: str) -> None:
        """Emit an event that no scheduler starts in this process, with the reason."""
        self.bus.emit(events.StartDisabled(reason))


class RunningScheduler:
    """The scheduler of one middleware in this process, from its start to its shutdown.

    It keeps neither the middleware nor the application alive: a middleware that is dropped is
    freed while the scheduler still runs, and the scheduler can be shut down all the same.

    Attributes:
        ended: whether the shutdown is complete; one that was cut short may be called again.

    """

    def __init__(self, scheduler: Scheduler, handle: SchedulerHandle, *, drain_us: Span) -> None:
        self.ended: bool = False
        self._scheduler = scheduler
        self._handle = handle
        self._drain_us = drain_us

    def stop_claiming(self) -> None:
        """Claim nothing more."""
        if not self.ended:
            self._scheduler.stop_claiming()

    def shutdown(self, limit_s: float | None) -> None:
        """Drain for the time of the setting, but at most one second less than *limit_s*."""
        if not self.ended:
            self._handle.attach(None)
            self._scheduler.stop(drain_within(self._drain_us, limit_s))
            self.ended = True

    def forked(self) -> None:
        """Give up the parent's scheduler: this is a copy in a forked child."""
        self.ended = True
        self._handle.forked()
        self._scheduler.forked()


def _runtimes() -> list[PulseRuntime]:
    """Return the runtimes of this process that are still in use."""
    services = [each.service for each in REGISTRY.lifecycles()]
    return [each for each in services if isinstance(each, PulseRuntime)]


def _weak_perform(runner: Runner, clock: Clock) -> Callable[[Claim], Result]:
    """Return the runner's `perform`, which does not keep the application alive between runs."""
    known = weakref.ref(runner)

    def perform(claim: Claim) -> Result:
        still = known()
        return dropped(clock) if still is None else still.perform(claim)

    return perform


def _guard(settings: Settings) -> Guard | None:
    if not settings.guard:
        return None
    return Guard((path, path) for path in settings.guarded_paths())


def _check(settings: Settings, dispatcher: Dispatcher) -> None:
    problems: list[str] = []
    for definition in settings.tasks.values():
        if definition.headers:
            problems += _header_problems(definition, dispatcher)
    if settings.mode == "processing" and child_setup_of(settings) is None:
        problems.append(
            "pulse.config.application: expected package.module:name under mode = processing, so "
            "that child processes find the application, got nothing"
        )
    if problems:
        raise ConfigError(problems)


def _header_problems(definition: TaskDefinition, dispatcher: Dispatcher) -> list[str]:
    try:
        dispatcher.check(definition)
    except ConfigError as error:
        return [f"pulse.task.{problem}" for problem in error.problems]
    return []


def child_setup_of(settings: Settings, *, holder: str = "") -> ChildSetup | None:
    """Return how child processes load the application; None if no setting says so."""
    paste = settings.paste
    if settings.application is None and paste is None:
        return None
    return ChildSetup(
        application=settings.application or "",
        paste_uri=paste.uri if paste else "",
        paste_section=paste.section if paste else "",
        relative_to=paste.relative_to if paste else "",
        chosen=paste is not None and paste.chosen,
        global_conf=dict(paste.global_conf) if paste else {},
        fingerprint=fingerprint_of(settings),
        base_url=settings.base_url,
        defaults=settings.task_defaults(),
        store=StoreSetup(
            url=settings.store, name=settings.name, origin=settings.origin, holder=holder
        ),
    )


def drain_within(wanted_us: Span, limit_s: float | None) -> Span:
    """Return the drain of the setting, limited to one second less than the server's limit."""
    if limit_s is None:
        return wanted_us
    return max(min(wanted_us, round((limit_s - 1) * SECOND)), 0)
