"""One middleware's part in the processes around it: begun once in each that serves, ended once."""

from __future__ import annotations

import gc
import warnings
import weakref
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.engine.loop_thread import spawn
from pulse.patching import process_is_patched
from pulse.serving import gunicorn, uwsgi, waitress
from pulse.serving.base import AnyServer
from pulse.serving.exclusions import is_switched_off, is_test_run, serves_nobody
from pulse.serving.process_registry import REGISTRY
from pulse.serving.rivalry import Rivalry, is_reached, rivals_in_use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.serving.base import (
        Detection,
        Identity,
        ManagedLifecycle,
        RunningService,
        Server,
        Service,
    )

HURRY_S = 1.0
"""The limit of an end whose first try was cut short: nothing is left to drain in."""

FINDERS: tuple[Callable[[], Detection | None], ...] = (
    gunicorn.find,
    uwsgi.find,
    waitress.find,
)


def warn(text: str) -> None:
    """Show a notice as a warning: the default, where nobody else takes them."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def install(
    served: Service,
    *,
    start: Start = Start.AUTO,
    identity: Identity | None = None,
    notice: Callable[[str], None] = warn,
    failure: Callable[[str], None] | None = None,
) -> ServiceLifecycle:
    """Return the arrangement by which *served* begins and ends in each process that serves.

    Keep it for as long as *served* is wanted: nothing else does. One that is dropped after it has
    begun claims nothing more, and ends within its drain; an eager one goes on, until another of its
    identity begins. Nothing is opened or started in a process that does not serve.

    Args:
        served: what begins and ends.
        start: `auto` as described; `eager` begins at once, in this process, whatever it is; with
            `off` only the hooks of `pulse.gunicorn` begin it.
        identity: what it has in common with others that must not take part beside it.
        notice: takes a sentence where detection failed.
        failure: takes what keeps it from beginning late; by default that is a notice.

    """
    arrangement = ServiceLifecycle(
        served, start=start, identity=identity, notice=notice, failure=failure or notice
    )
    served.set_accepting(_question(arrangement))
    REGISTRY.add(arrangement)
    place = arrangement.look()
    if place is not None:
        place.enter(arrangement)
    if start is Start.EAGER:
        arrangement.begin()
    return arrangement


def _question(arrangement: ServiceLifecycle) -> Callable[[], bool]:
    """Return the question whether the server wants new work, which keeps nothing alive."""
    known = weakref.ref(arrangement)

    def serving() -> bool:
        still = known()
        if still is not None and still.fresh and still.may_be_dropped():
            del still
            gc.collect()
            still = known()
        if still is not None:
            return still.serving()
        if REGISTRY.goes_on(known):
            return True
        REGISTRY.retire_soon()
        return False

    return serving


class ServiceLifecycle:
    """Begins its *served* once in a process, and ends it once.

    Attributes:
        identity: what it has in common with others that must not take part beside it.
        fresh: whether what the server calls has not been looked at yet.
        pending: whether a request should be shown to `first_request`; cheap to read at each.

    """

    __slots__ = (
        "__weakref__",
        "_awaits_request",
        "_begun",
        "_copied",
        "_ended",
        "_ending",
        "_failure",
        "_host",
        "_notice",
        "_requested",
        "_rivalry",
        "_served",
        "_start",
        "_turns",
        "fresh",
        "identity",
        "pending",
    )

    fresh: bool
    pending: bool
    _host: Server
    _turns: list[bool]
    _begun: RunningService | None
    _ending: bool
    _ended: bool
    _requested: bool
    _awaits_request: bool
    _rivalry: Rivalry

    def __init__(
        self,
        served: Service,
        *,
        start: Start,
        identity: Identity | None,
        notice: Callable[[str], None],
        failure: Callable[[str], None],
    ) -> None:
        self._served = served
        self._start = start
        self.identity: Identity | None = identity
        self._notice = notice
        self._failure = failure
        self._copied = False
        self._reset()

    @property
    def served(self) -> Service:
        """What begins."""
        return self._served

    def serving(self) -> bool:
        """Return whether the server still wants new work from this process, and from this one."""
        if not self._host.serving():
            return False
        if not self._rivalry.doubted:
            return True
        served = self._rivalry.settle(self, self._host)
        if served:
            self.pending = False
        return served

    def first_request(self, environ: Mapping[str, object]) -> None:
        """Begin, if this request shows that the process serves; called while `pending`.

        It never raises: a request is not answered worse because pulse could not begin.
        """
        try:
            if self._begins_by_itself() and not serves_nobody(environ):
                self._requested = True
                self.pending = False
                if not self.is_begun() or self._rivalry.doubted:
                    self._begin_late()
        # The request must be answered, whatever keeps pulse from beginning.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._failure(str(error))

    def look(self) -> Detection | None:
        """Return the place that the stack of calls shows, or None; a failure is only noted."""
        try:
            return next((place for find in FINDERS if (place := find()) is not None), None)
        # Servers change: what is not understood must not keep the application from loading.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse begins at the first request: {error!r} while looking for the server")
            return None

    def belong(self, host: Server) -> None:
        """Take *host* for the server around this process."""
        self._host = host

    def is_begun(self) -> bool:
        """Return whether it has begun in this process."""
        return not self._turns

    def enter(self) -> None:
        """Begin, unless it has begun already or must never begin by itself."""
        if self._begins_by_itself():
            self.begin()

    def begin(self) -> None:
        """Begin, unless it has begun already, the environment forbids it or a rival is served.

        Raises:
            EngineError: a rival is served, too, and both would act as one.

        """
        if self.is_begun():
            return
        self.pending = self.pending and self._awaits_proof()
        if is_switched_off():
            return
        if self._requested and REGISTRY.has_dropped(self.identity):
            spawn(self.begin_beside, "pulse-begin")  # the drain of the dropped one may take long
        else:
            self._begin()

    def _begin(self) -> None:
        turns = self._turns
        REGISTRY.release(self.identity)
        REGISTRY.retire()
        if self._gives_way():
            self._awaits_request = self.pending = True
        # A thread that waited for a drain while the process forked is a copy in the child, where it
        # starts nothing.
        elif turns is self._turns and self._takes_turn():
            self._rivalry.take_place(self, self._host)
            REGISTRY.await_exit()
            self._begun = self._served.start()
            self.pending = self._rivalry.doubted or self._awaits_proof()
            kept = self._served if self._start is Start.EAGER else None
            REGISTRY.begun(self, self._begun, self._host, kept=kept)

    def quiet(self) -> None:
        """Claim nothing more."""
        if self._begun is not None and not self._ended:
            self._begun.stop_claiming()

    def end(self) -> None:
        """Drain and end, unless it has not begun or has ended already."""
        if self._begun is None or self._ended:
            return
        limit_s = HURRY_S if self._ending else self._host.limit_s()
        self._ending = True
        self._begun.shutdown(limit_s)
        self._ended = True
        REGISTRY.ended(self._begun)

    def forked(self) -> None:
        """Forget the parent's state, and look whether gunicorn has just made a worker.

        No request begins a copy of a process that serves: see `pulse.serving.base`.
        """
        self._copied = process_is_patched() and (self._copied or self._serves())
        self._reset()
        try:
            self._served.forked()
            place = gunicorn.find_forked()
            if place is not None:
                place.enter(self)
        # Nothing may be raised in a child that knows nothing of pulse.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse begins at the first request: {error!r} after a fork")

    def note(self, text: str) -> None:
        """Tell whoever takes the notices."""
        self._notice(text)

    def _reset(self) -> None:
        self._host = AnyServer()
        self._turns = [True]
        self._begun = None
        self._ending = self._ended = False
        self._requested = self._awaits_request = False
        self._rivalry = Rivalry(self.identity, self._notice)
        self.fresh = True
        self.pending = self._begins_by_itself() and not self._copied

    def _begins_by_itself(self) -> bool:
        if is_switched_off():
            return False
        if self._start is Start.OFF:
            return self._awaits_request
        return self._start is Start.EAGER or not is_test_run()

    def _serves(self) -> bool:
        """Return whether this process has shown that it serves: `eager` begins in any process."""
        if self._requested or not isinstance(self._host, AnyServer):
            return True
        return self.is_begun() and self._start is not Start.EAGER

    def _awaits_proof(self) -> bool:
        """Return whether the first request will show that this process serves, though it has begun.

        A master that is patched and begins eagerly serves nobody, and its workers have to begin.
        """
        return self._start is Start.EAGER and not self._serves() and process_is_patched()

    def _takes_turn(self) -> bool:
        """Return True to one caller only: `list.pop` is atomic, and a lock might be forked."""
        try:
            return self._turns.pop()
        except IndexError:
            return False

    def _begin_late(self) -> None:
        if self._rivalry.doubted:
            self._rivalry.doubted = self.pending = False
        place = self.look() if isinstance(self._host, AnyServer) else None
        if place is not None:
            place.enter(self)
        self.begin()

    # Beside others of the same identity (`pulse.serving.rivalry`) -------------------------

    def may_be_dropped(self) -> bool:
        """Return whether only the garbage collector can say if this one is still in use.

        It is looked for once in what the server calls, as soon as that is loaded. Whoever asks
        must not hold this one while the collector is called.
        """
        if not self.fresh or not self._host.serving():
            return False
        self.fresh = False
        return not self._requested and not is_reached(self, self._host)

    def is_rival_of(self, other: ManagedLifecycle) -> bool:
        """Return whether this one might take part in the place of *other*."""
        if self._ended or self.identity is None or self.identity != other.identity:
            return False
        return not self.is_idle() or other.is_idle()

    def is_idle(self) -> bool:
        """Return whether it takes part only if somebody begins it by hand, and nobody has."""
        return self._start is Start.OFF and not (self._awaits_request or self.is_begun())

    def is_running(self) -> bool:
        """Return whether it has begun, without an error, and has not ended."""
        return self._begun is not None and not self._ended

    def stands_in(self) -> bool:
        """Return whether it has begun but may not claim yet: a rival may be the served one."""
        return self.is_running() and (self._rivalry.doubted or not self._host.serving())

    def step_back(self) -> None:
        """End what has begun, and wait until it shows that this one is served after all."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.stop_claiming()
            begun.shutdown(self._host.limit_s())
            REGISTRY.ended(begun)
        self._rivalry.doubted = False
        self._turns = [True]
        self._awaits_request = self.pending = True

    def begin_beside(self) -> None:
        """Begin, in a thread of its own: what keeps it from beginning is an error in the log."""
        try:
            self._begin()
        # Nobody waits for this thread: the log has to say why nothing runs.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._failure(str(error))

    def _gives_way(self) -> bool:
        """Return whether to wait for a request, because a rival may be the served one."""
        if self._requested or self._start is Start.EAGER:
            rivals_in_use(self)
            return False
        return self._rivalry.gives_way(self, self._host)
