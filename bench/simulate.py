"""How long the forecast of a year takes: 100 tasks, intervals, cron expressions, and half of each.

    python bench/simulate.py

The intervals are from a second to a day, several of them in no simple relation to an hour; the
expected durations are from 0.2 s to two hours.
"""

from __future__ import annotations

import time

import msgspec

from pulse.clock import SECOND
from pulse.core.task import Task, build_definition
from pulse.schedule.cron import Cron
from pulse.simulation.forecast import simulate

YEAR = 365 * 86_400 * SECOND
SINCE = 1_767_614_400 * SECOND
EVERY = [1, 7, 30, 60, 61, 300, 433, 600, 900, 1_800, 3_600, 7_200, 21_600, 86_400]
EXPRESSIONS = [
    "*/5 * * * *", "0 * * * *", "30 2 * * *", "0 9 * * mon-fri", "15 */2 * * *", "0 0 1 * *",
    "*/20 3 * * *", "0 8-18 * * *", "* * * * *", "59 23 L * *",
]  # fmt: skip
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]
TOOK_S = [0.2, 1, 5, 45, 300, 7_200]


def tasks(kind: str):
    for n in range(100):
        cron = kind == "cron" or (kind == "mixed" and n % 2)
        task = build_definition(f"task-{n}", Task(action=f"a/{n}", interval=EVERY[n % len(EVERY)]))
        if cron:
            expression, zone = EXPRESSIONS[n // 2 % len(EXPRESSIONS)], ZONES[n // 10 % len(ZONES)]
            task = msgspec.structs.replace(task, schedule=Cron(expression, timezone=zone))
        yield task


def main() -> None:
    print(f"{'tasks':>10} {'ticks':>15} {'peak':>12} {'seconds':>8}")
    for kind in ("interval", "cron", "mixed"):
        given = list(tasks(kind))
        took = {task.name: round(TOOK_S[n % 6] * SECOND) for n, task in enumerate(given)}
        began = time.perf_counter()
        found = simulate(given, since=SINCE, until=SINCE + YEAR, took=took)
        seconds = time.perf_counter() - began
        peak = f"{found.peak.at_least} to {found.peak.at_most}"
        print(f"{kind:>10} {found.ticks:>15,} {peak:>12} {seconds:>8.2f}")


if __name__ == "__main__":
    main()
