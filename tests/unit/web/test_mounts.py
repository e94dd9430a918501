"""Which requests pulse answers itself, and which pass to the application."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import pytest

from pulse import PulseMiddleware, Task
from pulse.core.run import Run
from pulse.errors import ConfigError, MissingExtraError, StoreUnavailableError
from pulse.handle.health import judge
from pulse.testing import travel
from pulse.testing.clock import FakeClock
from pulse.web.api import PulseApi
from pulse.web.dashboard.assets import assets
from pulse.web.gate import AccessFailedError, TooManyAttemptsError
from pulse.web.health import Probes
from pulse.web.mounts import MOST_REMEMBERED
from pulse.web.paste import make_api, make_dashboard
from tests.support.web_calls import ask

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.core.access import Access
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Health

TASKS = {"work": Task(action="/work", interval=10)}


def site(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer with the path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ.get('SCRIPT_NAME')}|{environ['PATH_INFO']}".encode("latin-1")]


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the token of the rules; no scheduler starts."""
    monkeypatch.setenv("TOKEN", "t" * 20)
    monkeypatch.setenv("PULSE_START", "off")


def mounted(**settings: Any) -> PulseMiddleware:
    """Return a site with mounted addresses."""
    words: dict[str, Any] = {"store": "memory:", "tasks": TASKS, "access": "token:${TOKEN}"}
    return PulseMiddleware(site, **(words | settings))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/_pulse/api/v1/tasks", 401),
        ("/_pulse/api", 401),
        ("/_pulse/api/", 401),
        ("/_pulse/live", 200),
        ("/_pulse/ready", 503),
        ("/_pulse/health", 503),
    ],
)
def test_requests_below_the_addresses_are_answered(path: str, status: int) -> None:
    """Without a scheduler, the process lives and is not ready."""
    answer = ask(mounted(api="/_pulse/api", health="/_pulse"), path)
    assert answer.status == status
    assert b"|" not in answer.body


@pytest.mark.parametrize(
    "path",
    ["/", "/_pulse", "/_pulse/other", "/_pulse/apifoo", "/_pulse/live/x", "//_pulse/live", "/x"],
)
def test_other_requests_pass_to_the_application(path: str) -> None:
    """Addresses are compared by whole segments."""
    answer = ask(mounted(api="/_pulse/api", health="/_pulse"), path)
    assert answer.body == f"|{path}".encode()


def test_nothing_is_mounted_without_a_setting() -> None:
    """Nor imported."""
    app = PulseMiddleware(site, store="memory:", tasks=TASKS)
    assert app.runtime.mounts is None
    assert ask(app, "/_pulse/live").body == b"|/_pulse/live"


def test_run_of_pulse_is_refused() -> None:
    """A task that was added at run time might request the API."""
    app = mounted(api="/api")
    environ = {"pulse.run": Run(id="1" * 32, task="work", fire_time=0)}

    def called(sent: WSGIEnvironment, start_response: StartResponse) -> Any:
        return app(sent | environ, start_response)

    assert ask(called, "/api/v1/tasks").status == 403


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"api": "/api", "access": None}, "access: expected who may use api = /api"),
        (
            {"dashboard": "/_pulse", "access": None},
            "access: expected who may use dashboard = /_pulse, such as act basic:USER:HASH",
        ),
        (
            {"dashboard": "/work"},
            "tasks['work'].action: expected a path outside /work, where pulse",
        ),
        ({"api": "/work"}, "tasks['work'].action: expected a path outside /work, where pulse"),
        ({"health": "/work"}, "tasks['work'].action: expected a path outside /work, where pulse"),
        ({"api": "/"}, "api: expected an address such as /_pulse"),
        ({"api": "/api", "access": "token:${MISSING}"}, "needs the environment variable MISSING"),
        ({"api": "/api", "access": "token:abc"}, "access: expected token:${NAME}"),
    ],
)
def test_wrong_settings_are_start_errors(settings: dict[str, Any], problem: str) -> None:
    """Nothing is open by accident."""
    with pytest.raises(ConfigError) as caught:
        mounted(**settings)
    assert problem in str(caught.value)


def test_dashboard_api_and_probes_share_an_address() -> None:
    """Each has its own paths there; files of the dashboard are for everybody."""
    words = {"authorization": f"Bearer {'t' * 20}"}
    app = PulseMiddleware(
        site,
        tasks=TASKS,
        access="token:${TOKEN}",
        dashboard="/_pulse",
        api="/_pulse/api",
        health="/_pulse",
        name="shop",
    )
    with travel(app) as clock:
        clock.forward(seconds=30)
        assert ask(app, "/_pulse/api/v1/tasks", **words).json()["tasks"][0]["name"] == "work"
        assert ask(app, "/_pulse/live").body == b"ok\n"
        found = ask(app, "/_pulse", **words)
        assert (found.status, found.headers["Location"]) == (308, "_pulse/")
        assert b"The only task is on time." in ask(app, "/_pulse/", **words).body
        assert b"shop" in ask(app, "/_pulse/fleet", **words).body
        refused = ask(app, "/_pulse/")
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (
            401,
            'Bearer realm="pulse"',
        )
        style = f"/_pulse/{assets().paths['pulse.css']}"
        assert ask(app, style).headers["Content-Type"] == "text/css; charset=utf-8"


def test_dashboard_is_not_imported_before_its_first_page() -> None:
    """Building a middleware stays fast."""
    code = (
        "import sys\n"
        "from pulse import PulseMiddleware\n"
        "PulseMiddleware(print, start='off', store='memory:', dashboard='/_pulse',"
        " access='token:${TOKEN}')\n"
        "print([name for name in ('jinja2', 'markupsafe', 'webob') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "[]\n"


def test_missing_library_of_the_dashboard_is_a_start_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which names the setting and the extra."""
    monkeypatch.setattr("pulse.web.dashboard.application.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"dashboard.*pip install 'pulse\[dashboard\]'"):
        mounted(dashboard="/_pulse")


def test_dashboard_of_an_ini_file_finds_the_scheduler_in_the_environ() -> None:
    """As `egg:pulse#dashboard`, behind the login of the application."""
    pages = make_dashboard({}, access="token:${TOKEN}", output="none")

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inside = environ["PATH_INFO"].startswith("/admin/pulse")
        if not inside:
            return site(environ, start_response)
        environ["SCRIPT_NAME"] = "/admin/pulse"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/admin/pulse")
        return pages(environ, start_response)

    outer = PulseMiddleware(app, tasks=TASKS)
    with travel(outer) as clock:
        clock.forward(seconds=30)
        words = {"authorization": f"Bearer {'t' * 20}"}
        assert b"The only task is on time." in ask(outer, "/admin/pulse/", **words).body
        assert ask(outer, "/admin/pulse/").status == 401
    alone = ask(pages, "/", **words)
    assert alone.status == 503
    assert b"expected environ[" in alone.body


def test_health_needs_no_access() -> None:
    """A probe has no credentials; without rules nobody reads details."""
    app = mounted(health="/_pulse", access=None)
    assert ask(app, "/_pulse/live").status == 200
    assert ask(app, "/_pulse/live", method="HEAD").body == b""
    assert ask(app, "/_pulse/live", method="POST").status == 405


def test_details_of_health_are_for_those_who_may_read() -> None:
    """Others get one word."""
    app = PulseMiddleware(site, tasks=TASKS, health="/_pulse", access="token:${TOKEN}")
    with travel(app) as clock:
        clock.forward(seconds=30)
        plain = ask(app, "/_pulse/health")
        details = ask(app, "/_pulse/health", authorization=f"Bearer {'t' * 20}")
    assert plain.body == b"pass\n"
    assert details.headers["Content-Type"] == "application/health+json"
    assert (details.json()["status"], details.json()["tasks"]) == ("pass", 1)


def test_paste_application_has_the_rules_of_its_section() -> None:
    """As `egg:pulse#api`; all wrong keys are named at once."""
    app = make_api(
        {},
        access="token:${TOKEN}",
        trusted_origins="https://a.example.org",
        output="failures",
        redact="tests.unit.web.test_mounts:without",
    )
    assert isinstance(app, PulseApi)
    assert ask(app, "/v1/fleet").status == 401
    with pytest.raises(ConfigError) as caught:
        make_api({}, acces="token:${TOKEN}")
    assert [one.partition(":")[0] for one in caught.value.problems] == ["acces", "access"]
    with pytest.raises(ConfigError, match=r"expected token:\$\{NAME\}"):
        make_api({}, access="token:abc")


def without(_text: str, _task: str) -> str:
    """Show nothing of a text."""
    return "***"


def test_api_by_hand_shows_what_its_own_keys_permit() -> None:
    """Those of the filter are about its own addresses."""
    api = make_api(
        {}, access="token:${TOKEN}", output="full", redact="tests.unit.web.test_mounts:without"
    )

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (api if environ["PATH_INFO"].startswith("/v1") else site)(environ, start_response)

    site_of_api = PulseMiddleware(app, tasks=TASKS)
    with travel(site_of_api) as clock:
        clock.forward(seconds=30)
        answer = ask(site_of_api, "/v1/runs", authorization=f"Bearer {'t' * 20}")
    assert {run["message"] for run in answer.json()["runs"]} == {"***"}


@pytest.mark.parametrize("error", [StoreUnavailableError("away"), RuntimeError("a fault")])
def test_health_that_is_not_known_is_asked_for_once_a_second(error: Exception) -> None:
    """The probes of an outage must not hold each thread of the server."""
    clock, calls = FakeClock(), list[str]()

    class Handle:
        def health(self) -> Health:
            calls.append("health")
            raise error

    probes = Probes(cast("SchedulerHandle", Handle()), pytest.fail, None, clock)
    app = partial(probes.answer, "health")
    answers = [ask(app, "/") for _ in range(3)]
    assert [(one.status, one.body) for one in answers] == [(503, b"unknown\n")] * 3
    assert len(calls) == 1
    clock.forward(1)
    ask(app, "/")
    assert len(calls) == 2


def test_health_that_hangs_holds_one_thread() -> None:
    """Others get the last judgement, as long as it is not older than ten seconds."""
    clock, going, release = FakeClock(), Event(), Event()
    fine = judge([], [], [], pause=None, now=0)

    class Handle:
        hangs = False

        def health(self) -> Health:
            if self.hangs:
                going.set()
                assert release.wait(60)
            return fine

    handle = Handle()
    probes = Probes(cast("SchedulerHandle", handle), pytest.fail, None, clock)
    app = partial(probes.answer, "health")
    assert ask(app, "/").body == b"pass\n"
    clock.forward(2)
    handle.hangs = True
    thread = Thread(target=ask, args=(app, "/"))
    thread.start()
    assert going.wait(60)
    assert ask(app, "/").body == b"pass\n"
    clock.forward(9)
    assert ask(app, "/").body == b"unknown\n"
    release.set()
    thread.join(60)
    assert ask(app, "/").body == b"pass\n"


@pytest.mark.parametrize("fault", [AccessFailedError("x"), TooManyAttemptsError(6)])
def test_health_shows_one_word_where_access_is_not_known(fault: Exception) -> None:
    """A probe is answered all the same."""

    def access_of(_: object) -> Access:
        raise fault

    handle = Mock(health=lambda: judge([], [], [], pause=None, now=0))
    probes = Probes(handle, pytest.fail, access_of, FakeClock())
    assert ask(partial(probes.answer, "health"), "/").body == b"pass\n"


def test_paths_of_other_requests_are_remembered_in_bounded_space() -> None:
    """Long ones are not, and pulse's own never are."""
    app = mounted(api="/_pulse/api", health="/_pulse")
    mounts = app.runtime.mounts
    assert mounts is not None
    for number in range(MOST_REMEMBERED + 10):
        ask(app, f"/articles/{number}")
    assert 0 < len(mounts.others) <= MOST_REMEMBERED
    for path in ("/_pulse/live", "/_pulse/other", "/" + "x" * 300):
        ask(app, path)
        assert path not in mounts.others


def test_process_that_stops_is_not_ready_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives until it has ended, and no restart is asked for."""
    monkeypatch.delenv("PULSE_START")
    app = mounted(health="/_pulse", access=None, name="that stops", start="eager")
    try:
        statuses = [ask(app, f"/_pulse/{one}").status for one in ("live", "ready", "health")]
        app.runtime.stop_claiming()
        stopping = [ask(app, f"/_pulse/{one}").status for one in ("live", "ready")]
    finally:
        app.runtime.shutdown(2)
    assert statuses == [200, 200, 200]
    assert stopping == [200, 503]
