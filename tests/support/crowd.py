"""Many processes that use one store at once and write down what they do.

    python -m tests.support.crowd <store> <folder> <number> <seed> <seconds>

The program forks so many processes. Each calls the store until the time is over, in an order that
its seed decides, finishes what it has claimed, and leaves a file of JSON lines in the folder.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import SECOND, SystemClock
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import Task, build_definition
from pulse.errors import PulseError
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.store.steering import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TextIO

    from pulse.core.run import Claim
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Store

NAME = "crowd"
LIMITS = {"one": 1, "waits": 1, "several": 3, "local": 2, "own": 1}
"""The tasks, and how many of the runs of each may be claimed at once."""

ADDED = ("extra", "more")
_OVERLAPS = {"waits": "wait", "several": "allow", "local": "allow"}
_SCOPES = {"local": "host", "own": "process"}
_CLOCK = SystemClock()


class Line(msgspec.Struct):
    """One run that a process has claimed, or what it could not do.

    Attributes:
        begun: the boot clock after the claim was won.
        ended: the boot clock before the result was recorded.
        result: what became of the result.
        error: an error that is not one of pulse.

    """

    task: str = ""
    partition: str = ""
    id: str = ""
    attempt: int = 0
    fire_time: int = 0
    trigger: str = ""
    begun: int = 0
    ended: int = 0
    recorded: bool = False
    error: str = ""


def declared(version: int = 0) -> dict[str, TaskDefinition]:
    """Return the tasks of the configuration; *version* changes their definitions."""
    return {name: build_definition(name, _task(name, version)) for name in LIMITS}


def _task(name: str, version: int) -> Task:
    overlap = _OVERLAPS.get(name, "skip")
    more = {"max_running": LIMITS[name]} if overlap == "allow" else {}
    return Task(
        action="/work",
        interval=1,
        scope=_SCOPES.get(name, "fleet"),
        overlap=overlap,
        retries=1,
        retry_min_backoff="0.1s",
        timeout=60 + version,
        **more,  # type: ignore[arg-type] # one setting
    )


def open_store(url: str) -> Store:
    """Return an open store of the crowd."""
    options = StoreOptions(name=NAME, keep_runs=100_000)
    store = choose_store(url, options, clock=_CLOCK, origin="").store
    store.open(this_member("inline", "digest", 30 * SECOND))
    return store


class _Process:
    """One process of the crowd."""

    def __init__(self, store: Store, random: Random, output: TextIO) -> None:
        self.store = store
        self.random = random
        self.output = output
        self.held: list[tuple[Claim, int]] = []

    def run(self, end: int) -> None:
        calls: tuple[Callable[[], object], ...] = (
            *(self.claim,) * 12,
            *(self.finish,) * 8,
            self.sync,
            self.pause,
            *(self.resume,) * 3,
            *(self.trigger,) * 3,
            self.add,
            self.remove,
            self.store.heartbeat,
        )
        while _CLOCK.boot() < end:
            try:
                self.random.choice(calls)()
            except PulseError:
                pass
            except Exception:  # noqa: BLE001 - the test shows it
                self.write(Line(error=traceback.format_exc()))
        for _ in range(100):
            try:
                self.finish()
            except PulseError:
                continue
            break

    def name(self) -> str:
        return self.random.choice((*LIMITS, *ADDED))

    def claim(self) -> None:
        claims = self.store.claim_due(self.random.randint(1, 4)).claims
        now = _CLOCK.boot()
        self.held += [(claim, now) for claim in claims]

    def finish(self) -> None:
        now = _CLOCK.boot()
        completed = []
        for claim, _ in self.held:
            outcome = self.random.choice((Outcome.SUCCEEDED, Outcome.FAILED))
            completed.append(CompletedRun(claim, Result(outcome, _CLOCK.wall(), 5)))
        results = self.store.finish(completed)
        for (claim, begun), result in zip(self.held, results, strict=True):
            run = claim.run
            self.write(
                Line(
                    task=run.task,
                    partition=run.partition,
                    id=run.id,
                    attempt=run.attempt,
                    fire_time=run.scheduled_for or 0,
                    trigger=run.trigger.value,
                    begun=begun,
                    ended=now,
                    recorded=result.recorded,
                )
            )
        self.held = []

    def sync(self) -> None:
        self.store.sync(declared(self.random.randint(0, 1)))

    def pause(self) -> None:
        self.store.pause(self.name(), Pause())

    def resume(self) -> None:
        self.store.pause(self.name(), None)

    def trigger(self) -> None:
        self.store.trigger(self.name())

    def add(self) -> None:
        task = Task(action="/work", interval=1, timeout=self.random.randint(1, 9))
        added = make_runtime_task(self.random.choice(ADDED), task, TaskDefaults())
        self.store.add(added, replace=self.random.random() < 0.5)

    def remove(self) -> None:
        self.store.remove(self.random.choice(ADDED))

    def write(self, line: Line) -> None:
        self.output.write(json.dumps(msgspec.to_builtins(line)) + "\n")


def read_lines(folder: Path) -> Iterator[Line]:
    """Yield what all processes have written down."""
    for path in folder.glob("*.lines"):
        for line in path.read_text().splitlines():
            yield msgspec.json.decode(line, type=Line)


def most_at_once(lines: list[Line]) -> Mapping[tuple[str, str], int]:
    """Return how many runs of each task and partition were claimed at once at most."""
    found: dict[tuple[str, str], int] = {}
    by_row: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for line in lines:
        changes = by_row.setdefault((line.task, line.partition), [])
        changes += [(line.begun, 1), (line.ended, -1)]
    for row, changes in by_row.items():
        now = most = 0
        for _, change in sorted(changes):
            now += change
            most = max(most, now)
        found[row] = most
    return found


def _live(
    url: str, folder: Path, number: int, seed: int, *, seconds: float, ready: int, go: int
) -> None:
    with (folder / f"{number}.lines").open("w") as output:
        store = open_store(url)
        process = _Process(store, Random(f"{seed} {number}"), output)  # noqa: S311 - no secret
        store.sync(declared())
        os.write(ready, b"1")
        os.read(go, 1)
        process.run(_CLOCK.boot() + round(seconds * SECOND))
        store.close()


def main(url: str, folder: Path, number: int, seed: int, seconds: float) -> int:
    """Fork the processes, and return how many of them did not end well."""
    ready, said_ready = os.pipe()
    go, say_go = os.pipe()
    children = []
    for one in range(number):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _live(url, folder, one, seed, seconds=seconds, ready=said_ready, go=go)
                status = 0
            except BaseException:  # noqa: BLE001 - the parent counts it
                traceback.print_exc()
                os.write(said_ready, b"0")  # the parent waits for each of them
            finally:
                os._exit(status)
        children.append(child)
    os.close(said_ready)
    for _ in children:
        os.read(ready, 1)
    os.write(say_go, bytes(number))
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    url, folder, number, seed, seconds = sys.argv[1:]
    sys.exit(main(url, Path(folder), int(number), int(seed), float(seconds)))
