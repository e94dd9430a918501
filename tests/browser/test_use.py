"""What somebody does with the dashboard in a real browser, with and without script."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from pulse import PulseMiddleware, Task
from pulse.core.access import Access
from pulse.testing import travel
from tests.browser.conftest import dashboard_site
from tests.support.hostile_texts import CORPUS, UNPRINTABLE
from tests.unit.web.dashboard.test_pages import hostile_paths

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from playwright.sync_api import Page, Request

    from tests.browser.conftest import Site, Watched

pytestmark = pytest.mark.server

FAST_MS, SLOW_MS = 3_000, 60_000


@pytest.mark.parametrize("script", [True, False])
def test_every_action_works(script: bool, shop: Site, open_page: Callable[..., Watched]) -> None:  # noqa: FBT001 - drawn
    """By links and forms alone; each asks first and says what follows."""
    page = open_page(java_script_enabled=script).page
    handle = shop.clock.scheduler

    page.goto(shop.url)
    page.click("tr[data-task=report] >> text=Run…")
    assert "It runs in addition to the schedule" in page.inner_text(".consequence")
    page.check("[name=with_body]")
    page.fill("#body", "for the auditor")
    page.click("button.primary")
    assert "The run was made" in page.inner_text(".banner.done")
    run = handle.runs(task="report", limit=1)[0]
    assert (run.body, run.trigger) == (b"for the auditor", "manual")

    page.click("text=Stop…")
    page.fill("#note", "wrong month")
    page.click("button.primary")
    stopped = handle.run(run.id)
    assert stopped is not None
    assert stopped.outcome == "interrupted"

    page.goto(f"{shop.url}task?name=report")
    page.click("text=Pause…")
    page.fill("#note", "release 7")
    page.fill("#until", "2026-04-02T08:00")
    page.click("button.primary")
    assert "until 2026-04-02 08:00:00 CEST by anna: release 7" in page.inner_text("#facts")
    page.click("text=Resume…")
    page.click("button.primary")
    assert handle.task("report").pause is None

    page.goto(f"{shop.url}?q=c&sort=name")
    page.click("summary")
    page.click(".bulk >> text='Pause …'")
    assert "3 tasks" in page.inner_text("h1")
    page.click("button.primary")
    assert "Pause: asked for 3 tasks." in page.inner_text(".banner.done")
    assert handle.task("charge").pause is not None
    assert page.input_value("#q") == "c"

    page.click("summary")
    page.click(".bulk >> text='Pause all tasks …'")
    page.click("button.primary")
    assert "All tasks are paused" in page.inner_text("#banners")
    page.click("text=Resume all…")
    page.click("button.primary")
    assert handle.pause_of_all() is None
    assert [entry.by for entry in handle.audit(limit=8)] == ["anna"] * 8


def test_pages_are_read_without_script(shop: Site, open_page: Callable[..., Watched]) -> None:
    """Filters, zones and details too."""
    page = open_page(java_script_enabled=False).page
    page.goto(shop.url)
    page.fill("#q", "charge")
    page.click("form[role=search] button")
    assert page.locator("tbody tr").count() == 1
    page.select_option("#zone", "UTC")
    page.click("form.zone button")
    assert "zone=UTC" in page.url
    assert page.input_value("#q") == "charge"
    page.click("td[data-label='Last run'] a")
    assert "the payment provider refused the card" in page.inner_text("#output")


def test_keys_choose_open_and_ask(shop: Site, open_page: Callable[..., Watched]) -> None:
    """And none of them does anything while somebody types."""
    page = open_page().page
    page.goto(f"{shop.url}?sort=name")
    page.keyboard.press("/")
    page.keyboard.type("jrpt?")
    assert page.input_value("#q") == "jrpt?"
    page.goto(f"{shop.url}?sort=name")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.locator("tr.selected").get_attribute("data-task") == "charge"
    page.keyboard.press("Enter")
    page.wait_for_url("**/task?name=charge")
    page.keyboard.press("r")
    page.wait_for_url("**/confirm?verb=run&name=charge")
    assert "Run now: charge?" in page.inner_text("h1")
    page.go_back()
    page.keyboard.press("p")
    page.wait_for_url("**/confirm?verb=pause&name=charge")
    page.go_back()
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()
    page.keyboard.press("t")
    page.wait_for_url("**/timeline")


def test_reader_has_no_keys_that_act(shop: Site, open_page: Callable[..., Watched]) -> None:
    """Nor does the page offer them."""
    with dashboard_site(shop.clock, access=Access("read", "bob")) as site:
        page = open_page().page
        page.goto(site.url)
        page.keyboard.press("j")
        page.keyboard.press("r")
        page.keyboard.press("p")
        page.keyboard.press("?")
        assert page.url == site.url
        assert "pause" not in page.inner_text("#keys")


def polling(page: Page, url: str) -> None:
    """Open a page whose timers do not move until the test moves them."""
    page.clock.install()
    page.goto(url)


def test_page_changes_while_it_is_looked_at(shop: Site, open_page: Callable[..., Watched]) -> None:
    """Without a new load: the marked element is still there."""
    page = open_page().page
    polling(page, f"{shop.url}task?name=cleanup")
    page.evaluate("document.querySelector('.brand').dataset.kept = 'yes'")
    before = page.text_content("#history tbody tr") or ""
    shop.clock.forward(minutes=5)
    with page.expect_response(lambda answer: answer.status == 200):
        page.clock.run_for(FAST_MS)
    expect(page.locator("#history tbody tr").first).not_to_have_text(before)
    assert page.get_attribute(".brand", "data-kept") == "yes"
    with page.expect_response(lambda answer: answer.status == 304):
        page.clock.run_for(FAST_MS)


def test_poll_leaves_alone_what_somebody_uses(
    shop: Site, open_page: Callable[..., Watched]
) -> None:
    """A field with the focus, an open detail, a selection; the rest is replaced."""
    page = open_page().page
    polling(page, shop.url)
    page.click("summary")
    page.fill("#q", "half a wo")
    newest = page.locator("#rows tbody time").first
    first = newest.get_attribute("datetime") or ""
    page.evaluate(
        "document.getSelection().selectAllChildren(document.querySelector('#rows tbody td'))"
    )
    page.focus("#q")
    for _ in range(2):
        shop.clock.forward(minutes=10)
        with page.expect_response(lambda answer: answer.status == 200):
            page.clock.run_for(FAST_MS)
    expect(page.locator("#clock")).to_contain_text("12:20:00")
    assert page.input_value("#q") == "half a wo"
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.locator("details[open]").count() == 1
    expect(newest).to_have_attribute("datetime", first)
    page.evaluate("document.getSelection().removeAllRanges()")
    with page.expect_response(lambda answer: answer.status == 200):
        page.clock.run_for(FAST_MS)
    expect(newest).not_to_have_attribute("datetime", first)


def test_pause_of_the_page_stays_on_the_next_page(
    shop: Site, open_page: Callable[..., Watched]
) -> None:
    """Paused means paused: nothing is asked for."""
    page = open_page().page
    polling(page, shop.url)
    page.click("#live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    page.clock.run_for(2 * SLOW_MS)
    assert asked == []
    page.click("header nav >> text=Runs")
    assert page.inner_text("#live") == "Paused"
    asked.clear()
    page.clock.run_for(2 * SLOW_MS)
    assert "fetch" not in asked
    with page.expect_response(lambda answer: answer.status == 200):
        page.click("#live")
    assert page.get_attribute("#live", "aria-pressed") == "true"


def test_page_that_nobody_touches_asks_once_a_minute(
    shop: Site, open_page: Callable[..., Watched]
) -> None:
    """After a minute of each three seconds."""
    page = open_page().page
    polling(page, shop.url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.resource_type))
    for _ in range(20):
        with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
            page.clock.run_for(FAST_MS)
    asked.clear()
    page.clock.run_for(SLOW_MS - FAST_MS)
    assert asked == []
    with page.expect_response(lambda answer: answer.request.resource_type == "fetch"):
        page.clock.run_for(2 * FAST_MS)
    assert asked == ["fetch"]


def test_next_run_counts_down_by_the_clock_of_the_server(
    shop: Site, open_page: Callable[..., Watched]
) -> None:
    """The browser's clock is another one: it stands in another year."""
    page = open_page().page
    polling(page, f"{shop.url}?q=cleanup")
    page.click("#live")  # each poll would bring the clock of the site, which does not move
    ago = page.locator("td[data-label='Next run'] .ago")
    expect(ago).to_have_text("in 4 min")
    page.clock.run_for(70_000)
    expect(ago).to_have_text("in 3 min")


def test_icon_turns_red_where_something_is_wrong(open_page: Callable[..., Watched]) -> None:
    """And green again, without a new load."""
    broken = [False]

    def site(_environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response("503 Busy" if broken[0] else "200 OK", [("Content-Type", "text/plain")])
        return [b""]

    tasks = {"work": Task(action="/ok", interval=60)}
    with travel(PulseMiddleware(site, tasks=tasks)) as clock, dashboard_site(clock) as found:
        page = open_page().page
        clock.forward(minutes=1)
        polling(page, found.url)
        assert "fine" in str(page.get_attribute("#icon", "href"))
        broken[0] = True
        clock.forward(minutes=3)
        page.clock.run_for(FAST_MS)
        expect(page.locator("#icon")).to_have_attribute("href", re.compile("wrong"))
        assert "1 of 1 task needs a look." in page.inner_text("#headline")


def test_zone_of_the_browser_is_offered(shop: Site, open_page: Callable[..., Watched]) -> None:
    """And stays on the pages after it."""
    page = open_page(timezone_id="Australia/Adelaide").page
    page.goto(shop.url)
    page.select_option("#zone", "Australia/Adelaide")
    page.click("form.zone button")
    assert "ACDT" in page.inner_text("#clock")
    page.click("header nav >> text=Audit")
    assert "zone=Australia%2FAdelaide" in page.url
    assert "ACDT" in page.inner_text("#entries")


def test_text_is_copied(shop: Site, open_page: Callable[..., Watched]) -> None:
    """The test that repeats a run."""
    page = open_page(permissions=["clipboard-read", "clipboard-write"]).page
    run = shop.clock.scheduler.runs(task="charge", outcomes=["failed"], limit=1)[0]
    page.goto(f"{shop.url}run?id={run.id}")
    page.click("text=Copy the test")
    page.wait_for_selector("text=Copied")
    assert f"def test_run_{run.id[:8]}()" in page.evaluate("navigator.clipboard.readText()")


def test_hostile_text_does_nothing_in_a_browser(open_page: Callable[..., Watched]) -> None:
    """No dialog, no error, no request elsewhere, on any page."""
    watched = open_page()
    page, bases, elsewhere = watched.page, list[str](), list[str]()

    def note(request: Request) -> None:
        if not request.url.startswith(tuple(bases)):
            elsewhere.append(request.url)

    page.on("request", note)
    for text in [*CORPUS, *UNPRINTABLE[:3]]:
        tasks = {
            (name := text.strip() if text.isprintable() else "plain"): Task(
                action="/echo", interval=60
            ),
            "fail": Task(action="/fail", interval=60),
        }
        with travel(PulseMiddleware(Echo(text), tasks=tasks)) as clock:
            clock.forward(minutes=3)
            clock.scheduler.pause(name, note=text[:200], by=text[:200])
            access = Access("act", text[:200])
            with dashboard_site(clock, access=access, name=text) as found:
                bases.append(found.url)
                for path in hostile_paths(clock, text, name):
                    page.goto(found.url + path.removeprefix("/"))
    problems = [one for one in watched.problems if "status of 40" not in one]
    watched.problems.clear()  # pages that are not found are no problem here
    assert (elsewhere, problems) == ([], [])


class Echo:
    """A site that answers with a text, or fails with it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/fail":
            raise RuntimeError(self._text)
        start_response("200 OK", [("Content-Type", "text/html")])
        return [self._text.encode()]
