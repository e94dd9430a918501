"""The addresses for probes: `live`, `ready` and `health`, each with one word for everybody.

    live    Would a restart of this process mend something? 503 `stuck` only if its loop is stuck.
    ready   May this process be relied on for ticks? 503 while it starts, stops, or has no store.
    health  Is the schedule kept? 503 `fail`; for those who may read, with all that is wrong.

No answer depends on another application, and `live` does not depend on the store: else an outage of
the store would restart every process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, Final

import msgspec

from pulse.clock import SECOND, rfc3339
from pulse.core.access import Level
from pulse.errors import NotServingError, StoreError
from pulse.handle.health import HealthStatus
from pulse.logger import log
from pulse.web.gate import AccessFailedError, TooManyAttemptsError
from pulse.web.responses import HttpAnswer, text_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.clock import Clock, Span
    from pulse.core.access import Access
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Health
    from pulse.scheduler.condition import Condition

PROBES: Final = ("live", "ready", "health")
_FOR: Final[Span] = SECOND
"""How long a judgement is used again in one process, however many probes ask."""

_STALE: Final[Span] = 10 * SECOND
"""How old a judgement may be that is used while another thread waits for the store."""


class HealthProblemView(msgspec.Struct, frozen=True, kw_only=True):
    """What is not fine; see `pulse.handle.health.HealthProblem`."""

    kind: str
    status: str
    text: str
    task: str


class HealthView(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the schedule is kept; see `pulse.handle.health.Health`."""

    status: str
    at: str
    tasks: int
    processes: int
    problems: Sequence[HealthProblemView]


def view_health(health: Health) -> HealthView:
    """Return what is shown of the health of a fleet."""
    return HealthView(
        status=health.status.value,
        at=rfc3339(health.at),
        tasks=health.tasks,
        processes=health.processes,
        problems=[
            HealthProblemView(kind=one.kind, status=one.status.value, text=one.text, task=one.task)
            for one in health.problems
        ],
    )


class Probes:
    """Answers `live`, `ready` and `health` for one process.

    Args:
        handle: reads the store.
        condition: returns how this process is.
        access_of: returns what the sender of a request may do; None where nobody may read details.
        clock: measures how old a judgement is.

    """

    def __init__(
        self,
        handle: SchedulerHandle,
        condition: Callable[[], Condition],
        access_of: Callable[[Mapping[str, Any]], Access] | None,
        clock: Clock,
    ) -> None:
        self._handle = handle
        self._condition = condition
        self._access_of = access_of
        self._clock = clock
        self._lock = threading.Lock()
        self._judged: Health | None = None
        self._judged_at: Span | None = None

    def answer(
        self, probe: str, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one of `PROBES`."""
        return self._answer_to(probe, environ).send(environ, start_response)

    def _answer_to(self, probe: str, environ: WSGIEnvironment) -> HttpAnswer:
        if environ.get("REQUEST_METHOD") not in {"GET", "HEAD"}:
            return HttpAnswer(405, headers=(("Allow", "GET, HEAD"),))
        if probe == "health":
            return self._health(environ)
        condition = self._condition()
        if probe == "live":
            return text_answer(200, "ok") if condition.is_live else text_answer(503, "stuck")
        if condition.is_ready:
            return text_answer(200, "ready")
        return text_answer(503, "not ready")

    def _health(self, environ: WSGIEnvironment) -> HttpAnswer:
        health = self._judge()
        if health is None:
            return text_answer(503, "unknown")
        status = 503 if health.status is HealthStatus.FAIL else 200
        if not self._may_read(environ):
            return text_answer(status, health.status.value)
        body = msgspec.json.encode(view_health(health))
        return HttpAnswer(status, body, "application/health+json")

    def _judge(self) -> Health | None:
        """Return the health of the fleet; None if it is not known.

        One thread at a time asks the store: else the probes of an outage would hold each thread of
        the server until the store's timeout.
        """
        if self._lock.acquire(timeout=_FOR / SECOND if self._judged_at is None else 0):
            try:
                if self._age() >= _FOR:
                    self._judged = self._ask()
                    self._judged_at = self._clock.boot()
            finally:
                self._lock.release()
        return self._judged if self._age() < _STALE else None

    def _age(self) -> Span:
        return _STALE if self._judged_at is None else self._clock.boot() - self._judged_at

    def _ask(self) -> Health | None:
        try:
            return self._handle.health()
        except (StoreError, NotServingError):
            return None
        # A probe is answered whatever a store of a later release holds.
        except Exception as error:  # noqa: BLE001 - the reason is above
            log(logging.ERROR, "the probe of health failed", error=error)
            return None

    def _may_read(self, environ: WSGIEnvironment) -> bool:
        if self._access_of is None:
            return False
        try:
            return Level(self._access_of(environ).level).covers(Level.READ)
        except TooManyAttemptsError:
            return False
        except AccessFailedError as error:
            log(logging.ERROR, "the probe of health shows no details", error=error)
            return False
