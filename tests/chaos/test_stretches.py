"""Sets of stretches of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.stretches import common, crowded, outside, union, without

stretches = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 10)).map(lambda one: (one[0], one[0] + one[1])),
    max_size=6,
)
instants = st.integers(0, 45)


def has(some: list[tuple[int, int]], instant: int) -> int:
    """Return in how many stretches an instant is."""
    return sum(began <= instant < ended for began, ended in some)


@given(stretches, instants)
def test_union_has_each_instant_once(some: list[tuple[int, int]], instant: int) -> None:
    """Stretches that touch become one."""
    assert has(union(some), instant) == (has(some, instant) > 0)


@given(stretches, stretches, instants)
def test_outside_leaves_what_is_in_no_hole(
    some: list[tuple[int, int]], holes: list[tuple[int, int]], instant: int
) -> None:
    """Each stretch is cut by itself."""
    assert has(outside(some, holes), instant) == has(some, instant) * (not has(holes, instant))


@given(stretches, stretches, instants)
def test_common_has_what_is_in_both(
    some: list[tuple[int, int]], others: list[tuple[int, int]], instant: int
) -> None:
    """Each pair is counted."""
    assert has(common(some, others), instant) == has(some, instant) * has(others, instant)


@given(stretches, st.integers(1, 3), instants)
def test_crowded_has_what_is_in_enough_stretches(
    some: list[tuple[int, int]], limit: int, instant: int
) -> None:
    """As runs that keep all slots of a process busy."""
    assert has(crowded(some, limit), instant) == (has(some, instant) >= limit)


def test_stretch_without_holes_stays_whole() -> None:
    """A hole outside of it changes nothing."""
    assert without((1, 5), [(5, 9)]) == [(1, 5)]
    assert without((1, 5), [(0, 9)]) == []
