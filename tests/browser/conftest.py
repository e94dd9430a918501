"""A real browser, and a site in virtual time that it can reach."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from playwright.sync_api import sync_playwright

from pulse import PulseMiddleware, Task
from pulse.core.access import Access
from pulse.testing import travel
from pulse.web.dashboard.application import PulseDashboard
from tests.support.dashboard_site import travelling
from tests.support.requires_server import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from playwright.sync_api import Browser, Page

    from pulse.testing.time_travel import TimeTravel


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Return Debian's browser, started once."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    with sync_playwright() as playwright:
        # Without its sandbox it runs as root, too; it loads pages of this test alone.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched(NamedTuple):
    """A page, and what its console has reported: errors, violations of the policy, dialogs."""

    page: Page
    problems: list[str]


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Watched]]:
    """Open pages that are closed after the test; each must report no problem."""
    contexts, watched = [], []

    def opened(**words: Any) -> Watched:
        context = chromium.new_context(**words)
        contexts.append(context)
        context.set_default_timeout(20_000)
        one = Watched(context.new_page(), [])
        one.page.on("pageerror", lambda error: one.problems.append(str(error)))
        one.page.on(
            "console",
            lambda line: one.problems.append(line.text) if line.type == "error" else None,
        )
        one.page.on(
            "dialog", lambda dialog: (one.problems.append(dialog.message), dialog.dismiss())
        )
        watched.append(one)
        return one

    yield opened
    problems = [problem for one in watched for problem in one.problems]
    for context in contexts:
        context.close()
    assert problems == []


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def served(app: WSGIApplication) -> Iterator[str]:
    """Serve an application on loopback, in a thread; yield its address."""
    server = make_server("127.0.0.1", 0, app, _Server, _Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
        assert not thread.is_alive()


def below(prefix: str, app: WSGIApplication) -> WSGIApplication:
    """Return a site with an application below a prefix, as a router mounts it."""

    def route(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        path = environ["PATH_INFO"]
        if path != prefix and not path.startswith(f"{prefix}/"):
            start_response("204 No Content", [])  # also the icon of the root, which browsers want
            return []
        environ["SCRIPT_NAME"] += prefix
        environ["PATH_INFO"] = path.removeprefix(prefix)
        return app(environ, start_response)

    return route


class Site(NamedTuple):
    """A site in virtual time and the address of its dashboard."""

    clock: TimeTravel
    url: str


@contextmanager
def dashboard_site(clock: TimeTravel, **words: Any) -> Iterator[Site]:
    """Serve the dashboard of a site."""
    words = {"access": Access("act", "anna"), "name": "shop"} | words
    pages = PulseDashboard(handle=clock.scheduler, **words)
    with served(below("/_pulse", pages)) as url:
        yield Site(clock, f"{url}/_pulse/")


@pytest.fixture
def shop() -> Iterator[Site]:
    """Serve a site with a task of each kind; a test may change it."""
    with travelling() as clock, dashboard_site(clock) as site:
        yield site


@contextmanager
def many_tasks() -> Iterator[TimeTravel]:
    """Run a site with two hundred tasks with long names for three hours."""

    def answer(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done\n"]

    tasks = {
        f"tenant-{number:03}-refresh-the-materialized-view-of-a-long-name": Task(
            action="/ok", cron=f"{number % 60} * * * *", timezone="Europe/Paris"
        )
        for number in range(200)
    }
    with travel(PulseMiddleware(answer, tasks=tasks)) as clock:
        clock.forward(hours=3)
        yield clock


@pytest.fixture
def crowd() -> Iterator[Site]:
    """Serve a site with two hundred tasks."""
    with many_tasks() as clock, dashboard_site(clock) as site:
        yield site


@pytest.fixture
def nothing() -> Iterator[Site]:
    """Serve a site without tasks."""
    with travel(PulseMiddleware(lambda *_: [], tasks={})) as clock, dashboard_site(clock) as site:
        yield site
