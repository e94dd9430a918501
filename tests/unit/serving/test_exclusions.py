"""Which requests show that a process serves."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from pulse.serving.exclusions import is_server_request


def test_an_ordinary_request_is_a_servers() -> None:
    """A request without any special mark comes from a server."""
    assert is_server_request({"PATH_INFO": "/"}) is True


@pytest.mark.parametrize("mark", ["paste.testing", "paste.command_request"])
def test_a_marked_request_is_not_a_servers(mark: str) -> None:
    """Test clients and Pyramid's `prequest` mark their requests."""
    assert is_server_request({mark: True}) is False


@pytest.mark.parametrize(("worker", "expected"), [(0, False), (3, True)], ids=["master", "worker"])
def test_only_a_request_in_a_uwsgi_worker_is_a_servers(
    worker: int,
    expected: bool,  # noqa: FBT001 - a parameter of pytest's
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In uWSGI's master and mules the application itself makes the request."""
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(worker_id=lambda: worker))

    assert is_server_request({}) is expected


@pytest.mark.parametrize("module", ["celery.app.trace", "webtest", "werkzeug.test"])
def test_a_request_by_client_code_is_not_a_servers(module: str) -> None:
    """A module on the call stack shows which code makes the request."""
    code = "answer = is_server_request({})"
    scope = {"__name__": module, "is_server_request": is_server_request}
    exec(code, scope)  # noqa: S102 - code that belongs to another module, by name

    assert scope["answer"] is False
