"""Texts that have harmed others' pages go through every field of the API, and stay data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from pulse import PulseMiddleware, Task
from pulse.core.access import Access
from pulse.testing import travel
from pulse.web.api import PulseApi
from tests.support.hostile_texts import CORPUS, UNPRINTABLE
from tests.support.web_calls import ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

    from pulse.testing.time_travel import TimeTravel


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer with the body of the request, or fail with it."""
    text = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError(text.decode())
    start_response("200 OK", [("Content-Type", "text/html")])
    return [text]


@pytest.fixture(params=CORPUS)
def text(request: pytest.FixtureRequest) -> str:
    """Return a text of the corpus."""
    return str(request.param)


@pytest.fixture
def clock(text: str) -> Iterator[TimeTravel]:
    """Return a site in virtual time whose task names, bodies and errors are the text."""
    printable = text.strip() if text.isprintable() else "plain"
    tasks = {
        printable: Task(action="/echo", interval=10, method="POST", body=text),
        "fail": Task(action="/fail", interval=10, method="POST", body=text),
    }
    with travel(PulseMiddleware(echo, tasks=tasks)) as clock:
        clock.forward(seconds=20)
        yield clock


def test_hostile_text_stays_data_in_every_field(text: str, clock: TimeTravel) -> None:
    """Names, notes, users, bodies, messages, keys and queries; each answer is JSON."""
    api = PulseApi(access=Access("act", text[:200]), handle=clock.scheduler)
    name = next(one.name for one in clock.scheduler.tasks() if one.name != "fail")
    path = quote(name, safe="")
    words = {"sec_fetch_site": "same-origin"}
    note = json.dumps({"note": text[:200]}).encode()
    body = json.dumps({"body": text}).encode()
    key = text.encode("latin-1", "replace").decode("latin-1")[:200].replace("\0", "")
    keyed = words | {"idempotency_key": key}
    answers = [
        ask(api, f"/v1/tasks/{path}/pause", method="POST", body=note, **words),
        ask(api, f"/v1/tasks/{path}/trigger", method="POST", body=body, **keyed),
        ask(api, "/v1/tasks"),
        ask(api, f"/v1/tasks/{path}"),
        ask(api, f"/v1/tasks?search={quote(text[:100])}"),
        ask(api, "/v1/runs"),
        ask(api, f"/v1/runs?task={path}"),
        ask(api, f"/v1/runs?holder={quote(text[:200])}"),
        ask(api, "/v1/audit"),
        ask(api, "/v1/fleet"),
        ask(api, "/v1/health"),
        ask(api, f"/v1/why?task={path}&at=2026-01-05T12:00:10Z"),
        ask(api, f"/v1/ledger?task={path}&since=2026-01-05T12:00:00Z"),
    ]
    assert [one.status for one in answers] == [200] * len(answers)
    refused = [
        ask(api, f"/v1/runs/{quote(text, safe='')}"),
        ask(api, f"/v1/tasks/none{quote(text[:90], safe='')}"),
        ask(api, f"/v1/runs?limit={quote(text)}"),
        ask(api, f"/v1/runs?{quote(text, safe='')}=1"),
        ask(api, f"/v1/{quote(text)}"),
        ask(api, f"/v1/runs/{quote(text, safe='')}/stop", method="POST", body=note, **words),
    ]
    assert {one.status for one in refused} <= {400, 404}
    for one in (*answers, *refused):
        assert one.headers["Content-Type"] in {"application/json", "application/problem+json"}
        assert one.headers["X-Content-Type-Options"] == "nosniff"
        assert set(one.headers) <= {
            "Content-Type", "Content-Length", "Cache-Control", "Content-Security-Policy",
            "Cross-Origin-Opener-Policy", "Referrer-Policy", "X-Content-Type-Options",
            "X-Robots-Tag",
        }  # fmt: skip
        one.json()
    audited = ask(api, "/v1/audit").json()["entries"]
    assert {one["by"] for one in audited} == {text[:200]}
    assert text[:200] in {one["note"] for one in audited}


@pytest.mark.parametrize("text", UNPRINTABLE, indirect=False)
def test_unprintable_text_is_kept_or_refused(text: str) -> None:
    """It reaches no header, and never ends in an error of the server."""
    with travel(PulseMiddleware(echo, tasks={"work": Task(action="/echo", interval=10)})) as clock:
        api = PulseApi(access=True, handle=clock.scheduler)
        body = json.dumps({"note": text}).encode()
        answer = ask(api, "/v1/pause", method="POST", body=body, sec_fetch_site="same-origin")
        assert answer.status in {200, 400}
        answers = [ask(api, "/v1/audit"), ask(api, "/v1/tasks")]
        quoted = quote(text.encode("utf-8", "surrogatepass"))
        answers += [ask(api, f"/v1/tasks/{quoted}"), ask(api, f"/v1/runs?task={quoted}")]
        assert all(one.status in {200, 400, 404} for one in answers)
        assert "X-Injected" not in {name for one in answers for name in one.headers}
