"""Microseconds a run for handing a claim on and taking its ending, beside a bare queue.

CPU is the process's own; the wall's time says little where others use the machine.

    python bench/engine_handoff.py [runs] [--json]

Each row is a process of its own. The bare rows are a queue and workers that call the same
function, without timeouts, interruption, or an end that can be trusted: what the flavour costs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

from pulse.clock import SystemClock
from pulse.core.run import Claim, CompletedRun, Outcome, Result, Run
from pulse.core.task import Task, build_definition
from pulse.engine.base import EngineCallbacks

SLOTS = 10
ROUNDS = 5
KINDS = ("bare threads", "threads", "bare greenlets", "greenlets", "threads, patched")
RESULT = Result(Outcome.SUCCEEDED, 0, 0, status=200)


def perform(_: Claim) -> Result:
    return RESULT


class BareQueue:
    """A queue and its workers, in whichever flavour the process has."""

    def start(self, work: EngineCallbacks, *, concurrency: int) -> None:
        import queue
        import threading

        self._queue, self._woken = queue.SimpleQueue(), threading.Event()
        self.loop = self
        self._slots, self._begun, self._ended = concurrency, 0, 0
        for _ in range(concurrency):
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def _serve(self, work: EngineCallbacks) -> None:
        while True:
            claim = self._queue.get()
            result = work.perform(claim)
            self._ended += 1
            work.report(CompletedRun(claim, result))

    def free(self) -> int:
        return self._slots - self._begun + self._ended

    def submit(self, claim: Claim) -> None:
        self._begun += 1
        self._queue.put(claim)

    def wait(self, timeout_us: int) -> None:
        self._woken.wait(timeout_us / 1e6)
        self._woken.clear()

    def wake(self) -> None:
        if not self._woken.is_set():
            self._woken.set()

    def stop(self, drain_us: int) -> None:
        pass


def make(kind: str) -> object:
    if kind.startswith("bare"):
        return BareQueue()
    if kind == "greenlets":
        from pulse.engine.greenlets import GreenletEngine

        return GreenletEngine(SystemClock())
    from pulse.engine.threads import ThreadEngine

    return ThreadEngine(SystemClock())


def time_round(engine: object, ended: list[CompletedRun], runs: int) -> tuple[float, float]:
    run = Run(id="0" * 32, task="t", fire_time=0)
    claim = Claim(run, build_definition("t", Task(action="t", interval=1)), 0)
    ended.clear()
    free, submit, wait = engine.free, engine.submit, engine.loop.wait
    begun, start, cpu = 0, time.perf_counter(), time.process_time()
    while begun < runs:
        room = min(free(), runs - begun)
        for _ in range(room):
            submit(claim)
        begun += room
        wait(1_000_000)
    while len(ended) < runs:
        wait(1_000_000)
    spent = time.process_time() - cpu, time.perf_counter() - start
    return spent[0] / runs * 1e6, spent[1] / runs * 1e6


def measure(kind: str, runs: int) -> dict[str, float]:
    if "greenlets" in kind or "patched" in kind:
        import gevent.monkey

        gevent.monkey.patch_all()
    engine, ended = make(kind), []

    def report(completed_run: CompletedRun) -> None:
        ended.append(completed_run)
        engine.loop.wake()

    engine.start(EngineCallbacks(perform, report, print), concurrency=SLOTS)
    rounds = [time_round(engine, ended, runs) for _ in range(ROUNDS)]
    engine.stop(0)
    cpu, wall = (min(column) for column in zip(*rounds, strict=True))
    return {"CPU": cpu, "wall": wall}


def in_own_process(kind: str, runs: int) -> dict[str, float]:
    command = [sys.executable, __file__, str(runs), "--kind", kind]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def figures_of(kind: str, found: dict[str, float]) -> list[dict[str, object]]:
    return [{"name": f"{kind}, {name}", "unit": "us", "value": us} for name, us in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=int, nargs="?", default=20_000)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kind:
        print(json.dumps(measure(asked.kind, asked.runs)))
        return
    if asked.json:
        found = {kind: in_own_process(kind, asked.runs) for kind in KINDS}
        print(json.dumps([one for kind in KINDS for one in figures_of(kind, found[kind])]))
        return
    print(f"us a run, best of {ROUNDS} x {asked.runs} runs, {SLOTS} slots")
    print(f"{'':<18} {'CPU':>10} {'wall':>10}", flush=True)
    for kind in KINDS:
        found = in_own_process(kind, asked.runs)
        print(f"{kind:<18} {found['CPU']:>10.2f} {found['wall']:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
