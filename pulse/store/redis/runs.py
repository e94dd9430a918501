"""Runs in progress and past ones: ended, tried again, renewed, shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pulse.core.run import ENDED, LOST, Finished
from pulse.core.run_transitions import ended_run, retried_run
from pulse.store.redis.changes import renewal, run_change, write_runs
from pulse.store.redis.codec import run_of, spot_of
from pulse.store.redis.tasks import TRIES, read_spots
from pulse.store.rules import NextTick, again_at, may_go_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pulse.clock import Span
    from pulse.core.run import Claim, Ending, Run
    from pulse.store.redis.changes import RunChange
    from pulse.store.redis.client import Server
    from pulse.store.redis.tasks import Found


class _Change(NamedTuple):
    """What an ending comes to, and what is told of it."""

    change: RunChange
    became: Finished


def finish_runs(server: Server, endings: Sequence[Ending]) -> list[Finished]:
    """End the runs that are still held by their claims, or let them be tried again."""
    finished = [LOST] * len(endings)
    left = list(range(len(endings)))
    for _ in range(TRIES):
        changes = _decide(server, [endings[number] for number in left])
        done = write_runs(server, [one.change for one in changes])
        again: list[int] = []
        for number, one, taken in zip(left, changes, done, strict=True):
            if taken:
                finished[number] = one.became
            elif one.change.row is not None:
                again.append(number)  # its row may have moved: the next tick is another one
        left = _still_held(server, endings, again) if again else []
        if not left:
            break
    return finished


def _decide(server: Server, endings: Sequence[Ending]) -> list[_Change]:
    spots = {
        spot_of(claim.run.task, claim.run.place)
        for claim, result in endings
        if may_go_on(claim, result)
    }
    found = read_spots(server, sorted(spots)) if spots else None
    return [_change(ending, found) for ending in endings]


def _change(ending: Ending, found: Found | None) -> _Change:
    claim, result = ending
    run = claim.run
    if found is None or not may_go_on(claim, result):
        return _Change(run_change(run, ended_run(run, result)), ENDED)
    spot = spot_of(run.task, run.place)
    row = found.rows.get(spot)
    stands = row is not None and row.archived_at is None
    tick = NextTick(row.next_fire, found.open[spot]) if row is not None and stands else None
    at = again_at(claim, result, row=tick, now=found.now)
    guard = None if row is None else row.beginning
    if at is None:
        return _Change(run_change(run, ended_run(run, result), row=guard), ENDED)
    change = run_change(run, retried_run(run, result, at), row=guard)
    return _Change(change, Finished(recorded=True, retry_at=at))


def _still_held(server: Server, endings: Sequence[Ending], numbers: Sequence[int]) -> list[int]:
    records = server.command(
        "HMGET", server.key("runs"), *(endings[number].claim.run.id for number in numbers)
    )
    return [
        number
        for number, record in zip(numbers, records, strict=True)
        if record is not None and _is_held(run_of(record), endings[number].claim.run)
    ]


def _is_held(kept: Run, run: Run) -> bool:
    same = (kept.holder, kept.attempt) == (run.holder, run.attempt)
    return same and kept.outcome is None


def renew_runs(server: Server, claims: Sequence[Claim], lease_us: Span) -> list[bool]:
    """Move the ends of leases; False stands where the claim was lost."""
    return write_runs(server, [renewal(claim.run) for claim in claims], lease_us=lease_us)


def newest_runs(server: Server, *, task: str | None, limit: int) -> list[Run]:
    """Return the newest runs, newest first."""
    key = server.key("history" if task is None else f"history:{task}")
    ids = server.command("ZREVRANGE", key, 0, limit - 1) if limit > 0 else []
    if not ids:
        return []
    records = server.command("HMGET", server.key("runs"), *ids)
    return [run_of(record) for record in records if record is not None]
