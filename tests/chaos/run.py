"""Runs worlds of faults and judges them, for `make chaos`.

    make chaos SECONDS=300 SEED=7 STORE=sqlite WORKER=gevent

Without STORE and WORKER the seed chooses combinations in which each is there at least once, and
they run at the same time. With BROKER each of these fleets executes its runs on Celery workers.
Where nothing is chosen, one small fleet with Celery runs beside the others. The same seed gives the
same tasks and the same list of faults. What each world leaves is in a folder of its own below
`.chaos/`: the app's lines, the faults, the verdicts, the logs of the servers, and the timeline as a
drawing. The exit status says whether any rule is broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.artifacts import SECOND, Case, keep_case, read_case
from tests.chaos.celery_workers import BROKERS, WAIT_S, Post
from tests.chaos.fleet import Fleet, StallDetector, Users, now
from tests.chaos.history import read_accounts, read_history
from tests.chaos.inject import Injector
from tests.chaos.report import is_good, report
from tests.chaos.scenario import (
    KINDS,
    LEASE_S,
    POOLS,
    POSTING_SIZE,
    WORKERS,
    Size,
    World,
    faults,
    posting_worlds,
    queue_faults,
    small_posting_world,
    specs,
    worlds,
)
from tests.chaos.storages import STORAGES, Storage
from tests.chaos.timeline_drawing import draw

if TYPE_CHECKING:
    from tests.chaos.scenario import Planned

HEAD_S = 10
"""How long after the start of the fleet its first tick is."""

POSTING_HEAD_S = 15
"""The same of a fleet with Celery, whose workers take longer."""


def main(arguments: list[str]) -> int:
    """Run what the command line says; return the exit status."""
    asked = _parser().parse_args(arguments)
    if asked.again:
        return _judge_again(Path(asked.again))
    chosen = _chosen(asked)
    print(f"seed {asked.seed}: " + "; ".join(world.title() for world in chosen))  # noqa: T201
    root = Path(asked.folder).resolve()
    with ThreadPoolExecutor(len(chosen)) as pool:
        good = list(pool.map(lambda world: run(world, asked.seconds, root), chosen))
    return 0 if all(good) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=sorted(STORAGES))
    parser.add_argument("--worker", choices=WORKERS)
    parser.add_argument("--broker", choices=sorted(BROKERS), help="run on Celery workers")
    parser.add_argument("--pool", choices=POOLS, help="of the Celery workers")
    parser.add_argument("--hosts", type=int)
    parser.add_argument("--workers", type=int, help="of each host")
    parser.add_argument("--folder", default=".chaos")
    parser.add_argument("--again", help="the folder of a run that is to be judged once more")
    return parser


def _chosen(asked: argparse.Namespace) -> list[World]:
    stores = (asked.store,) if asked.store else tuple(STORAGES)
    chosen = [one for one in worlds(asked.seed, stores) if asked.worker in (None, one.worker)]
    if asked.worker and asked.store:
        chosen = [World(asked.worker, asked.store, asked.seed)]
    if asked.broker:
        chosen = posting_worlds(chosen, asked.seed, broker=asked.broker, pool=asked.pool)
    size = POSTING_SIZE if asked.broker else Size()
    size = Size(asked.hosts or size.hosts, asked.workers or size.workers)
    chosen = [one._replace(size=size) for one in chosen]
    if not (asked.worker or asked.store or asked.broker):
        chosen.append(small_posting_world(asked.seed + len(chosen), stores))
    return chosen


def run(world: World, seconds: float, root: Path) -> bool:
    """Run one world, judge it, write all down, and return whether no rule is broken."""
    folder = root / "-".join([*world.words(), str(world.seed)])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as ends:
        storage = STORAGES[world.store](folder)
        ends.callback(storage.close)
        post = None if world.posting is None else Post(world.posting.broker)
        if post is not None:
            ends.callback(post.close)
        start = (now() // SECOND + (HEAD_S if post is None else POSTING_HEAD_S)) * SECOND
        fleet = Fleet(world, storage, folder, start=start, post=post)
        case, said = _live(fleet, seconds, start=start)
    keep_case(folder, case)
    return _judge(folder, f"{world.title()}, seed {world.seed}", case, said)


def _judge(folder: Path, title: str, case: Case, said: str) -> bool:
    text = report(title, case, said)
    (folder / "verdicts.txt").write_text(text)
    (folder / "timeline.svg").write_text(draw(case))
    print(f"\n{text}\n{folder}", flush=True)  # noqa: T201 - the result
    return is_good(text)


def _judge_again(folder: Path) -> int:
    return 0 if _judge(folder, folder.name, read_case(folder), "") else 1


def _live(fleet: Fleet, seconds: float, *, start: int) -> tuple[Case, str]:
    folder, world, storage = fleet.ground.folder, fleet.world, fleet.storage
    planned = _planned(world, seconds, storage)
    (folder / "plan.txt").write_text("".join(f"{one}\n" for one in planned))
    stall_detector = StallDetector(folder / "stalls.txt")
    try:
        with fleet:
            if not any(line.what == "start" and line.wall < start for line in fleet.lines()):
                raise AssertionError("the machine is too busy: the first tick was before the fleet")
            users = Users([host.server.port or 0 for host in fleet.hosts])
            time.sleep(max(0.0, (start - now()) / SECOND))
            label = "-".join(world.words())
            injector = Injector(fleet, lambda text: print(f"{label:22} {text}", flush=True))  # noqa: T201
            injector.perform(planned)
            time.sleep(max(0.0, start / SECOND + seconds - time.time()))
            said = users.stop()
            ended = now()
            ends = fleet.stop()
            lines = fleet.lines()
    finally:
        stalls = stall_detector.stop()
    case = Case(
        specs(start, posted=fleet.post is not None),
        lines,
        (*injector.done, *stalls, *ends),
        read_history(storage.word, "chaos"),
        ended,
        LEASE_S * SECOND,
        read_accounts(storage.word, "chaos"),
        0 if fleet.post is None else WAIT_S * SECOND,
    )
    return case, said


def _planned(world: World, seconds: float, storage: Storage) -> list[Planned]:
    kinds = tuple(kind for kind in KINDS if not kind.startswith("store-") or kind in storage.kinds)
    posts = world.posting is not None
    planned = faults(world.seed, seconds, kinds=kinds, hosts=world.size.hosts, rare=posts)
    return sorted([*planned, *(queue_faults(world.seed, seconds) if posts else ())])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
