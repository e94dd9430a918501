"""The rules of a fleet whose runs wait in a queue until a Celery worker takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.artifacts import SECOND, WORKER_LEAVES, clock_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.chaos.artifacts import Case
    from tests.chaos.capacity import Capacity
    from tests.chaos.run_log import Run, RunLog

ENDS_WITHIN = 20 * SECOND
"""How long a worker may take to end: its runs take 2.3 s, and one may be stopped for 6 s."""


class PostingRules:
    """Checks one case."""

    def __init__(self, case: Case, run_log: RunLog, capacity: Capacity) -> None:
        self._case = case
        self._run_log = run_log
        self._capacity = capacity

    def rules(self) -> dict[str, Callable[[], Iterator[str]]]:
        """Return the rules by their names."""
        return {
            "no run stays in the queue": self.stuck,
            "no run fails where the app has not": self.failed,
            "runs go on after each disturbance": self.silent,
            "a worker that gets SIGTERM ends": self.lingering,
        }

    def stuck(self) -> Iterator[str]:
        """Yield for each claimed run whether it waits in the queue for longer than it may."""
        for run in self._run_log.runs.values():
            row = run.row
            is_stuck = (
                row is not None
                and row.posted
                and not row.outcome
                and self._capacity.waited(row.claimed_at) < self._case.ended
            )
            yield f"{_named(run)} is still posted" if is_stuck else ""

    def failed(self) -> Iterator[str]:
        """Yield for each failed run whether the app has not answered so: the broker failed it."""
        for run in self._run_log.runs.values():
            if run.row is not None and run.outcome == "failed":
                end = run.ends.get(run.row.attempt)
                is_own = end is not None and end.status == 503
                yield "" if is_own else f"{_named(run)} failed, and not by the app"

    def silent(self) -> Iterator[str]:
        """Yield for each disturbance whether no run went on in time after it."""
        workers = self._capacity.workers
        for one in () if workers is None else workers.disturbances:
            latest = self._capacity.goes_on(one)
            resumed = workers.resumed(one) if workers else 0
            if latest <= self._case.ended and resumed > latest:
                took = "none did" if resumed > self._case.ended else f"one did {clock_of(resumed)}"
                yield (
                    f"{one.kind} until {clock_of(one.ended)}: a run had to begin by"
                    f" {clock_of(latest)}, {took}"
                )
            elif latest <= self._case.ended or resumed <= self._case.ended:
                yield ""

    def lingering(self) -> Iterator[str]:
        """Yield for each worker that got SIGTERM whether it took too long to end."""
        for fault in self._case.faults:
            if fault.kind in WORKER_LEAVES:
                took = fault.ended - fault.began
                text = f"the one of {clock_of(fault.began)} took {took / 1e6:.0f} s"
                yield text if took > ENDS_WITHIN else ""


def _named(run: Run) -> str:
    return f"{run.task} {clock_of(run.fire_time)}"
