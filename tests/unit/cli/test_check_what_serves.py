"""`pulse check` reports sections of which PasteDeploy builds what cannot serve, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from paste.deploy import loadapp

from pulse.cli.check import check
from pulse.testing.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECTIONS = f"""
[app:site]
paste.app_factory = {__name__}:make_site

[filter:pulse]
use = egg:pulse
pulse.config.start = off
pulse.task.cleanup.action = /cleanup
pulse.task.cleanup.interval = 5m
"""
FILTERED = {
    "a pipeline": "[pipeline:main]\npipeline = site\nfilter-with = pulse\n",
    "a filter-app": "[filter-app:main]\nuse = egg:pulse\nnext = site\nfilter-with = pulse\n",
    "a pipeline that it uses": (
        "[app:main]\nuse = line\nfilter-with = pulse\n[pipeline:line]\npipeline = site\n"
    ),
    "an application with a filter": (
        "[app:main]\nuse = inner\nfilter-with = pulse\n[app:inner]\nuse = site\n"
        f"filter-with = other\n[filter:other]\npaste.filter_factory = {__name__}:make_filter\n"
    ),
}
"""Main applications of which PasteDeploy makes a filter."""


def make_site(_global_conf: dict[str, str]) -> object:
    """Return an application that answers nothing; the function is an app factory."""
    return lambda _environ, _start_response: []


def make_filter(_global_conf: dict[str, str]) -> object:
    """Return a filter that changes nothing; the function is a filter factory."""
    return lambda app: app


@pytest.mark.parametrize("text", FILTERED.values(), ids=FILTERED)
def test_server_answers_no_request_with_what_paste_makes_a_filter(
    text: str, ini: Callable[[str], Path]
) -> None:
    """The pulse of `filter-with` is not built."""
    file = ini(text + SECTIONS)
    app = loadapp(f"config:{file}")
    with pytest.raises(TypeError):
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None)


@pytest.mark.parametrize("text", FILTERED.values(), ids=FILTERED)
def test_check_reports_what_paste_makes_a_filter(text: str, ini: Callable[[str], Path]) -> None:
    """The problem names the remedy."""
    file = ini(text + SECTIONS)
    problems = check(file, clock=FakeClock()).problems
    assert [each for each in problems if "cannot serve: filter-with" in each] == [
        problem for problem in problems if "put the filter into the pipeline" in problem
    ]
    assert ":main] cannot serve: filter-with" in problems[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[pipeline:main]\npipeline =\n", "[pipeline:main] cannot be read: pipeline: expected the"),
        ("[app:main]\nuse = main\n", "[app:main] cannot be read: the section refers to itself"),
    ],
    ids=["an empty pipeline", "a section that refers to itself"],
)
def test_error_about_a_section_names_no_class(
    text: str, expected: str, ini: Callable[[str], Path]
) -> None:
    """PasteDeploy raises an IndexError and a RecursionError."""
    problems = check(ini(text), clock=FakeClock()).problems
    assert problems[0].startswith(expected)
    assert "Error" not in problems[0]
