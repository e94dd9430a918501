"""The constant parts of the environ: address, headers and encodings."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.errors import BadValueError, ConfigError
from pulse.wsgi.environ import header_entries, query_of, quote_header_value, server_environ


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
def test_base_url_is_split_into_environ_entries(base_url: str, expected: object) -> None:
    """The entries contain scheme, host, port and script name."""
    entries = server_environ(base_url)
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
def test_invalid_base_url_is_rejected(base_url: str) -> None:
    """The error shows a valid base URL."""
    with pytest.raises(BadValueError, match="expected a URL of scheme, host and path"):
        server_environ(base_url)


def test_headers_are_converted_to_environ_entries() -> None:
    """Content-Type has an entry without prefix; other entries begin with HTTP_."""
    entries = header_entries((("X-Token", "a"), ("Content-Type", "text/csv")))
    assert entries == {"HTTP_X_TOKEN": "a", "CONTENT_TYPE": "text/csv"}


@pytest.mark.parametrize(
    ("name", "expected"), [("X-Tag", "a, b"), ("Cookie", "a; b")], ids=["list", "cookie"]
)
def test_repeated_header_is_joined(name: str, expected: object) -> None:
    """Values are joined with commas, cookies with semicolons."""
    entries = header_entries(((name, "a"), (name.lower(), "b")))
    assert list(entries.values()) == [expected]


def test_reference_is_replaced_by_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets need not be in the configuration file."""
    monkeypatch.setenv("CRON_TOKEN", "s3cret")
    entries = header_entries((("Authorization", "Bearer ${CRON_TOKEN}!"),))
    assert entries == {"HTTP_AUTHORIZATION": "Bearer s3cret!"}


def test_substituted_value_is_not_substituted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret may contain text that looks like a reference."""
    monkeypatch.setenv("CRON_TOKEN", "${HOME}$${X}")
    assert header_entries((("X-T", "${CRON_TOKEN}"),)) == {"HTTP_X_T": "${HOME}$${X}"}


def test_doubled_dollar_escapes_a_reference() -> None:
    """`$${NAME}` is the text `${NAME}`; other dollar signs are unchanged."""
    entries = header_entries((("X-Price", "$5 pa$$word $${NAME}"),))
    assert entries == {"HTTP_X_PRICE": "$5 pa$$word ${NAME}"}


def test_all_missing_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each problem names the header and the variable."""
    monkeypatch.delenv("NO_A", raising=False)
    monkeypatch.delenv("NO_B", raising=False)
    with pytest.raises(ConfigError) as caught:
        header_entries((("X-A", "${NO_A}"), ("X-B", "${NO_B}")))
    assert caught.value.problems == (
        "headers: X-A needs the environment variable NO_A, which is not set",
        "headers: X-B needs the environment variable NO_B, which is not set",
    )


def test_variable_with_a_line_end_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line end in a secret must not start another header."""
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
def test_header_that_pulse_sends_is_rejected(name: str) -> None:
    """A task cannot set the headers of pulse."""
    with pytest.raises(ConfigError, match="is set by pulse itself"):
        header_entries(((name, "1"),))


def test_non_ascii_value_is_encoded_as_utf_8() -> None:
    """Each UTF-8 byte is one latin-1 character, as in paths."""
    entries = header_entries((("X-City", "Zürich"),))
    assert entries["HTTP_X_CITY"].encode("latin-1").decode() == "Zürich"


def test_ascii_query_is_unchanged() -> None:
    """A quoted character is not quoted again."""
    assert query_of("q=%20&x=1+2") == "q=%20&x=1+2"


def test_non_ascii_characters_of_a_query_are_percent_encoded() -> None:
    """A quoted character is not quoted again."""
    assert query_of("q=%20ü&x=1+2") == "q=%20%C3%BC&x=1+2"


@given(st.text())
def test_name_in_a_header_is_ascii_and_reversible(name: str) -> None:
    """Any task name is valid in a header after encoding."""
    header = quote_header_value(name.encode("utf-8", "replace").decode())
    assert header.isascii()
    assert not any(char.isspace() or ord(char) < 33 for char in header)
    assert unquote(header) == name.encode("utf-8", "replace").decode()


def test_reference_without_a_name_is_reported() -> None:
    """An empty reference names no variable."""
    with pytest.raises(ConfigError, match=r"X-A needs the name of an environment variable in \$"):
        header_entries((("X-A", "${}"),))
