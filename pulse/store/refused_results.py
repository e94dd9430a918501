"""Which results that a store has refused are kept: those of attempts that are not on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.core.records import RefusedResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import CompletedRun, RecordResult, Run


def refused_results(
    completed: Sequence[CompletedRun],
    results: Sequence[RecordResult],
    runs: Mapping[str, Run],
    *,
    now: Instant,
) -> list[RefusedResult]:
    """Return the dispatched results that were refused, but not those that were recorded before.

    A result whose first reply was lost is sent again, and refused since it is on record.
    """
    return [
        RefusedResult(
            run=claim.run.id,
            task=claim.run.task,
            partition=claim.run.partition,
            fire_time=claim.run.scheduled_for,
            attempt=claim.run.attempt,
            holder=claim.run.holder,
            started_at=result.started_at,
            outcome=result.outcome,
            at=now,
        )
        for (claim, result), became in zip(completed, results, strict=True)
        if not became.recorded
        and result.was_dispatched
        and not _is_on_record(claim.run, result.started_at, runs.get(claim.run.id))
    ]


def _is_on_record(claimed: Run, started_at: Instant, run: Run | None) -> bool:
    if run is None:
        return False
    if (run.holder, run.attempt, run.started_at) == (claimed.holder, claimed.attempt, started_at):
        return run.outcome is not None
    pending = run.holder == "" and run.attempt == claimed.attempt
    return (pending and run.started_at == started_at) or any(
        (one.attempt, one.started_at) == (claimed.attempt, started_at) for one in run.attempts
    )
