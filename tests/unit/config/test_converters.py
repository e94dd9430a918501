from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from pulse.config import converters
from pulse.errors import BadValueError


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("sessions", "sessions"),
        ("/sessions", "sessions"),
        (" /sessions/ ", "sessions"),
        ("a/b", "a/b"),
        ("", ""),
        ("/", ""),
        ("caf\u00e9", "caf\u00e9"),
        ("..a/b..", "..a/b.."),
    ],
)
def test_a_context_comes_back_without_slashes_around_it(value: str, path: str) -> None:
    """With or without slashes it is the same place."""
    assert converters.context(value) == path


@pytest.mark.parametrize(
    "value",
    [
        "http://host/a",
        "//host://",
        "a b",
        "a//b",
        "a/../b",
        ".",
        "a?b",
        "a#b",
        "a\nb",
        "a\x7fb",
        "\ud800",
        5,
        None,
    ],
    ids=ascii,
)
def test_what_is_no_context_is_refused(value: object) -> None:
    """A context is a path and nothing more."""
    with pytest.raises(BadValueError, match="expected a path such as sessions or a/b, without"):
        converters.context(value)


@pytest.mark.parametrize("value", ["gevent", " GEVENT ", "auto", "inline", "processing"])
def test_a_mode_of_pulse_s_own_is_taken_in_any_case(value: str) -> None:
    """Ini files are written by people."""
    assert converters.mode(value) == value.strip().lower()


def test_an_unknown_mode_is_told_the_known_ones() -> None:
    """And the nearest of them."""
    with pytest.raises(BadValueError) as caught:
        converters.mode("gevnt")
    assert str(caught.value) == (
        "expected one of threading, gevent, processing, inline, auto, got 'gevnt'"
        "; did you mean 'gevent'?"
    )


def test_a_mode_that_another_package_adds_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry point of the group `pulse.engines` names it."""
    entry = EntryPoint("Celeryish", "some.where:build", "pulse.engines")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: EntryPoints([entry]))  # noqa: ARG005 - called by keyword
    assert converters.mode("Celeryish") == "Celeryish"


@pytest.mark.parametrize("value", ["shop", " shop ", "my shop", "caf\u00e9-\u6771\u4eac", "a.b"])
def test_names(value: str) -> None:
    """A name is what people call it."""
    assert converters.name(value) == value.strip()


@pytest.mark.parametrize(
    "value",
    ["", " ", "a/b", "a\\b", "..", ".shop", "a\nb", "\x00", "\ud800", "x" * 201, None, 5],
    ids=ascii,
)
def test_what_is_no_name_is_refused(value: object) -> None:
    """A name must not lead out of the folder that it names a file in."""
    with pytest.raises(BadValueError, match="expected a name of at most 200 printable"):
        converters.name(value)


@pytest.mark.parametrize("value", [1, "1s", "1000ms", "1m"], ids=repr)
def test_a_lease_is_a_second_or_more(value: object) -> None:
    """A second is the least."""
    assert converters.lease(value) >= 1_000_000


@pytest.mark.parametrize("value", [0.999, "999ms", "1us"], ids=repr)
def test_a_shorter_lease_is_refused(value: object) -> None:
    """It would end while its holder still works."""
    with pytest.raises(BadValueError, match="expected a duration of at least 1s"):
        converters.lease(value)


@pytest.mark.parametrize(
    "value", ["shop.wsgi:application", "shop:make.app", " shop:app ", "main", "main-app"]
)
def test_applications(value: str) -> None:
    """An object in a module, or a section of the ini file."""
    assert converters.application(value) == value.strip()


@pytest.mark.parametrize(
    "value",
    ["", "shop.wsgi:", ":app", "shop wsgi:app", "a:b:c", "shop/wsgi", "1a:b", None],
    ids=repr,
)
def test_what_is_no_application_is_refused(value: object) -> None:
    """The message shows the form."""
    with pytest.raises(
        BadValueError, match=r"expected package\.module:name, or the name of an app"
    ):
        converters.application(value)


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://localhost", "http://localhost"),
        (" HTTPS://shop.example.org/ ", "https://shop.example.org"),
        ("http://localhost:8080/prefix/", "http://localhost:8080/prefix"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_base_urls(value: str, url: str) -> None:
    """Scheme, host, and perhaps port and path."""
    assert converters.base_url(value) == url


@pytest.mark.parametrize(
    "value",
    [
        "",
        "localhost",
        "localhost:8080",
        "//localhost",
        "ftp://localhost",
        "http://",
        "http://:80",
        "http://localhost:0",
        "http://localhost:70000",
        "http://localhost:x",
        "http://localhost?a=1",
        "http://localhost#a",
        "http://me@localhost",
        "http://local host",
        "http://[::1",
        "http://a\nb",
        None,
        5,
    ],
    ids=repr,
)
def test_what_is_no_base_url_is_refused(value: object) -> None:
    """What the app would see must be a whole address, without what belongs to a single call."""
    with pytest.raises(BadValueError, match="expected a URL such as https://"):
        converters.base_url(value)
