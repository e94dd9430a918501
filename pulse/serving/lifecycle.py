"""The lifecycle of one service: started once in each process that serves, shut down once.

Theory of operation
-------------------
An application is built in many processes that never serve a request: a master that loads it before
it forks, a reloader's parent, a shell, a migration, a check of the configuration. So pulse looks
for the server at three moments, each time only if the server is still unknown:

    built      the call stack shows who builds: a gunicorn or uWSGI worker, waitress, pserve
    forked     in the child, the call stack shows whether gunicorn has just made a worker
    requested  the first request in a process shows that it serves

A server that was detected is a `Server`: its `attach` starts the lifecycle at the right moment and
hooks its shutdown. If no server is detected, the service starts with the first request.

    created --start()--> started --shutdown()--> shut down
                            |  ^
                 demote()   v  |  a request shows that this one is served
                       waits for a request

All state belongs to one process: after a fork the child starts from nothing. There is one
exception. A process that gevent has patched copies its greenlets into every child, and those that
accept connections are among them. So the child of a process that serves may answer requests by
accident, and no request starts the service there (`_copied`).

Of several middlewares of one identity only one may run: `pulse.serving.duplicates` says which.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.engine.loop_thread import spawn
from pulse.errors import EngineError, StoreFolderError
from pulse.patching import process_is_patched
from pulse.serving import exclusions
from pulse.serving.duplicates import MAX_CHECKS, UNDECIDED, served_by
from pulse.serving.process_registry import ProcessRegistry, Started

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pulse.serving.base import Identity, Reports, RunningService, Server, Service

REPEATED_SHUTDOWN_S = 1.0
"""The limit of a shutdown whose first call was interrupted: no time is left to drain."""


class ServiceLifecycle:
    """Starts one service at most once in a process, and shuts it down once.

    Attributes:
        identity: what it has in common with others that must not run beside it.
        pending: whether requests have to be passed to `first_request`; read at each request.
        gc_check_due: whether `may_be_garbage` was not asked yet.

    """

    __slots__ = (
        "__weakref__",
        "_checks",
        "_copied",
        "_detect",
        "_detect_forked",
        "_reports",
        "_requested",
        "_running",
        "_server",
        "_service",
        "_shut_down",
        "_shutting_down",
        "_standby",
        "_start",
        "_start_token",
        "_waits_for_request",
        "gc_check_due",
        "identity",
        "pending",
    )

    def __init__(
        self,
        service: Service,
        *,
        start: Start,
        identity: Identity | None,
        reports: Reports,
        detect: Callable[[], Server[ServiceLifecycle] | None],
        detect_forked: Callable[[], Server[ServiceLifecycle] | None],
    ) -> None:
        self._service = service
        self._start = start
        self.identity: Identity | None = identity
        self._reports = reports
        self._detect = detect
        self._detect_forked = detect_forked
        self._copied = False
        self._reset()

    def _reset(self) -> None:
        self._server: Server[ServiceLifecycle] | None = None
        # A list that `_take_start_token` empties; an object of its own for each process and start.
        self._start_token: list[bool] = [True]
        self._running: RunningService | None = None
        self._shutting_down = self._shut_down = False
        self._requested = self._waits_for_request = False
        self._standby = False
        self._checks = 0
        self.gc_check_due: bool = True
        awaited = self._starts_automatically() or self._is_disabled()
        self.pending: bool = awaited and not self._copied

    @property
    def service(self) -> Service:
        """What is started."""
        return self._service

    # Detection and start ------------------------------------------------------------------

    def attach_to_server(self) -> None:
        """Let the server that is detected start this lifecycle; a failure is only a notice."""
        try:
            server = self._detect()
        # Servers change: an unexpected one must not keep the application from loading.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse starts at the first request: {error!r} while looking for the server")
            return
        if server is not None:
            server.attach(self)

    def set_server(self, server: Server[ServiceLifecycle]) -> None:
        """Use *server* as the server around this process."""
        self._server = server

    def first_request(self, environ: Mapping[str, object]) -> None:
        """Start if this request shows that the process serves; called while `pending`.

        It never raises: a request must be answered even if pulse cannot start.
        """
        try:
            if not exclusions.is_server_request(environ):
                return
            if self._starts_automatically():
                self._requested, self.pending = True, False
                if not self.is_started() or self._standby:
                    self._start_late()
            elif self._is_disabled():
                self.pending = False
                self._reports.disabled(exclusions.why_disabled(self._start))
        # The request must be answered, whatever keeps pulse from starting.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._reports.failure(str(error))

    def _start_late(self) -> None:
        if self._standby:
            self._standby = self.pending = False
        if self._server is None:
            self.attach_to_server()
        self.start()

    def is_started(self) -> bool:
        """Return whether it was started in this process."""
        return not self._start_token

    def start_automatically(self) -> None:
        """Start unless it was started, or the setting or a test run forbids an automatic start."""
        if self._starts_automatically():
            self.start()

    def start(self) -> None:
        """Start unless it was started, the environment forbids it or a duplicate is served.

        Raises:
            EngineError: a duplicate is served too, and both would act as one application.

        """
        if self.is_started() or exclusions.is_switched_off():
            return
        self.pending = self.pending and self._awaits_proof()
        if self._requested and REGISTRY.has_dropped(self.identity):
            self.start_in_thread()  # the request must not wait for the drain of the dropped one
        else:
            self._start_now()

    def start_in_thread(self) -> None:
        """Start in a thread of its own; a failure is reported."""
        spawn(self._start_or_report, "pulse-start")

    def _start_or_report(self) -> None:
        try:
            self._start_now()
        # Nothing waits for this thread: the log has to say why nothing runs.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self._reports.failure(str(error))

    def _start_now(self) -> None:
        token = self._start_token
        REGISTRY.reattach(self.identity)
        REGISTRY.shutdown_dropped()
        if not self._is_preferred():
            self._waits_for_request = self.pending = True
        # The process may have forked during the drain above. In the child this is a copy of the
        # caller, `forked` has replaced the token, and the copy must start nothing.
        elif token is self._start_token and self._take_start_token():
            self._demote_duplicates()
            REGISTRY.shutdown_at_exit()
            try:
                self._running = self._service.start()
            except StoreFolderError as error:
                self._refuse(str(error))
                return
            self.pending = self._standby or self._awaits_proof()
            REGISTRY.started(self._record(self._running))

    def _refuse(self, reason: str) -> None:
        """Report why nothing runs here; if the server is unknown, the first request may show it."""
        if self._serves():
            self._reports.failure(reason)
        else:
            self._start_token = [True]
            self._waits_for_request = self.pending = True
            self.note(f"pulse starts at the first request of a development server: {reason}")

    def _record(self, running: RunningService) -> Started:
        server = self._server
        return Started(
            self,
            running,
            identity=self.identity,
            accepts_work=None if server is None else server.accepts_work,
            time_left_s=None if server is None else server.time_left_s,
            keep_alive=self._service if self._start is Start.EAGER else None,
        )

    def _take_start_token(self) -> bool:
        """Return True to one caller only: `list.pop` is atomic, and a lock might be forked."""
        try:
            return self._start_token.pop()
        except IndexError:
            return False

    def _starts_automatically(self) -> bool:
        if exclusions.is_switched_off():
            return False
        if self._start is Start.OFF:
            return self._waits_for_request
        return self._start is Start.EAGER or not exclusions.is_test_run()

    def _is_disabled(self) -> bool:
        """Return whether the configuration forbids an automatic start, and this is no test."""
        waits_or_tests = self._waits_for_request or exclusions.is_test_run()
        return not waits_or_tests and bool(exclusions.why_disabled(self._start))

    def _serves(self) -> bool:
        """Return whether this process has shown that it serves: `eager` starts in any process."""
        if self._requested or self._server is not None:
            return True
        return self.is_started() and self._start is not Start.EAGER

    def _awaits_proof(self) -> bool:
        """Return whether the first request will show that this process serves, after the start.

        A patched master with `start = eager` serves nothing, and its workers have to start.
        """
        return self._start is Start.EAGER and not self._serves() and process_is_patched()

    # While it runs ------------------------------------------------------------------------

    def accepts_work(self) -> bool:
        """Return whether the server wants new work from this process, and from this lifecycle."""
        if self._server is not None and not self._server.accepts_work():
            return False
        return not self._standby or self._check_standby()

    def stop_claiming(self) -> None:
        """Claim no further run."""
        if self._running is not None and not self._shut_down:
            self._running.stop_claiming()

    def shutdown(self, limit_s: float | None = None) -> None:
        """Drain and stop, unless it was not started or was shut down already.

        Args:
            limit_s: the limit in seconds; None for the time that the server leaves.

        """
        if self._running is None or self._shut_down:
            return
        if self._shutting_down:
            limit_s = REPEATED_SHUTDOWN_S
        elif limit_s is None:
            limit_s = self._time_left_s()
        self._shutting_down = True
        self._running.shutdown(limit_s)
        self._shut_down = True
        REGISTRY.stopped(self._running)

    def forked(self) -> None:
        """Discard the parent's state, and check whether gunicorn has just made a worker.

        No request starts a copy of a process that serves: see the theory of operation above.
        """
        self._copied = process_is_patched() and (self._copied or self._serves())
        self._reset()
        try:
            self._service.forked()
            worker = self._detect_forked()
            if worker is not None:
                worker.attach(self)
        # Nothing may be raised in a child that may have nothing to do with pulse.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse starts at the first request: {error!r} after a fork")

    def note(self, text: str) -> None:
        """Report a notice."""
        self._reports.notice(text)

    def may_be_garbage(self) -> bool:
        """Return whether only a garbage collection can show if this one is still in use.

        The answer is determined once, as soon as the application is loaded. The caller must not
        hold a reference to the lifecycle while it runs the collector.
        """
        server = self._server
        if not self.gc_check_due or (server is not None and not server.accepts_work()):
            return False
        self.gc_check_due = False
        if self._requested:
            return False
        served = self._served_among([self])
        return len(REGISTRY.lifecycles()) > 1 if served is None else not served

    def _time_left_s(self) -> float | None:
        return None if self._server is None else self._server.time_left_s()

    # Duplicates: others of the same identity (`pulse.serving.duplicates`) -------------------

    def is_duplicate_of(self, other: ServiceLifecycle) -> bool:
        """Return whether this one might be the served one instead of *other*."""
        if self._shut_down or self.identity is None or self.identity != other.identity:
            return False
        return not self.is_manual() or other.is_manual()

    def is_manual(self) -> bool:
        """Return whether only the application's hooks can start it, and they have not yet."""
        return self._start is Start.OFF and not (self._waits_for_request or self.is_started())

    def is_running(self) -> bool:
        """Return whether its start succeeded and it was not shut down."""
        return self._running is not None and not self._shut_down

    def is_standby(self) -> bool:
        """Return whether it runs but may not claim yet: a duplicate may be the served one."""
        loading = self._server is not None and not self._server.accepts_work()
        return self.is_running() and (self._standby or loading)

    def demote(self) -> None:
        """Shut down, and wait for a request that shows that this one is served after all."""
        running, self._running = self._running, None
        if running is not None:
            running.stop_claiming()
            running.shutdown(self._time_left_s())
            REGISTRY.stopped(running)
        self._standby = False
        self._start_token = [True]
        self._waits_for_request = self.pending = True

    def _is_preferred(self) -> bool:
        """Return whether to start now; otherwise a request must show which duplicate is served."""
        duplicates = self._duplicates_in_use()
        if self._requested or self._start is Start.EAGER:
            return True
        served = self._served_among([self, *duplicates]) if duplicates else None
        if served:
            return self in served
        loading = self._server is not None and not self._server.accepts_work()
        self._standby = bool(duplicates) and loading
        if duplicates and not loading:
            self.note(UNDECIDED)
        return loading or not duplicates

    def _demote_duplicates(self) -> None:
        """Demote duplicates that are a standby, or that the server cannot reach as it can this one.

        Raises:
            EngineError: a duplicate is served, and both would act as one application.

        """
        conflict = "" if self.identity is None else self.identity.conflict
        for other in self._duplicates():
            if other.is_standby() or (conflict and self._is_served_instead_of(other)):
                other.demote()
            elif other.is_running() and conflict:
                raise EngineError(conflict)

    def _check_standby(self) -> bool:
        """Return whether this standby is the served one; called at least each second."""
        self._checks += 1
        # Garbage is collected once only, at the last check: a collection may take long.
        last = self._checks == MAX_CHECKS
        duplicates = self._duplicates_in_use() if last else self._duplicates()
        asked = self._checks <= MAX_CHECKS
        served = (self._served_among([self, *duplicates]) if asked else None) or []
        confirmed = self in served or not duplicates
        if confirmed:
            self._standby = self.pending = False
        if served:
            self._checks = MAX_CHECKS
            self._start_served(served)
        elif duplicates and last:
            self.note(UNDECIDED)
        return confirmed

    def _start_served(self, served: Sequence[ServiceLifecycle]) -> None:
        """Start the duplicates that are served; beside this one they may be a conflict."""
        others = [each for each in served if each is not self]
        if self in served and others and self.identity is not None and self.identity.conflict:
            self.note(self.identity.conflict)
            return
        for each in others:
            each.start_in_thread()

    def _duplicates(self) -> list[ServiceLifecycle]:
        others = (each for each in REGISTRY.lifecycles() if each is not self)
        return [each for each in others if each.is_duplicate_of(self)]

    def _duplicates_in_use(self) -> list[ServiceLifecycle]:
        """Return the duplicates, without those that were dropped but lie in a reference cycle."""
        if self._duplicates():
            gc.collect()
            REGISTRY.shutdown_dropped()
        return self._duplicates()

    def _is_served_instead_of(self, other: ServiceLifecycle) -> bool:
        served = self._served_among([self, other]) or []
        return self in served and other not in served

    def _served_among(
        self, candidates: Sequence[ServiceLifecycle]
    ) -> list[ServiceLifecycle] | None:
        """Return the candidates that the server can reach; None if that is unknown."""
        return None if self._server is None else served_by(self._server.application, candidates)


REGISTRY: ProcessRegistry[ServiceLifecycle] = ProcessRegistry()
"""One for the process, as at-fork and at-exit callbacks are, which cannot be removed."""
