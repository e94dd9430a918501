"""The report of a run: the verdicts as a table, and the run in a few figures."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.chaos.artifacts import MACHINE
from tests.chaos.checker import Judge

if TYPE_CHECKING:
    from tests.chaos.artifacts import Case

MOST_FINDINGS = 12
_BROKEN = "BROKEN"


def report(title: str, case: Case, users: str) -> str:
    """Return the whole report of one world."""
    judged = Judge(case)
    lines = [title, *_figures(judged), users, ""]
    for verdict in judged.verdicts():
        word = _BROKEN if verdict.broken else "ok"
        lines.append(f"{word:7}{verdict.looked_at:6}  {verdict.rule}")
        lines += [f"                 {text}" for text in verdict.broken[:MOST_FINDINGS]]
        if len(verdict.broken) > MOST_FINDINGS:
            lines.append(f"                 and {len(verdict.broken) - MOST_FINDINGS} more")
    return "\n".join(lines)


def is_good(text: str) -> bool:
    """Return whether a report breaks no rule."""
    return not any(line.startswith(_BROKEN) for line in text.splitlines())


def _figures(judged: Judge) -> list[str]:
    case = judged.case
    kinds = Counter(fault.kind for fault in case.faults if fault.kind not in MACHINE)
    kinds += Counter(line.point for line in case.lines if line.what == "victim")
    kinds["block"] = sum(line.what == "block" for line in case.lines)
    kinds["stop-after-claim"] //= 2  # its victim and the one who woke it both say so
    stalls = [one for one in case.faults if one.kind in MACHINE]
    stood = sum(one.ended - one.began for one in stalls)
    ends = Counter(row.outcome or "open" for row in case.history)
    passed = sum(row.count for row in judged.run_log.passed)
    pids = {line.pid for line in case.lines if line.what == "start"}
    workers = {line.pid for line in case.lines if line.what == "ready"}
    begins = sum(line.what == "begin" for line in case.lines)
    celery = f" of the web server and {len(workers)} of Celery" if workers else ""
    return [
        f"{begins} calls, {len(pids)} processes{celery}, {passed} ticks on record as not run",
        "history: " + ", ".join(f"{count} {word}" for word, count in ends.most_common()),
        "faults: " + ", ".join(f"{count} {word}" for word, count in sorted((+kinds).items())),
        f"the machine stood still {len(stalls)} times, {stood / 1e6:.1f} s in all",
    ]
