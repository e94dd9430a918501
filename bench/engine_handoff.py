"""Microseconds a run for handing a claim on and taking its ending, beside a bare queue.

CPU is the process's own; the wall's time says little where others use the machine.

    python bench/engine_handoff.py [runs]

Each row is a process of its own. The bare rows are a queue and workers that call the same
function, without timeouts, interruption, or an end that can be trusted: what the flavour costs.
"""

from __future__ import annotations

import subprocess
import sys
import time

from pulse.clock import SystemClock
from pulse.core.run import Claim, Ending, Outcome, Result, Run
from pulse.core.task import Task, define
from pulse.engine.base import Work

SLOTS = 10
ROUNDS = 5
KINDS = ("bare threads", "threads", "bare greenlets", "greenlets", "threads, patched")
RESULT = Result(Outcome.SUCCEEDED, 0, 0, status=200)


def perform(_: Claim) -> Result:
    return RESULT


class BareQueue:
    """A queue and its workers, in whichever flavour the process has."""

    def start(self, work: Work, *, concurrency: int) -> None:
        import queue
        import threading

        self._queue, self._woken = queue.SimpleQueue(), threading.Event()
        self._slots, self._begun, self._ended = concurrency, 0, 0
        for _ in range(concurrency):
            threading.Thread(target=self._serve, args=(work,), daemon=True).start()

    def _serve(self, work: Work) -> None:
        while True:
            claim = self._queue.get()
            result = work.perform(claim)
            self._ended += 1
            work.report(Ending(claim, result))

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


def time_round(engine: object, ended: list[Ending], runs: int) -> tuple[float, float]:
    run = Run(id="0" * 32, task="t", fire_time=0)
    claim = Claim(run, define("t", Task(action="t", interval=1)), 0)
    ended.clear()
    free, submit, wait = engine.free, engine.submit, engine.wait
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


def measure(kind: str, runs: int) -> None:
    if "greenlets" in kind or "patched" in kind:
        import gevent.monkey

        gevent.monkey.patch_all()
    engine, ended = make(kind), []

    def report(ending: Ending) -> None:
        ended.append(ending)
        engine.wake()

    engine.start(Work(perform, report, print), concurrency=SLOTS)
    rounds = [time_round(engine, ended, runs) for _ in range(ROUNDS)]
    engine.stop(0)
    cpu, wall = (min(column) for column in zip(*rounds, strict=True))
    print(f"{kind:<18} {cpu:>10.2f} {wall:>10.2f}")


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        measure(arguments[1], int(arguments[0]))
        return
    runs = arguments[0] if arguments else "20000"
    print(f"us a run, best of {ROUNDS} x {runs} runs, {SLOTS} slots")
    print(f"{'':<18} {'CPU':>10} {'wall':>10}", flush=True)
    for kind in KINDS:
        subprocess.run([sys.executable, __file__, runs, kind], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
