"""The description of the API is that of its routes, and the API keeps to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import ignored_auth, positive_data_acceptance

from pulse import PulseMiddleware, Task
from pulse.core.access import Level
from pulse.testing import travel
from pulse.testing.clock import FakeClock
from pulse.web.api import PulseApi
from pulse.web.openapi import openapi
from pulse.web.routes import ROUTES, Route
from tests.support.openapi_page import PAGE, page
from tests.support.web_calls import ask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def site(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer."""
    start_response("200 OK", [])
    return [b"done"]


TOKEN = "Bearer of-a-test"  # noqa: S105 - of this test alone


@pytest.fixture(scope="module")
def app() -> Iterator[WSGIApplication]:
    """Return an API whose actions are not limited, with some history."""
    tasks = {"work": Task(action="/work", interval=10), "a/b é": Task(action="/b", interval=10)}
    with travel(PulseMiddleware(site, tasks=tasks)) as clock:
        clock.forward(seconds=60)
        still = FakeClock()
        api = PulseApi(
            access=lambda environ: environ.get("HTTP_AUTHORIZATION") == TOKEN,
            handle=clock.scheduler,
            clock=still,
        )

        def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            still.forward(1)  # no action comes sooner than a second after another
            return api(environ, start_response)

        yield app


def test_document_on_the_reference_page_is_that_of_the_routes() -> None:
    """`python -m tests.support.openapi_page` writes it."""
    assert json.loads(PAGE.read_text()) == page()


def test_document_has_each_route_with_its_right_and_answers() -> None:
    """Also what a client may not send."""
    document = openapi()
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert f"right to {route.level.value}" in operation["description"]
        assert {"200", "400", "401", "403", "503"} <= operation["responses"].keys()
        assert ("409" in operation["responses"]) == (route.level is Level.ACT)


def test_api_serves_the_document(app: WSGIApplication) -> None:
    """To those who may read."""
    assert ask(app, "/v1/openapi.json", authorization=TOKEN).json() == openapi()


@pytest.fixture(scope="module")
def document(app: WSGIApplication) -> Any:
    """Return the document as a client reads it."""
    return schemathesis.openapi.from_wsgi("/v1/openapi.json", app, headers={"Authorization": TOKEN})


@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one.method} {one.path}")
def test_api_keeps_to_its_document(route: Route, document: Any) -> None:
    """Whatever is sent, no answer is one that the document does not have, and none is 500.

    A request that fits the document may be refused all the same, as one of too long a time. That
    each route needs its right has a test of its own.
    """

    @given(case=document[route.path][route.method].as_strategy())
    @settings(max_examples=20, deadline=None, suppress_health_check=[*HealthCheck])
    def check(case: Any) -> None:
        case.call_and_validate(
            headers={"Authorization": TOKEN},
            excluded_checks=[positive_data_acceptance, ignored_auth],
        )

    check()
