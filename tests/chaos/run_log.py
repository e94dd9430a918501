"""The app's log and the store's history, joined by run and by tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.artifacts import ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.artifacts import Case, Line, Row, Spec
    from tests.chaos.capacity import Capacity

PASSED = frozenset({"missed", "skipped"})


class Run:
    """One run: what the app saw of it, and its record in the history."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.begins: list[Line] = []
        self.ends: dict[int, Line] = {}
        self.claims: list[Line] = []
        self.row: Row | None = None

    @property
    def task(self) -> str:
        """The task's name."""
        return self.begins[0].task if self.begins else self._row.task

    @property
    def fire_time(self) -> int:
        """The fire time, as the app received it."""
        return self.begins[0].fire_time if self.begins else self._row.fire_time

    @property
    def opened(self) -> int:
        """When the run existed at the latest: at its first start, or at an unstarted claim."""
        claimed = [line.wall for line in self.claims]
        if self.row is not None and self.row.attempt == 1 and self.row.claimed_at:
            # A process may have been stopped between the claim and its line.
            claimed.append(self.row.claimed_at)
        if not self.begins:
            opened = self._row.claimed_at or self._row.fire_time
        else:
            first = self.begins[0]
            opened = first.wall if first.attempt == 1 else first.fire_time
        return min([opened, *claimed])

    @property
    def outcome(self) -> str:
        """The outcome in the history."""
        return "" if self.row is None else self.row.outcome

    @property
    def found_no_worker(self) -> bool:
        """Whether the run was claimed for Celery workers, and none took its last attempt."""
        return bool(self.claims) and self.row is not None and self.row.untaken

    @property
    def _row(self) -> Row:
        if self.row is None:
            raise AssertionError(f"a run without begin and row: {self.key}")
        return self.row

    def closed(self, capacity: Capacity) -> int:
        """Return when the store must at the latest have known that the run was over."""
        if self.found_no_worker:
            return capacity.waited(self.claims[-1].wall)
        if not self.begins and capacity.workers is not None:
            return capacity.unsent(self._row.holder, self._row.claimed_at or self.opened)
        if not self.begins:
            return capacity.closed(self._row.holder, self.opened, None)
        last = self.begins[-1]
        end = self.ends.get(last.attempt)
        closed = capacity.closed(last.pid, last.wall, None if end is None else end.wall)
        row = self.row
        if row is not None and row.attempt > last.attempt:  # a later claim that never began
            closed = max(closed, capacity.closed(row.holder, row.claimed_at, None))
        if self.claims and self.claims[-1].attempt > last.attempt:  # a retry that was not sent
            closed = max(closed, capacity.waited(self.claims[-1].wall))
        return closed


class RunLog:
    """All runs by id, and what happened to each tick."""

    def __init__(self, case: Case) -> None:
        self.runs: dict[str, Run] = {}
        self._claims: dict[str, list[Line]] = {}
        for line in case.lines:
            self._write(line)
        self.passed: list[Row] = [row for row in case.history if row.outcome in PASSED]
        for row in case.history:
            if row.outcome not in PASSED or row.run in self._claims:
                self._run(row.run).row = row
        for run in self.runs.values():
            # A process that is stopped may write its line after another one has claimed again.
            run.claims = sorted(self._claims.get(run.key, []), key=_by_attempt)
        self.specs: dict[str, Spec] = {spec.name: spec for spec in case.specs}
        self._of: dict[str, list[Run]] = {name: [] for name in self.specs}
        for run in self.runs.values():
            self._of.setdefault(run.task, []).append(run)
        for runs in self._of.values():
            runs.sort(key=lambda run: (run.fire_time, run.opened))
        self.covered = self._cover()

    def _run(self, key: str) -> Run:
        return self.runs.setdefault(key, Run(key))

    def _write(self, line: Line) -> None:
        if line.what == "begin":
            self._run(line.run).begins.append(line)
        elif line.what == "end":
            self._run(line.run).ends[line.attempt] = line
        elif line.what == "claim":
            self._claims.setdefault(line.run, []).append(line)

    def of(self, task: str) -> Sequence[Run]:
        """Return a task's runs by fire time."""
        return self._of.get(task, [])

    def _cover(self) -> dict[tuple[str, int], Row]:
        """Return the record that a tick did not run."""
        covered: dict[tuple[str, int], Row] = {}
        for row in self.passed:
            spec = self.specs.get(row.task)
            if spec is not None:
                last = row.fire_time + (row.count - 1) * spec.every
                first = spec._replace(start=row.fire_time)
                covered |= dict.fromkeys(((row.task, tick) for tick in ticks(first, last)), row)
        return covered


def _by_attempt(line: Line) -> tuple[int, int]:
    return line.attempt, line.wall
