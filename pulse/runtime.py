"""Settings and an app into the built whole: the only place that knows every part.

Building opens nothing and starts nothing. What belongs to one process (engine, store, scheduler)
is made in `begin`, after any fork.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse import events
from pulse.clock import SECOND
from pulse.core.runtime_task import Usual
from pulse.engine.factory import EngineSetup, load_engine, resolve
from pulse.errors import ConfigError, TravelError
from pulse.guard.guard import Guard
from pulse.handle import Handle
from pulse.log.listener import subscribe_claims, subscribe_log
from pulse.scheduler.loop import Plant, Scheduler
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import WSGIApplication

    from pulse.clock import Clock, Span
    from pulse.config.settings import Settings
    from pulse.core.task import Definition
    from pulse.engine.base import Engine
    from pulse.engine.child_protocol import ChildSetup
    from pulse.store.base import Member, Store


class Assembly:
    """One middleware's whole; the server's part tells it to begin, to be quiet and to end.

    Raises:
        ConfigError: a header of a task cannot be sent, or `mode = processing` does not know where
            its children find the application.

    """

    def __init__(self, app: WSGIApplication, settings: Settings, *, clock: Clock) -> None:
        self.settings = settings
        self.bus: events.Bus = events.Bus()
        self.handle: Handle = Handle(usual_of(settings))
        self.guard: Guard | None = _guard(settings)
        self.extra: dict[str, object] = {"pulse.scheduler": self.handle}
        self._dispatcher = Dispatcher(
            app, base_url=settings.base_url, multithread=True, environ=self.extra
        )
        self._clock = clock
        self._scheduler: Scheduler | None = None
        self._rehearsing = False
        self._serving: Callable[[], bool] = lambda: True
        subscribe_log(self.bus, clock)
        _check(settings, self._dispatcher)

    def ask(self, serving: Callable[[], bool]) -> None:
        """Ask *serving* before each claim whether this process still takes new work."""
        self._serving = serving

    def begin(self) -> None:
        """Start taking part, in this process, unless a test steps it by hand.

        Raises:
            PulseError: what keeps it from starting; an outage of the store does not.

        """
        if self._rehearsing:
            return
        scheduler = self.build()
        scheduler.start()
        self._scheduler = scheduler
        self.handle.attach(scheduler)

    def rehearse(self, *, clock: Clock, engine: Engine, store: Store) -> Scheduler:
        """Return an open scheduler that a test steps by hand, until `end`.

        The app is called and the handle speaks as ever; nothing else of the settings' own mode,
        store and clock is used.

        Raises:
            TravelError: it takes part already, or another test steps it.

        """
        if self._scheduler is not None:
            raise TravelError("expected a pulse that has not begun, got one that runs already")
        member = this_member(engine.name, self.settings.digest, self.settings.lease_us)
        scheduler = self._scheduler_of(member, store=store, engine=engine, clock=clock)
        scheduler.open()
        self._rehearsing = True
        self._scheduler = scheduler
        self.handle.attach(scheduler)
        return scheduler

    def quiet(self) -> None:
        """Claim nothing more."""
        if self._scheduler is not None:
            self._scheduler.quiet()

    def end(self, limit_s: float | None) -> None:
        """Drain for at most the setting, or for the server's own limit less a second."""
        if self._scheduler is not None:
            self.handle.attach(None)
            self._scheduler.stop(drain_within(self.settings.drain_us, limit_s))
            self._scheduler = None  # a stop that was cut short is called for again
            self._rehearsing = False

    def build(self) -> Scheduler:
        """Return a scheduler for this process, not yet open."""
        settings = self.settings
        mode, notice = resolve(settings.mode)
        member = this_member(mode, settings.digest, settings.lease_us)
        child = _child_setup(settings, holder=member.holder)
        engine = load_engine(mode, EngineSetup(clock=self._clock, child=child))
        self.note(notice)
        subscribe_claims(self.bus)
        return self._scheduler_of(
            member,
            store=self._store(),
            engine=engine,
            clock=self._clock,
            serving=self._serving,
        )

    def _scheduler_of(
        self,
        member: Member,
        *,
        store: Store,
        engine: Engine,
        clock: Clock,
        serving: Callable[[], bool] = lambda: True,
    ) -> Scheduler:
        plant = Plant(
            definitions=self.settings.tasks,
            member=member,
            store=store,
            engine=engine,
            bus=self.bus,
            clock=clock,
            perform=Runner(self._dispatcher, clock).perform,
            concurrency=self.settings.concurrency or engine.usual_concurrency,
            name=self.settings.name or "",
            chosen=self.settings.store is not None,
            serving=serving,
        )
        return Scheduler(plant)

    def _store(self) -> Store:
        settings = self.settings
        store, notice = choose_store(
            settings.store,
            clock=self._clock,
            name=settings.name,
            origin=settings.origin,
            keep_runs=settings.keep_runs,
            keep_for_us=settings.keep_for_us,
        )
        self.note(notice)
        return store

    def note(self, text: str) -> None:
        """Tell a person how pulse runs here; an empty text tells nothing."""
        if text:
            self.bus.emit(events.Notice(text))


def _guard(settings: Settings) -> Guard | None:
    if not settings.guard:
        return None
    return Guard((path, path) for path in _guarded_paths(settings))


def _guarded_paths(settings: Settings) -> Iterator[str]:
    yield from settings.guarded
    for definition in settings.tasks.values():
        yield definition.path


def usual_of(settings: Settings) -> Usual:
    """Return what tasks that are added at run time take from the configuration."""
    return Usual(
        context=settings.context,
        timeout_us=settings.timeout_us,
        timezone=settings.timezone,
        guarded=tuple(dict.fromkeys(_guarded_paths(settings))) if settings.guard else None,
    )


def _check(settings: Settings, dispatcher: Dispatcher) -> None:
    problems: list[str] = []
    for definition in settings.tasks.values():
        if definition.headers:
            problems += _header_problems(definition, dispatcher)
    if settings.mode == "processing" and _child_setup(settings) is None:
        problems.append(
            "pulse.config.application: expected package.module:name under mode = processing, so "
            "that child processes find the application, got nothing"
        )
    if problems:
        raise ConfigError(problems)


def _header_problems(definition: Definition, dispatcher: Dispatcher) -> list[str]:
    try:
        dispatcher.check(definition)
    except ConfigError as error:
        return [f"pulse.task.{problem}" for problem in error.problems]
    return []


def _child_setup(settings: Settings, *, holder: str = "") -> ChildSetup | None:
    """Return how children find the application, or None where nothing says so."""
    from pulse.engine.child_protocol import ChildSetup, StoreSetup

    paste = settings.paste
    if settings.application is None and paste is None:
        return None
    return ChildSetup(
        application=settings.application or "",
        paste_uri=paste.uri if paste else "",
        paste_section=paste.section if paste else "",
        global_conf=dict(paste.global_conf) if paste else {},
        digest=settings.digest,
        base_url=settings.base_url,
        usual=usual_of(settings),
        store=StoreSetup(
            word=settings.store, name=settings.name, origin=settings.origin, holder=holder
        ),
    )


def drain_within(wanted_us: Span, limit_s: float | None) -> Span:
    """Return the drain that is wanted, or what the server's own limit less a second leaves."""
    if limit_s is None:
        return wanted_us
    return max(min(wanted_us, round((limit_s - 1) * SECOND)), 0)
