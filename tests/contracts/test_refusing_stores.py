"""Stores that answer with a refusal are not logged as stores that do not answer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from pulse.store.postgres.schema import schema_of
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.databases import NAME
from tests.support.setups import require
from tests.support.stepped import redis_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import Database
    from tests.support.redis_servers import RedisServer
    from tests.support.stepped import Stepped

    Lines = Callable[[int], list[str]]
    Begin = Callable[..., Stepped]

pytestmark = pytest.mark.server

SILENT = "does not answer"


@pytest.fixture
def weak(database: Database) -> Iterator[str]:
    """Return a role of PostgreSQL that has no right but to connect."""
    database.run("CREATE ROLE weak LOGIN")
    yield "weak"
    database.drop()
    database.run("DROP ROLE weak")


def errors_of(lines: Lines) -> str:
    """Return the ERROR lines as one text."""
    errors = lines(logging.ERROR)
    require(errors, "an error")
    return "\n".join(errors)


@pytest.mark.parametrize(
    ("user", "name"),
    [
        pytest.param("", "nowhere", id="no such database"),
        pytest.param("nobody_here", NAME, id="no such role"),
    ],
)
def test_refused_login_to_postgres_is_not_logged_as_silence(
    database: Database, begin: Begin, lines: Lines, user: str, name: str
) -> None:
    """The server has answered, and its reason is in the log."""
    begin(database.maker(user or database.user, name), work=make_task()).forward(1)
    assert SILENT not in errors_of(lines)


def test_missing_right_in_postgres_is_not_logged_as_silence(
    database: Database, begin: Begin, lines: Lines, weak: str
) -> None:
    """The role may not create a schema."""
    begin(database.maker(weak), work=make_task()).forward(1)
    assert SILENT not in errors_of(lines)


def test_missing_right_in_postgres_names_schema_and_grant(
    database: Database, begin: Begin, lines: Lines, weak: str
) -> None:
    """The administrator reads in the log which right to grant on which schema."""
    begin(database.maker(weak), work=make_task()).forward(1)
    line = errors_of(lines)
    assert ("GRANT" in line, schema_of("") in line) == (True, True)


def test_revoked_right_in_postgres_names_schema_and_grant(
    database: Database, begin: Begin, lines: Lines, weak: str
) -> None:
    """The schema gets another owner while the process runs."""
    database.run(f"GRANT CREATE ON DATABASE {NAME} TO {weak}")
    process = begin(database.maker(weak), work=make_task())
    process.forward(EVERY + 1)
    require(process.ran == ["work"], "a role that may do all that it has to")
    database.inside(f"ALTER SCHEMA @ OWNER TO {database.user}")
    process.forward(EVERY)
    line = errors_of(lines)
    assert ("GRANT" in line, schema_of("") in line, SILENT in line) == (True, True, False)


@pytest.mark.parametrize(
    "user", [pytest.param("", id="none"), pytest.param("shop:wrong@", id="wrong")]
)
def test_refused_password_of_redis_is_not_logged_as_silence(
    redis: RedisServer, begin: Begin, lines: Lines, user: str
) -> None:
    """The server has answered, and its reason is in the log."""
    redis.ask("ACL", "SETUSER", "shop", "on", ">right", "~*", "+@all")
    redis.ask("ACL", "SETUSER", "default", "resetpass", ">secret")
    begin(redis_at(redis.url.replace("//", f"//{user}")), work=make_task()).forward(1)
    assert SILENT not in errors_of(lines)


@pytest.mark.parametrize(
    "rights",
    [
        pytest.param(("~other:*", "+@all"), id="no keys"),
        pytest.param(("~*", "+@read", "+ping"), id="no scripts"),
    ],
)
def test_missing_right_in_redis_is_not_logged_as_silence(
    redis: RedisServer, begin: Begin, lines: Lines, rights: tuple[str, ...]
) -> None:
    """The user of Redis may not access the keys, or not run scripts."""
    redis.ask("ACL", "SETUSER", "shop", "on", ">right", *rights)
    begin(redis_at(redis.url.replace("//", "//shop:right@")), work=make_task()).forward(1)
    assert SILENT not in errors_of(lines)


def test_changed_reason_of_an_outage_of_postgres_is_logged(
    database: Database, begin: Begin, lines: Lines
) -> None:
    """The connections are closed first; after that the database does not exist."""
    process = begin(database.make, work=make_task())
    process.forward(EVERY + 1)
    require(process.ran == ["work"], "a task that runs")
    database.drop()
    process.forward(EVERY)
    assert "does not exist" in errors_of(lines)
