"""A Django project: finished requests, closed connections and allowed hosts."""

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
    """Return a Django project with its database in a temporary folder."""
    app = make_django_app(tmp_path / "site.sqlite")
    with override_settings(ALLOWED_HOSTS=["localhost", "example.org"]):
        yield app
    connection.close()


@pytest.fixture
def finished() -> Iterator[list[bool]]:
    """Return a list with an entry for each finished request: whether a connection was open."""
    entries: list[bool] = []

    def record(**_: object) -> None:
        entries.append(connection.connection is not None)

    request_finished.connect(record, weak=False)
    yield entries
    request_finished.disconnect(record)


def test_run_finishes_the_request_and_closes_the_connection(
    site: WSGIApplication, perform: Perform, finished: list[bool]
) -> None:
    """Django does both only in close()."""
    result = perform(site, action="/count")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "1")
    assert (len(finished), connection.connection) == (1, None)


def test_streamed_body_is_read_before_the_request_is_finished(
    site: WSGIApplication, perform: Perform, finished: list[bool]
) -> None:
    """The connection is closed after the rows were read."""
    result = perform(site, action="/stream")
    assert (result.message, len(finished), connection.connection) == ("1 2 3 ", 1, None)


def test_an_exception_in_a_view_is_a_failed_result(
    site: WSGIApplication, perform: Perform, finished: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    """Django returns a 500 response, logs the exception, and finishes the request."""
    result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, 500)
    assert "no such table" in caplog.text
    assert (len(finished), connection.connection) == (1, None)


def test_propagated_exception_is_a_failed_result_with_its_traceback(
    site: WSGIApplication, perform: Perform
) -> None:
    """Django propagates exceptions with DEBUG_PROPAGATE_EXCEPTIONS."""
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        result = perform(site, action="/broken")
    assert (result.outcome, result.status) == (Outcome.FAILED, None)
    assert "in broken" in result.message
    assert result.message.endswith("django.db.utils.OperationalError: no such table: nowhere")


def test_exception_in_a_signal_receiver_is_a_failed_result(
    site: WSGIApplication, perform: Perform
) -> None:
    """An exception in a hook of Django is reported like an exception in the view."""

    def refuse(**_: object) -> None:
        raise RuntimeError("receiver")

    got_request_exception.connect(refuse, weak=False)
    try:
        result = perform(site, action="/broken")
    finally:
        got_request_exception.disconnect(refuse)
    assert result.message.endswith("RuntimeError: receiver")


def test_host_that_django_does_not_allow_is_a_failed_result(
    site: WSGIApplication, perform: Perform
) -> None:
    """Without base_url, the host is localhost, which production settings reject."""
    with override_settings(ALLOWED_HOSTS=["example.org"]):
        result = perform(site, action="/where")
    assert (result.outcome, result.status) == (Outcome.FAILED, 400)


def test_base_url_sets_a_host_that_django_allows(site: WSGIApplication, perform: Perform) -> None:
    """The view sees the address of the site."""
    with override_settings(ALLOWED_HOSTS=["example.org"]):
        result = perform(site, action="/where?x=1", base_url="http://example.org:8080")
    assert result.message == "http://example.org:8080/where?x=1"


@pytest.mark.usefixtures("site")
def test_http_base_url_on_an_https_site_is_a_failed_result(
    tmp_path: Path, perform: Perform
) -> None:
    """The message contains the redirection target and the setting to change."""
    with override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["example.org"]):
        app = make_django_app(tmp_path / "site.sqlite")
        result = perform(app, action="/where", base_url="http://example.org")
    assert (result.outcome, result.status) == (Outcome.FAILED, 301)
    assert "redirected to https://example.org/where" in result.message
    assert "base_url" in result.message


@pytest.mark.usefixtures("site")
def test_https_base_url_on_an_https_site_succeeds(tmp_path: Path, perform: Perform) -> None:
    """Django treats the request as secure."""
    with override_settings(SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["example.org"]):
        app = make_django_app(tmp_path / "site.sqlite")
        result = perform(app, action="/where", base_url="https://example.org")
    assert (result.outcome, result.message) == (Outcome.SUCCEEDED, "https://example.org/where")


def test_redirection_to_a_trailing_slash_is_reported(
    site: WSGIApplication, perform: Perform
) -> None:
    """A missing slash is the usual mistake with APPEND_SLASH."""
    result = perform(site, action="/slash")
    assert "redirected to /slash/" in result.message


def test_view_receives_the_posted_body(site: WSGIApplication, perform: Perform) -> None:
    """The body consists of raw bytes, with its content type."""
    result = perform(site, action="/echo", method="POST", run_body=b"by hand")
    assert json.loads(result.message) == {"body": "by hand", "kind": "application/octet-stream"}


def test_post_without_a_csrf_token_is_a_failed_result(
    site: WSGIApplication, perform: Perform
) -> None:
    """Django checks CSRF tokens of POST requests unless the view is exempt."""
    result = perform(site, action="/count", method="POST")
    assert (result.outcome, result.status) == (Outcome.FAILED, 403)


@pytest.mark.parametrize("debug", [False, True], ids=["in production", "under DEBUG"])
def test_csrf_failure_is_reported_with_a_remedy(
    site: WSGIApplication, perform: Perform, *, debug: bool
) -> None:
    """The message asks to exempt the view from the CSRF check."""
    with override_settings(DEBUG=debug):
        message = perform(site, action="/count", method="POST").message
    assert "CSRF" in message
    assert "csrf_exempt" in message
