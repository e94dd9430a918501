"""Reads the history and the ledgers of a store after the fleet has ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pulse.clock import DAY, SECOND, SystemClock
from pulse.core.run import QUEUE_HOLDER
from pulse.core.run_transitions import NOT_TAKEN
from pulse.store.accounts import account
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from tests.chaos.artifacts import Account, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.accounting.ledger import Ledger
    from pulse.core.run import Run
    from pulse.store.base import Store

_ALL = 10_000_000


def read_history(word: str, name: str) -> tuple[Row, ...]:
    """Return all runs of the application *name* in the store at *word*."""
    with _opened(word, name) as store:
        return tuple(_row(run) for run in store.runs(limit=_ALL))


def read_accounts(word: str, name: str) -> tuple[Account, ...]:
    """Return the ledgers of all tasks of the application."""
    with _opened(word, name) as store:
        names = sorted({one.name for one in store.tasks()})
        return tuple(_account(account(store, task)) for task in names)


@contextmanager
def _opened(word: str, name: str) -> Iterator[Store]:
    store = choose_store(
        word,
        StoreOptions(name=name, keep_runs=_ALL, keep_for_us=DAY),
        clock=SystemClock(),
        origin="/",
    ).store
    store.open_as_client(this_member("inline", "", 30 * SECOND))
    try:
        yield store
    finally:
        store.close()


def _account(ledger: Ledger) -> Account:
    return Account(
        task=ledger.task,
        since=ledger.since,
        until=ledger.until,
        fire_times=ledger.fire_times,
        ran=ledger.ran + ledger.abandoned,
        passed=ledger.skipped + ledger.missed + ledger.paused,
        unexplained=tuple(one.fire_time for one in ledger.unexplained_ticks),
        twice=tuple(one.run for one in ledger.twice),
    )


def _row(run: Run) -> Row:
    posted = run.holder == QUEUE_HOLDER
    return Row(
        task=run.task,
        fire_time=run.fire_time,
        run=run.id,
        outcome="" if run.outcome is None else run.outcome.value,
        attempt=run.attempt,
        holder=int(run.holder.split(":")[-2]) if run.holder and not posted else 0,
        claimed_at=run.claimed_at or 0,
        count=run.count,
        posted=posted,
        untaken=NOT_TAKEN in run.message and run.outcome is not None,
    )
