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
def test_context_is_returned_without_surrounding_slashes(value: str, path: str) -> None:
    """Leading and trailing slashes have no meaning."""
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
def test_invalid_context_is_rejected(value: object) -> None:
    """A context is a path without scheme, query and dot segments."""
    with pytest.raises(BadValueError, match="expected a path such as sessions or a/b, without"):
        converters.context(value)


@pytest.mark.parametrize("value", ["gevent", " GEVENT ", "auto", "inline", "processing"])
def test_built_in_mode_is_accepted_in_any_case(value: str) -> None:
    """The result is in lower case."""
    assert converters.mode(value) == value.strip().lower()


def test_unknown_mode_is_reported_with_the_known_modes() -> None:
    """The error suggests a similar mode."""
    with pytest.raises(BadValueError) as caught:
        converters.mode("gevnt")
    assert str(caught.value) == (
        "expected one of threading, gevent, processing, inline, celery, auto, got 'gevnt'"
        "; did you mean 'gevent'?"
    )


def test_mode_of_another_package_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An entry point of the group `pulse.engines` adds the mode."""
    entry = EntryPoint("Celeryish", "some.where:build", "pulse.engines")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: EntryPoints([entry]))  # noqa: ARG005 - called by keyword
    assert converters.mode("Celeryish") == "Celeryish"


@pytest.mark.parametrize("value", ["shop", " shop ", "my shop", "caf\u00e9-\u6771\u4eac", "a.b"])
def test_valid_name_is_accepted(value: str) -> None:
    """Surrounding blanks are removed."""
    assert converters.name(value) == value.strip()


@pytest.mark.parametrize(
    "value",
    ["", " ", "a/b", "a\\b", "..", ".shop", "a\nb", "\x00", "\ud800", "x" * 201, None, 5],
    ids=ascii,
)
def test_invalid_name_is_rejected(value: object) -> None:
    """A name must not lead out of the folder of the store's file."""
    with pytest.raises(BadValueError, match="expected a name of at most 200 printable"):
        converters.name(value)


@pytest.mark.parametrize("value", [1, "1s", "1000ms", "1m"], ids=repr)
def test_lease_of_a_second_or_more_is_accepted(value: object) -> None:
    """The minimum is one second."""
    assert converters.lease(value) >= 1_000_000


@pytest.mark.parametrize("value", [0.999, "999ms", "1us"], ids=repr)
def test_shorter_lease_is_rejected(value: object) -> None:
    """A shorter lease would end during normal work."""
    with pytest.raises(BadValueError, match="expected a duration of at least 1s"):
        converters.lease(value)


@pytest.mark.parametrize(
    "value",
    ["shop.wsgi:application", "shop:make.app", " shop:app ", "shop:make()", "main", "main-app"],
)
def test_valid_application_is_accepted(value: str) -> None:
    """An application is an object in a module, or a section of the ini file."""
    assert converters.application(value) == value.strip()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "shop.wsgi:",
        ":app",
        "shop wsgi:app",
        "a:b:c",
        "shop/wsgi",
        "1a:b",
        "a:b(1)",
        "a:b()()",
        None,
    ],
    ids=repr,
)
def test_invalid_application_is_rejected(value: object) -> None:
    """The error shows the expected form."""
    with pytest.raises(
        BadValueError,
        match=r"expected package\.module:name, package\.module:factory\(\), or the name",
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
def test_valid_base_url_is_accepted(value: str, url: str) -> None:
    """A base URL has a scheme, a host, and an optional port and path."""
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
def test_invalid_base_url_is_rejected(value: object) -> None:
    """A base URL is complete and has no query, fragment or user name."""
    with pytest.raises(BadValueError, match="expected a URL such as https://"):
        converters.base_url(value)
