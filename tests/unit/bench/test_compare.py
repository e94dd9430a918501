"""What the comparison of two checkouts reads, and what it makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

HANDOFF = """\
us a run, best of 5 x 3000 runs, 10 slots
                          CPU       wall
bare threads             2.83       2.83
threads, patched         5.17       6.70
"""
FLEET = """\
                         processes   ticks/s  CPU us/tick  server us  switches  batch mean  median\
  empty looks/s
redis, bare                      1    58,900          2.5        4.3     0.010       100.0     100\
            0.0
redis                            4     3,000         52.5       51.3     0.073       100.0     100\
           12.5
"""


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 1, 1), (3, 1, 3), (6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10)]
)
def test_the_interval_of_a_median_is_between_ranks(
    compare: ModuleType, count: int, low: int, high: int
) -> None:
    """At most five in a hundred medians are outside, as far as so few rounds can show."""
    assert compare.interval([float(one) for one in range(count, 0, -1)]) == (low, high)


@pytest.mark.parametrize(("unit", "ratio"), [("us", 1.25), ("ticks/s", 0.8)])
def test_a_ratio_above_one_means_slower(compare: ModuleType, unit: str, ratio: float) -> None:
    """A rate that rises is no loss, a cost that rises is one."""
    series = compare.Series(unit, old=[4.0], new=[5.0])
    assert (series.ratios(), series.best()) == ([ratio], ratio)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([0.98] * 5 + [1.02], ""),
        ([0.98] * 5 + [1.03], "unclear"),
        ([1.02] + [1.3] * 5, "unclear"),
        ([1.03] + [1.3] * 5, "slower"),
        ([1.3] * 5, "unclear"),
    ],
)
def test_only_an_interval_above_the_budget_is_slower(
    compare: ModuleType, ratios: list[float], verdict: str
) -> None:
    """What may be noise is no verdict, and neither is what too few rounds say."""
    assert compare.verdict(ratios, 2.0) == verdict


def test_the_table_of_engines_is_read(compare: ModuleType) -> None:
    """As scripts print it that know no JSON."""
    assert compare.handoff_table(HANDOFF) == {
        "bare threads, CPU": ("us", 2.83),
        "bare threads, wall": ("us", 2.83),
        "threads, patched, CPU": ("us", 5.17),
        "threads, patched, wall": ("us", 6.7),
    }


def test_the_table_of_fleets_is_read(compare: ModuleType) -> None:
    """By the names that the JSON has."""
    assert compare.fleet_table(FLEET) == {
        "redis, bare, 1 process, rate": ("ticks/s", 58_900.0),
        "redis, bare, 1 process, CPU a tick": ("us", 2.5),
        "redis, bare, 1 process, CPU of the server a tick": ("us", 4.3),
        "redis, 4 processes, rate": ("ticks/s", 3_000.0),
        "redis, 4 processes, CPU a tick": ("us", 52.5),
        "redis, 4 processes, CPU of the server a tick": ("us", 51.3),
    }
