"""The JSON API: its rights, documents, errors and limits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pulse import PulseMiddleware, Task
from pulse.core.access import Access, Level
from pulse.core.policies import Output
from pulse.errors import ConfigError, StoreUnavailableError
from pulse.testing import travel
from pulse.web.api import PulseApi
from pulse.web.documents import ShownOutput
from pulse.web.responses import NO_CONTENT_POLICY, SECURE_HEADERS
from pulse.web.routes import ROUTES, Route, methods_of, route_of
from tests.support.web_calls import WebAnswer, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.testing.time_travel import TimeTravel

ODD = "a/b.c%d é"
NAMES = ("work", "fail", ODD)
SAME_SITE = {"sec_fetch_site": "same-origin"}


def site(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer, or fail with a secret in the message."""
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("secret of a customer")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


@pytest.fixture
def clock() -> Iterator[TimeTravel]:
    """Return a site in virtual time, a minute after its start."""
    tasks = {name: Task(action="/fail" if name == "fail" else "/ok", interval=10) for name in NAMES}
    with travel(PulseMiddleware(site, tasks=tasks)) as clock:
        clock.forward(seconds=60)
        yield clock


def api_of(clock: TimeTravel, *, access: object = True, **words: Any) -> PulseApi:
    """Return the API of a site."""
    return PulseApi(access=access, handle=clock.scheduler, **words)  # type: ignore[arg-type] # checked


def act(api: PulseApi, path: str, document: object = None, **headers: str) -> WebAnswer:
    """Send an action."""
    body = None if document is None else json.dumps(document).encode()
    return ask(api, path, method="POST", body=body, **(SAME_SITE | headers))


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
@pytest.mark.parametrize("level", list(Level))
def test_each_route_needs_its_right(route: Route, level: Level, clock: TimeTravel) -> None:
    """Without it nothing is looked at; the right is checked before the rest of the request."""
    api = api_of(clock, access=Access(level, "anna"), challenges=["Bearer"])
    path = route.path.replace("{name}", "work")
    answer = ask(api, f"{path}?unknown=1", method=route.method, **SAME_SITE)
    if level.covers(route.level):
        assert answer.status in {200, 400, 404}
    else:
        assert answer.status == (401 if level is Level.NONE else 403)
        assert ("WWW-Authenticate" in answer.headers) == (level is Level.NONE)


def test_every_route_is_found_by_its_own_path() -> None:
    """Also with names that look like paths, and with actions as names."""
    for route in ROUTES:
        for name in ("work", "a/b", "a/pause", "tasks", "v1/tasks/x/trigger"):
            path = route.path.replace("{name}", name)
            expected = name if "{name}" in route.path else ""
            assert route_of(route.method, path) == (route, expected)
    assert methods_of("/v1/tasks") == ["GET"]
    assert methods_of("/v1/tasks/x/pause") == ["GET", "POST"]


def test_unknown_paths_and_methods_are_refused(clock: TimeTravel) -> None:
    """Who may not read does not learn which paths there are."""
    api = api_of(clock)
    assert ask(api, "/v1/nothing").status == 404
    answer = ask(api, "/v1/runs", method="DELETE")
    assert (answer.status, answer.headers["Allow"]) == (405, "HEAD, GET")
    assert ask(api, "/v1/pause").headers["Allow"] == "POST"
    assert ask(api, "/v1/tasks/%ff").status == 404
    assert ask(api_of(clock, access=False), "/v1/nothing").status == 401


def test_every_answer_has_the_headers_that_keep_it_safe(clock: TimeTravel) -> None:
    """And an exact type; problems have that of RFC 9457."""
    api = api_of(clock)
    for path, kind in (("/v1/fleet", "json"), ("/v1/nothing", "problem+json")):
        answer = ask(api, path)
        assert set(SECURE_HEADERS) <= set(answer.headers.items())
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"] == NO_CONTENT_POLICY
        assert answer.headers["Content-Type"] == f"application/{kind}"
        assert "Access-Control-Allow-Origin" not in answer.headers
    problem = ask(api, "/v1/nothing").json()
    assert (problem["status"], problem["title"]) == (404, "Not Found")
    assert ask(api, "/v1/fleet", method="HEAD").body == b""


def test_tasks_are_listed_by_name_in_pages(clock: TimeTravel) -> None:
    """`next` leads from page to page, to each task once."""
    api, names, after = api_of(clock), [], ""
    while after is not None:
        page = ask(api, f"/v1/tasks?limit=1&after={after.replace('%', '%25')}").json()
        names += [one["name"] for one in page["tasks"]]
        after = page["next"]
    assert names == sorted(NAMES)
    (found,) = ask(api, "/v1/tasks?search=WOR").json()["tasks"]
    assert (found["name"], found["schedule"]) == ("work", {"interval": "10s"})


def test_names_with_slashes_dots_percents_and_letters_work(clock: TimeTravel) -> None:
    """In reads and in actions."""
    api, quoted = api_of(clock), "a%2Fb.c%25d%20%C3%A9"
    assert ask(api, f"/v1/tasks/{quoted}").json()["rows"][0]["name"] == ODD
    assert act(api, f"/v1/tasks/{quoted}/pause").status == 200
    assert ask(api, f"/v1/tasks/{quoted}").json()["rows"][0]["pause"] is not None
    assert ask(api, f"/v1/runs?task={quoted}&limit=1").json()["runs"][0]["task"] == ODD


def test_runs_are_read_in_pages_and_by_filters(clock: TimeTravel) -> None:
    """A cursor is text, so that any reader keeps it exact."""
    api = api_of(clock)
    first = ask(api, "/v1/runs?task=fail&limit=4").json()
    assert isinstance(first["next"], str)
    second = ask(api, f"/v1/runs?task=fail&limit=4&before={first['next']}").json()
    times = [one["fire_time"] for one in (*first["runs"], *second["runs"])]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 6
    assert second["next"] is None
    words = "outcome=succeeded&outcome=failed&trigger=schedule"
    assert len(ask(api, f"/v1/runs?{words}").json()["runs"]) == 18
    assert ask(api, "/v1/runs?since=2026-01-05T12:00:50Z&task=work").json()["runs"] != []
    run = first["runs"][0]
    assert ask(api, f"/v1/runs/{run['id']}").json() == run
    assert ask(api, "/v1/runs/none").status == 404


@pytest.mark.parametrize(
    ("target", "detail"),
    [
        ("/v1/runs?limit=0", "limit: expected `int` >= 1, got '0'"),
        ("/v1/runs?limit=501", "limit: expected `int` <= 500, got '501'"),
        ("/v1/runs?limit=many", "limit: expected `int`"),
        ("/v1/runs?limit=1&limit=2", "limit: expected one value, got several"),
        ("/v1/runs?outcome=lost", "outcome: expected one of succeeded"),
        ("/v1/runs?before=-1", "before: expected `str` matching regex"),
        ("/v1/runs?since=yesterday", "since: invalid RFC3339 encoded datetime, got 'yesterday'"),
        ("/v1/runs?since=2026-01-05T12:00:00", "since: expected `datetime` with a timezone"),
        ("/v1/runs?colour=red", "colour: expected one of task, outcome, trigger, holder"),
        ("/v1/fleet?x=1", "x: expected nothing, got this name"),
        ("/v1/why?task=work", "object missing required field `at`"),
        ("/v1/why?task=work&at=2026-01-05T12:00:00Z&within=1e9", "within: expected `float` <="),
        ("/v1/tasks?search=" + "x" * 101, "search: expected `str` of length <= 100"),
        ("/v1/tasks?" + "&".join(["a=1"] * 60), "query: expected parameters in UTF-8"),
        ("/v1/tasks?search=%ff", "query: expected parameters in UTF-8"),
        ("/v1/ledger?task=work&since=2020-01-01T00:00:00Z", "since: expected at most 31 days"),
    ],
)
def test_wrong_parameter_is_named(target: str, detail: str, clock: TimeTravel) -> None:
    """With what was expected and what came."""
    answer = ask(api_of(clock), target)
    assert (answer.status, answer.json()["detail"][: len(detail)]) == (400, detail)


def test_what_became_of_fire_times_is_explained(clock: TimeTravel) -> None:
    """As by the handle."""
    api = api_of(clock)
    ledger = ask(api, "/v1/ledger?task=work&since=2026-01-05T12:00:00Z").json()["ledger"]
    assert (ledger["fire_times"], ledger["ran"], ledger["unexplained"]) == (6, 6, 0)
    (why,) = ask(api, "/v1/why?task=work&at=2026-01-05T12:00:10Z").json()["explanations"]
    assert (why["kind"], why["run"]["state"]) == ("ran", "succeeded")
    assert ask(api, "/v1/ledger?task=none&since=2026-01-05T12:00:00Z").status == 404
    health = ask(api, "/v1/health").json()
    assert [one["kind"] for one in health["problems"]] == ["failing"]


def test_actions_are_recorded_with_who_asked(clock: TimeTravel) -> None:
    """The name that the access has, not one that the client sends."""
    api = api_of(clock, access=Access("act", "anna"))
    until = "2026-01-05T13:00:00+01:00"
    paused = act(api, "/v1/tasks/work/pause", {"note": "why", "until": until})
    assert paused.status == 400  # it has passed
    paused = act(api, "/v1/tasks/work/pause", {"note": "why", "until": "2026-01-05T14:00:00Z"})
    assert paused.json()["pause"]["by"] == "anna"
    assert act(api, "/v1/tasks/work/resume").json() == {"pause": None}
    assert act(api, "/v1/pause").status == act(api, "/v1/resume").status == 200
    run = act(api, "/v1/tasks/work/trigger", {"body": "now"}).json()
    assert act(api, f"/v1/runs/{run['id']}/stop", {"note": "no"}).json()["state"] == "interrupted"
    entries = ask(api, "/v1/audit").json()["entries"]
    assert [one["verb"] for one in entries] == [
        "stop", "trigger", "resume", "pause", "resume", "pause",
    ]  # fmt: skip
    assert {one["by"] for one in entries} == {"anna"}
    first = ask(api, "/v1/audit?limit=4").json()
    second = ask(api, f"/v1/audit?limit=4&before={first['next']}").json()
    assert [*first["entries"], *second["entries"]] == entries


def test_key_makes_a_trigger_one_run(clock: TimeTravel) -> None:
    """The same key for another task is another run; another body is refused."""
    api = api_of(clock)
    first = act(api, "/v1/tasks/work/trigger", {"body": "a"}, idempotency_key="k")
    again = act(api, "/v1/tasks/work/trigger", {"body": "a"}, idempotency_key="k")
    assert first.json() == again.json()
    other = act(api, "/v1/tasks/fail/trigger", {"body": "a"}, idempotency_key="k")
    assert other.json()["id"] != first.json()["id"]
    changed = act(api, "/v1/tasks/work/trigger", {"body": "b"}, idempotency_key="k")
    assert changed.status == 422
    assert act(api, "/v1/tasks/work/trigger", idempotency_key="x" * 201).status == 400
    refused = act(api, "/v1/tasks/work/trigger")
    assert (refused.status, "overlap permits no other" in refused.json()["detail"]) == (409, True)


def test_action_of_another_site_is_refused(clock: TimeTravel) -> None:
    """Whatever right its sender has."""
    api = api_of(clock, trusted_origins=["https://admin.example.org"])
    assert act(api, "/v1/pause", sec_fetch_site="cross-site").status == 403
    trusted = {"sec_fetch_site": "cross-site", "origin": "https://admin.example.org"}
    assert act(api, "/v1/pause", **trusted).status == 200


def test_actions_are_limited_in_rate(clock: TimeTravel) -> None:
    """After thirty at once, with the time to wait."""
    api = api_of(clock)
    statuses = [act(api, "/v1/resume").status for _ in range(31)]
    assert statuses == [200] * 30 + [429]
    assert act(api, "/v1/resume").headers["Retry-After"] == "1"


def test_reports_are_limited_in_rate(clock: TimeTravel) -> None:
    """They may read all runs of a task."""
    api = api_of(clock)
    path = "/v1/why?task=work&at=2026-11-23T00:00:00Z"
    statuses = [ask(api, path).status for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    assert ask(api, "/v1/tasks").status == 200


def test_access_function_that_returns_something_else_is_an_error_of_the_server(
    clock: TimeTravel, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender has done nothing wrong, and gets no access."""
    answer = ask(api_of(clock, access=lambda _: "act"), "/v1/fleet")
    assert (answer.status, "setting access" in answer.json()["detail"]) == (500, True)
    assert "expected an Access" in caplog.text


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[]", {}, 400),
        (b'{"until": 7}', {}, 400),
        (b'{"why": "x"}', {}, 400),
        (b'{"note": "%s"}' % (b"x" * 201), {}, 400),
        (b"{}", {"content_type": "text/plain"}, 415),
        (b" " * 65_537, {}, 413),
        (b"[" * 60_000, {}, 400),
        (b'{"until": "9999-12-31T23:59:59-14:00"}', {}, 400),
        (b"\xff", {}, 400),
    ],
)
def test_wrong_body_is_refused(
    body: bytes, headers: dict[str, str], status: int, clock: TimeTravel
) -> None:
    """Nothing is paused."""
    words = SAME_SITE | headers
    app = api_of(clock)
    assert ask(app, "/v1/pause", method="POST", body=body, **words).status == status
    assert clock.scheduler.pause_of_all() is None


def test_action_takes_no_parameters(clock: TimeTravel) -> None:
    """They would be in logs."""
    assert act(api_of(clock), "/v1/pause?note=x").status == 400


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (Output.FULL, {"failed", "succeeded"}),
        (Output.FAILURES, {"failed"}),
        (Output.NONE, set()),
    ],
)
def test_output_is_shown_as_the_setting_says(
    output: Output, expected: set[str], clock: TimeTravel
) -> None:
    """In lists, in one run, and in explanations."""
    api = api_of(clock, output=ShownOutput(output))
    (failed,) = ask(api, "/v1/runs?task=fail&limit=1").json()["runs"]
    assert ("secret of a customer" in failed["message"]) == ("failed" in expected)
    (done,) = ask(api, "/v1/runs?task=work&limit=1").json()["runs"]
    assert (done["message"] == "done") == ("succeeded" in expected)
    why = ask(api, "/v1/why?task=fail&at=2026-01-05T12:00:10Z").body
    assert (b"secret of a customer" in why) == ("failed" in expected)


def test_redactor_changes_what_is_shown(clock: TimeTravel) -> None:
    """With the name of the task."""

    def redact(text: str, task: str) -> str:
        return text.replace("secret", f"<{task}>")

    api = api_of(clock, output=ShownOutput(redact=redact))
    (failed,) = ask(api, "/v1/runs?task=fail&limit=1").json()["runs"]
    assert "<fail> of a customer" in failed["message"]


def test_store_that_is_away_is_503_with_the_time_to_wait(
    clock: TimeTravel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem names the store, without a password."""

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("postgresql://shop:***@db: it does not answer")

    monkeypatch.setattr(type(clock.scheduler), "tasks", away)
    answer = ask(api_of(clock), "/v1/tasks")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")


def test_failure_of_the_api_shows_an_id_and_no_traceback(
    clock: TimeTravel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the traceback under that id."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(clock.scheduler), "tasks", broken)
    answer = ask(api_of(clock), "/v1/tasks")
    assert answer.status == 500
    assert b"hunter2" not in answer.body
    ident = answer.json()["detail"].rpartition(" ")[2]
    assert any(ident in line and "hunter2" in line for line in caplog.messages)


def test_api_inside_the_application_finds_its_scheduler() -> None:
    """In the environ; without a middleware around it, it says so."""
    api = PulseApi(access=True)
    assert ask(api, "/v1/fleet").status == 503
    with travel(PulseMiddleware(api, tasks={"work": Task(action="/x", interval=60)})) as clock:
        assert ask(find_app(clock), "/v1/fleet").json()["processes"] != []


def find_app(clock: TimeTravel) -> Any:
    """Return an application that passes the scheduler on, as the middleware does."""
    api = PulseApi(access=True)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        environ["pulse.scheduler"] = clock.scheduler
        return api(environ, start_response)

    return app


def test_access_is_a_required_argument() -> None:
    """Nothing is open by accident."""
    with pytest.raises(TypeError):
        PulseApi()  # type: ignore[call-arg] # that is the point
    with pytest.raises(ConfigError):
        PulseApi(access="act")  # type: ignore[arg-type] # likewise
