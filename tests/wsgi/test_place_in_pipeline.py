"""The place of pulse in a pipeline decides which filters see a scheduled request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from paste.deploy import loadapp

from pulse.testing import travel
from tests.support.markdown import blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "paste.md"
PIPELINE = next(block.code for block in blocks_of(PAGE) if "login pulse session site" in block.code)
REST = f"""
[filter:pulse]
use = egg:pulse
pulse.config.store = memory:
pulse.config.guard = true
pulse.task.work.action = /work
pulse.task.work.interval = 1m

[filter:login]
paste.filter_factory = {__name__}:make_login

[filter:session]
paste.filter_factory = {__name__}:make_session

[app:site]
paste.app_factory = {__name__}:make_site
"""


def make_login(_global_conf: dict[str, str]) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return a filter that refuses a request without a user."""

    def require_login(app: WSGIApplication) -> WSGIApplication:
        def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if "REMOTE_USER" in environ:
                return app(environ, start_response)
            start_response("401 Unauthorized", [])
            return []

        return call

    return require_login


def make_session(_global_conf: dict[str, str]) -> Callable[[WSGIApplication], WSGIApplication]:
    """Return a filter that adds a session."""

    def add_session(app: WSGIApplication) -> WSGIApplication:
        def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            return app(environ | {"session": {}}, start_response)

        return call

    return add_session


def make_site(_global_conf: dict[str, str]) -> WSGIApplication:
    """Return an app that needs a session."""

    def site(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK" if "session" in environ else "500 No session", [])
        return []

    return site


def statuses(pulse: str, tmp_path: Path) -> list[int | None]:
    """Return the statuses of the scheduled requests of a minute, with this pipeline."""
    file = tmp_path / "site.ini"
    file.write_text(PIPELINE.replace("login pulse session site", pulse) + REST)
    with travel(loadapp(f"config:{file}")) as clock:
        clock.forward(minutes=1)
        return [run.status for run in clock.runs()]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ("login pulse session site", 200),
        ("pulse login session site", 401),
        ("login session pulse site", 500),
    ],
)
def test_filters_behind_pulse_see_a_scheduled_request(
    parts: str, status: int, tmp_path: Path
) -> None:
    """The pipeline of the page is the one that works."""
    assert statuses(parts, tmp_path) == [status]
