"""The quickstart's app by itself, without pulse around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from webob import Request

from pulse.core.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from webob import Response

ROOT = Path(__file__).parents[2]


@pytest.fixture
def make_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], WSGIApplication]:
    """Makes the app as its ini section does, with its sessions in a temporary folder."""
    monkeypatch.syspath_prepend(ROOT)
    from examples.quickstart.sessions import make_app

    def make(lifetime: float) -> WSGIApplication:
        return make_app({}, database=str(tmp_path / "made" / "s.sqlite"), lifetime=str(lifetime))

    return make


@pytest.fixture
def site(make_site: Callable[[float], WSGIApplication]) -> WSGIApplication:
    """The app with sessions that live an hour."""
    return make_site(3600)


def get(site: WSGIApplication, path: str, *, session: str = "", run: bool = False) -> Response:
    """Return the answer to a visitor with a cookie, or to a run of a task."""
    request = Request.blank(path, headers={"Cookie": f"session={session}"})
    if run:
        request.environ["pulse.run"] = Run(id="0" * 32, task="cleanup", fire_time=0)
    return request.get_response(site)


def session_of(response: Response) -> str:
    """Return the session that the answer hands to the browser."""
    return response.headers["Set-Cookie"].partition("=")[2].partition(";")[0]


def test_a_new_visitor_is_given_a_session(site: WSGIApplication) -> None:
    """The first request makes a session, shows it and hands it to the browser."""
    page = get(site, "/")

    assert f"Your session: {session_of(page)}. Visits: 1." in page.text


def test_a_visitor_who_returns_keeps_the_session(site: WSGIApplication) -> None:
    """A request with the cookie of a living session counts one more visit to it."""
    session = session_of(get(site, "/"))

    page = get(site, "/", session=session)

    assert f"Your session: {session}. Visits: 2. Sessions alive: 1." in page.text


def test_a_session_is_never_taken_from_the_visitor(site: WSGIApplication) -> None:
    """A cookie that names no living session is answered with a new one, and is not shown."""
    page = get(site, "/", session="<script>")

    assert "<script>" not in page.text + session_of(page)


def test_cleanup_deletes_what_was_not_used_for_a_lifetime(
    make_site: Callable[[float], WSGIApplication],
) -> None:
    """A run of the cleanup task deletes sessions that are older than their lifetime."""
    site = make_site(0)
    get(site, "/")

    answer = get(site, "/sessions/cleanup", run=True)

    assert (answer.status, answer.text) == ("200 OK", "expired 1 sessions\n")


def test_cleanup_leaves_what_is_in_use(site: WSGIApplication) -> None:
    """A run of the cleanup task leaves sessions that were used within their lifetime."""
    get(site, "/")

    answer = get(site, "/sessions/cleanup", run=True)

    assert answer.text == "expired 0 sessions\n"


def test_cleanup_refuses_everybody_but_pulse(site: WSGIApplication) -> None:
    """The scheduled view answers 403 to a request that is no run, whatever its headers say."""
    answer = get(site, "/sessions/cleanup")

    assert answer.status == "403 Forbidden"


def test_other_paths_are_not_found(site: WSGIApplication) -> None:
    """A path without a view is answered with 404."""
    assert get(site, "/nothing").status == "404 Not Found"
