from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.core.run import Outcome, Run, Trigger, run_id

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


def test_id_of_a_planned_run_is_equal_in_all_processes_and_releases() -> None:
    """The id is a hash of space, task, partition and fire time."""
    assert run_id("shop", "cleanup", "", 300_000_000) == "110c1cd17bffe2c2902c0e62b7bbc691"


@given(
    a=st.tuples(names, names, names, st.integers()), b=st.tuples(names, names, names, st.integers())
)
def test_different_ticks_have_different_ids(
    a: tuple[str, str, str, int], b: tuple[str, str, str, int]
) -> None:
    """Space, task, place and slot are kept apart in the hash."""
    assert (run_id(*a) == run_id(*b)) is (a == b)


def test_id_has_32_hex_digits() -> None:
    """An id is valid in a header and in a database key."""
    assert len(bytes.fromhex(run_id("", "t", "", 0))) == 16


def test_lateness_is_the_start_minus_the_fire_time() -> None:
    """The unit is microseconds."""
    assert Run(id="1", task="t", fire_time=5, started_at=7).lateness_us == 2


def test_run_that_has_not_started_has_no_lateness() -> None:
    """The lateness is None, not zero."""
    assert Run(id="1", task="t", fire_time=5).lateness_us is None


def test_run_is_frozen() -> None:
    """An app cannot change the run in its environ."""
    with pytest.raises(AttributeError, match="immutable"):
        Run(id="1", task="t", fire_time=5).task = "x"


def test_encoded_run_decodes_to_an_equal_run() -> None:
    """Runs are sent to child processes."""
    run = Run(id="1", task="t", fire_time=5, scheduled_for=5, body=b"\xff")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(run), type=Run) == run


def test_outcomes_and_triggers_are_text() -> None:
    """A view can compare them with text, and send them as JSON."""
    assert Outcome.SUCCEEDED == "succeeded"
    assert json.dumps([Outcome.TIMED_OUT, Trigger.CATCH_UP]) == '["timed_out", "catch_up"]'
