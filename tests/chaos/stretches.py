"""Sets of stretches of time: each is a begin and an end in microseconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Stretch = tuple[int, int]


def without(stretch: Stretch, holes: Iterable[Stretch]) -> list[Stretch]:
    """Return the parts of a stretch outside the holes."""
    left: list[Stretch] = []
    began, until = stretch
    for hole_began, hole_ended in sorted(holes):
        if hole_ended <= began or hole_began >= until:
            continue
        if hole_began > began:
            left.append((began, hole_began))
        began = max(began, hole_ended)
    if began < until:
        left.append((began, until))
    return left


def union(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Return the time that is in any of the stretches, in order and without overlaps."""
    joined: list[Stretch] = []
    for began, ended in sorted(one for one in stretches if one[0] < one[1]):
        if joined and began <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], ended)
        else:
            joined.append((began, ended))
    return joined


def outside(stretches: Iterable[Stretch], holes: Sequence[Stretch]) -> list[Stretch]:
    """Return the parts of all stretches outside the holes."""
    return [part for one in stretches for part in without(one, holes)]


def common(some: Iterable[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """Return the time that is in one of *some* and in one of *others*, for each pair."""
    pairs = ((max(one[0], other[0]), min(one[1], other[1])) for one in some for other in others)
    return [(began, ended) for began, ended in pairs if began < ended]


def crowded(stretches: Sequence[Stretch], limit: int) -> list[Stretch]:
    """Return the time that is in at least *limit* of the stretches."""
    edges = sorted([*((began, 1) for began, _ in stretches), *((end, -1) for _, end in stretches)])
    found: list[Stretch] = []
    count, since = 0, 0
    for instant, step in edges:
        before, count = count, count + step
        if before < limit <= count:
            since = instant
        elif count < limit <= before and since < instant:
            found.append((since, instant))
    return found
