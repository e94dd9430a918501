"""Requests that do not show that a process serves."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pulse.serving.exclusions import serves_nobody


def test_an_ordinary_request_shows_a_server() -> None:
    """A request with nothing special about it comes from a server."""
    assert serves_nobody({"PATH_INFO": "/"}) is False


@pytest.mark.parametrize("mark", ["paste.testing", "paste.command_request"])
def test_a_marked_request_does_not(mark: str) -> None:
    """Test clients and Pyramid's `prequest` mark their requests."""
    assert serves_nobody({mark: True}) is True


@pytest.mark.parametrize(("worker", "expected"), [(0, True), (3, False)], ids=["master", "worker"])
def test_uwsgis_master_serves_nobody(
    worker: int,
    expected: bool,  # noqa: FBT001 - a parameter of pytest's
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request in uWSGI's master, or in a mule, is the application's own."""
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=lambda: worker))

    assert serves_nobody({}) is expected


@pytest.mark.parametrize("module", ["celery.app.trace", "webtest", "werkzeug.test"])
def test_a_request_from_elsewhere_does_not(module: str) -> None:
    """What counts is whose code is calling."""
    code = "answer = serves_nobody({})"
    scope = {"__name__": module, "serves_nobody": serves_nobody}
    exec(code, scope)  # noqa: S102 - code that belongs to another module, by name

    assert scope["answer"] is True
