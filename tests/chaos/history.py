"""Reads the history of a store when the fleet has gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import DAY, SECOND, SystemClock
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from tests.chaos.artifacts import Row

if TYPE_CHECKING:
    from pulse.core.run import Run

_ALL = 10_000_000


def read_history(word: str, name: str) -> tuple[Row, ...]:
    """Return all rows of the application *name* in the store that *word* names."""
    store = choose_store(
        word,
        StoreOptions(name=name, keep_runs=_ALL, keep_for_us=DAY),
        clock=SystemClock(),
        origin="/",
    ).store
    store.open_as_client(this_member("inline", "", 30 * SECOND))
    try:
        return tuple(_row(run) for run in store.runs(limit=_ALL))
    finally:
        store.close()


def _row(run: Run) -> Row:
    return Row(
        task=run.task,
        fire_time=run.fire_time,
        run=run.id,
        outcome="" if run.outcome is None else run.outcome.value,
        attempt=run.attempt,
        holder=int(run.holder.split(":")[-2]) if run.holder else 0,
        claimed_at=run.claimed_at or 0,
        count=run.count,
    )
