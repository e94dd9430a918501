"""The API and the probes under real servers: rights, and what probes say in each condition."""

from __future__ import annotations

import base64
import json
import sys
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import ignored_auth, positive_data_acceptance

from pulse.web.passwords import hash_password
from pulse.web.routes import ROUTES
from tests.support.hostile_texts import CORPUS
from tests.support.redis_servers import RedisServer
from tests.support.servers import Server, free_port, program, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

READ, ACT, PASSWORD = "r" * 24, "a" * 24, "correct horse"
APP = "tests.support.steered_site:make()"
LATE_S = 100.0
"""A fire time is overdue after a minute."""


class Reply(NamedTuple):
    """A response."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the document."""
        return json.loads(self.body)


class Steered:
    """A running site, and requests to it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        token: str = "",
        authorization: str = "",
        body: bytes | None = None,
    ) -> Reply:
        """Send a request, with a bearer token or another Authorization."""
        headers = (
            {"Authorization": authorization or f"Bearer {token}"} if token or authorization else {}
        )
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            if body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Reply(response.status, response.read())
        finally:
            connection.close()

    def probes(self) -> dict[str, tuple[int, str]]:
        """Return status and word of each probe."""
        found = {one: self.ask(f"/_pulse/{one}") for one in ("live", "ready", "health")}
        return {name: (one.status, one.body.decode().strip()) for name, one in found.items()}

    def wait_for(self, **expected: tuple[int, str]) -> None:
        """Wait until probes answer so."""
        wait_until(
            lambda: {name: self.probes()[name] for name in expected} == expected,
            timeout=LATE_S,
            what=f"the probes {expected}",
            log=lambda: f"{self.probes()}\n{self.server.log_text()}",
            every=0.2,
        )


def steered(folder: Path, kind: str, *, store: str = "", **environ: str) -> Server:
    """Return a server of some kind with the site, not yet started."""
    port = free_port()
    if kind == "waitress":
        command = [program("waitress-serve"), f"--listen=127.0.0.1:{port}", "--call"]
        command.append(APP.removesuffix("()"))
    else:
        command = [sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{port}"]
        command += ["--no-control-socket", "-w", "2", "-k", kind, APP]
    return Server(
        command,
        port=port,
        folder=folder,
        environ={
            "STEERED_FOLDER": str(folder),
            "STEERED_STORE": store or f"sqlite:///{folder}/pulse.db",
            "STEERED_MODE": "gevent" if kind == "gevent" else "threading",
            "STEERED_READ": READ,
            "STEERED_ACT": ACT,
            "STEERED_HASH": hash_password(PASSWORD),
            **environ,
        },
    )


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent", "waitress"])
def test_rights_and_probes_hold_under_each_server(kind: str, tmp_path: Path) -> None:
    """A healthy fleet, then a failing one, then a paused one."""
    with steered(tmp_path, kind) as server:
        site = Steered(server)
        site.wait_for(live=(200, "ok"), ready=(200, "ready"), health=(200, "pass"))
        walk(site)
        send_hostile_texts(site)
        fuzz(site)
        (tmp_path / "fail").touch()
        site.wait_for(live=(200, "ok"), ready=(200, "ready"), health=(503, "fail"))
        # Each process judges once a second.
        details = wait_until(
            lambda: [one for one in [site.ask("/_pulse/health", token=READ)] if one.status == 503],
            what="the judgement of the other process",
        )[0]
        assert {one["kind"] for one in details.json()["problems"]} == {"failing"}
        assert b"told to fail" in site.ask("/_pulse/api/v1/runs?limit=9", token=READ).body
        (tmp_path / "fail").unlink()
        site.wait_for(health=(200, "pass"))
        assert site.ask("/_pulse/api/v1/pause", method="POST", token=ACT).status == 200
        site.wait_for(health=(200, "pass"))
        assert site.ask("/work").body.isdigit()  # the application answers as ever


def walk(site: Steered) -> None:
    """Check each route with nothing, with the right to read, and with the right to act."""
    for route in ROUTES:
        path = f"/_pulse/api{route.path.replace('{name}', 'none')}?unknown=1"
        assert site.ask(path, method=route.method).status == 401, route
        reads = site.ask(path, method=route.method, token=READ).status
        assert reads == (403 if route.level == "act" else 400), route
        assert site.ask(path, method=route.method, token=ACT).status == 400, route
    basic = base64.b64encode(f"anna:{PASSWORD}".encode()).decode()
    fleet = site.ask("/_pulse/api/v1/fleet", authorization=f"Basic {basic}")
    assert fleet.status == 200
    assert fleet.json()["processes"] != []


def send_hostile_texts(site: Steered) -> None:
    """Send each text of the corpus as a name, a query and a note; the answers stay JSON."""
    for text in CORPUS:
        quoted = quote(text, safe="")
        for path in (
            f"tasks/{quoted}",
            f"runs?task={quoted}",
            f"runs?{quoted}=1",
            f"runs/{quoted}",
        ):
            answer = site.ask(f"/_pulse/api/v1/{path}", token=READ)
            # gunicorn refuses some paths by itself, as one with an encoded line break
            assert answer.status in {200, 400, 404}, path
            if answer.body.startswith(b"{"):
                answer.json()
        note = json.dumps({"note": text[:200]}).encode()
        act_at_last(site, "tasks/work/pause", note)
    assert site.ask("/_pulse/api/v1/tasks/work", token=READ).json()["rows"][0]["pause"]["note"]
    act_at_last(site, "tasks/work/resume")
    entries = site.ask("/_pulse/api/v1/audit?limit=100", token=READ).json()["entries"]
    assert {text[:200] for text in CORPUS} <= {one["note"] for one in entries}


def fuzz(site: Steered) -> None:
    """Send what the document permits, and what it does not."""
    base = f"http://127.0.0.1:{site.server.port}/_pulse/api"
    headers = {"Authorization": f"Bearer {ACT}"}
    document = schemathesis.openapi.from_url(f"{base}/v1/openapi.json", headers=headers)
    for route in ROUTES:

        @given(case=document[route.path][route.method].as_strategy())
        @settings(max_examples=5, deadline=None, suppress_health_check=[*HealthCheck])
        def check(case: Any) -> None:
            case.call_and_validate(
                base_url=base,
                headers=headers,
                excluded_checks=[positive_data_acceptance, ignored_auth],
            )

        check()
    act_at_last(site, "resume")
    act_at_last(site, "tasks/work/resume")


def act_at_last(site: Steered, path: str, body: bytes | None = None) -> None:
    """Send an action until its rate permits it."""
    wait_until(
        lambda: (
            site.ask(f"/_pulse/api/v1/{path}", method="POST", token=ACT, body=body).status == 200
        ),
        what=f"the action {path}",
    )


def test_probes_of_a_fleet_that_is_late(tmp_path: Path) -> None:
    """The only slot is taken, so that fire times of the other task are not decided."""
    with steered(tmp_path, "waitress", STEERED_SLOW="1") as server:
        site = Steered(server)
        site.wait_for(health=(503, "fail"))
        assert site.probes()["live"] == (200, "ok")
        assert site.probes()["ready"] == (200, "ready")
        (problem,) = site.ask("/_pulse/health", token=READ).json()["problems"]
        assert (problem["kind"], problem["task"]) == ("overdue", "work")


def test_probes_of_a_fleet_without_its_store(tmp_path: Path) -> None:
    """No restart would mend it: the process lives; it is ready again with the store."""
    with RedisServer(tmp_path) as store:
        url = f"redis://127.0.0.1:{store.port}"
        with steered(tmp_path, "gthread", store=url) as server:
            site = Steered(server)
            site.wait_for(ready=(200, "ready"), health=(200, "pass"))
            store.kill()
            site.wait_for(live=(200, "ok"), ready=(503, "not ready"), health=(503, "unknown"))
            api = site.ask("/_pulse/api/v1/tasks", token=READ)
            assert api.status == 503
            store.start()
            site.wait_for(live=(200, "ok"), ready=(200, "ready"))
