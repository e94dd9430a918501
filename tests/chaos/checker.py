"""Checks a chaos run by the log of the app, without code of pulse.

Theory of operation
-------------------
The checker walks the ticks of each task one by one, from the first to the end of the run. A tick is
in one of these classes:

    MUST run        A process was able to run it (`capacity`). The tick has a window: from its fire
                    time to a second after the instant since which a process was able to run it and,
                    if runs of the task may not overlap, the run before it was known to be over.
    MAY be missing  A victim had claimed it, or no process could run it when it was due, or an
                    earlier run was unfinished. Then it is recorded as abandoned, missed or skipped,
                    and the record has that cause.
    FORBIDDEN       A run that is no tick, is too early, is a second run of a tick, or is recorded
                    as not run.

Runs are matched to windows by time alone, not by their headers: in the order in which the runs
started, each gets the open window that ends first. A window without a run is a miss, a run without
a window is an extra, and both are failures. Then the headers are compared with the fire times, the
attempts and the history.

In a fleet with Celery the rules of `posting_rules` are added.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.artifacts import LEAVES, SECOND, clock_of, ticks
from tests.chaos.capacity import Capacity
from tests.chaos.posting_rules import PostingRules
from tests.chaos.run_log import PASSED, RunLog
from tests.chaos.stretches import crowded
from tests.chaos.window_matching import Window, match_windows
from tests.chaos.worker_capacity import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.artifacts import Account, Case, Line, Spec
    from tests.chaos.run_log import Run

PROMPT = SECOND
"""How soon a tick must run once a process is able to run it."""

POSTED_PROMPT = 2 * SECOND
"""The same with Celery: the message passes through four processes, each of which has to be given
the processor."""


MAX_RUNNING = 10
"""How many runs of a task may go on at once with `overlap = allow`; the default of the setting."""


class Verdict(NamedTuple):
    """A rule, how many subjects were checked, and the violations."""

    rule: str
    looked_at: int
    broken: tuple[str, ...]


class Judge:
    """Checks one case."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.run_log = RunLog(case)
        self.capacity = Capacity(case)
        self._prompt = PROMPT if self.capacity.workers is None else POSTED_PROMPT
        self._last = max([case.ended, *(line.wall for line in case.lines)])
        self._full = {spec.name: self._full_stretches(spec) for spec in case.specs}
        self.windows = {spec.name: list(self._windows_of(spec)) for spec in case.specs}

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on each rule."""
        rules = {
            "every tick is accounted for": self.unaccounted,
            "runs fit windows": self.unmatched,
            "nothing runs that is no tick": self.strangers,
            "no tick is dispatched twice": self.twice,
            "attempts rise under one id": self.falling,
            "no overlap where skip says so": self.overlapping,
            "a record that a tick did not run has a cause": self.causeless,
            "the history agrees with the evidence": self.disagreeing,
            "failures are retried": self.unretried,
            "what lost its lease is not dispatched": self.resumed,
            "the ledger agrees": self.accounted,
        }
        if self.capacity.workers is not None:
            rules |= PostingRules(self.case, self.run_log, self.capacity).rules()
            rules["each run fits its own window"] = self.late
        return [Verdict(rule, *self._counted(broken())) for rule, broken in rules.items()]

    @staticmethod
    def _counted(answers: Iterable[str]) -> tuple[int, tuple[str, ...]]:
        """Return how many results there are, and those that are violations."""
        every = list(answers)
        return len(every), tuple(answer for answer in every if answer)

    # Windows -----------------------------------------------------------------------------

    def deadline(self, spec: Spec, tick: int) -> int:
        """Return when a tick's run must start at the latest; `NEVER` without any capacity."""
        due = tick
        if spec.overlap != "allow":
            before = [run for run in self.run_log.of(spec.name) if run.fire_time < tick]
            if before:
                due = max(due, before[-1].closed(self.capacity))
        latest = self.capacity.ready(due) + self._prompt
        for began, ended in self._full[spec.name]:
            if began < latest and ended > due:
                due = ended
                latest = self.capacity.ready(due) + self._prompt
        return latest if latest <= self.case.ended else NEVER

    def _full_stretches(self, spec: Spec) -> list[tuple[int, int]]:
        """Return when claims that were never sent kept the task from starting another run.

        Their process was stopped or killed. A process that gives claims back while the broker does
        not answer lets others claim later fire times before them.
        """
        if self.capacity.workers is None:
            return []
        lost = [
            (at := run.row.claimed_at, self.capacity.hit_while_sending(run.row.holder, at))
            for run in self.run_log.of(spec.name)
            if run.row is not None and run.outcome == "abandoned" and not run.begins
        ]
        return crowded(
            [one for one in lost if one[0] < one[1] < NEVER],
            MAX_RUNNING if spec.overlap == "allow" else 1,
        )

    def _windows_of(self, spec: Spec) -> Iterator[Window]:
        """Yield the windows of all ticks that are not recorded as not run."""
        begun = {run.fire_time for run in self.run_log.of(spec.name) if run.begins}
        unbegun = {run.fire_time for run in self.run_log.of(spec.name) if not run.begins}
        for tick in ticks(spec, self._last):
            on_record = tick in unbegun or (spec.name, tick) in self.run_log.covered
            if tick in begun or not on_record:
                yield Window(spec.name, tick, self._closes(spec, tick))

    def _closes(self, spec: Spec, tick: int) -> int:
        run = next((one for one in self.run_log.of(spec.name) if one.fire_time == tick), None)
        if run is not None and run.begins and run.begins[0].attempt > 1 and spec.rerun:
            return self._after_victim(run, tick)
        return self.deadline(spec, tick)

    def _after_victim(self, run: Run, tick: int) -> int:
        """Return when a run must start whose first claim was lost before its dispatch."""
        found_out = self.capacity.found_out(tick, run.begins[0].wall)
        return self.capacity.ready(max(tick, found_out)) + self._prompt

    def unaccounted(self) -> Iterator[str]:
        """Yield for each tick whether it neither ran nor is recorded, although it could run."""
        for spec in self.case.specs:
            known = {run.fire_time for run in self.run_log.of(spec.name)}
            for tick in ticks(spec, self.case.ended):
                is_known = tick in known or (spec.name, tick) in self.run_log.covered
                late = self.deadline(spec, tick) == NEVER
                yield "" if is_known or late else f"{_named(spec.name, tick)} is nowhere"

    def unmatched(self) -> Iterator[str]:
        """Yield for each run and each window whether it has no partner."""
        for spec in self.case.specs:
            begins = sorted(run.begins[0].wall for run in self.run_log.of(spec.name) if run.begins)
            extras, misses = match_windows(begins, self.windows[spec.name])
            yield from [""] * (len(begins) - len(extras))
            for begin in extras:
                yield f"{spec.name}: the run that began {clock_of(begin)} fits no window: an extra"
            for window in misses:
                if window.closes < NEVER:
                    yield (
                        f"{_named(spec.name, window.opens)} should have begun by"
                        f" {clock_of(window.closes)}: a miss"
                    )

    def late(self) -> Iterator[str]:
        """Yield for each run whether it began after its own window, by its headers.

        A window that is longer than an interval could have the next run instead.
        """
        begins = {
            (run.task, run.fire_time): run.begins[0].wall
            for run in self.run_log.runs.values()
            if run.begins
        }
        for window in (one for windows in self.windows.values() for one in windows):
            began = begins.get((window.task, window.opens), 0)
            if began > window.closes:
                name = _named(window.task, window.opens)
                yield f"{name} began {clock_of(began)}, after {clock_of(window.closes)}"
            elif began:
                yield ""

    # Identity ----------------------------------------------------------------------------

    def strangers(self) -> Iterator[str]:
        """Yield for each run whether it is no tick, too early, or recorded as not run."""
        for run in self.run_log.runs.values():
            spec = self.run_log.specs.get(run.task)
            if spec is None:
                yield f"{run.task} is no task"
            elif run.fire_time < spec.start or (run.fire_time - spec.start) % spec.every:
                yield f"{_named(run.task, run.fire_time)} is not on the grid"
            elif run.begins and run.begins[0].wall < run.fire_time:
                yield f"{_named(run.task, run.fire_time)} ran early"
            elif run.begins and (run.task, run.fire_time) in self.run_log.covered:
                yield f"{_named(run.task, run.fire_time)} ran, and is on record as not run"
            else:
                yield ""

    def twice(self) -> Iterator[str]:
        """Yield for each run whether it was dispatched once too often."""
        for name in self.run_log.specs:
            for run, after in pairwise([*self.run_log.of(name), None]):
                if after is not None and run.fire_time == after.fire_time:
                    yield f"{_named(name, run.fire_time)} has two runs"
                else:
                    yield self._repeated(run)

    def _repeated(self, run: Run) -> str:
        numbers = [line.attempt for line in run.begins]
        if len(set(numbers)) < len(numbers):
            return f"{_named(run.task, run.fire_time)} was dispatched twice as one attempt"
        spec = self.run_log.specs[run.task]
        if spec.rerun:
            return ""
        for before, after in pairwise(run.begins):
            end = run.ends.get(before.attempt)
            if end is None or end.status == 200 or end.wall > after.wall:
                return (
                    f"{_named(run.task, run.fire_time)}: attempt {after.attempt} without a failure"
                )
        if numbers and numbers[0] != 1:
            return f"{_named(run.task, run.fire_time)} begins with attempt {numbers[0]}"
        return ""

    def falling(self) -> Iterator[str]:
        """Yield for each run whether its attempts do not rise, or an end belongs to no attempt."""
        for run in self.run_log.runs.values():
            numbers = [line.attempt for line in run.begins]
            rises = all(one < other for one, other in pairwise(numbers))
            same = {(line.task, line.fire_time) for line in (*run.begins, *run.ends.values())}
            if not rises or len(same) > 1 or not set(run.ends) <= set(numbers):
                yield f"{run.key}: {numbers}, ended {sorted(run.ends)}, of {sorted(same)}"
            else:
                yield ""

    def overlapping(self) -> Iterator[str]:
        """Yield for each run that may not overlap whether it started during another one."""
        for spec in self.case.specs:
            if spec.overlap == "allow":
                continue
            begins = sorted(
                (line for run in self.run_log.of(spec.name) for line in run.begins),
                key=lambda line: line.wall,
            )
            for before, after in pairwise(begins):
                yield self._overlap(before, after)

    def _overlap(self, before: Line, after: Line) -> str:
        """Return a violation if *after* started before the other ended or was known to be lost."""
        end = self.run_log.runs[before.run].ends.get(before.attempt)
        hit = self.capacity.hit(before.pid, before.wall, after.wall)
        if hit is not None:
            return ""
        if end is None or end.wall > after.wall:
            return f"{_named(after.task, after.fire_time)} began in {clock_of(before.fire_time)}"
        return ""

    # Records -----------------------------------------------------------------------------

    def causeless(self) -> Iterator[str]:
        """Yield for each tick that did not run whether it has no cause."""
        for (task, tick), row in self.run_log.covered.items():
            if row.run in self.run_log.runs:  # no worker took it
                continue
            spec = self.run_log.specs[task]
            skipped = row.outcome == "skipped"
            known = self._was_busy(spec, tick) if skipped else self._was_dark(spec, tick)
            yield "" if known else f"{_named(task, tick)} is on record as {row.outcome}"
        for run in self.run_log.runs.values():
            if run.found_no_worker:
                workers, named = self.capacity.workers, _named(run.task, run.fire_time)
                known = workers is not None and workers.explains_wait(run.claims[-1].wall)
                yield "" if known else f"{named} found no worker"
            elif run.outcome == "abandoned":
                yield self._causeless_loss(run)
            elif run.outcome == "interrupted" and self._arrived_too_late(run):
                yield ""
            elif run.outcome not in {"", "succeeded", "failed"}:
                yield f"{_named(run.task, run.fire_time)} is on record as {run.outcome}"

    def _was_dark(self, spec: Spec, tick: int) -> bool:
        return spec.misfire == "latest" and self.capacity.is_dark(tick)

    def _was_busy(self, spec: Spec, tick: int) -> bool:
        """Return whether the limit of unfinished runs was reached when the tick was decided."""
        if spec.overlap == "allow" or spec.misfire == "all":
            return False
        decided = self.capacity.claims(tick) + self._prompt
        going = sum(
            run.fire_time < tick
            and (run.fire_time if spec.overlap == "wait" else run.opened) <= decided
            and run.closed(self.capacity) + _recorded_within(run) >= tick
            for run in self.run_log.of(spec.name)
        )
        return going >= (2 if spec.overlap == "wait" else 1)

    def _arrived_too_late(self, run: Run) -> bool:
        """Return whether the process had stopped its work when the store granted the claim."""
        row = run.row
        left = any(line.what == "stop" and line.pid == row.holder for line in self.case.lines)
        has_begun = _has_begun(run, row.attempt)
        return left and not has_begun and self.capacity.was_unanswered(row.claimed_at, SECOND)

    def _causeless_loss(self, run: Run) -> str:
        row = run.row
        if row is None:
            return ""
        hit = self.capacity.hit(row.holder, row.claimed_at, self.case.ended)
        wait = self.case.wait if self.capacity.is_of_worker(row.holder) else 0
        was_late = not _has_begun(run, row.attempt) and self.capacity.was_unanswered(
            row.claimed_at, self.case.lease, wait=wait
        )
        if hit is None and not was_late and not self._left_in_outage(row.holder):
            return f"{_named(run.task, run.fire_time)} was abandoned by a process that lived"
        return ""

    def _left_in_outage(self, holder: int) -> bool:
        """Return whether the process ended while the store was away, and could record nothing."""
        left = (line.wall for line in self.case.lines if (line.what, line.pid) == ("stop", holder))
        return any(self.capacity.was_unanswered(at, SECOND) for at in left)

    def disagreeing(self) -> Iterator[str]:
        """Yield for each run whether its record differs from the log of the app."""
        for run in self.run_log.runs.values():
            yield self._disagreement(run)

    def _disagreement(self, run: Run) -> str:
        row, name = run.row, _named(run.task, run.fire_time)
        if row is None:
            return f"{name} ran and has no row"
        if (row.task, row.fire_time) != (run.task, run.fire_time):
            return f"{name} has the row of {_named(row.task, row.fire_time)}"
        last = run.begins[-1].attempt if run.begins else 0
        if row.attempt < last:
            return f"{name} ran as attempt {last}, its row says {row.attempt}"
        end = run.ends.get(row.attempt)
        expected = {"succeeded": 200, "failed": 503}.get(row.outcome)
        if expected is not None and (end is None or end.status != expected):
            said = "no end" if end is None else f"{end.status}"
            return f"{name} is on record as {row.outcome}, the app has {said}"
        is_old = row.fire_time < self.case.ended - 4 * SECOND
        if row.outcome == "" and is_old and not row.posted:
            return f"{name} is still open"
        return ""

    def unretried(self) -> Iterator[str]:
        """Yield for each failed run whether retries were left and nothing prevented them."""
        for run in self.run_log.runs.values():
            spec = self.run_log.specs.get(run.task)
            if run.row is None or spec is None or run.outcome != "failed":
                continue
            until = run.fire_time + spec.every
            calm = run.row.attempt <= spec.retries and not self._disturbed(run.fire_time, until)
            name = _named(run.task, run.fire_time)
            yield f"{name} ended with attempt {run.row.attempt}" if calm else ""

    def _disturbed(self, began: int, until: int) -> bool:
        workers = self.capacity.workers
        holes = () if workers is None else workers.holes
        return any(one < until and end > began for one, end in holes) or any(
            one.began < until and one.ended > began and one.kind not in LEAVES
            for one in self.case.faults
        )

    def resumed(self) -> Iterator[str]:
        """Yield for each claim whose holder was stopped for too long whether it was dispatched.

        A worker may take a run whose lease is over from its poster, as long as no other process
        could have found out that the lease is over and have abandoned it.
        """
        for line in self.case.lines:
            if line.what == "victim" and line.point.endswith("after-claim"):
                run = self.run_log.runs.get(line.run)
                begins = [] if run is None else run.begins
                sent = [one for one in begins if one.attempt == line.attempt]
                if self.capacity.workers is not None:
                    found_lost = self.capacity.found_lost
                    sent = [
                        one for one in sent if one.wall > found_lost(line.pid, line.wall, one.wall)
                    ]
                yield (
                    f"{_named(line.task, line.fire_time)} was dispatched after all" if sent else ""
                )

    # The ledger --------------------------------------------------------------------------

    def accounted(self) -> Iterator[str]:
        """Yield for each task what its ledger says that the history and the log do not."""
        for account in self.case.accounts:
            spec = self.run_log.specs[account.task]
            yield self._other_count(spec, account)
            yield from (f"{_named(spec.name, one)} is unexplained" for one in account.unexplained)
            for ident in account.twice:
                run = self.run_log.runs.get(ident)
                begun = 0 if run is None else len(run.begins)
                if begun < 2:
                    yield f"{spec.name}: run {ident} ran twice, the app has {begun} starts"
                elif not spec.rerun:
                    yield f"{spec.name}: run {ident} was dispatched twice"

    def _other_count(self, spec: Spec, account: Account) -> str:
        """Return a number of the ledger that is another one than that of the grid or the history.

        The fleet goes on until it has ended, and the ledger is made after that.
        """
        grid = sum(account.since <= tick < account.until for tick in ticks(spec, account.until))
        rows = [row for row in self.case.history if row.task == spec.name]
        passed = sum(row.count for row in rows if row.outcome in PASSED)
        # A run that waits for a retry has no holder and is open, in the ledger too.
        is_open = [not row.outcome and not row.holder for row in rows]
        ran = sum(
            row.outcome not in PASSED and row.attempt > 0 and not waits
            for row, waits in zip(rows, is_open, strict=True)
        )
        expected = grid, ran, passed
        found = account.fire_times, account.ran, account.passed
        if found == expected:
            return ""
        return f"{spec.name}: expected {expected} fire times, runs and records, the ledger {found}"


def judge(case: Case) -> list[Verdict]:
    """Return the verdict on each rule."""
    return Judge(case).verdicts()


def _recorded_within(run: Run) -> int:
    """Return how long after its end a run may still count as unfinished."""
    return PROMPT if run.outcome == "abandoned" else PROMPT // 2


def _has_begun(run: Run, attempt: int) -> bool:
    """Return whether an attempt was dispatched; an earlier one of the run may have been."""
    return any(line.attempt == attempt for line in run.begins)


def _named(task: str, tick: int) -> str:
    return f"{task} {clock_of(tick)}"
