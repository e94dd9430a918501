"""The scenario that follows from a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.artifacts import SECOND
from tests.chaos.scenario import CALM_S, KINDS, WORKERS, faults, settings, specs, worlds

STORES = ("sqlite", "postgres", "redis")
seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 3))
def test_scenario_has_each_worker_class_and_each_store(seed: int, count: int) -> None:
    """The short run leaves none out."""
    chosen = worlds(seed, STORES[:count])
    assert {one.worker for one in chosen} == set(WORKERS)
    assert {one.store for one in chosen} == set(STORES[:count])


@given(seeds)
def test_equal_seeds_give_equal_scenarios(seed: int) -> None:
    """A run that failed can be repeated."""
    assert faults(seed, 120, kinds=KINDS) == faults(seed, 120, kinds=KINDS)
    assert worlds(seed, STORES) == worlds(seed, STORES)


@given(seeds, st.integers(40, 300))
def test_scenario_ends_without_faults(seed: int, seconds: int) -> None:
    """The last fault can be over before the run ends."""
    assert all(one.at_s < seconds - CALM_S for one in faults(seed, seconds, kinds=KINDS))


@given(seeds)
def test_each_kind_of_fault_comes_before_any_is_repeated(seed: int) -> None:
    """A long scenario has all of them."""
    kinds = [one.kind for one in faults(seed, 60, kinds=KINDS)]
    assert set(kinds[: len(KINDS)]) == set(KINDS)


def test_settings_for_pulse_agree_with_the_checker() -> None:
    """Policies and fire times are the same on both sides."""
    (queue,) = [spec for spec in specs(0) if spec.name == "queue"]
    words = settings(queue, "2026-11-23T07:00:00Z")
    assert words["pulse.task.queue.interval"] == f"{3 * SECOND}us"
    assert words["pulse.task.queue.overlap"] == "wait"
