"""A site in virtual time whose tasks succeed, fail, are retried, overlap, and are paused."""

from __future__ import annotations

import re
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pulse import PulseMiddleware, Task
from pulse.core.access import Access
from pulse.testing import travel
from pulse.web.dashboard.application import PAGES, PulseDashboard
from tests.support.web_calls import WebAnswer, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.testing.time_travel import TimeTravel

ODD = "a/b.c%d é"
START = "2026-03-28T10:00:00Z"
"""The day before the clocks of Berlin change."""

SAME_SITE = {"sec_fetch_site": "same-origin"}
VOID = {"meta", "link", "input", "br"}


def site(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answer, or fail."""
    if environ["PATH_INFO"] == "/fail":
        raise RuntimeError("the payment provider refused the card")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"expired 3 sessions\n", environ["wsgi.input"].read()]


def tasks() -> dict[str, Task]:
    """Return the tasks of the site."""
    return {
        "cleanup": Task(action="/cleanup", interval="5m"),
        "charge": Task(action="/fail", interval="10m", retries=1),
        "export": Task(action="/export", interval="4m", overlap="skip", timeout="10m"),
        "report": Task(action="/report", cron="0 7 * * *", timezone="Europe/Berlin", jitter="5s"),
        ODD: Task(action="/odd", every="1 week", timezone="Asia/Kolkata"),
    }


@contextmanager
def travelling(**words: Any) -> Iterator[TimeTravel]:
    """Run the site for two hours; a task is paused, and one was triggered."""
    with travel(
        PulseMiddleware(site, tasks=tasks(), **words), start=START, took={"export": "5m"}
    ) as clock:
        clock.forward(hours=1)
        clock.scheduler.pause(ODD, note="moving house", by="anna")
        clock.trigger("cleanup", body=b"all of them")
        clock.forward(hours=1)
        yield clock


def dashboard_of(
    clock: TimeTravel, *, access: object = Access("act", "anna"), **words: Any
) -> PulseDashboard:
    """Return the dashboard of a site."""
    return PulseDashboard(access=access, handle=clock.scheduler, **words)


def paths_of(clock: TimeTravel) -> list[str]:
    """Return a path of each page, several for those with several faces."""
    runs = {run.outcome or "pending": run.id for run in clock.scheduler.runs(limit=500)}
    paths = [
        *(
            "/",
            "/?q=c&sort=name",
            "/?q=nothing",
            "/?state=failing",
            "/runs",
            "/runs?outcome=failed",
        ),
        *(
            "/timeline",
            "/timeline?span=1h&zone=Asia%2FTokyo",
            "/fleet",
            "/audit",
            "/ledger",
            "/why",
        ),
        *(f"/task?{urlencode({'name': name})}" for name in tasks()),
        *(f"/run?id={ident}" for ident in runs.values()),
        *("/ledger?name=cleanup", "/why?name=cleanup&at=2026-03-28T11%3A00"),
        *("/confirm?verb=run&name=cleanup", "/confirm?verb=pause&q=c", "/confirm?verb=resume_all"),
        f"/confirm?verb=stop&id={runs['succeeded']}",
    ]
    assert {path.partition("?")[0].removeprefix("/") for path in paths} == set(PAGES)
    return paths


def send_form(app: WSGIApplication, fields: dict[str, Any], **headers: str | None) -> WebAnswer:
    """Send a form."""
    return ask(
        app,
        "/act",
        method="POST",
        body=urlencode(fields, doseq=True).encode(),
        **({"content_type": "application/x-www-form-urlencoded"} | SAME_SITE | headers),
    )


class Markup(HTMLParser):
    """The elements of a page, with their attributes; a tag that is not closed is an error."""

    def __init__(self, answer: WebAnswer) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(answer.body.decode())
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take note of an element without content."""
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Check that the element is the one that is open."""
        assert self._open.pop() == tag
        if tag in {"dt", "dd", "td", "th", "p", "li", "h1", "h2", "option"}:
            self.text += " "

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        self.text += data

    def words(self) -> str:
        """Return the text with single blanks."""
        return re.sub(r"\s+", " ", self.text)
