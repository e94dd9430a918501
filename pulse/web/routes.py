"""The routes of the API, in one table: method, path, right, call, and what is sent and answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from pulse.core.access import Level
from pulse.web import calls, documents, queries
from pulse.web.health import HealthView
from pulse.web.views import RunView

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from pulse.web.calls import Call


class Route(NamedTuple):
    """A route.

    Attributes:
        method: GET or POST; HEAD is answered as GET.
        path: the path, with `{name}` for the name of a task or the id of a run.
        level: the right that it needs.
        call: makes the document.
        sent: the parameters of GET, or the body of POST.
        answer: the document.
        has_key: whether it accepts `Idempotency-Key`.
        is_costly: whether it may read and compute much, so that its rate is limited.

    """

    method: str
    path: str
    level: Level
    call: Callable[[Call], object]
    sent: type[msgspec.Struct]
    answer: type[msgspec.Struct]
    has_key: bool = False
    is_costly: bool = False

    def name_in(self, path: str) -> str | None:
        """Return the name in a path of this route; empty if it has none; None for other paths."""
        before, has_name, after = self.path.partition("{name}")
        if not has_name:
            return "" if path == self.path else None
        is_ours = path.startswith(before) and path.endswith(after)
        name = path[len(before) : len(path) - len(after)] if is_ours else ""
        return name or None


_READ, _ACT = Level.READ, Level.ACT
_NONE = queries.NoQuery

ROUTES: Final = (
    Route("GET", "/v1/tasks", _READ, calls.tasks, queries.TasksQuery, documents.TasksPage),
    Route("GET", "/v1/tasks/{name}", _READ, calls.task, _NONE, documents.TaskDocument),
    Route("GET", "/v1/runs", _READ, calls.runs, queries.RunsQuery, documents.RunsPage),
    Route("GET", "/v1/runs/{name}", _READ, calls.run, _NONE, RunView),
    Route("GET", "/v1/fleet", _READ, calls.fleet, _NONE, documents.FleetDocument),
    Route("GET", "/v1/audit", _READ, calls.audit, queries.AuditQuery, documents.AuditPage),
    Route("GET", "/v1/why", _READ, calls.why, queries.WhyQuery, documents.WhyDocument,
          is_costly=True),
    Route("GET", "/v1/ledger", _READ, calls.ledger, queries.LedgerQuery, documents.LedgerDocument,
          is_costly=True),
    Route("GET", "/v1/health", _READ, calls.health, _NONE, HealthView),
    Route("POST", "/v1/tasks/{name}/trigger", _ACT, calls.trigger, queries.TriggerBody, RunView,
          has_key=True),
    Route("POST", "/v1/tasks/{name}/pause", _ACT, calls.pause, queries.PauseBody,
          documents.PauseDocument),
    Route("POST", "/v1/tasks/{name}/resume", _ACT, calls.resume, queries.NoBody,
          documents.PauseDocument),
    Route("POST", "/v1/pause", _ACT, calls.pause_all, queries.PauseBody, documents.PauseDocument),
    Route("POST", "/v1/resume", _ACT, calls.resume_all, queries.NoBody, documents.PauseDocument),
    Route("POST", "/v1/runs/{name}/stop", _ACT, calls.stop, queries.StopBody, RunView),
)  # fmt: skip
"""All routes, but that of the document that describes them."""

DOCUMENT_PATH: Final = "/v1/openapi.json"


def methods_of(path: str) -> list[str]:
    """Return the methods that a path has."""
    if path == DOCUMENT_PATH:
        return ["GET"]
    return sorted({one.method for one in ROUTES if one.name_in(path) is not None})


def route_of(method: str, path: str) -> tuple[Route, str] | None:
    """Return the route of a request, and the name in its path; None if there is none."""
    wanted = "GET" if method == "HEAD" else method
    for route in ROUTES:
        name = route.name_in(path) if route.method == wanted else None
        if name is not None:
            return route, name
    return None
