"""The parts of the environ that stay: address, headers, spellings."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import BadValueError, ConfigError
from pulse.wsgi.environ import address, header_entries, query_of, visible


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        pytest.param("http://localhost", ("http", "localhost", "80", "localhost", ""), id="plain"),
        pytest.param("http://localhost:80/", ("http", "localhost", "80", "localhost", ""), id="80"),
        pytest.param(
            "https://Example.org", ("https", "example.org", "443", "example.org", ""), id="https"
        ),
        pytest.param(
            "http://example.org:8080/app/",
            ("http", "example.org", "8080", "example.org:8080", "/app"),
            id="port-and-script",
        ),
        pytest.param("http://[::1]:81", ("http", "[::1]", "81", "[::1]:81", ""), id="ipv6"),
        pytest.param(
            "http://bücher.example",
            ("http", "xn--bcher-kva.example", "80", "xn--bcher-kva.example", ""),
            id="idn",
        ),
        pytest.param(
            "http://h/%C3%BC", ("http", "h", "80", "h", "/\u00c3\u00bc"), id="script-in-latin-1"
        ),
    ],
)
def test_a_base_url_gives_scheme_host_port_and_script_name(base_url: str, expected: object) -> None:
    """Each part of the address lands in its entry."""
    entries = address(base_url)
    names = ("wsgi.url_scheme", "SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "SCRIPT_NAME")
    assert tuple(entries[name] for name in names) == expected


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "localhost",
        "ftp://localhost",
        "http://",
        "http://user@host",
        "http://h?x=1",
        "http://h#top",
        "http://h:port",
        "http://h:99999",
        "http://a b",
        "http://h/\n",
        "http://[::1",
        "http://" + "ü" * 80,
    ],
)
def test_a_base_url_of_another_form_is_refused(base_url: str) -> None:
    """The error shows what a base URL looks like."""
    with pytest.raises(BadValueError, match="expected a URL of scheme, host and path"):
        address(base_url)


def test_headers_become_entries() -> None:
    """Content-Type has an entry without prefix; the others are HTTP_ entries."""
    entries = header_entries((("X-Token", "a"), ("Content-Type", "text/csv")))
    assert entries == {"HTTP_X_TOKEN": "a", "CONTENT_TYPE": "text/csv"}


@pytest.mark.parametrize(
    ("name", "expected"), [("X-Tag", "a, b"), ("Cookie", "a; b")], ids=["list", "cookie"]
)
def test_a_header_given_twice_is_joined(name: str, expected: object) -> None:
    """Values are joined by commas, cookies by semicolons."""
    entries = header_entries(((name, "a"), (name.lower(), "b")))
    assert list(entries.values()) == [expected]


def test_an_environment_variable_is_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets stay out of the configuration file."""
    monkeypatch.setenv("CRON_TOKEN", "s3cret")
    entries = header_entries((("Authorization", "Bearer ${CRON_TOKEN}!"),))
    assert entries == {"HTTP_AUTHORIZATION": "Bearer s3cret!"}


def test_what_is_filled_in_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret may hold anything that looks like a reference."""
    monkeypatch.setenv("CRON_TOKEN", "${HOME}$${X}")
    assert header_entries((("X-T", "${CRON_TOKEN}"),)) == {"HTTP_X_T": "${HOME}$${X}"}


def test_a_doubled_dollar_stands_for_itself() -> None:
    """`$${NAME}` is the text `${NAME}`; other dollars are left alone."""
    entries = header_entries((("X-Price", "$5 pa$$word $${NAME}"),))
    assert entries == {"HTTP_X_PRICE": "$5 pa$$word ${NAME}"}


def test_missing_variables_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem names header and variable."""
    monkeypatch.delenv("NO_A", raising=False)
    monkeypatch.delenv("NO_B", raising=False)
    with pytest.raises(ConfigError) as caught:
        header_entries((("X-A", "${NO_A}"), ("X-B", "${NO_B}")))
    assert caught.value.problems == (
        "headers: X-A needs the environment variable NO_A, which is not set",
        "headers: X-B needs the environment variable NO_B, which is not set",
    )


def test_a_variable_of_two_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line end in a secret must not become another header."""
    monkeypatch.setenv("CRON_TOKEN", "a\nX-Admin: 1")
    with pytest.raises(ConfigError, match="text on one line in the environment variable CRON"):
        header_entries((("X-T", "${CRON_TOKEN}"),))


@pytest.mark.parametrize(
    "name",
    [
        "X-Pulse-Task",
        "x_pulse_run_id",
        "X-Pulse-Fire-Time",
        "X-Pulse-Attempt",
        "X-Pulse-Trigger",
        "Idempotency-Key",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_headers_that_pulse_sends_are_refused(name: str) -> None:
    """A task cannot say them of itself."""
    with pytest.raises(ConfigError, match="is set by pulse itself"):
        header_entries(((name, "1"),))


def test_non_ascii_values_travel_as_utf_8() -> None:
    """The bytes of UTF-8 stand in latin-1 characters, as for paths."""
    entries = header_entries((("X-City", "Zürich"),))
    assert entries["HTTP_X_CITY"].encode("latin-1").decode() == "Zürich"


def test_an_ascii_query_stays_as_it_is() -> None:
    """Nothing is quoted twice."""
    assert query_of("q=%20&x=1+2") == "q=%20&x=1+2"


def test_a_query_that_is_not_ascii_is_percent_encoded() -> None:
    """What is quoted already stays as it is."""
    assert query_of("q=%20ü&x=1+2") == "q=%20%C3%BC&x=1+2"


@given(st.text())
def test_a_visible_name_is_ascii_and_gives_the_name_back(name: str) -> None:
    """Any task name fits into a header, and can be read from it."""
    shown = visible(name.encode("utf-8", "replace").decode())
    assert shown.isascii()
    assert not any(char.isspace() or ord(char) < 33 for char in shown)
    assert unquote(shown) == name.encode("utf-8", "replace").decode()


def test_a_reference_without_a_name_is_told_of() -> None:
    """There is no variable to look for."""
    with pytest.raises(ConfigError, match=r"X-A needs the name of an environment variable in \$"):
        header_entries((("X-A", "${}"),))
