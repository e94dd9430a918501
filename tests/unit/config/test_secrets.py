"""Errors and names of stores do not show passwords, header values or bodies."""

from __future__ import annotations

import configparser
from collections import UserList, deque
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse import PulseMiddleware, Task
from pulse.cli.check import check
from pulse.config.loader import load
from pulse.config.paste import error_text
from pulse.config.settings import PasteOrigin
from pulse.errors import PulseError, shown, shown_url
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.postgres import url as postgres_url
from pulse.store.redis import url as redis_url
from pulse.testing.clock import FakeClock
from tests.support.setups import error_of, require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECRET = "S3CRETPW"  # noqa: S105 - a secret of this test alone
STORES = [
    "redis://u:S3CRETPW@host:abc/0",
    "redis://u:S3CRETPW@host:70000/0",
    "redis://u:S3CRETPW@host/x",
    "redis://:S3CRETPW@host/x",
    "rediss://u:S3CRETPW@host/x",
    "redis://u:S3CRETPW@/0",
    "redis://u:S3CRETPW@[::1/0",
    "redis://host/x?password=S3CRETPW",
    "redis:u:S3CRETPW@host",
    "redis:/u:S3CRETPW@host",
    "redis//u:S3CRETPW@host",
    "redis+sentinel://u:S3CRETPW@host/0",
    "valkey://u:S3CRETPW@host/0",
    "unix://u:S3CRETPW@/",
    "memory://u:S3CRETPW@host",
    "sqlite://u:S3CRETPW@host/pulse.db",
    "mysql://u:S3CRETPW@host/db",
    "http://u:S3CRETPW@host",
    "u:S3CRETPW@host",
    "host=h password=S3CRETPW dbname=db",
    "postgresql+psycopg://u:S3CRETPW@host/db",
    "postgresql:u:S3CRETPW@host/db",
    "postgresql:/u:S3CRETPW@host/db",
    "postgres//u:S3CRETPW@host/db",
    "postgresql://host/db?passwd=S3CRETPW",
    "postgresql://host/db?password%3DS3CRETPW",
    "redis://h/0?pass=S3CRETPW",
    "redis://h/0?pw=S3CRETPW",
    "redis://h/0?user_pass=S3CRETPW",
    "rediss://h/0?ssl_keyfile_pass=S3CRETPW",
    "redis://h/0?db=0%26pass=S3CRETPW",
    "postgresql://h:x/db?password='a b=S3CRETPW c'",
    "host=h password='a x=S3CRETPW'",
    "host=h password='a host=S3CRETPW'",
    'host=h password="a \\" host=S3CRETPW',
    "postgresql://host/db?password=a&S3CRETPW",
    "redis://u:pa//S3CRETPW",
    "redis:u:S3CRETPW",
    "redis:/u:S3CRETPW",
    "redis:///u:S3CRETPW",
    "Postgresql:u:S3CRETPW/db",
    "redis://u:pa/S3CRETPW",
    "redis://u:pa?S3CRETPW",
    "redis://u%253AS3CRETPW%2540h/x",
    "redis://u\uff1aS3CRETPW@h/x",
    "redis://u\uff1aS3CRETPW\uff20h/x",
    "redis://S3CRETPW@h/x",
]
OPTIONS = [
    "postgresql://host/db?PASSWORD=S3CRETPW",
    "postgresql://host/db?sslPassword=S3CRETPW",
    "postgresql://host/?pass%77ord=S3CRETPW",
]
BASE_URLS = [
    "https://u:S3CRETPW@host",
    "https://:S3CRETPW@host",
    "https://u:S3CRETPW@host/prefix",
    "http://u:S3CRETPW@host:99999",
    "ftp://u:S3CRETPW@host",
    "HTTPS://u:S3CRETPW@host",
    "https://u:S3CRETPW@ho st",
    "https://host?password=S3CRETPW",
    "//u:S3CRETPW@host",
    "u:S3CRETPW@host",
    *(f"https://host?{name}=S3CRETPW" for name in ("pass", "key", "sig", "jwt", "access_key")),
    "https://host?key=a&S3CRETPW",
    "https://S3CRETPW@host",
    "redis://S3CRETPW%40h",
    "redis://u%3aS3CRETPW%40h",
    "redis://u\uff1aS3CRETPW@h",
]
NAMES = [
    "redis://host/0?password=S3CRETPW",
    "redis://host/0?db=1&password=S3CRETPW",
    "rediss://host/0?ssl_password=S3CRETPW",
    "unix:///run/redis.sock?password=S3CRETPW",
    "postgresql://host/db?pass%77ord=S3CRETPW",
    "redis://S3CRETPW@host/0",
    "redis://host?password=a&S3CRETPW",
    "redis://u%3aS3CRETPW%40h",
]


def app(_environ: object, start_response: Callable[..., object]) -> list[bytes]:
    """Answer with an empty body."""
    start_response("200 OK", [])
    return []


def text_of_error(build: Callable[..., object], **keywords: object) -> str:
    """Return the text of the error that wrong settings raise."""
    error = error_of(build, **keywords)
    require(isinstance(error, PulseError), f"an error of pulse, got {error!r}")
    return str(error)


def build(**keywords: object) -> PulseMiddleware:
    """Return a middleware with these settings that does not start."""
    return PulseMiddleware(app, start="off", **keywords)  # type: ignore[arg-type] # any setting


@pytest.mark.parametrize("word", STORES)
def test_error_about_a_store_shows_no_password(word: str) -> None:
    """The rule holds for every mistake in the address and every place of the password."""
    assert SECRET not in text_of_error(build, store=word)


@pytest.mark.parametrize("word", OPTIONS)
def test_error_about_options_of_a_store_shows_no_password(word: str) -> None:
    """Any spelling of an option whose name ends in `password` is hidden."""
    assert SECRET not in text_of_error(build, store=word)


@settings(report_multiple_bugs=False)
@given(
    scheme=st.sampled_from(
        ["redis", "rediss", "postgresql", "postgres", "valkey", "memory", "x", ""]
    ),
    joint=st.sampled_from([":", ":/", "://", "//"]),
    tail=st.sampled_from(["h:port/0", "h/zero", "h", "/", "[::1", "h/0?x=1#y"]),
    user=st.sampled_from(["", "u", "u%40", "a.b"]),
)
def test_misspelled_address_shows_no_password(
    scheme: str, joint: str, tail: str, user: str
) -> None:
    """The error does not show the password, nor does the name of a valid store."""
    word = f"{scheme}{joint}{user}:{SECRET}@{tail}"
    error = error_of(choose, word)
    assert SECRET not in (choose(word) if error is None else str(error))


@pytest.mark.parametrize("url", BASE_URLS)
def test_error_about_a_base_url_shows_no_password(url: str) -> None:
    """A base URL with a password is refused, and the error does not repeat the password."""
    assert SECRET not in text_of_error(build, store="memory:", base_url=url)


def test_error_about_an_action_shows_no_password() -> None:
    """The action is a whole URL by mistake."""
    action = f"https://u:{SECRET}@host/cleanup"
    assert SECRET not in text_of_error(Task, action=action, interval=60)


def choose(word: str) -> str:
    """Return the name of a store, which the log and errors show."""
    chosen = choose_store(word, StoreOptions(), clock=FakeClock(), origin="/srv")
    return chosen.store.name


@pytest.mark.parametrize("word", NAMES)
def test_name_of_a_store_shows_no_password(word: str) -> None:
    """The name is part of the line at start and of each error of an outage."""
    assert SECRET not in choose(word)


@pytest.mark.parametrize(
    "word",
    [
        "redis://u:S3CRETPW@host/0",
        "postgresql://u:S3CRETPW@host/db",
        "postgresql:///?password=S3CRETPW&dbname=db",
    ],
)
def test_name_of_a_store_shows_all_but_the_password(word: str) -> None:
    """Three asterisks replace the password."""
    assert choose(word) == word.replace(SECRET, "***")


@pytest.mark.parametrize(
    "word",
    [
        "postgresql://u@host/db",
        "postgresql://%2Frun%2Fpg:5432,[::1]:5433/db?application_name=a&sslmode=require",
        "unix:///srv/app@2/redis.sock?db=3",
        "sqlite:////srv/app@2/pulse.db",
        "https://host:8080/prefix",
        "host=h dbname = db",
        "/srv/app@2/page",
    ],
)
def test_address_without_a_secret_is_shown_in_full(word: str) -> None:
    """Users of PostgreSQL, paths, ports and known options are no secrets."""
    assert shown_url(word) == word


def test_hidden_option_ends_at_an_option_that_is_no_secret() -> None:
    """The error shows the rest of the address."""
    assert (
        shown_url("redis://h?pw=S3CRETPW&db=3&x=1 host=h") == "redis://h?pw=***&db=3&x=*** host=h"
    )


@pytest.mark.parametrize("known", [postgres_url._OPTIONS, *redis_url._OPTIONS.values()])
def test_options_of_the_stores_are_shown_except_passwords(known: dict[str, object]) -> None:
    """The list of harmless options contains what the stores accept."""
    hidden = {name for name in known if "S3CRETPW" not in shown_url(f"x://h?{name}=S3CRETPW")}
    assert hidden <= {"password", "sslpassword", "ssl_password"}


@given(text=st.text(alphabet="ab:/@?&= '%3d*\uff1a"))
def test_hiding_twice_hides_no_more(text: str) -> None:
    """An error may contain the text of another error."""
    once = shown_url(text)
    assert shown_url(once) == once


def test_address_of_a_million_characters_is_shown_at_once() -> None:
    """The time grows with the length of the text, not with the square of the length."""
    for text in (" " * 1_000_000, "a=" * 100_000, "'" * 100_000, "//" * 100_000, "a:@" * 100_000):
        shown(text)


VALUES = [
    pytest.param(b"redis://u:S3CRETPW@h", id="bytes"),
    pytest.param(bytearray(b"redis://u:S3CRETPW@h"), id="bytearray"),
    pytest.param("u:S3CRETPW@h", id="no slashes"),
    pytest.param({"headers": {"Authorization": "Bearer S3CRETPW"}}, id="headers"),
    pytest.param([{"headers": {"Authorization": "Bearer S3CRETPW"}}], id="list of tasks"),
    pytest.param(["S3CRETPW"], id="list"),
    pytest.param(({"S3CRETPW"},), id="set in a tuple"),
    pytest.param(deque(["S3CRETPW"]), id="deque"),
    pytest.param({1: "S3CRETPW"}.values(), id="view"),
    pytest.param(UserList(["S3CRETPW"]), id="other list"),
    pytest.param(SimpleNamespace(token="S3CRETPW"), id="object"),  # noqa: S106 - of this test
]


@pytest.mark.parametrize("value", VALUES)
def test_error_about_any_value_shows_no_secret(value: object) -> None:
    """The value may be the settings of a task in the wrong place."""
    errors = (
        text_of_error(build, tasks={"t": value}),
        text_of_error(build, tasks={"t": {"action": "/x", "interval": value}}),
        text_of_error(build, tasks={"t": {"action": "/x", "cron": value}}),
        text_of_error(build, config=[value]),
        text_of_error(build, base_url=value),
    )
    assert SECRET not in "".join((*errors, shown(value)))


@pytest.mark.parametrize("value", [[1, 2], (), {}, timedelta(seconds=5), datetime(2027, 1, 1)])  # noqa: DTZ001 - a value to show
def test_value_without_texts_is_shown(value: object) -> None:
    """Numbers and dates are no secrets."""
    assert shown(value) == repr(value)


HEADERS = [
    pytest.param("Authorization Bearer S3CRETPW", id="no colon"),
    pytest.param('"Authorization: Bearer S3CRETPW"', id="quotes"),
    pytest.param("Bearer S3CRETPW: x", id="a secret as the name"),
    pytest.param({b"S3CRETPW": "x"}, id="bytes as the name"),
    pytest.param("Authorization: Bearer S3CRETPW\x01", id="control character"),
    pytest.param({"Authorization": "S3CRETPW\n"}, id="line feed"),
    pytest.param({"Authorization": ["S3CRETPW"]}, id="list"),
    pytest.param({"Authorization": b"S3CRETPW"}, id="bytes"),
    pytest.param([("Authorization", "S3CRETPW", "x")], id="three parts"),
    pytest.param(["Authorization: S3CRETPW"], id="line in a list"),
]


@pytest.mark.parametrize("headers", HEADERS)
def test_error_about_headers_shows_no_value(headers: object) -> None:
    """The error may name the header, and does not repeat its value."""
    assert SECRET not in text_of_error(Task, action="/x", interval=60, headers=headers)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(["S3CRETPW"], id="list"),
        pytest.param({"token": "S3CRETPW"}, id="dict"),
        pytest.param("token=S3CRETPW\ud800", id="half a character"),
    ],
)
def test_error_about_a_body_does_not_show_it(body: object) -> None:
    """The error may name the type of the body."""
    assert SECRET not in text_of_error(Task, action="/x", interval=60, method="POST", body=body)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"no connection to redis://u:{SECRET}@host"),
        configparser.InterpolationSyntaxError("store", "filter:pulse", f"'%' found: '%{SECRET}'"),
        configparser.InterpolationMissingOptionError("store", "filter:pulse", SECRET, "x"),
        configparser.MissingSectionHeaderError("site.ini", 1, f"store = redis://u:{SECRET}@host"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_about_an_ini_file_shows_no_password(error: Exception) -> None:
    """The errors of PasteDeploy repeat values and lines."""
    assert SECRET not in error_text(error)


def test_error_about_a_line_that_is_no_setting_shows_no_password(tmp_path: Path) -> None:
    """The error has the number of the line."""
    file = tmp_path / "site.ini"
    file.write_text(f"[filter:pulse]\nuse = egg:pulse\npulse.config.store {SECRET}\n")
    (problem,) = check(file, clock=FakeClock()).problems
    assert (SECRET in problem, "line 3" in problem) == (False, True)


def test_settings_in_an_error_report_show_no_secrets() -> None:
    """Error reports show the local variables of each frame."""
    config = {
        "pulse.config.store": f"redis://u:{SECRET}@host/0",
        "pulse.config.base_url": "https://example.org",
        "pulse.task.work.action": "/work",
        "pulse.task.work.interval": "5m",
        "pulse.task.work.headers": f"Authorization: {SECRET}",
    }
    text = repr(
        msgspec.structs.replace(
            load(config, {}),
            paste=PasteOrigin(uri="config:a.ini", section="main", global_conf={"db": SECRET}),
        )
    )
    assert SECRET not in text
    assert "store='redis://u:***@host/0'" in text
    assert "tasks=['work']" in text
