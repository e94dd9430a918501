"""The pages of the dashboard: what they show, for whom, and that nothing else gets in."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec
import pytest

from pulse import PulseMiddleware, Task
from pulse.core.access import Access, Level
from pulse.core.policies import Output
from pulse.errors import StoreUnavailableError
from pulse.testing import travel
from pulse.web.dashboard.application import PAGE_POLICY, PAGES, ROUTES, PulseDashboard
from pulse.web.dashboard.assets import assets
from pulse.web.documents import ShownOutput
from pulse.web.responses import SECURE_HEADERS
from tests.support.dashboard_site import (
    ODD,
    SAME_SITE,
    Markup,
    dashboard_of,
    paths_of,
    site,
    travelling,
)
from tests.support.hostile_texts import CORPUS
from tests.support.web_calls import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.handle.health import Overview
    from pulse.testing.time_travel import TimeTravel


@pytest.fixture(scope="module")
def clock() -> Iterator[TimeTravel]:
    """Return a site in virtual time; the tests of this module change nothing."""
    with travelling() as clock:
        yield clock


def page(clock: TimeTravel, path: str, *, level: str = "act") -> Markup:
    """Return a page that is found."""
    answer = ask(dashboard_of(clock, access=Access(level, "anna")), path)
    assert answer.status == 200, answer.body.decode()
    return Markup(answer)


@pytest.mark.parametrize("level", list(Level))
@pytest.mark.parametrize("route", ROUTES, ids=lambda one: f"{one[0]} {one[1]}")
def test_each_route_needs_its_right(
    route: tuple[str, str, Level], level: Level, clock: TimeTravel
) -> None:
    """The right is checked before the rest of the request is looked at."""
    method, path, needed = route
    if path == "static":
        path = assets().paths["pulse.css"]
    app = dashboard_of(clock, access=Access(level), challenges=["Basic"])
    answer = ask(app, f"/{path}?unknown=1", method=method, **SAME_SITE)
    if level.covers(needed):
        assert answer.status in {200, 400, 415}
    else:
        assert answer.status == (401 if level is Level.NONE else 403)
        assert ("WWW-Authenticate" in answer.headers) == (level is Level.NONE)


def test_every_page_is_well_formed_and_loads_nothing_but_its_own_files(clock: TimeTravel) -> None:
    """No inline script or style, no handler attribute, and relative links alone."""
    for path in paths_of(clock):
        answer = ask(dashboard_of(clock), path)
        assert answer.status == 200, path
        assert set(SECURE_HEADERS) <= set(answer.headers.items())
        assert answer.headers["Content-Security-Policy"] == PAGE_POLICY
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        for tag, attributes in Markup(answer).elements:
            assert not {"style", "srcdoc"} & attributes.keys(), path
            assert not any(name.startswith("on") for name in attributes), path
            assert tag != "style", path
            assert tag != "script" or "src" in attributes, path
            for name in {"href", "src", "action", "data-href"} & attributes.keys():
                link = urlsplit(attributes[name])
                assert not link.scheme, path
                assert not link.netloc, path
                assert not link.path.startswith("/"), path


def test_every_link_leads_to_a_page(clock: TimeTravel) -> None:
    """Also those to tasks with odd names."""
    app, found = dashboard_of(clock), set()
    for path in paths_of(clock):
        for tag, attributes in Markup(ask(app, path)).elements:
            if tag == "a" and not attributes["href"].startswith("#"):
                found.add("/" + attributes["href"].removeprefix("./"))
    assert len(found) > 100
    for link in sorted(found)[::7]:
        assert ask(app, link).status == 200, link


def test_identifiers_of_a_page_are_unique(clock: TimeTravel) -> None:
    """Regions that are replaced are found by them."""
    for path in paths_of(clock):
        elements = Markup(ask(dashboard_of(clock), path)).elements
        ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
        assert len(ids) == len(set(ids)), path
        for _, attributes in elements:
            assert "data-live" not in attributes or attributes.get("id"), path


def test_first_line_says_what_is_wrong_worst_first(clock: TimeTravel) -> None:
    """A task that fails again and again, with its link."""
    words = page(clock, "/").words()
    assert "1 of 5 tasks needs a look." in words
    assert "failing charge has not succeeded: 11 times in a row, last failed" in words


def test_first_line_says_that_all_is_well_and_what_is_next() -> None:
    """And when."""
    tasks = {name: Task(action="/ok", interval="3m") for name in ("a", "b")}
    with travel(PulseMiddleware(site, tasks=tasks)) as clock:
        clock.forward(minutes=4)
        assert "All 2 tasks on time. Next: a in 2 min." in page(clock, "/").words()


def test_site_without_tasks_shows_how_to_add_one() -> None:
    """Three lines to copy."""
    with travel(PulseMiddleware(site, tasks={})) as clock:
        words = page(clock, "/").words()
        assert "No tasks yet." in words
        assert "pulse.task.cleanup.interval = 300" in words


def test_filter_that_hides_all_can_be_cleared(clock: TimeTravel) -> None:
    """It is not said that there are no tasks."""
    found = page(clock, "/?q=nothing&state=paused")
    assert "No task has “nothing” in its name and is paused. Show all 5" in found.words()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sort=name", [ODD, "charge", "cleanup", "export", "report"]),
        ("sort=attention", ["charge", "export", ODD, "cleanup", "report"]),
        ("sort=failures", ["charge", ODD, "cleanup", "export", "report"]),
        ("q=R&sort=name", ["charge", "export", "report"]),
        ("state=paused", [ODD]),
        ("state=failing", ["charge"]),
    ],
)
def test_tasks_are_filtered_and_sorted_by_the_address(
    query: str, names: list[str], clock: TimeTravel
) -> None:
    """So that a page can be kept as a bookmark."""
    rows = [one for tag, one in page(clock, f"/?{query}").elements if tag == "tr"]
    assert [row["data-task"] for row in rows if "data-task" in row] == names


def test_schedule_is_shown_in_words_beside_the_raw_one_and_its_zone(clock: TimeTravel) -> None:
    """Each in its own zone."""
    words = page(clock, "/?q=report").words()
    assert "At 07:00 every day cron = 0 7 * * * Europe/Berlin" in words
    assert "2026-03-29 07:00:00 CEST" in words


def test_chosen_zone_is_kept_in_every_link(clock: TimeTravel) -> None:
    """And in the forms."""
    found = page(clock, "/?zone=Asia%2FTokyo")
    assert "2026-03-29 14:00:00 JST" in found.words()
    for tag, attributes in found.elements:
        if tag == "a" and "skip" not in attributes.get("class", ""):
            assert "zone=Asia%2FTokyo" in attributes["href"]
    hidden = [one for tag, one in found.elements if one.get("name") == "zone" and tag == "input"]
    assert [one["value"] for one in hidden] == ["Asia/Tokyo"]


def test_task_page_lists_next_fire_times_with_the_clock_change_between(clock: TimeTravel) -> None:
    """The clocks of Berlin change in the night before the first one."""
    words = page(clock, "/task?name=report").words()
    assert "the clocks of Europe/Berlin go forward by 1 hour, from +01:00 to +02:00" in words
    assert words.count("07:00:00 CEST") >= 10
    assert "Each is delayed by up to 5s." in words


def test_task_page_shows_settings_audit_and_history(clock: TimeTravel) -> None:
    """With the run that was triggered."""
    words = page(clock, "/task?name=cleanup").words()
    assert "action /cleanup" in words
    assert "ago trigger" in words
    assert "manual" in words


def test_history_is_filtered_and_paged(clock: TimeTravel) -> None:
    """By a cursor; what the filter leaves out is not on the page."""
    found = page(clock, "/task?name=charge&outcome=failed")
    states = [
        one["class"]
        for tag, one in found.elements
        if tag == "span" and "state " in one.get("class", "")
    ]
    assert set(states) == {"state failed"}


def test_run_page_shows_attempts_output_reason_and_a_test(clock: TimeTravel) -> None:
    """Of a run that has failed twice."""
    run = clock.scheduler.runs(task="charge", outcomes=["failed"], limit=1)[0]
    words = page(clock, f"/run?id={run.id}").words()
    assert "Earlier attempts" in words
    assert "RuntimeError: the payment provider refused the card" in words
    assert f"def test_run_{run.id[:8]}():" in words


def test_reader_sees_no_forms_and_no_links_to_them(clock: TimeTravel) -> None:
    """What somebody may not do is not offered."""
    for path in paths_of(clock):
        if path.startswith("/confirm"):
            continue
        for _, attributes in page(clock, path, level="read").elements:
            assert "confirm" not in attributes.get("href", ""), path
            assert attributes.get("method", "get") in {"get", "dialog"}


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/task?name=chrge", 404, "did you mean 'charge'?"),
        ("/task", 400, "object missing required field"),
        ("/run?id=nothing", 404, "expected the id of a run that is kept, got 'nothing'"),
        ("/?page=0", 400, "page: expected `int` >= 1, got '0'"),
        ("/?page=100000", 400, "page: expected `int` <= 1000"),
        ("/?sort=x", 400, "sort: expected one of attention, name, next, last, failures, got 'x'"),
        ("/?colour=red", 400, "colour: expected one of"),
        ("/?q=a&q=b", 400, "q: expected one value, got several"),
        ("/?q=%ff", 400, "query: expected parameters in UTF-8"),
        (f"/?q={'x' * 101}", 400, "q: expected `str` of length <= 100"),
        ("/?zone=Mars%2FOlympus", 400, "zone: expected task, UTC or a name such as Europe/Berlin"),
        ("/?zone=..%2Fetc", 400, "zone: expected task, UTC or a name"),
        ("/why?name=cleanup&at=yesterday", 400, "at: expected a time such as 2026-11-28T03:00"),
        ("/confirm?verb=run&q=nothing", 400, "expected a filter that selects 1 to 50 tasks, got 0"),
        ("/nothing", 404, "expected a page of the dashboard, got 'nothing'"),
        ("/static/../application.py", 404, "expected a page of the dashboard"),
        ("/%ff", 404, "expected a path in UTF-8"),
    ],
)
def test_wrong_address_is_answered_by_a_page_that_says_what_was_expected(
    path: str, status: int, words: str, clock: TimeTravel
) -> None:
    """It has the style of the others where the folder is known."""
    answer = ask(dashboard_of(clock), path)
    assert answer.status == status
    found = Markup(answer)
    assert words.lower() in found.words().lower()
    styles = [one["href"] for tag, one in found.elements if one.get("rel") == "stylesheet"]
    is_inside = path.partition("?")[0].count("/") == 1
    assert styles == ([assets().paths["pulse.css"]] if is_inside else [])


def test_address_without_a_slash_leads_into_the_folder(clock: TimeTravel) -> None:
    """By a relative link, so that it is right behind a proxy that strips a prefix."""

    def mounted(environ, start_response):  # noqa: ANN001, ANN202 - as PEP 3333 has it
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/x/my pulse", ""
        return dashboard_of(clock)(environ, start_response)

    answer = ask(mounted, "/x/my%20pulse")
    assert (answer.status, answer.headers["Location"]) == (308, "my%20pulse/")


def test_page_that_has_not_changed_is_not_sent_again(clock: TimeTravel) -> None:
    """For the same viewer; another one gets his own."""
    app = dashboard_of(clock)
    for path in paths_of(clock):
        if path.startswith("/confirm"):
            continue
        etag = ask(app, path).headers["ETag"]
        again = ask(app, path, if_none_match=etag)
        assert (again.status, again.body) == (304, b""), path
        other = ask(dashboard_of(clock, access=Access("read", "bob")), path, if_none_match=etag)
        assert other.status == 200, path


def test_page_is_sent_again_after_a_change() -> None:
    """By an action here at once, by others within a second."""
    with travelling() as clock:
        app = dashboard_of(clock)
        etag = ask(app, "/").headers["ETag"]
        clock.forward(minutes=5)
        app = dashboard_of(clock)
        assert ask(app, "/", if_none_match=etag).status == 200


class Away:
    """A handle of a store that answers until it is away."""

    def __init__(self, clock: TimeTravel) -> None:
        self.is_away = False
        self._handle = clock.scheduler

    def __getattr__(self, name: str) -> object:
        if self.is_away:

            def refuse(**_: object) -> Overview:
                raise StoreUnavailableError("db.example.org: connection refused")

            return refuse
        return getattr(self._handle, name)


def test_pages_show_the_last_copy_with_its_age_while_the_store_is_away(
    clock: TimeTravel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that was never read is an error that says so, and when to ask again."""
    handle = Away(clock)
    app = PulseDashboard(access=True, handle=handle)  # type: ignore[arg-type] # what is used of it
    assert ask(app, "/").status == 200
    monkeypatch.setattr("pulse.web.dashboard.reader.FRESH", 0)
    handle.is_away = True
    found = ask(app, "/")
    assert found.status == 200
    assert (
        "The store does not answer. This is what it held at 2026-03-28 12:00:00 UTC now."
        in Markup(found).words()
    )
    assert "charge" in Markup(found).words()
    never = ask(app, "/runs")
    assert (never.status, never.headers["Retry-After"]) == (503, "2")
    assert "connection refused" in Markup(never).words()


@pytest.mark.parametrize("text", CORPUS)
def test_hostile_text_is_text_on_every_page(text: str) -> None:
    """As a task name, body, answer, error, note, user, search, and application name."""

    def echo(environ, start_response):  # noqa: ANN001, ANN202 - as PEP 3333 has it
        if environ["PATH_INFO"] == "/fail":
            raise RuntimeError(text)
        start_response("200 OK", [("Content-Type", "text/html")])
        return [environ["wsgi.input"].read()]

    name = text.strip() if text.isprintable() else "plain"
    tasks = {
        name: Task(action="/echo", interval=60, method="POST", body=text),
        "fail": Task(action="/fail", interval=60),
    }
    with travel(PulseMiddleware(echo, tasks=tasks)) as clock:
        clock.forward(minutes=3)
        clock.scheduler.pause(name, note=text[:200], by=text[:200])
        app = dashboard_of(clock, access=Access("act", text[:200]), name=text)
        known = None
        for path in hostile_paths(clock, text, name):
            answer = ask(app, path)
            assert answer.status in {200, 400, 404}, path
            tags = {tag for tag, _ in Markup(answer).elements}
            assert tags <= KNOWN_TAGS, path
            known = answer
        assert known is not None


KNOWN_TAGS = {
    *("html", "head", "meta", "title", "link", "script", "body", "header", "nav", "main", "footer"),
    *("a", "b", "br", "button", "code", "dd", "details", "dialog", "div", "dl", "dt", "figcaption"),
    *("figure", "form", "h1", "h2", "input", "kbd", "label", "li", "meter", "ol", "option", "p"),
    *("caption", "pre", "section", "select", "small", "span", "summary", "table", "tbody", "td"),
    *("noscript", "path", "svg", "text", "textarea", "th", "thead", "time", "tr", "ul"),
}
"""The elements of which pages consist."""


def hostile_paths(clock: TimeTravel, text: str, name: str) -> list[str]:
    """Return a path of each page, with the text in each parameter that takes one."""
    sent, task = quote(text[:100]), quote(name)
    runs = [f"/run?id={run.id}" for run in clock.scheduler.runs(limit=4)]
    return [
        *(f"/?q={sent}", "/", "/runs", "/timeline", f"/timeline?q={sent}", "/fleet", "/audit"),
        *(f"/task?name={task}", "/task?name=fail", *runs, f"/run?id={sent}"),
        *(f"/ledger?name={task}", f"/why?name={task}&at={sent[:30]}", f"/task?name={sent}"),
        *(f"/confirm?verb=pause&name={task}", f"/confirm?verb=run&name={task}"),
        *(
            f"/?zone={sent[:60]}",
            f"/?done={sent}",
            f"/{quote(text[:100], safe='')}",
            "/why",
            "/ledger",
        ),
    ]


def test_no_template_and_no_script_can_make_markup_of_text() -> None:
    """Escaping has no way around it, and the script builds no elements of text."""
    package = files("pulse.web.dashboard")
    for template in (package / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", text), template.name
        assert not re.search(r"=\{\{", text), f"{template.name}: an attribute without quotes"
    script = assets().texts["pulse.js"]
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", script
    )


def test_files_are_kept_for_ever_under_a_name_of_their_content(clock: TimeTravel) -> None:
    """For everybody: there is nothing in them."""
    app = dashboard_of(clock, access=False)
    for name, path in assets().paths.items():
        answer = ask(app, f"/{path}")
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.body.decode() == assets().texts[name]


def test_pages_have_titles(clock: TimeTravel) -> None:
    """With the name of the application."""
    for path in paths_of(clock):
        body = ask(dashboard_of(clock, name="shop"), path).body.decode()
        assert re.search(r"<title>[^<]+ · shop</title>", body), path
    assert set(PAGES) >= {"", "task", "run"}


def test_body_of_a_manual_trigger_is_for_those_who_may_act(clock: TimeTravel) -> None:
    """As far as the settings show what runs have answered."""
    run = clock.scheduler.runs(task="cleanup", trigger="manual", limit=1)[0]
    path = f"/run?id={run.id}"

    def shows(level: str, output: Output) -> bool:
        app = dashboard_of(clock, access=Access(level), output=ShownOutput(output))
        return "all of them" in Markup(ask(app, path)).text

    assert shows("act", Output.FULL)
    assert not shows("act", Output.NONE)
    app = dashboard_of(clock, access=Access("read"), output=ShownOutput(Output.NONE))
    assert "all of them" not in Markup(ask(app, path)).text
    # What the view has echoed is output; the body itself is not for readers.
    test = Markup(ask(dashboard_of(clock, access=Access("read")), path)).text.partition("def test")
    assert "all of them" not in test[2]


def test_settings_of_a_later_release_break_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shown as they are, and count for nothing."""
    with travelling() as clock:
        read = clock.scheduler.overview

        def later() -> Overview:
            overview = read()
            rows = [
                msgspec.structs.replace(
                    row,
                    settings={**row.settings, "timeout": "auto", "grace": "some"},
                    schedule={**row.schedule, "timezone": "Mars/Olympus"},
                )
                for row in overview.tasks
            ]
            return overview._replace(tasks=rows)

        monkeypatch.setattr(type(clock.scheduler), "overview", lambda _self: later())
        app = dashboard_of(clock)
        for path in paths_of(clock):
            assert ask(app, path).status == 200, path


def test_what_nobody_is_to_run_is_not_on_time() -> None:
    """Paused tasks are counted apart."""
    tasks = {name: Task(action="/ok", interval=60) for name in "abc"}
    with travel(PulseMiddleware(site, tasks=tasks)) as clock:
        clock.scheduler.pause("a")
        assert "2 of 3 tasks on time, 1 paused." in page(clock, "/").words()
        clock.scheduler.pause("b")
        clock.scheduler.pause("c")
        assert "All 3 tasks are paused." in page(clock, "/").words()


def test_page_does_not_assert_what_a_link_claims(clock: TimeTravel) -> None:
    """The words about what was done are those of the present state."""
    assert "All tasks are paused" not in page(clock, "/?done=pause_all").words()
    assert "The task is paused" not in page(clock, "/task?name=cleanup&done=pause").words()


def test_lateness_is_that_of_the_first_attempt(clock: TimeTravel) -> None:
    """A retry waits because it has to."""
    words = page(clock, "/task?name=charge").words()
    assert "Late 0 ms at the median" in words


def test_runs_of_a_task_that_is_gone_are_still_found() -> None:
    """By the links of the runs and of the audit trail."""
    with travel(PulseMiddleware(site, tasks={})) as clock:
        clock.scheduler.add("temp", Task(action="/ok", interval=60))
        clock.forward(minutes=3)
        clock.scheduler.remove("temp")
        app = dashboard_of(clock)
        for path in ("/runs", "/audit"):
            links = {one.get("href") for tag, one in Markup(ask(app, path)).elements if tag == "a"}
            assert "runs?name=temp" in links
            assert "task?name=temp" not in links
        assert "Runs of temp" in Markup(ask(app, "/runs?name=temp")).words()
        assert ask(app, "/ledger?name=temp").status == 200
        assert ask(app, "/why?name=temp&at=2026-01-05T12:01").status == 200


def test_memory_store_is_named_as_what_it_is(clock: TimeTravel) -> None:
    """Each process has one of its own, so that pages of several workers differ."""
    assert "The store is the memory of this process" in page(clock, "/").words()


@pytest.mark.parametrize("sent", ["W/{}", '"other", {}', "{}"])
def test_page_is_known_by_a_weak_or_listed_etag(sent: str, clock: TimeTravel) -> None:
    """Proxies that compress make ETags weak."""
    app = dashboard_of(clock)
    etag = ask(app, "/fleet").headers["ETag"]
    assert ask(app, "/fleet", if_none_match=sent.format(etag)).status == 304


def test_redirect_into_the_folder_keeps_the_query(clock: TimeTravel) -> None:
    """A link that somebody has shortened by its slash stays right."""

    def mounted(environ, start_response):  # noqa: ANN001, ANN202 - as PEP 3333 has it
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/_pulse", ""
        return dashboard_of(clock)(environ, start_response)

    assert ask(mounted, "/_pulse?q=a").headers["Location"] == "_pulse/?q=a"


def test_explanation_at_the_end_of_time_is_one(clock: TimeTravel) -> None:
    """No page fails because of what a form may send."""
    for at in ("9999-12-31T23:59", "0001-01-01T00:00", "9999-12-31T23:59:59%2B14:00"):
        assert ask(dashboard_of(clock), f"/why?name=cleanup&at={at}").status in {200, 400}, at
        assert ask(dashboard_of(clock), f"/why?name=report&at={at}").status in {200, 400}, at


def test_browser_without_access_is_sent_to_the_login(clock: TimeTravel) -> None:
    """Of the application; the page of the error has no link back to where it is refused."""
    answer = ask(dashboard_of(clock, access=False, login="/login"), "/task?name=cleanup")
    assert (answer.status, answer.headers["Location"]) == (303, "/login")
    found = Markup(ask(dashboard_of(clock, access=False), "/task?name=cleanup"))
    assert "Who are you?" in found.words()
    assert "a" not in {tag for tag, _ in found.elements}


def test_timeline_begins_with_a_span_that_shows_what_there_is(clock: TimeTravel) -> None:
    """A site of two hours needs no day; who chooses one gets it."""
    chosen = {
        path: [
            one["value"]
            for tag, one in page(clock, path).elements
            if tag == "option" and "selected" in one and one.get("value") in {"1h", "6h", "24h"}
        ]
        for path in ("/timeline", "/timeline?span=24h")
    }
    assert chosen == {"/timeline": ["6h"], "/timeline?span=24h": ["24h"]}
