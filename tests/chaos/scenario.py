"""The scenario that follows from a seed: combinations, tasks, and the list of faults."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from tests.chaos.artifacts import SECOND, Spec

WORKERS = ("sync", "gthread", "gevent")
LEASE_S = 3
CALM_S = 9.0
"""How long nothing is done at the end: what the last fault did has to be over by then."""

KINDS = (
    "kill",
    "kill-looker",
    "kill-after-claim",
    "kill-mid-request",
    "kill-before-finish",
    "stop",
    "stop-lookers",
    "stop-after-claim",
    "block",
    "mark-delete",
    "mark-truncate",
    "mark-read-only",
    "hup",
    "restart",
    "kill-master",
    "store-pause",
    "store-restart",
)


class Planned(NamedTuple):
    """A planned fault: its time, kind and host, and the random number that chooses the victim."""

    at_s: float
    kind: str
    host: int
    dice: float


class Size(NamedTuple):
    """How many hosts a fleet has, and how many workers each of them has."""

    hosts: int = 2
    workers: int = 2


class World(NamedTuple):
    """One combination to run: a worker class and a store."""

    worker: str
    store: str
    seed: int
    size: Size = Size()


def worlds(seed: int, stores: tuple[str, ...]) -> list[World]:
    """Return combinations in which each worker class and each store occurs at least once."""
    dice = Random(f"worlds {seed}")  # noqa: S311 - to be repeated, not to be guessed
    count = max(len(WORKERS), len(stores))
    workers = _dealt(dice, WORKERS, count)
    kept = _dealt(dice, stores, count)
    return [
        World(worker, store, seed + index)
        for index, (worker, store) in enumerate(zip(workers, kept, strict=True))
    ]


def _dealt(dice: Random, words: tuple[str, ...], count: int) -> list[str]:
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += dice.sample(words, len(words))
    return dealt[:count]


def faults(seed: int, seconds: float, *, kinds: tuple[str, ...], hosts: int = 2) -> list[Planned]:
    """Return the faults in order: each kind comes before any is repeated."""
    dice = Random(f"faults {seed}")  # noqa: S311 - to be repeated, not to be guessed
    planned: list[Planned] = []
    bag: list[str] = []
    at_s = 3.0
    while at_s < seconds - CALM_S:
        bag = bag or dice.sample(kinds, len(kinds))
        planned.append(Planned(at_s, bag.pop(), dice.randrange(hosts), dice.random()))
        at_s = round(at_s + dice.uniform(1.0, 3.5), 2)
    return planned


def specs(start: int) -> tuple[Spec, ...]:
    """Return the tasks; *start* is a whole second."""
    half = SECOND // 2
    return (
        Spec("second", SECOND, start, overlap="allow", misfire="all"),
        Spec("every", SECOND, start + half, misfire="all"),
        Spec("plain", SECOND, start + half // 2),
        Spec("nap", 2 * SECOND, start),
        Spec("crowd", SECOND, start + half, overlap="allow", misfire="all"),
        Spec("queue", 3 * SECOND, start, overlap="wait"),
        Spec("flaky", 4 * SECOND, start, retries=2),
        Spec("again", 2 * SECOND, start + half, rerun=True),
    )


ACTIONS = {
    "second": "now",
    "every": "now",
    "plain": "now",
    "nap": "nap?nap=2.6",
    "crowd": "nap?nap=1.7",
    "queue": "nap?nap=3.4",
    "flaky": "now?flaky=1",
    "again": "nap?nap=0.6",
}
"""What each task requests, below the context."""


def settings(spec: Spec, start_text: str) -> dict[str, str]:
    """Return the settings of one task as an ini file has them; *start_text* is its first tick."""
    words = {
        "action": ACTIONS[spec.name],
        "start": start_text,
        "overlap": spec.overlap,
        "misfire": spec.misfire,
        "on_abandoned": "rerun" if spec.rerun else "record",
        "retries": str(spec.retries),
        "retry_min_backoff": "300ms",
    }
    if spec.name == "second":
        words["cron"] = "* * * * * *"
    else:
        words["interval"] = f"{spec.every}us"
    return {f"pulse.task.{spec.name}.{key}": value for key, value in words.items()}
