"""A made-up run that breaks no rule, which the tests of the checker modify."""

from __future__ import annotations

from tests.chaos.artifacts import SECOND, Account, Case, Fault, Line, Row, Spec, ticks

START = 1_795_417_200 * SECOND
SPECS = (
    Spec("plain", SECOND, START),
    Spec("nap", 2 * SECOND, START),
    Spec("crowd", SECOND, START, overlap="allow", misfire="all"),
    Spec("flaky", 4 * SECOND, START, retries=2),
    Spec("again", 2 * SECOND, START, rerun=True),
)
NAPS = {"nap": 2_600_000, "crowd": 1_700_000, "again": 600_000}
KILLED = START + 10 * SECOND + 100_000
VICTIM, OTHER = 11, 12
LENGTH_S = 24


class Script:
    """Writes the log lines and records of a run."""

    def __init__(self) -> None:
        self.lines = [Line("start", START - SECOND, 0, pid) for pid in (VICTIM, OTHER)]
        self.rows: list[Row] = []

    def call(
        self, spec: Spec, tick: int, *, attempt: int = 1, at: int = 0, status: int = 200
    ) -> int:
        """Write an attempt that finishes; return when it did."""
        began = at or tick + 3_000
        ended = began + NAPS.get(spec.name, 1_000)
        told = (spec.name, tick, run_of(spec, tick), attempt)
        self.lines.append(Line("begin", began, began, OTHER, *told))
        self.lines.append(Line("end", ended, ended, OTHER, *told, status))
        return ended

    def record(self, spec: Spec, tick: int, outcome: str, **more: int) -> None:
        """Write a row."""
        told = {"holder": OTHER, "claimed_at": tick + 1_000} | more
        self.rows.append(Row(spec.name, tick, run_of(spec, tick), outcome, **told))


def run_of(spec: Spec, tick: int) -> str:
    """Return a run's id."""
    return f"{spec.name}-{tick}"


def good_run() -> Case:
    """Return a run in which one process is killed during three runs."""
    script = Script()
    ended = START + LENGTH_S * SECOND
    for spec in SPECS:
        going_until = 0
        for tick in ticks(spec, ended):
            if spec.overlap == "skip" and going_until > tick:
                script.record(spec, tick, "skipped", attempt=0, holder=0, claimed_at=0)
            elif tick == START + 10 * SECOND:
                going_until = _lose(script, spec, tick)
            else:
                going_until = _tick(script, spec, tick)
    lines = sorted(script.lines, key=lambda line: line.wall)
    fault = Fault("kill", KILLED, KILLED, (VICTIM,))
    rows = tuple(script.rows)
    accounts = tuple(_account(spec, rows, ended + SECOND) for spec in SPECS)
    return Case(SPECS, tuple(lines), (fault,), rows, ended, 3 * SECOND, accounts)


def _account(spec: Spec, rows: tuple[Row, ...], until: int) -> Account:
    """Return the ledger of a task."""
    own = [row for row in rows if row.task == spec.name]
    passed = sum(row.count for row in own if row.outcome == "skipped")
    grid = sum(tick < until for tick in ticks(spec, until))
    return Account(spec.name, START, until, grid, len(own) - passed, passed)


def _tick(script: Script, spec: Spec, tick: int) -> int:
    if spec.name != "flaky":
        script.record(spec, tick, "succeeded")
        return script.call(spec, tick)
    failed = script.call(spec, tick, status=503)
    script.record(spec, tick, "succeeded", attempt=2, claimed_at=failed + 300_000)
    return script.call(spec, tick, attempt=2, at=failed + 300_000)


def _lose(script: Script, spec: Spec, tick: int) -> int:
    """Let a run start in the victim; return when it is known to be lost."""
    told = (spec.name, tick, run_of(spec, tick), 1)
    script.lines.append(Line("begin", tick + 3_000, tick + 3_000, VICTIM, *told))
    if spec.rerun:
        script.record(spec, tick, "succeeded", attempt=2, claimed_at=KILLED + 500_000)
        return script.call(spec, tick, attempt=2, at=KILLED + 500_000)
    script.record(spec, tick, "abandoned", holder=VICTIM)
    return KILLED + 500_000
