from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.core.cursor import delay_of


@given(task=st.text(), fire_time=st.integers(), below=st.integers(1, 10**12))
def test_delay_is_below_its_bound_and_deterministic(task: str, fire_time: int, below: int) -> None:
    """The delay depends only on the tick."""
    delay = delay_of(task, fire_time, below=below)
    assert 0 <= delay < below
    assert delay == delay_of(task, fire_time, below=below)


def test_bound_of_zero_returns_no_delay() -> None:
    """A task without jitter has no delay."""
    assert delay_of("t", 0, below=0) == 0
