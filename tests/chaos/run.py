"""Runs worlds of faults and judges them, for `make chaos`.

    make chaos SECONDS=300 SEED=7 STORE=sqlite WORKER=gevent

Without STORE and WORKER the seed chooses combinations in which each is there at least once, and
they run at the same time. The same seed gives the same tasks and the same list of faults. What
each world leaves is in a folder of its own below `.chaos/`: the app's lines, the faults, the
verdicts, the logs of the servers, and the timeline as a drawing. The exit status says whether any
rule is broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.artifacts import SECOND, Case, keep_case, read_case
from tests.chaos.fleet import Fleet, StallDetector, Users, now
from tests.chaos.history import read_accounts, read_history
from tests.chaos.inject import Injector
from tests.chaos.report import is_good, report
from tests.chaos.scenario import KINDS, LEASE_S, WORKERS, Size, World, faults, specs, worlds
from tests.chaos.storages import STORAGES, Storage
from tests.chaos.timeline_drawing import draw

HEAD_S = 10
"""How long the fleet has to be there before its first tick."""


def main(arguments: list[str]) -> int:
    """Run what the command line says; return the exit status."""
    asked = _parser().parse_args(arguments)
    if asked.again:
        return _judge_again(Path(asked.again))
    size = Size(asked.hosts, asked.workers)
    chosen = [one._replace(size=size) for one in _chosen(asked.seed, asked.worker, asked.store)]
    print(f"seed {asked.seed}: " + ", ".join(f"{w.worker} on {w.store}" for w in chosen))  # noqa: T201
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
    parser.add_argument("--hosts", type=int, default=Size().hosts)
    parser.add_argument("--workers", type=int, default=Size().workers, help="of each host")
    parser.add_argument("--folder", default=".chaos")
    parser.add_argument("--again", help="the folder of a run that is to be judged once more")
    return parser


def _chosen(seed: int, worker: str | None, store: str | None) -> list[World]:
    if worker and store:
        return [World(worker, store, seed)]
    stores = (store,) if store else tuple(STORAGES)
    return [one for one in worlds(seed, stores) if worker in (None, one.worker)]


def run(world: World, seconds: float, root: Path) -> bool:
    """Run one world, judge it, write all down, and return whether no rule is broken."""
    folder = root / f"{world.worker}-{world.store}-{world.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    storage = STORAGES[world.store](folder)
    try:
        case, said = _live(world, seconds, folder, storage)
    finally:
        storage.close()
    keep_case(folder, case)
    return _judge(folder, f"{world.worker} on {world.store}, seed {world.seed}", case, said)


def _judge(folder: Path, title: str, case: Case, said: str) -> bool:
    text = report(title, case, said)
    (folder / "verdicts.txt").write_text(text)
    (folder / "timeline.svg").write_text(draw(case))
    print(f"\n{text}\n{folder}", flush=True)  # noqa: T201 - the result
    return is_good(text)


def _judge_again(folder: Path) -> int:
    return 0 if _judge(folder, folder.name, read_case(folder), "") else 1


def _live(world: World, seconds: float, folder: Path, storage: Storage) -> tuple[Case, str]:
    start = (now() // SECOND + HEAD_S) * SECOND
    planned = faults(world.seed, seconds, kinds=_kinds(storage), hosts=world.size.hosts)
    (folder / "plan.txt").write_text("".join(f"{one}\n" for one in planned))
    stall_detector = StallDetector(folder / "stalls.txt")
    try:
        with Fleet(world, storage, folder, start=start) as fleet:
            users = Users([host.server.port or 0 for host in fleet.hosts])
            time.sleep(max(0.0, (start - now()) / SECOND))
            injector = Injector(fleet, lambda text: print(f"{world.worker:7} {text}", flush=True))  # noqa: T201
            injector.perform(planned)
            time.sleep(max(0.0, start / SECOND + seconds - time.time()))
            said = users.stop()
            ended = now()
            for host in fleet.hosts:
                host.server.stop(timeout=40)
            lines = fleet.lines()
    finally:
        stalls = stall_detector.stop()
    done = (*injector.done, *stalls)
    history = read_history(storage.word, "chaos")
    accounts = read_accounts(storage.word, "chaos")
    return Case(specs(start), lines, done, history, ended, LEASE_S * SECOND, accounts), said


def _kinds(storage: Storage) -> tuple[str, ...]:
    return tuple(kind for kind in KINDS if not kind.startswith("store-") or kind in storage.kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
