"""What the next fire time of a cron expression costs, beside croniter and cronsim.

    python bench/cron_next.py

Each contender gives one fire time after another, as datetimes in the zone; they take turns and the
least of many rounds counts. The bare limit is the arithmetic that no answer in datetimes can do
without: one addition, one conversion into the zone. Then what a scheduler asks, in microseconds;
what a first question costs that finds nothing remembered; and how long years take to be counted.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from pulse.clock import instant_of, moment_of
from pulse.schedule.cron import Cron
from pulse.schedule.timezone import zone_named

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 300
ROUNDS = 15
YEAR = 366 * 86_400 * 1_000_000
EXPRESSIONS = ["* * * * *", "*/5 * * * *", "30 2 * * *", "0 7 * * mon-fri", "0 0 1 * *"]
RARE = ["0 0 29 2 */7", "0 0 29 2 *", "* * * * * *", "59 59 23 31 12 *", "*/7 */5 L */5 *"]
ZONES = ["UTC", "Europe/Berlin", "Pacific/Chatham"]
START = datetime(2026, 11, 23, 7, 3, 20, tzinfo=UTC)


def ours(expression: str, zone: str) -> Callable[[], object]:
    cron = Cron(expression, timezone=zone)
    moment = START.astimezone(ZoneInfo(zone))

    def step() -> object:
        nonlocal moment
        moment = cron.next(moment)
        return moment

    return step


def by_croniter(expression: str, zone: str) -> Callable[[], object]:
    walk = croniter(expression, START.astimezone(ZoneInfo(zone)))
    return lambda: walk.get_next(datetime)


def by_cronsim(expression: str, zone: str) -> Callable[[], object]:
    return CronSim(expression, START.astimezone(ZoneInfo(zone))).__next__


def bare(_expression: str, zone: str) -> Callable[[], object]:
    info, instant = ZoneInfo(zone), instant_of(START)

    def step() -> object:
        nonlocal instant
        instant += 60_000_000
        return moment_of(instant).astimezone(info)

    return step


def in_microseconds(expression: str, zone: str) -> Callable[[], object]:
    cron, instant = Cron(expression, timezone=zone), instant_of(START)

    def step() -> object:
        nonlocal instant
        instant = cron.next_after(instant, anchor=0)
        return instant

    return step


CONTENDERS = {
    "bare limit": bare,
    "pulse": ours,
    "cronsim": by_cronsim,
    "croniter": by_croniter,
    "next_after": in_microseconds,
}


def microseconds(step: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    for _ in range(STEPS):
        step()
    return (time.perf_counter_ns() - start) / STEPS / 1_000


def best_of(expression: str, zone: str) -> dict[str, float]:
    best = dict.fromkeys(CONTENDERS, float("inf"))
    for _ in range(ROUNDS):
        for name, make in CONTENDERS.items():
            best[name] = min(best[name], microseconds(make(expression, zone)))
    return best


def once(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1_000_000


def cold(expression: str, zone: str) -> float:
    """Return the milliseconds of a first question, by a new cron in a zone that knows nothing."""
    zone_named.cache_clear()
    cron = Cron(expression, timezone=zone)
    return once(lambda: cron.next_after(instant_of(START), anchor=0))


def counted(expression: str, zone: str) -> float:
    zone_named.cache_clear()
    cron = Cron(expression, timezone=zone)
    first = cron.first(instant_of(START))
    return once(lambda: cron.due(first, first + 10 * YEAR, anchor=0))


def main() -> None:
    heads = "".join(f"{name:>12}" for name in CONTENDERS)
    print(f"{'us a fire time':18}{'zone':17}{heads}  croniter/pulse")
    for zone in ZONES:
        for expression in EXPRESSIONS:
            best = best_of(expression, zone)
            costs = "".join(f"{best[name]:12.2f}" for name in CONTENDERS)
            print(f"{expression:18}{zone:17}{costs}{best['croniter'] / best['pulse']:15.1f}x")
    print(f"\n{'ms a call':18}{'zone':17}{'first next':>12}{'due, 10 years':>16}")
    for zone in ZONES:
        for expression in RARE:
            first = min(cold(expression, zone) for _ in range(ROUNDS))
            due = min(counted(expression, zone) for _ in range(ROUNDS))
            print(f"{expression:18}{zone:17}{first:12.3f}{due:16.3f}")


if __name__ == "__main__":
    main()
