"""Parcels survive their way through JSON, and content that is no parcel is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.carrier.base import VERSION, Parcel, parcel_of
from pulse.clock import SECOND
from pulse.core.task import Task, build_definition
from pulse.testing.sample_runs import make_claim
from tests.support.claims import make_claim as make_claim_of

PARCEL = Parcel(
    run="0123456789abcdef" * 2,
    attempt=2,
    task="cleanup",
    poster="host:1:nonce",
    digest="00ff",
    timeout_us=60 * SECOND,
    wait_us=7 * SECOND,
)
CONTENT: dict[str, Any] = msgspec.to_builtins(PARCEL)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(0, 2**62)


@given(
    st.builds(
        Parcel,
        run=TEXTS,
        attempt=NUMBERS,
        task=TEXTS,
        poster=TEXTS,
        digest=TEXTS,
        timeout_us=NUMBERS,
        version=NUMBERS,
    )
)
def test_a_parcel_is_the_same_after_json(parcel: Parcel) -> None:
    """Celery writes it with the library of the standard, and reads it so."""
    content = json.loads(json.dumps(msgspec.to_builtins(parcel)))
    assert msgspec.convert(content, Parcel) == parcel


def test_a_parcel_names_the_run_of_a_claim() -> None:
    """The attempt, who has claimed it, and the digest of the definition."""
    claim = make_claim("quick", timeout=7.0)
    run, digest = claim.run, claim.definition.digest
    timeout = claim.definition.timeout_us
    parcel = parcel_of(run, digest=digest, timeout_us=timeout, wait_us=7 * SECOND)
    assert parcel == Parcel(
        run=run.id,
        attempt=run.attempt,
        task="quick",
        poster="test",
        digest=digest,
        timeout_us=7 * SECOND,
        wait_us=7 * SECOND,
        version=VERSION,
    )


def test_a_parcel_holds_no_part_of_the_call() -> None:
    """A reader of the queue gets neither headers nor the body."""
    claim = make_claim_of(
        headers={"Authorization": "Bearer S3CRET"}, body="S3CRET", run_body=b"S3CRET"
    )
    parcel = parcel_of(claim.run, digest=claim.definition.digest, timeout_us=1, wait_us=1)
    text = json.dumps(msgspec.to_builtins(parcel))
    assert "S3CRET" not in text
    assert len(text) < 300


def test_fields_of_a_newer_release_are_ignored() -> None:
    """The version says whether the parcel can be understood."""
    newer = CONTENT | {"version": VERSION + 1, "priority": 5}
    assert msgspec.convert(newer, Parcel).version == VERSION + 1


@pytest.mark.parametrize("name", [name for name in CONTENT if name not in {"version", "left"}])
def test_a_field_must_not_be_missing(name: str) -> None:
    """Each of them is needed to take the run."""
    content = {key: value for key, value in CONTENT.items() if key != name}
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(content, Parcel)


@pytest.mark.parametrize(
    "content",
    [
        *(None, [], "text", 5, {}, [CONTENT], json.dumps(CONTENT)),
        *(CONTENT | {name: None} for name in CONTENT),
        *(CONTENT | {name: "x"} for name in ("attempt", "timeout_us", "version")),
        *(CONTENT | {name: 1.5} for name in ("attempt", "timeout_us", "version")),
        *(CONTENT | {name: 1} for name in ("run", "task", "poster", "digest")),
        CONTENT | {"attempt": True},
    ],
    ids=repr,
)
def test_content_that_is_no_parcel_is_refused(content: object) -> None:
    """Anybody who may write to the broker can send it."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(content, Parcel)


def test_a_change_of_a_definition_changes_the_digest() -> None:
    """So a worker with another configuration leaves the run to others."""
    one, other = (
        build_definition("t", Task(action="a", interval=60, queue=queue)) for queue in ("a", "b")
    )
    same = build_definition("t", Task(action="a", interval=60, queue="a"))
    assert (one.digest == same.digest, one.digest == other.digest) == (True, False)
