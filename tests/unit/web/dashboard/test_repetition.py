"""The test that a page makes of a run repeats the run: it is run here."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from pulse import PulseMiddleware, Task
from pulse.testing import travel
from pulse.web.dashboard.repetition import repetition_of as text_of

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

TASKS = {
    "interval": Task(action="/a", interval="7m"),
    "started": Task(action="/b", interval="7m", start="2026-01-05T12:03:00Z"),
    "cron": Task(action="/c", cron="*/9 * * * *", timezone="Europe/Berlin"),
    "calendar": Task(action="/d", every="1 day"),
    "jittered": Task(action="/e", interval="7m", jitter="30s"),
    'odd """\\ name': Task(action="/f", interval="7m"),
}


class Site:
    """Records the fire times and bodies of its requests, and fails while it is broken."""

    def __init__(self) -> None:
        self.is_broken = True
        self.seen: list[tuple[str, str, bytes]] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Take note of a request, and answer it."""
        body = environ["wsgi.input"].read()
        path, at = environ["PATH_INFO"], environ["HTTP_X_PULSE_FIRE_TIME"]
        self.seen.append((path, at, body))
        start_response("500 Oh" if self.is_broken else "200 OK", [("Content-Type", "text/plain")])
        return [b"done"]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("body", [None, b"by hand"])
def test_made_test_repeats_the_request_at_its_fire_time(
    name: str, body: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails while the fault is there, and passes once it is mended."""
    site = Site()
    with travel(PulseMiddleware(site, tasks=TASKS)) as clock:
        clock.forward(days=1, hours=1)
        if body is not None:
            clock.trigger(name, body=body)
        run = clock.scheduler.runs(task=name, limit=1)[0]
        shown = None if body is None else body.decode()
        text = text_of(run, clock.scheduler.task(name), body=shown)
    wanted = [one for one in site.seen if one[0] == TASKS[name].action][-1]
    module = ModuleType("my_site")
    monkeypatch.setitem(sys.modules, "my_site", module)
    for is_broken in (True, False):
        module.app = PulseMiddleware(site, tasks=TASKS)  # type: ignore[attr-defined] # that is how
        site.is_broken, site.seen = is_broken, []
        names: dict[str, object] = {}
        exec(compile(text, "made", "exec"), names)  # noqa: S102 - that is the point
        made = names[f"test_run_{run.id[:8]}"]
        assert callable(made)
        if is_broken:
            with pytest.raises(AssertionError):
                made()
        else:
            made()
        assert wanted in site.seen


def test_task_that_is_gone_has_a_test_without_its_schedule() -> None:
    """The run is triggered at its fire time."""
    with travel(PulseMiddleware(Site(), tasks=TASKS)) as clock:
        clock.forward(minutes=8)
        run = clock.scheduler.runs(task="interval", limit=1)[0]
    text = text_of(run, None, body=None)
    compile(text, "made", "exec")
    assert "clock.trigger('interval')" in text
