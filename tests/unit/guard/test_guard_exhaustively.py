"""The guard against all code points at every position, and against suffixes of several parts."""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest

from pulse.guard.guard import Guard
from tests.support import routers

if TYPE_CHECKING:
    from collections.abc import Iterator

VIEW = "/sessions/cleanup"
CODE_POINTS = [
    number
    for number in range(sys.maxunicode + 1)
    if unicodedata.category(chr(number)) not in {"Cn", "Co", "Cs"} or number % 997 == 0
    if not 0xD800 <= number < 0xE000
]
"""All characters, and some of the code points that are unassigned or private: no router has another
form of them."""

SUFFIX_PARTS = [".json", ".", "/", ";a=b", "/.", ".a;b"]


def covers(guard: Guard, path: str) -> bool:
    """Return whether the guard refuses a path that is given as decoded text."""
    wire = path.encode().decode("latin-1")
    return guard.refuses({"SCRIPT_NAME": "", "PATH_INFO": wire})


@pytest.fixture
def guard() -> Guard:
    """Return a guard for one path."""
    return Guard([("cleanup", VIEW)])


def forms(letter: str) -> set[str]:
    """Return what routers may make of a character."""
    composed = unicodedata.normalize("NFKC", letter)
    found = {letter, letter.lower(), letter.casefold(), composed, composed.lower()}
    found |= {routers.ignore_case_by_regex(text) for text in (letter, composed)}
    found |= {text.strip() for text in found} | {text.casefold() for text in found}
    if letter in "\t\r\n\0":
        found.add("")
    if "\\" in found:
        found.add("/")
    return found


@pytest.fixture(scope="module")
def by_form() -> dict[str, list[str]]:
    """Return all code points by each text of at most one letter that a router makes of them."""
    wanted = {"", *VIEW}
    found: dict[str, list[str]] = {form: [] for form in wanted}
    for number in CODE_POINTS:
        letter = chr(number)
        for form in forms(letter) & wanted:
            found[form].append(letter)
    return found


def replaced(by_form: dict[str, list[str]]) -> Iterator[str]:
    """Yield the view's path with each character that may be read as one of its own."""
    for position, own in enumerate(VIEW):
        for letter in by_form[own]:
            yield VIEW[:position] + letter + VIEW[position + 1 :]
        for letter in by_form[""]:
            yield VIEW[:position] + letter + VIEW[position:]
    for letter in by_form[""]:
        yield VIEW + letter


def test_code_point_that_a_router_may_read_as_its_neighbour_is_refused_at_every_position(
    guard: Guard, by_form: dict[str, list[str]]
) -> None:
    """A character may be dropped, or be another form of the character of the view."""
    paths = list(replaced(by_form))

    assert len(paths) > 500
    assert [path for path in paths if not covers(guard, path)] == []


@pytest.mark.parametrize("frame", ["{}.{}", "{};{}", "{}.a{}"])
def test_every_code_point_in_a_suffix_is_refused(guard: Guard, frame: str) -> None:
    """A format and a parameter may contain any character."""
    head, tail = frame.format(VIEW, "\0").split("\0")
    allowed = [number for number in CODE_POINTS if not covers(guard, f"{head}{chr(number)}{tail}")]

    assert allowed == []


def test_no_other_letter_or_digit_at_the_end_is_refused(guard: Guard) -> None:
    """A longer name is another page."""
    letters = [chr(number) for number in CODE_POINTS if chr(number).isalnum()]
    refused = [letter for letter in letters if covers(guard, VIEW + letter)]

    assert refused == []


@pytest.mark.parametrize("action", [VIEW, f"{VIEW}.json", f"{VIEW}.tar.gz", f"{VIEW}/"])
def test_each_suffix_of_several_parts_that_reduces_to_the_view_is_refused(action: str) -> None:
    """The parts are extensions, slashes and parameters, in any order."""
    guard = Guard([("cleanup", action)])
    for size in range(5):
        for parts in itertools.product(SUFFIX_PARTS, repeat=size):
            path = VIEW + "".join(parts)
            if VIEW in routers.reductions(path):
                assert covers(guard, path) or (action != VIEW and _is_below(path)), path


def _is_below(path: str) -> bool:
    """Return whether a path is below the view: an action with a format has no lower paths."""
    return re.match(rf"{VIEW}[^/]*/+[^/.;]", path) is not None


NAMES = [
    ("/sessions/cleanup", "/sessions/@@cleanup"),
    ("/sessions/cleanup", "/@@sessions/@@@@cleanup"),
    ("/sessions/cleanup", "/sessions/%40%40cleanup"),
    ("/sessions/cleanup", "/sessions/+cleanup"),
    ("/sessions/cleanup", "/sessions/++view++cleanup"),
    ("/sessions/cleanup", "/++skin++x/sessions/cleanup"),
    ("/sessions/@@cleanup", "/sessions/cleanup"),
    ("/sessions/clean_up", "/sessions/clean-up"),
    ("/sessions/clean_up", "/sessions/clean.up"),
    ("/sessions/clean_up", "/sessions/clean~up.json"),
    ("/sessions/clean-up", "/sessions/clean_up"),
    ("/sessions/clean.up", "/sessions/clean_up"),
    ("/sessions/cleanup.json", "/sessions/cleanup_json"),
    ("/sessions/cleanup", "//host/sessions/cleanup"),
    ("/sessions/cleanup", "http://host/sessions/cleanup"),
]


@pytest.mark.parametrize(("action", "path"), NAMES)
def test_other_name_of_the_same_view_is_refused(action: str, path: str) -> None:
    """View selectors, punctuation that CherryPy reads as underscores, and addresses in paths."""
    assert covers(Guard([("cleanup", action)]), path)


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("/sessions/cleanup", "/sessions/clean_up"),
        ("/sessions/cleanup", "/sessions/cleanup_"),
        ("/sessions/cleanup", "/sessions/@/cleanup-all"),
        ("/sessions/cleanup", "//host/sessions"),
        ("/sessions/cleanup.json", "/sessions/cleanup/now"),
        ("/sessions/cleanup.json", "/sessions/cleanups"),
        ("/sessions/cleanup/.json", "/sessions/cleanup/now"),
        ("/.json", "/json"),
        ("/v1.2/run", "/v1/run"),
    ],
)
def test_name_of_another_page_is_allowed(action: str, path: str) -> None:
    """Only the last segment has formats, and an action with a format has no lower paths."""
    assert not covers(Guard([("cleanup", action)]), path)


@pytest.mark.parametrize(
    ("action", "path"),
    [
        ("/sessions/cleanup/.json", "/sessions/cleanup"),
        ("/sessions/cleanup/.json", "/sessions/cleanup.json"),
        ("/sessions/cleanup/.json", "/sessions/cleanup/.xml"),
        ("/sessions/cleanup/.tar/.gz", "/sessions/cleanup"),
        ("/sessions/cleanup.tar/.gz", "/sessions/cleanup.zip"),
        ("/sessions/.json", "/sessions"),
    ],
)
def test_extension_that_is_a_segment_of_an_action_is_dropped(action: str, path: str) -> None:
    """The path of a task is read in the same way as the path of a request."""
    assert covers(Guard([("cleanup", action)]), path)


def test_path_of_many_extensions_is_decided_quickly() -> None:
    """The number of steps is that of the segments, not their square."""
    guard = Guard([("a", "/a/b.c")])

    assert not covers(guard, "/x" + "/.a" * 20_000)
    assert covers(guard, "/a/b" + "/.a" * 20_000)
    assert covers(guard, "/a/b" + ".a" * 20_000)
