"""Error replies of Redis that refuse a call, and the hints for operators."""

from __future__ import annotations

import pytest

from pulse.store.redis.refusals import hint_of, is_refusal

PREFIX = "{pulse:shop-73c5d7d6}:"


@pytest.mark.parametrize(
    "reply",
    [
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "BUSY Redis is busy running a script.",
    ],
)
def test_reply_of_a_server_that_is_busy_is_no_refusal(reply: str) -> None:
    """It will answer the same call soon."""
    assert not is_refusal(reply)


@pytest.mark.parametrize(
    ("reply", "part"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "user and password"),
        ("Authentication required.", "add user and password"),
        ("NOPERM this user has no permissions to run the 'eval' command", PREFIX),
        ("DB index is out of range", "a database that the server has"),
        ("READONLY You can't write against a read only replica.", "name the primary"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "raise maxmemory"),
    ],
)
def test_refusal_has_a_hint(reply: str, part: str) -> None:
    """The operator reads what to do."""
    hint = hint_of(reply, PREFIX)
    assert (is_refusal(reply), part in hint) == (True, True)
