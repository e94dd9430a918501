"""How long reads of a long history take, on each store.

    python bench/history.py [store ...] [--runs 1000000] [--tasks 1000]

Stores are sqlite and postgres, a private server. One run of 200 has failed, one of 1,000 is missed.
Each figure is the median of a number of reads, in milliseconds; the bar is 50 ms. The runs are
written with the change of one row, in batches: no tick is run. PostgreSQL analyses the tables
then, as its autovacuum does within a minute; the read that needs it most is also measured before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing
from typing import TYPE_CHECKING

from parts.grounds import GROUNDS

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Outcome, Run, Trigger, run_id
from pulse.core.run_query import WENT_WRONG, RunQuery
from pulse.core.task import Task, build_definition
from pulse.store.accounts import why
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.store.shared.backend import Transaction
from pulse.store.shared.changes import ChangeSet, TaskChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.store.shared.store import SharedStore

START = 1_767_614_400 * SECOND
BATCH = 5_000
READS = 15


def name_of(number: int) -> str:
    return f"task-{number}"


def made_run(number: int, tasks: int) -> Run:
    task, tick = name_of(number % tasks), START + number // tasks * 60 * SECOND
    outcome = Outcome.SUCCEEDED
    if number % 200 == 7:
        outcome = Outcome.FAILED
    elif number % 1_000 == 11:
        outcome = Outcome.MISSED
    return Run(
        id=run_id("", task, "", tick),
        task=task,
        fire_time=tick,
        scheduled_for=tick,
        trigger=Trigger.SCHEDULE,
        holder="host:1:abcdef",
        claimed_at=tick,
        started_at=tick + 1_000,
        took_us=5_000,
        outcome=outcome,
        status=200,
        message="done",
    )


def fill(store: SharedStore, *, runs: int, tasks: int) -> None:
    """Write runs as a claim would: with the change of a row."""
    definitions = {
        name_of(number): build_definition(name_of(number), Task(action="/work", interval="1h"))
        for number in range(tasks)
    }
    store.sync(definitions)
    backend = store._backend  # noqa: SLF001 - no public call writes finished runs
    rows = backend.run(Transaction.READ, lambda session: session.read_in_use())
    row = rows[0][0]
    for start in range(0, runs, BATCH):
        batch = [made_run(number, tasks) for number in range(start, min(start + BATCH, runs))]
        moved = row.changed()
        changes = ChangeSet(
            now=START, lease_us=30 * SECOND, boot=1, tasks=[TaskChange(moved, row, batch)]
        )
        backend.run(Transaction.WRITE, lambda session, changes=changes: session.apply(changes))
        row = moved


def reads(
    store: SharedStore, *, runs: int, tasks: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is read, and a function that reads it."""
    newest = store.history(RunQuery(limit=1))
    middle = store.history(RunQuery(limit=runs // 2)).cursor if runs <= 100_000 else None
    last = newest[0]
    yield "newest 100", lambda: store.history(RunQuery())
    yield "newest 100 of a task", lambda: store.history(RunQuery(task=last.task))
    if middle is not None:
        yield "100 in the middle", lambda: store.history(RunQuery(before=middle))
    yield "newest 100 that went wrong", lambda: store.history(RunQuery(states=WENT_WRONG))
    yield "newest 100 failures", lambda: store.history(RunQuery(states=frozenset({"failed"})))
    yield "none of a trigger", lambda: store.history(RunQuery(trigger=Trigger.MANUAL))
    yield "none of a holder, of a task", lambda: store.history(RunQuery(task=last.task, holder="x"))
    yield (
        "a span of an hour",
        lambda: store.history(RunQuery(since=last.fire_time - 3_600 * SECOND)),
    )
    yield "one run", lambda: store.run(last.id)
    yield f"{tasks} tasks", store.tasks
    yield "one task", lambda: store.tasks(last.task)
    yield "the processes", store.members
    yield "the audit", store.audit
    yield "the records of a task", lambda: store.records(last.task)
    yield "why, at the newest run", lambda: why(store, last.task, last.fire_time, within=SECOND)
    yield "why, between two runs", lambda: why(store, last.task, last.fire_time + SECOND, within=1)


def analyse(connection) -> None:
    for table in ("@runs", "@tasks"):
        connection.execute(f"ANALYZE {table}")


def median_ms(read: Callable[[], object]) -> float:
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        read()
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", metavar="store", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    asked = parser.parse_args()
    options = StoreOptions(keep_runs=asked.runs)
    for name in asked.stores:
        with closing(GROUNDS[name]()) as ground:
            chosen = choose_store(ground.fresh(), options, clock=SystemClock(), origin="")
            store = chosen.store
            store.open(this_member("bench", "digest", 30 * SECOND))
            fill(store, runs=asked.runs, tasks=asked.tasks)
            if name == "postgres":
                took = median_ms(store.tasks)
                print(f"{name:10} {'all tasks, before ANALYZE':32} {took:9.2f} ms", flush=True)
                store._backend.database.run(Transaction.WRITE, analyse)  # noqa: SLF001 - see `fill`
            for what, read in reads(store, runs=asked.runs, tasks=asked.tasks):
                print(f"{name:10} {what:32} {median_ms(read):9.2f} ms", flush=True)
            store.close()


if __name__ == "__main__":
    main()
