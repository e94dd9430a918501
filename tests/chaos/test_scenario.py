"""What follows from a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.artifacts import SECOND
from tests.chaos.scenario import CALM_S, KINDS, WORKERS, faults, settings, specs, worlds

STORES = ("sqlite", "postgres", "redis")
seeds = st.integers(0, 10_000)


@given(seeds, st.integers(1, 3))
def test_each_worker_class_and_each_store_is_there(seed: int, count: int) -> None:
    """The short run leaves none out."""
    chosen = worlds(seed, STORES[:count])
    assert {one.worker for one in chosen} == set(WORKERS)
    assert {one.store for one in chosen} == set(STORES[:count])


@given(seeds)
def test_a_seed_gives_the_same_again(seed: int) -> None:
    """A run that failed can be repeated."""
    assert faults(seed, 120, kinds=KINDS) == faults(seed, 120, kinds=KINDS)
    assert worlds(seed, STORES) == worlds(seed, STORES)


@given(seeds, st.integers(40, 300))
def test_the_end_is_calm(seed: int, seconds: int) -> None:
    """What the last fault did can be over before the run is."""
    assert all(one.at_s < seconds - CALM_S for one in faults(seed, seconds, kinds=KINDS))


@given(seeds)
def test_every_fault_comes_before_any_comes_again(seed: int) -> None:
    """A list that is long enough has all of them."""
    kinds = [one.kind for one in faults(seed, 60, kinds=KINDS)]
    assert set(kinds[: len(KINDS)]) == set(KINDS)


def test_tasks_are_told_to_pulse_as_the_checker_knows_them() -> None:
    """Policies and the grid are the same on both sides."""
    (queue,) = [spec for spec in specs(0) if spec.name == "queue"]
    words = settings(queue, "2026-11-23T07:00:00Z")
    assert words["pulse.task.queue.interval"] == f"{3 * SECOND}us"
    assert words["pulse.task.queue.overlap"] == "wait"
