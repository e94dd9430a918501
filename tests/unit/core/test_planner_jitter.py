from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.core.planner import delay_of


@given(task=st.text(), fire_time=st.integers(), below=st.integers(1, 10**12))
def test_a_delay_is_below_its_bound_and_the_same_everywhere(
    task: str, fire_time: int, below: int
) -> None:
    """It depends on the tick alone."""
    delay = delay_of(task, fire_time, below=below)
    assert 0 <= delay < below
    assert delay == delay_of(task, fire_time, below=below)


def test_no_room_is_no_delay() -> None:
    """A bound of zero, as without jitter."""
    assert delay_of("t", 0, below=0) == 0
