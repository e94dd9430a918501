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

POOLS = ("prefork", "gevent", "threads")
QUEUE_KINDS = (
    "kill-child",
    "broker-stop",
    "stop-child",
    "proxy-deaf",
    "kill-worker",
    "purge",
    "proxy-stall",
    "term-worker",
    "copies",
    "proxy-cut",
)
"""The faults on the way from the web processes to the Celery workers."""

LASTS_S = {
    **dict.fromkeys(("kill-child", "purge", "copies"), 8.0),
    **dict.fromkeys(("kill-worker", "term-worker"), 10.0),
    "stop-child": 11.0,
    **dict.fromkeys(("broker-stop", "proxy-deaf", "proxy-stall", "proxy-cut"), 18.0),
}
"""About how long each of them lasts, with the bound within which runs must go on after it."""

RARE = 2.0
OVERLAPS = 0.5
"""The share of these faults during which the next one begins."""


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


POSTING_SIZE = Size(hosts=2, workers=1)
"""That of a fleet whose runs are executed by Celery workers."""


class Posting(NamedTuple):
    """How a fleet executes runs on Celery workers: broker, pool, number of workers and slots."""

    broker: str
    pool: str
    workers: int = 1
    slots: int = 2


class World(NamedTuple):
    """One combination to run: a worker class and a store, and Celery workers or None."""

    worker: str
    store: str
    seed: int
    size: Size = Size()
    posting: Posting | None = None

    def title(self) -> str:
        """Return the combination as the report says it."""
        if self.posting is None:
            return f"{self.worker} on {self.store}"
        return f"{self.worker} on {self.store}, {self.posting.pool} behind {self.posting.broker}"

    def words(self) -> list[str]:
        """Return the same for the name of a folder."""
        celery = [] if self.posting is None else [self.posting.broker, self.posting.pool]
        return [self.worker, self.store, *celery]


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


def posting_worlds(
    chosen: list[World], seed: int, *, broker: str, pool: str | None = None
) -> list[World]:
    """Return the combinations with Celery workers, each pool at least once if there are enough.

    A fleet has two web processes by default, since its workers need the processor too.
    """
    dice = Random(f"pools {seed}")  # noqa: S311 - to be repeated, not to be guessed
    pools = _dealt(dice, (pool,) if pool else POOLS, len(chosen))
    return [
        one._replace(posting=Posting(broker, each, workers=2))
        for one, each in zip(chosen, pools, strict=True)
    ]


def small_posting_world(seed: int, stores: tuple[str, ...]) -> World:
    """Return the small fleet with Celery of a run that nothing was chosen for."""
    dice = Random(f"posting {seed}")  # noqa: S311 - to be repeated, not to be guessed
    worker, store = dice.choice(WORKERS), dice.choice(stores)
    return World(worker, store, seed, POSTING_SIZE, Posting("rabbitmq", "prefork"))


def _dealt(dice: Random, words: tuple[str, ...], count: int) -> list[str]:
    dealt: list[str] = []
    while len(dealt) < count:
        dealt += dice.sample(words, len(words))
    return dealt[:count]


def faults(
    seed: int, seconds: float, *, kinds: tuple[str, ...], hosts: int = 2, rare: bool = False
) -> list[Planned]:
    """Return the faults in order: each kind comes before any is repeated.

    They are *rare* where others happen at the same time.
    """
    dice = Random(f"faults {seed}")  # noqa: S311 - to be repeated, not to be guessed
    planned: list[Planned] = []
    bag: list[str] = []
    at_s = 3.0
    while at_s < seconds - CALM_S:
        bag = bag or dice.sample(kinds, len(kinds))
        planned.append(Planned(at_s, bag.pop(), dice.randrange(hosts), dice.random()))
        at_s = round(at_s + dice.uniform(1.0, 3.5) * (RARE if rare else 1.0), 2)
    return planned


def queue_faults(seed: int, seconds: float) -> list[Planned]:
    """Return the faults on the way to the workers; most are over before the next one begins."""
    dice = Random(f"posted faults {seed}")  # noqa: S311 - to be repeated, not to be guessed
    planned: list[Planned] = []
    bag: list[str] = []
    at_s = 4.0
    while at_s < seconds - CALM_S:
        bag = bag or dice.sample(QUEUE_KINDS, len(QUEUE_KINDS))
        fitting = [kind for kind in bag if at_s + LASTS_S[kind] < seconds]
        if not fitting:
            break
        bag.remove(fitting[-1])
        planned.append(Planned(at_s, fitting[-1], dice.randrange(2), dice.random()))
        follows = 0.0 if dice.random() < OVERLAPS else LASTS_S[fitting[-1]]
        at_s = round(at_s + follows + dice.uniform(1.0, 4.0), 2)
    return planned


def specs(start: int, *, posted: bool = False) -> tuple[Spec, ...]:
    """Return the tasks; *start* is a whole second.

    The runs of *posted* tasks together keep one slot of a worker busy.
    """
    half = SECOND // 2
    if posted:
        return (
            Spec("second", SECOND, start, overlap="allow", misfire="all"),
            Spec("every", SECOND, start + half, misfire="all"),
            Spec("plain", SECOND, start + half // 2),
            Spec("nap", 2 * SECOND, start),
            Spec("crowd", 2 * SECOND, start + half, overlap="allow", misfire="all"),
            Spec("queue", 4 * SECOND, start + 3 * half, overlap="wait"),
            Spec("flaky", 4 * SECOND, start, retries=2),
            Spec("again", 2 * SECOND, start + SECOND, rerun=True),
        )
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

POSTED_ACTIONS = ACTIONS | {
    "nap": "nap?nap=2.3",
    "crowd": "nap?nap=0.4",
    "queue": "nap?nap=0.8",
    "again": "nap?nap=0.3",
}


def settings(spec: Spec, start_text: str, *, posted: bool = False) -> dict[str, str]:
    """Return the settings of one task as an ini file has them; *start_text* is its first tick."""
    words = {
        "action": (POSTED_ACTIONS if posted else ACTIONS)[spec.name],
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
