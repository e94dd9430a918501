"""What the forms of the dashboard do, and what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pulse import PulseMiddleware, Task
from pulse.core.access import Access
from pulse.testing import travel
from tests.support.dashboard_site import (
    ODD,
    SAME_SITE,
    Markup,
    dashboard_of,
    send_form,
    site,
    travelling,
)
from tests.support.web_calls import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.testing.time_travel import TimeTravel


@pytest.fixture
def clock() -> Iterator[TimeTravel]:
    """Return a site in virtual time."""
    with travelling() as clock:
        yield clock


def asked(clock: TimeTravel) -> tuple[str, str, str, str]:
    """Return verb, task, user and note of the newest entry of the audit trail."""
    entry = clock.scheduler.audit(limit=1)[0]
    return entry.verb, entry.task, entry.by, entry.note


def test_run_makes_a_run_and_leads_to_it(clock: TimeTravel) -> None:
    """With another body, if one is sent with its box ticked."""
    fields = {"verb": "run", "name": "report", "body": "late", "with_body": "on"}
    answer = send_form(dashboard_of(clock), fields)
    assert answer.status == 303
    run = clock.scheduler.runs(task="report", limit=1)[0]
    assert answer.headers["Location"] == f"run?id={run.id}&done=run"
    assert run.body == b"late"
    assert asked(clock)[:3] == ("trigger", "report", "anna")
    page = Markup(ask(dashboard_of(clock), "/" + answer.headers["Location"]))
    assert "The run was made; the first free process takes it." in page.words()


def test_body_without_its_box_is_not_sent(clock: TimeTravel) -> None:
    """An empty body of a task with a body would be sent by accident otherwise."""
    send_form(dashboard_of(clock), {"verb": "run", "name": "report", "body": ""})
    assert clock.scheduler.runs(task="report", limit=1)[0].body is None


def test_run_that_overlap_refuses_shows_why(clock: TimeTravel) -> None:
    """And the page that asks has shown the run that is in the way."""
    page = Markup(ask(dashboard_of(clock), "/confirm?verb=run&name=export"))
    assert "A run is unfinished:" in page.words()
    answer = send_form(dashboard_of(clock), {"verb": "run", "name": "export"})
    assert answer.status == 409
    assert "export: refused, since a run is unfinished" in Markup(answer).words()


def test_pause_has_a_note_and_an_end_in_the_zone_of_the_task(clock: TimeTravel) -> None:
    """And the page says what it skips."""
    page = Markup(ask(dashboard_of(clock), "/confirm?verb=pause&name=report"))
    assert "In the next 24 hours that would be 1." in page.words()
    fields = {
        "verb": "pause",
        "name": "report",
        "note": "the printer is broken",
        "until": "2026-04-01T08:00",
        "until_zone": "Europe/Berlin",
    }
    answer = send_form(dashboard_of(clock), fields)
    assert (answer.status, answer.headers["Location"]) == (
        303,
        "task?name=report&done=pause",
    )
    assert asked(clock) == ("pause", "report", "anna", "the printer is broken")
    words = Markup(ask(dashboard_of(clock), "/task?name=report")).words()
    assert "until 2026-04-01 08:00:00 CEST by anna: the printer is broken" in words
    send_form(dashboard_of(clock), {"verb": "resume", "name": "report"})
    assert clock.scheduler.task("report").pause is None


def test_pause_and_resumption_of_all_tasks_leave_single_pauses_alone(clock: TimeTravel) -> None:
    """A banner on every page says so."""
    app = dashboard_of(clock)
    assert send_form(app, {"verb": "pause_all", "note": "moving"}).status == 303
    words = Markup(ask(app, "/fleet")).words()
    assert "All tasks are paused since" in words
    assert "by anna: moving" in words
    assert send_form(app, {"verb": "resume_all"}).status == 303
    assert clock.scheduler.pause_of_all() is None
    assert clock.scheduler.task(ODD).pause is not None


def test_stop_ends_a_run_that_waits(clock: TimeTravel) -> None:
    """With the reason in the audit trail."""
    run = clock.scheduler.trigger("report")
    assert run is not None
    page = Markup(ask(dashboard_of(clock), f"/confirm?verb=stop&id={run.id}"))
    assert "It is pending. It is recorded as interrupted, and not retried." in page.words()
    answer = send_form(dashboard_of(clock), {"verb": "stop", "id": run.id, "note": "wrong day"})
    assert answer.status == 303
    found = clock.scheduler.run(run.id)
    assert found is not None
    assert found.outcome == "interrupted"
    assert asked(clock) == ("stop", "report", "anna", "wrong day")


def test_tasks_of_a_filter_are_paused_together_after_their_number_was_shown(
    clock: TimeTravel,
) -> None:
    """The form names each of them, so that none is paused that was not shown."""
    page = Markup(ask(dashboard_of(clock), "/confirm?verb=pause&q=c&sort=name"))
    assert "Pause: 3 tasks?" in page.words()
    fields: dict[str, Any] = {}
    (start,) = (
        number
        for number, (_, attributes) in enumerate(page.elements)
        if attributes.get("class") == "confirm"
    )
    for tag, attributes in page.elements[start:]:
        if (
            tag == "input"
            and attributes.get("name", "until_zone") != "until_zone"
            and "value" in attributes
        ):
            fields.setdefault(attributes["name"], []).append(attributes["value"])
    assert fields["name"] == [ODD, "charge", "cleanup"]
    answer = send_form(dashboard_of(clock), fields)
    assert answer.headers["Location"] == "./?q=c&sort=name&page=1&done=pause&count=3"
    assert clock.scheduler.task("charge").pause is not None
    words = Markup(ask(dashboard_of(clock), answer.headers["Location"].removeprefix("."))).words()
    assert "Pause: asked for 3 tasks." in words


def test_what_is_refused_of_several_is_listed(clock: TimeTravel) -> None:
    """And how many were done."""
    answer = send_form(dashboard_of(clock), {"verb": "run", "name": ["report", "export", "gone"]})
    assert answer.status == 409
    words = Markup(answer).words()
    assert "1 of 3 done; export: a run is unfinished" in words
    assert "got 'gone'" in words


@pytest.mark.parametrize(
    ("fields", "headers", "status", "words"),
    [
        ({"verb": "run", "name": "cleanup"}, {"sec_fetch_site": "cross-site"}, 403, "sec-fetch"),
        (
            {"verb": "run", "name": "cleanup"},
            {"sec_fetch_site": None, "origin": "https://evil.example"},
            403,
            "origin",
        ),
        ({"verb": "run", "name": "cleanup"}, {"sec_fetch_site": None}, 403, "expected sec-fetch"),
        ({"verb": "run"}, {}, 400, "name: expected the names of 1 to 50 tasks, got 0"),
        ({"name": "cleanup"}, {}, 400, "missing required field `verb`"),
        (
            {"verb": "explode", "name": "cleanup"},
            {},
            400,
            "verb: expected one of run, pause",
        ),
        ({"verb": "run", "name": "cleanup", "x": "1"}, {}, 400, "x: expected one of"),
        ({"verb": "pause", "name": "cleanup", "until": "soon"}, {}, 400, "until: expected a time"),
        ({"verb": "pause", "name": "cleanup", "until": "2020-01-01T00:00"}, {}, 400, "until"),
        ({"verb": "pause", "name": "cleanup", "note": "x" * 201}, {}, 400, "note: expected"),
        ({"verb": "run", "name": "gone"}, {}, 404, "got 'gone'"),
        ({"verb": "stop", "id": "gone"}, {}, 404, "got 'gone'"),
        ({"verb": "run", "name": "x" * 1_400_000}, {}, 413, "expected at most 1245184 bytes"),
        ({"verb": "run", "name": "x" * 201}, {}, 400, "name: expected `str` of length <= 200"),
        ({"verb": "run"}, {"content_type": "application/json"}, 415, "expected a form"),
    ],
)
def test_form_that_is_wrong_does_nothing(
    fields: dict[str, Any],
    headers: dict[str, str | None],
    status: int,
    words: str,
    clock: TimeTravel,
) -> None:
    """The page names the field, what was expected, and what came."""
    before = clock.scheduler.audit(limit=1)
    answer = send_form(dashboard_of(clock), fields, **headers)
    assert answer.status == status, answer.body
    assert words in Markup(answer).words().lower()
    assert clock.scheduler.audit(limit=1) == before


def test_actions_are_forms_that_are_sent_by_post_alone(clock: TimeTravel) -> None:
    """A link, an image, or a prefetch does nothing; neither does a page take a form."""
    answer = ask(dashboard_of(clock), "/act?verb=run&name=cleanup", **SAME_SITE)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    answer = ask(dashboard_of(clock), "/task?name=cleanup", method="POST", **SAME_SITE)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_reader_may_neither_act_nor_be_asked(clock: TimeTravel) -> None:
    """The right is that of the route."""
    app = dashboard_of(clock, access=Access("read", "bob"))
    assert send_form(app, {"verb": "run", "name": "cleanup"}).status == 403
    assert ask(app, "/confirm?verb=run&name=cleanup").status == 403


def test_actions_are_limited_in_rate(clock: TimeTravel) -> None:
    """A page that runs wild does not fill the store."""
    app = dashboard_of(clock)
    found = {send_form(app, {"verb": "resume", "name": "cleanup"}).status for _ in range(60)}
    assert found == {303, 429}


def test_page_after_an_action_shows_its_effect() -> None:
    """Although pages are remembered for a second."""
    with travel(PulseMiddleware(site, tasks={"one": Task(action="/ok", interval=60)})) as clock:
        app = dashboard_of(clock)
        assert "Pause" in Markup(ask(app, "/")).words()
        send_form(app, {"verb": "pause", "name": "one"})
        assert "Resume" in Markup(ask(app, "/")).words()
