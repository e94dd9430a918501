"""A real Django project: requests finish, connections close, its checks of hosts are met."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from django.core.signals import got_request_exception, request_finished
from django.db import connection
from django.test.utils import override_settings

from pulse.core.run import Outcome
from tests.support.django_site import make_django_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from wsgiref.types import WSGIApplication

    from pulse.core.run import Result

    Perform = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WSGIApplication]:
    """The project, its database in a temporary folder."""
    app = make_django_app(tmp_path / "site.sqlite")
    with override_settings(ALLOWED_HOSTS=["localhost", "example.org"]):
        yield app
    connection.close()


@pytest.fixture
def finished() -> Iterator[list[bool]]:
    """One entry for each request that Django has finished: was the connection still open?"""
    entries: list[bool] = []

    def note(**_: object) -> None:
        entries.append(connection.connection is not None)

    request_finished.connect(note, weak=False)
    yield entries
    request_finished.disconnect(note)


def test_the_request_is_finished_and_the_connection_closed(
    site: WSGIApplication, perform: Perform, finished: list[bool]
) -> None:
    """Django does both in close() alone."""
    result = perform(site, action="/count")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "1")
    assert (len(finished), connection.connection) == (1, None)


def test_a_streamed_view_is_drained_before_it_is_finished(
    site: WSGIApplication, perform: Perform, finished: list[bool]
) -> None:
    """The rows are read, then the connection is closed."""
    result = perform(site, action="/stream")
    assert (result.message, len(finished), connection.connection) == ("1 2 3 ", 1, None)


def test_an_exception_in_a_view_is_a_failed_result(
    site: WSGIApplication, perform: Perform, finished: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    """Django makes it a 500, logs it itself, and finishes the request."""
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, 500)
    assert "no such table" in caplog.text
    assert (len(finished), connection.connection) == (1, None)


def test_an_exception_that_django_lets_out_comes_with_its_traceback(
    site: WSGIApplication, perform: Perform
) -> None:
    """As under DEBUG_PROPAGATE_EXCEPTIONS."""
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert "in broken" in result.message
    assert result.message.endswith("django.db.utils.OperationalError: no such table: nowhere")


def test_a_receiver_that_raises_is_a_failed_result(site: WSGIApplication, perform: Perform) -> None:
    """Whatever Django's own hooks raise is told like the view's."""

    def refuse(**_: object) -> None:
        raise RuntimeError("receiver")

    got_request_exception.connect(refuse, weak=False)
    try:
        result = perform(site, action="/broken")
    finally:
        got_request_exception.disconnect(refuse)
    assert result.message.endswith("RuntimeError: receiver")


def test_a_host_that_django_does_not_allow_is_a_failure(
    site: WSGIApplication, perform: Perform
) -> None:
    """Without base_url the host is localhost, which production settings refuse."""
    with override_settings(ALLOWED_HOSTS=["example.org"]):
        result = perform(site, action="/where")
    assert (result.outcome, result.status) == (Outcome.FAILED, 400)


def test_base_url_names_a_host_that_django_allows(site: WSGIApplication, perform: Perform) -> None:
    """With base_url the view sees the site's own address."""
    with override_settings(ALLOWED_HOSTS=["example.org"]):
        result = perform(site, action="/where?x=1", base_url="http://example.org:8080")
    assert result.message == "http://example.org:8080/where?x=1"


@pytest.mark.usefixtures("site")
def test_an_http_base_url_is_redirected_by_a_site_that_wants_https(
    tmp_path: Path, perform: Perform
) -> None:
    """The message names the target, and what to set."""
    with override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["example.org"]):
        app = make_django_app(tmp_path / "site.sqlite")
        result = perform(app, action="/where", base_url="http://example.org")
    assert (result.outcome, result.status) == (Outcome.FAILED, 301)
    assert "redirected to https://example.org/where" in result.message
    assert "base_url" in result.message


@pytest.mark.usefixtures("site")
def test_an_https_base_url_satisfies_a_site_that_wants_https(
    tmp_path: Path, perform: Perform
) -> None:
    """The request counts as secure."""
    with override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["example.org"]):
        app = make_django_app(tmp_path / "site.sqlite")
        result = perform(app, action="/where", base_url="https://example.org")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "https://example.org/where")


def test_a_missing_slash_is_told(site: WSGIApplication, perform: Perform) -> None:
    """APPEND_SLASH redirects, which is the usual mistake."""
    result = perform(site, action="/slash")
    assert "redirected to /slash/" in result.message


def test_a_posted_body_reaches_the_view(site: WSGIApplication, perform: Perform) -> None:
    """As raw bytes, and with its type."""
    result = perform(site, action="/echo", method="POST", run_body=b"by hand")
    assert json.loads(result.message) == {"body": "by hand", "kind": "application/octet-stream"}
