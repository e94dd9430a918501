"""The scenario that follows from a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.artifacts import SECOND
from tests.chaos.scenario import (
    CALM_S,
    KINDS,
    LASTS_S,
    POOLS,
    QUEUE_KINDS,
    WORKERS,
    faults,
    posting_worlds,
    queue_faults,
    settings,
    small_posting_world,
    specs,
    worlds,
)

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


@given(seeds)
def test_scenario_with_a_broker_has_each_pool(seed: int) -> None:
    """Unless one is chosen."""
    chosen = worlds(seed, STORES)
    pools = [
        one.posting.pool for one in posting_worlds(chosen, seed, broker="redis") if one.posting
    ]
    assert set(pools) == set(POOLS)
    only = posting_worlds(chosen, seed, broker="redis", pool="gevent")
    assert {one.posting.pool for one in only if one.posting} == {"gevent"}


@given(seeds)
def test_small_fleet_with_celery_has_one_of_the_stores(seed: int) -> None:
    """It stands beside the other fleets of a run, on the same processors."""
    world = small_posting_world(seed, STORES)
    assert world.store in STORES
    assert world.posting is not None
    assert (world.posting.broker, world.posting.pool) == ("rabbitmq", "prefork")
    assert (world.size.hosts * world.size.workers, world.posting.slots) == (2, 2)


@given(seeds, st.integers(40, 300))
def test_runs_can_go_on_after_the_last_fault_on_the_way_to_the_workers(
    seed: int, seconds: int
) -> None:
    """The bound after it ends before the scenario does."""
    planned = queue_faults(seed, seconds)
    assert planned
    assert all(one.at_s + LASTS_S[one.kind] < seconds for one in planned)


@given(seeds)
def test_each_kind_of_fault_on_the_way_comes_before_any_is_repeated(seed: int) -> None:
    """A long scenario has all of them."""
    kinds = [one.kind for one in queue_faults(seed, 600)]
    assert set(kinds[: len(QUEUE_KINDS)]) == set(QUEUE_KINDS)


def test_runs_of_posted_tasks_fit_the_slots_of_a_small_worker() -> None:
    """Else they would wait for each other."""
    naps = {
        spec.name: float(settings(spec, "", posted=True)[f"pulse.task.{spec.name}.action"][8:] or 0)
        for spec in specs(0, posted=True)
        if spec.name in {"nap", "crowd", "queue", "again"}
    }
    every = {spec.name: spec.every / SECOND for spec in specs(0, posted=True)}
    busy = sum(nap / max(every[name], nap) for name, nap in naps.items() if name != "nap")
    assert busy + naps["nap"] / (2 * every["nap"]) < 1.2
