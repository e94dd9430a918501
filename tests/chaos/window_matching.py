"""Matches runs to the windows in which they must start, by time alone."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Window(NamedTuple):
    """A tick that must run, and when its run must start."""

    task: str
    opens: int
    closes: int


def match_windows(
    begins: Sequence[int], windows: Sequence[Window]
) -> tuple[list[int], list[Window]]:
    """Match runs to windows by time; return the runs and the windows that are left over.

    Args:
        begins: when the runs began, oldest first.
        windows: what must run, by the instants at which they open.

    """
    waiting = list(windows)[::-1]
    open_now: list[tuple[int, Window]] = []
    extras: list[int] = []
    misses: list[Window] = []
    for begin in begins:
        while waiting and waiting[-1].opens <= begin:
            window = waiting.pop()
            heappush(open_now, (window.closes, window))
        while open_now and open_now[0][0] < begin:
            misses.append(heappop(open_now)[1])
        if open_now:
            heappop(open_now)
        else:
            extras.append(begin)
    return extras, [*misses, *(window for _, window in open_now), *reversed(waiting)]
