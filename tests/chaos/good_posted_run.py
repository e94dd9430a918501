"""A made-up run with Celery workers that breaks no rule, which the tests of the checker modify.

A child is killed in a run of `nap`, the broker is stopped for two seconds, and the queue is purged
of all runs that were posted within two seconds.
"""

from __future__ import annotations

from tests.chaos.artifacts import SECOND, Account, Case, Fault, Line, Row, Spec, ticks
from tests.chaos.good_run import START

SPECS = (
    Spec("plain", SECOND, START),
    Spec("crowd", SECOND, START, overlap="allow", misfire="all"),
    Spec("nap", 2 * SECOND, START),
    Spec("flaky", 4 * SECOND, START, retries=2),
)
NAP = 2_300_000
WEB, OTHER_WEB = 11, 12
MAIN, FIRST, SECOND_CHILD, THIRD = 20, 21, 22, 23
LEASE, WAIT = 3 * SECOND, 5 * SECOND
ENDED = START + 45 * SECOND

KILLED = START + 8 * SECOND + 100_000
BROKER = Fault("broker-stop", START + 14_200_000, START + 16_200_000)
BACK = BROKER.ended + 400_000
"""When the web processes have found out that the broker is there again."""

PURGE = Fault("purge", START + 22_200_000, START + 24_200_000, (MAIN,))
KILL = Fault("kill-child", KILLED, KILLED, (FIRST,))
MISSED_AFTER = WAIT + LEASE + 200_000


class Script:
    """Writes the log lines and records of a run."""

    def __init__(self) -> None:
        before = START - SECOND
        self.lines = [
            *(Line("start", before, 0, pid) for pid in (WEB, OTHER_WEB)),
            *(ready(before, pid) for pid in (FIRST, SECOND_CHILD)),
            Line("consume", before, 0, MAIN, worker="worker0"),
            ready(KILLED + SECOND, THIRD),
        ]
        self.rows: list[Row] = []

    def claim(self, spec: Spec, tick: int, *, attempt: int = 1, at: int = 0) -> None:
        """Write that a web process has claimed an attempt."""
        claimed = at or tick + 1_000
        self.lines.append(Line("claim", claimed, 0, WEB, *_named(spec, tick, attempt)))

    def call(
        self, spec: Spec, tick: int, *, attempt: int = 1, at: int = 0, status: int = 200
    ) -> int:
        """Write an attempt that is claimed, begins and ends; return when it did."""
        began = (at or tick) + 3_000
        self.claim(spec, tick, attempt=attempt, at=began - 2_000)
        naps = spec.name == "nap"
        ended, pid = began + (NAP if naps else 1_000), executing(naps=naps, at=began)
        named = _named(spec, tick, attempt)
        self.lines.append(Line("begin", began, began, pid, *named))
        self.lines.append(Line("end", ended, ended, pid, *named, status))
        return ended

    def record(self, spec: Spec, tick: int, outcome: str, **more: int) -> None:
        """Write a row."""
        cells = {"holder": SECOND_CHILD, "claimed_at": tick + 1_000} | more
        self.rows.append(Row(spec.name, tick, run_of(spec, tick), outcome, **cells))

    def pass_by(self, spec: Spec, tick: int, outcome: str, *, untaken: bool = False) -> None:
        """Write the row of a fire time that did not run."""
        self.record(spec, tick, outcome, attempt=0, holder=0, claimed_at=0, untaken=untaken)


def ready(at: int, pid: int) -> Line:
    """Return the line of a child that executes runs from then on."""
    return Line("ready", at, 0, pid, worker="worker0", slots=1)


def executing(*, naps: bool, at: int) -> int:
    """Return the child that executes a run: one is for naps."""
    if not naps:
        return SECOND_CHILD
    return FIRST if at < KILLED else THIRD


def run_of(spec: Spec, tick: int) -> str:
    """Return a run's id."""
    return f"{spec.name}-{tick}"


def good_posted_run() -> Case:
    """Return the run."""
    script = Script()
    for spec in SPECS:
        going_until = 0
        for tick in ticks(spec, ENDED):
            decided = BACK if BROKER.began <= tick <= BROKER.ended else tick
            if spec.overlap == "skip" and going_until > decided:
                script.pass_by(spec, tick, "skipped")
            elif decided > tick + SECOND and spec.misfire == "latest":
                script.pass_by(spec, tick, "missed")
            else:
                going_until = _run(script, spec, tick, decided)
    lines = sorted(script.lines, key=lambda line: line.wall)
    rows = tuple(script.rows)
    accounts = tuple(_account(spec, rows) for spec in SPECS)
    return Case(SPECS, tuple(lines), (KILL, BROKER, PURGE), rows, ENDED, LEASE, accounts, wait=WAIT)


def _run(script: Script, spec: Spec, tick: int, at: int) -> int:
    """Write a run; return until when it counts as unfinished."""
    if PURGE.began <= tick <= PURGE.ended:
        script.claim(spec, tick)
        script.pass_by(spec, tick, "missed", untaken=True)
        return tick + MISSED_AFTER
    if spec.name == "nap" and tick < KILLED < tick + SECOND:
        script.claim(spec, tick)
        script.lines.append(Line("begin", tick + 3_000, 0, FIRST, *_named(spec, tick, 1)))
        script.record(spec, tick, "abandoned", holder=FIRST)
        return KILLED + 500_000
    if spec.name != "flaky":
        script.record(spec, tick, "succeeded", claimed_at=at + 1_000)
        return script.call(spec, tick, at=at)
    failed = script.call(spec, tick, at=at, status=503)
    script.record(spec, tick, "succeeded", attempt=2, claimed_at=failed + 300_000)
    return script.call(spec, tick, attempt=2, at=failed + 300_000)


def _named(spec: Spec, tick: int, attempt: int) -> tuple[str, int, str, int]:
    return spec.name, tick, run_of(spec, tick), attempt


def _account(spec: Spec, rows: tuple[Row, ...]) -> Account:
    """Return the ledger of a task."""
    own = [row for row in rows if row.task == spec.name]
    passed = sum(row.count for row in own if row.outcome in {"skipped", "missed"})
    until = ENDED + SECOND
    grid = sum(tick < until for tick in ticks(spec, until))
    return Account(spec.name, START, until, grid, len(own) - passed, passed)
