"""The dashboard as a WSGI application: which page answers, for whom, and when nothing has changed.

The right is looked up in `ROUTES` before anything else of a request is read. A page has an ETag of
its model, so that a browser that polls gets 304 while nothing has changed.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

import msgspec

from pulse.clock import SECOND
from pulse.core.access import Access, Level
from pulse.errors import missing_extra
from pulse.web.dashboard import actions, other_pages, requests
from pulse.web.dashboard.assets import FOLDER, assets
from pulse.web.dashboard.charts import PLOTTED
from pulse.web.dashboard.reader import Reading, StoreReader
from pulse.web.dashboard.rendering import Frame, render
from pulse.web.dashboard.run_page import run_model
from pulse.web.dashboard.task_page import task_model
from pulse.web.dashboard.tasks_page import headline_of, tasks_model
from pulse.web.dashboard.timeline import timeline_model
from pulse.web.gated import GatedApplication
from pulse.web.responses import HttpAnswer, HttpError, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any
    from wsgiref.types import WSGIEnvironment

    from pulse.core.run import Run
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Overview
    from pulse.web.documents import ShownOutput

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)
"""What pages may load: no script, style or image but the dashboard's own files."""

HTML: Final = "text/html; charset=utf-8"
_HOUR: Final = 3_600 * SECOND


class PageCall(NamedTuple):
    """A request of a page, whose sender has the right for it."""

    handle: SchedulerHandle
    overview: Overview
    params: Any
    output: ShownOutput
    level: Level
    read_runs: Callable[[SchedulerHandle, str, int], Sequence[Run]]

    def runs_of(self, task: str, limit: int = PLOTTED) -> Sequence[Run]:
        """Return the newest runs of a task, read at most once a second."""
        return self.read_runs(self.handle, task, limit)


class Page(NamedTuple):
    """A page: its parameters, its template, its model, and the right that it needs."""

    params: type[requests.Common]
    template: str
    model: Callable[[PageCall], object]
    is_costly: bool = False
    level: Level = Level.READ


def _tasks(call: PageCall) -> object:
    return tasks_model(call.overview, call.params, runs_of=call.runs_of)


def _task(call: PageCall) -> object:
    return task_model(call.overview, call.handle, call.params, call.output)


def _run(call: PageCall) -> object:
    return run_model(call.overview, call.handle, call.params.id, call.output, call.level)


def _runs(call: PageCall) -> object:
    return other_pages.runs_model(call.overview, call.handle, call.params, call.output)


def _timeline(call: PageCall) -> object:
    return timeline_model(call.overview, call.params, runs_of=call.runs_of)


def _fleet(call: PageCall) -> object:
    return other_pages.fleet_model(call.overview)


def _audit(call: PageCall) -> object:
    return other_pages.audit_model(call.overview, call.handle, call.params)


def _ledger(call: PageCall) -> object:
    return other_pages.ledger_model(call.overview, call.handle, call.params)


def _why(call: PageCall) -> object:
    return other_pages.why_model(call.overview, call.handle, call.params, call.output)


def _confirm(call: PageCall) -> object:
    return actions.confirm_model(call.overview, call.handle, call.params)


PAGES: Final[Mapping[str, Page]] = {
    "": Page(requests.TasksParams, "tasks.html", _tasks),
    "task": Page(requests.TaskParams, "task.html", _task),
    "run": Page(requests.RunParams, "run.html", _run),
    "runs": Page(requests.RunsParams, "runs.html", _runs),
    "timeline": Page(requests.TimelineParams, "timeline.html", _timeline),
    "fleet": Page(requests.Common, "fleet.html", _fleet),
    "audit": Page(requests.AuditParams, "audit.html", _audit),
    "ledger": Page(requests.LedgerParams, "ledger.html", _ledger, is_costly=True),
    "why": Page(requests.WhyParams, "why.html", _why, is_costly=True),
    "confirm": Page(requests.ConfirmParams, "confirm.html", _confirm, level=Level.ACT),
}
"""The pages by their path below the address of the dashboard."""

ACT: Final = "act"
"""The path to which forms are sent."""

ROUTES: Final = (
    *(("GET", path, page.level) for path, page in PAGES.items()),
    ("GET", FOLDER, Level.NONE),
    ("POST", ACT, Level.ACT),
)
"""The right that each route needs; files of the dashboard itself are for everybody."""

_RIGHTS: Final = {path: level for _, path, level in ROUTES}


class PulseDashboard(GatedApplication):
    """A WSGI application: the dashboard of the scheduler that it finds in the environ.

    Mount it inside the application, behind its own login, or let the setting `dashboard` mount it.
    Its pages are in one folder and have relative links, so any address will do.

    Args:
        access: what the sender of a request may do: a bool, where True means act; an `Access`; or
            a function of the environ that returns one of these.
        trusted_origins: other origins whose pages may act.
        output: what is shown of responses and tracebacks.
        handle: the scheduler; None for that of `environ["pulse.scheduler"]`.
        challenges: the values of `WWW-Authenticate`.
        clock: measures the rates of actions and reports, and how old answers of the store are.
        name: the name of the application, for the title of the pages.
        login: where a browser without access is sent to, such as `/login`; empty for nowhere.

    Raises:
        ConfigError: *access* is something else.
        MissingExtraError: Jinja2 is not installed.

    """

    what = "dashboard"

    def __init__(self, *, name: str = "", login: str = "", **words: Any) -> None:  # noqa: ANN401 - those of the base
        super().__init__(**words)
        require_templates()
        self._name = name
        self._login = login
        self._readers: dict[int, StoreReader] = {}
        self._runs = StoreReader(self._clock, kept=1_024)

    def _answer(self, environ: WSGIEnvironment) -> HttpAnswer:
        method, path = environ.get("REQUEST_METHOD", "GET"), path_of(environ)
        inside = path.removeprefix("/")
        if method in {"GET", "HEAD"} and (found := assets().by_path.get(inside)) is not None:
            return found
        page = PAGES.get(inside) if path else None
        # A path that is no route, or the folder without its slash, is for those who may read.
        access = self._admitted(environ, _RIGHTS.get(inside, Level.READ) if path else Level.READ)
        if not path:
            query = environ.get("QUERY_STRING", "")
            return _redirect((_root_of(environ) or "./") + (query and f"?{query}"), 308)
        if inside == ACT:
            return self._act(environ, access, method)
        if page is None:
            raise HttpError(404, f"expected a page of the dashboard, got {inside[:100]!r}")
        if method not in {"GET", "HEAD"}:
            raise HttpError(405, f"expected GET, got {method[:20]}", ("Allow", "GET, HEAD"))
        return self._page(environ, inside, page, access)

    def _act(self, environ: WSGIEnvironment, access: Access, method: str) -> HttpAnswer:
        if method != "POST":
            raise HttpError(405, f"expected POST, got {method[:20]}", ("Allow", "POST"))
        self._refuse_other_site(environ)
        form = requests.read_form(environ)
        handle = self._handle_of(environ)
        self._count_action()
        link = actions.perform(handle, form, access.who, self._reader_of(handle).forget)
        return _redirect(link, 303)

    def _page(self, environ: WSGIEnvironment, path: str, page: Page, access: Access) -> HttpAnswer:
        params = requests.read_params(environ, page.params)
        handle = self._handle_of(environ)
        reader = self._reader_of(handle)
        overview = reader.read("overview", handle.overview)
        level = Level(access.level)
        if page.is_costly and params != page.params(zone=params.zone):
            self._count_report()

        def ask() -> object:
            return page.model(
                PageCall(handle, overview.value, params, self._output, level, self._runs_of)
            )

        # What is confirmed is read again: it is about to be changed.
        if path == "confirm":
            model = Reading(ask(), 0, is_stale=False)
        else:
            model = reader.read((path, params, level), ask)
        frame = self._frame(path, params, access, overview, is_stale=model.is_stale)
        etag = _etag_of(frame, model.value)
        headers = (("ETag", etag), ("Vary", "Authorization, Cookie"))
        if _matches(environ.get("HTTP_IF_NONE_MATCH", ""), etag):
            return HttpAnswer(304, content_type="", headers=headers, policy=PAGE_POLICY)
        text = render(page.template, frame, model.value)
        return HttpAnswer(200, text.encode(), HTML, headers, PAGE_POLICY)

    def _frame(
        self,
        path: str,
        params: requests.Common,
        access: Access,
        overview: Reading[Overview],
        *,
        is_stale: bool,
    ) -> Frame:
        read_at = overview.value.health.at
        return Frame(
            page=path,
            params=params,
            level=Level(access.level),
            who=access.who,
            now=read_at + overview.elapsed,
            read_at=read_at if overview.is_stale or is_stale else None,
            headline=headline_of(overview.value),
            name=self._name,
        )

    def _shown(self, environ: WSGIEnvironment, error: HttpError) -> HttpAnswer:
        """Return the page of an error; nothing of the store is shown on it."""
        if error.status == 401 and self._login:  # noqa: PLR2004 - nobody has signed in
            return _redirect(self._login, 303)
        frame = Frame("error", requests.Common(), Level.NONE, "", 0, None, None, self._name)
        model = {"status": error.status, "detail": error.detail, "root": _root_of(environ)}
        text = render("error.html", frame, model)
        return HttpAnswer(error.status, text.encode(), HTML, error.headers, PAGE_POLICY)

    def _runs_of(self, handle: SchedulerHandle, task: str, limit: int) -> Sequence[Run]:
        """Return the newest runs of a task, read at most once a second."""

        def ask() -> Sequence[Run]:
            return handle.runs(task=task, limit=limit)

        return self._runs.read((id(handle), task, limit), ask).value

    def _reader_of(self, handle: SchedulerHandle) -> StoreReader:
        """Return the reader of a scheduler: nearly always there is one."""
        reader = self._readers.get(id(handle))
        if reader is None:
            self._readers.clear()
            reader = self._readers[id(handle)] = StoreReader(self._clock)
        return reader


def require_templates() -> None:
    """Check that the library of the templates is installed; the first page imports it.

    Raises:
        MissingExtraError: it is not.

    """
    if find_spec("jinja2") is None:
        raise missing_extra("dashboard", "Jinja2", "dashboard")


def _root_of(environ: WSGIEnvironment) -> str | None:
    """Return the relative link to the folder of the pages; None if the path does not determine it.

    A slash of the path may be one that the browser has sent as `%2F`, which is no folder for it.
    """
    path: str = environ.get("PATH_INFO", "")
    if path:
        return "" if path.count("/") == 1 else None
    folder: str = environ.get("SCRIPT_NAME", "").rpartition("/")[2]
    return f"{quote(folder.encode('latin-1', 'replace')) or '.'}/"


def _redirect(link: str, status: int) -> HttpAnswer:
    """Send a browser to another page of the folder: a relative reference (RFC 9110, 10.2.2)."""
    text = "text/plain; charset=utf-8"
    return HttpAnswer(status, b"", text, (("Location", link),), PAGE_POLICY)


def _matches(sent: str, etag: str) -> bool:
    """Return whether a browser has a page already (RFC 9110, 13.1.2); proxies make ETags weak."""
    return etag in {one.strip().removeprefix("W/") for one in sent.split(",")}


def _etag_of(frame: Frame, model: object) -> str:
    """Return what identifies the content of a page; how long ago something was is no part of it."""
    shown = (
        frame.page,
        msgspec.json.encode(frame.params),
        frame.level.value,
        frame.who,
        frame.read_at,
        frame.now // _HOUR,  # times of today are shown without their date
        msgspec.json.encode(frame.headline),
        msgspec.json.encode(model),
        assets().paths["pulse.css"],
    )
    return f'"{hashlib.blake2b(repr(shown).encode(), digest_size=16).hexdigest()}"'
