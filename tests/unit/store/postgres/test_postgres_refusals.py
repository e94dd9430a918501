"""Errors of PostgreSQL that refuse a call, and the hints for operators."""

from __future__ import annotations

import pytest

psycopg = pytest.importorskip("psycopg")

from psycopg import errors  # noqa: E402 - after the check that it exists

from pulse.store.postgres.refusals import Login, hint_of, is_refusal  # noqa: E402

LOGIN = Login("shop", "Shop")
SCHEMA = "pulse_shop_73c5d7d6"
FAILED = 'connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "text",
    [
        f"{FAILED}Connection refused",
        f"{FAILED}FATAL:  the database system is starting up",
        f"{FAILED}FATAL:  sorry, too many clients already",
        f"{FAILED}FATAL:  server login has been failing, cached error: connect failed",
        "the server did not answer in time",
    ],
)
def test_login_to_a_server_that_is_away_is_no_refusal(text: str) -> None:
    """A server that starts accepts the same login soon."""
    assert not is_refusal(psycopg.OperationalError(text))


@pytest.mark.parametrize(
    "error",
    [
        errors.AdminShutdown(),
        errors.QueryCanceled(),
        errors.TooManyConnections(),
        errors.SerializationFailure(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_of_load_or_shutdown_is_no_refusal(error: Exception) -> None:
    """The same statement may succeed later."""
    assert not is_refusal(error)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (errors.ReadOnlySqlTransaction(), "target_session_attrs=read-write"),
        (errors.DiskFull(), "make room"),
        (psycopg.OperationalError(f'{FAILED}FATAL:  database "x" does not exist'), "create the d"),
        (psycopg.OperationalError(f'{FAILED}FATAL:  role "x" does not exist'), "create the role"),
        (
            psycopg.OperationalError(f'{FAILED}FATAL:  password authentication failed for "x"'),
            "check user and password",
        ),
        (
            psycopg.OperationalError(f'{FAILED}FATAL:  no pg_hba.conf entry for host "x"'),
            "allow the role to log in",
        ),
        (
            errors.InsufficientPrivilege("permission denied for database Shop"),
            f'GRANT CREATE ON DATABASE "Shop" TO shop, or CREATE SCHEMA {SCHEMA}',
        ),
        (
            errors.InsufficientPrivilege("permission denied for table tasks"),
            f"GRANT ALL ON ALL TABLES IN SCHEMA {SCHEMA} TO shop",
        ),
    ],
)
def test_refusal_has_a_hint(error: Exception, part: str) -> None:
    """The operator reads what to do, with the schema and the role."""
    assert (is_refusal(error), part in hint_of(error, LOGIN, SCHEMA)) == (True, True)
