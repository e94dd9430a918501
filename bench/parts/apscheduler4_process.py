"""One process of a fleet of APScheduler 4, as `fleet_process.py` is one of pulse.

    python apscheduler4_process.py fill '{"word": "postgresql://...", "schedules": 1000}'
    python apscheduler4_process.py run '{"word": "postgresql://..."}'

It needs an environment of its own: `APSCHEDULER` in `bench/fleet.py`. What runs is an
`AsyncScheduler` with its usual role (it takes schedules and runs jobs), `SQLAlchemyDataStore` and
`AsyncpgEventBroker` on one PostgreSQL, 100 jobs at once, and a job that is a coroutine, which its
usual executor awaits without a thread. A schedule runs each of its fire times, and any number of
jobs of the task at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from fleet_process import CONCURRENCY, Window

window = Window()


async def job() -> None:
    window.ticks += 1


def scheduler_on(word: str):
    from apscheduler import AsyncScheduler, TaskDefaults
    from apscheduler.datastores.sqlalchemy import SQLAlchemyDataStore
    from apscheduler.eventbrokers.asyncpg import AsyncpgEventBroker
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(word.replace("postgresql://", "postgresql+asyncpg://"))
    return AsyncScheduler(
        SQLAlchemyDataStore(engine),
        AsyncpgEventBroker.from_async_sqla_engine(engine),
        max_concurrent_jobs=CONCURRENCY,
        task_defaults=TaskDefaults(job_executor="async", max_running_jobs=None),
    )


async def fill(*, word: str, schedules: int) -> None:
    from apscheduler import CoalescePolicy
    from apscheduler.triggers.interval import IntervalTrigger

    async with scheduler_on(word) as scheduler:
        await scheduler.configure_task("job", func=job)
        for number in range(schedules):
            await scheduler.add_schedule(
                "job", IntervalTrigger(seconds=1), id=f"{number}", coalesce=CoalescePolicy.all
            )


async def run(*, word: str) -> None:
    async with scheduler_on(word) as scheduler:
        await scheduler.configure_task("job", func=job)
        await scheduler.start_in_background()
        await asyncio.to_thread(measure)


def measure() -> None:
    window.measure(sys.stdin.readline, time.sleep)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run({"fill": fill, "run": run}[sys.argv[1]](**json.loads(sys.argv[2])))
