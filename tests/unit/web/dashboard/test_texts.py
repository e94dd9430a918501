"""Times, lengths and schedules as the pages write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import DAY, SECOND, instant_of, moment_of
from pulse.core.run import Outcome, Run
from pulse.core.task import Task, build_definition
from pulse.web.dashboard import texts
from pulse.web.dashboard.requests import link_to

AT = 1_774_692_000 * SECOND  # 2026-03-28T10:00:00Z
HOUR = 3_600 * SECOND


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2026-03-28 10:00:00 UTC"),
        ("Europe/Berlin", "2026-03-28 11:00:00 CET"),
        ("America/Sao_Paulo", "2026-03-28 07:00:00 UTC-0300"),
        ("Asia/Kolkata", "2026-03-28 15:30:00 IST"),
    ],
)
def test_instant_always_names_its_zone(zone: str, text: str) -> None:
    """Also one that has no letters."""
    assert texts.shown_instant(AT, zone) == text


def test_date_is_left_out_if_it_is_that_of_today() -> None:
    """In the zone that is shown."""
    assert texts.shown_briefly(AT, "Europe/Berlin", AT + HOUR) == "11:00:00 CET"
    assert texts.shown_briefly(AT, "Asia/Tokyo", AT + 6 * HOUR) == "2026-03-28 19:00:00 JST"


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (0, "now"),
        (499_999, "now"),
        (500_000, "1 s ago"),
        (60 * SECOND - 1, "1 min ago"),
        (SECOND, "1 s ago"),
        (-SECOND, "in 1 s"),
        (90 * SECOND, "1 min ago"),
        (-5 * HOUR, "in 5 h"),
        (3 * DAY, "3 d ago"),
    ],
)
def test_distance_has_one_unit(distance: int, text: str) -> None:
    """Seconds, minutes, hours, days."""
    assert texts.relative(AT - distance, AT) == text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"interval": "5m"}, "Every 5 minutes"),
        ({"interval": "1s"}, "Every second"),
        ({"interval": "1h30m"}, "Every 1 hour 30 minutes"),
        ({"interval": "250ms"}, "Every 250 milliseconds"),
        ({"cron": "0 7 * * mon-fri"}, "At 07:00 on Monday through Friday"),
        ({"every": "1 month"}, "Every month"),
        ({"every": "2 weeks", "timezone": "Europe/Berlin"}, "Every 2 weeks"),
        ({"at": "2026-03-28T10:00:00Z"}, "Once, at 2026-03-28 10:00:00 UTC"),
        (
            {"interval": "1h", "end": "2026-03-28T10:00:00Z"},
            "Every hour, until 2026-03-28 10:00:00 UTC",
        ),
        ({"moon": "full"}, "A schedule of another release of pulse"),
    ],
)
def test_schedule_in_words(settings: dict[str, str], words: str) -> None:
    """Of each kind, with its bounds."""
    assert texts.schedule_words(settings) == words


@given(st.integers(1, 10**7).map(lambda seconds: f"{seconds}s"))
def test_schedule_of_a_row_is_that_of_its_task(interval: str) -> None:
    """So that what the page forecasts is what happens."""
    definition = build_definition("work", Task(action="/ok", interval=interval))
    assert texts.schedule_of(definition.schedule.to_text()) == definition.schedule


@given(st.text())
def test_visible_text_has_no_control_characters_and_nothing_turns_it_around(text: str) -> None:
    """But line breaks and tabs."""
    shown = texts.visible(text)
    assert not any(ord(one) < 32 and one not in "\n\t" for one in shown)
    assert not set(shown) & {chr(code) for code in (127, 0x200F, 0x202E, 0x2066)}
    assert len(texts.first_line(text)) <= 120


@pytest.mark.parametrize(
    ("page", "params", "link"),
    [
        ("", {}, "./"),
        ("", {"q": "a b", "state": None, "page": 2}, "./?q=a+b&page=2"),
        ("task", {"name": "a/b.c%d é"}, "task?name=a%2Fb.c%25d+%C3%A9"),
        ("runs", {"outcome": "", "before": 0}, "runs"),
    ],
)
def test_link_is_relative_and_has_what_is_given(
    page: str, params: dict[str, object], link: str
) -> None:
    """Odd names are in the query, where no server touches them."""
    assert link_to(page, params) == link


def test_run_of_an_instant_far_away_is_shown() -> None:
    """At the ends of what a datetime can hold."""
    last = instant_of(moment_of(253_402_300_799 * SECOND))
    assert texts.shown_instant(last, "Asia/Tokyo").startswith("9999-12-31")
    assert Run(id="a", task="b", fire_time=last, outcome=Outcome.MISSED).fire_time == last
