"""The hooks for gunicorn.conf.py, called as gunicorn calls them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pulse import gunicorn
from pulse.serving.gunicorn import GunicornWorker
from pulse.serving.process_registry import ProcessRegistry
from tests.support.member import RecordingMember


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> RecordingMember:
    """The only member on the roll."""
    roll, member = ProcessRegistry(), RecordingMember()
    roll.add(member)
    monkeypatch.setattr(gunicorn, "REGISTRY", roll)
    return member


def test_post_worker_init_begins_once(listed: RecordingMember) -> None:
    """It begins what has not begun, in the worker that is passed."""
    worker = SimpleNamespace(pid=os.getpid())

    gunicorn.post_worker_init(worker)
    gunicorn.post_worker_init(worker)

    assert listed.told == ["belong", "begin"]
    assert isinstance(listed.host, GunicornWorker)


@pytest.mark.parametrize("hook", [gunicorn.worker_int, gunicorn.worker_abort])
def test_a_worker_that_is_stopped_at_once_goes_quiet(hook: object, listed: RecordingMember) -> None:
    """INT, QUIT and ABRT stop all claims."""
    hook(SimpleNamespace(pid=os.getpid()))

    assert listed.told == ["quiet"]


@pytest.mark.parametrize(
    ("pid", "told"), [(os.getpid(), ["quiet", "end"]), (1, [])], ids=["worker", "master"]
)
def test_worker_exit_ends_only_its_own_process(
    pid: int, told: list[str], listed: RecordingMember
) -> None:
    """The master calls the hook too, for a worker that vanished, and ends nothing of its own."""
    gunicorn.worker_exit(object(), SimpleNamespace(pid=pid))

    assert listed.told == told
