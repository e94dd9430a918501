"""Deletes runs and other records that are older than they are kept, in bounded steps.

Runs that are deleted are added to the tallies of their task and hour in the same step. Two classes
of runs are kept for different times. The cursor of a pass is the number up to which only runs of
the class that is kept longer are left; each day a new pass begins, for runs that had not ended when
the last one passed them. The oldest runs of that class come first in the index of what went wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import DAY
from pulse.core.records import HOUR, PAUSED_KIND, PAUSED_REASON
from pulse.core.run_query import KEPT_LONGER
from pulse.store.shared.manifests import Manifest
from pulse.store.shared.records import BATCH, PruneTurn
from pulse.store.sql.schema import IS_KEPT_LONGER, IS_WRONG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.clock import Instant, Span
    from pulse.store.shared.records import Limits
    from pulse.store.sql.database import Connection

_KIND = (
    f"CASE WHEN outcome = 'missed' AND message = '{PAUSED_REASON}' THEN '{PAUSED_KIND}'"
    " ELSE outcome END"
)
_TALLY = (
    "INSERT INTO @tallies AS y (task, hour, is_planned, kind, number, newest)"  # noqa: S608 - constants alone
    f" SELECT task, fire_time / {HOUR} * {HOUR}, CASE WHEN slot IS NULL THEN 0 ELSE 1 END, {_KIND},"
    " CAST(sum(count) AS bigint), max(fire_time) FROM {} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    " ON CONFLICT (task, hour, is_planned, kind) DO UPDATE SET number = y.number + excluded.number,"
    " newest = CASE WHEN excluded.newest > y.newest THEN excluded.newest ELSE y.newest END"
)
"""All calls add to the tallies in one order, so that no two of them wait for each other."""

_TALLIED = "task, fire_time, slot, outcome, message, count"


def tally_of(source: str) -> str:
    """Return the statement that adds the runs of a source to the tallies."""
    return _TALLY.format(source)


def delete_and_tally(where: str) -> str:
    """Return one statement that deletes runs and adds them to the tallies."""
    return (
        f"WITH gone AS (DELETE FROM @runs WHERE {where} RETURNING {_TALLIED})"  # noqa: S608 - constants alone
        f" {tally_of('gone')}"
    )


def _locked(condition: str) -> str:
    return f"seq IN (SELECT seq FROM @runs WHERE {condition} FOR UPDATE SKIP LOCKED)"  # noqa: S608 - constants alone


_NEWEST = "SELECT seq FROM @runs WHERE task = ?{} ORDER BY seq DESC LIMIT 1 OFFSET ?"
EXCESS = (
    (_NEWEST.format(""), f"task = ? AND outcome IS NOT NULL AND NOT {IS_KEPT_LONGER} AND seq <= "),
    (_NEWEST.format(f" AND {IS_KEPT_LONGER}"), f"task = ? AND {IS_KEPT_LONGER} AND seq <= "),
)
"""For each class of runs: up to which number a task has too many, and a condition that names them.

The values are the task and the number to keep, and the task and that number."""

TRIM = "seq IN ({})".format(
    " UNION ALL ".join(
        f"SELECT seq FROM (SELECT seq FROM @runs WHERE {condition}({newest})"  # noqa: S608 - constants alone
        f" FOR UPDATE SKIP LOCKED) class_{number}"
        for number, (newest, condition) in enumerate(EXCESS)
    )
)
"""The condition of what a task has too much; for each class the values are task, task, number to
keep. It is one statement, since a plan costs as much as to look for nothing."""

FINISHED = _locked("id IN ({}) AND outcome IS NOT NULL")
"""The condition of those of some runs that have ended; the values are their ids."""

_WINDOW = "SELECT seq, opened_at, outcome FROM @runs WHERE seq > ? ORDER BY seq LIMIT ?"
_OLD = _locked(
    f"seq > ? AND seq <= ? AND opened_at < ? AND outcome IS NOT NULL AND NOT {IS_KEPT_LONGER}"
)
_OLD_FAILURES = _locked(
    f"seq IN (SELECT seq FROM @runs WHERE {IS_WRONG} ORDER BY seq LIMIT {BATCH})"  # noqa: S608 - constants alone
    f" AND {IS_KEPT_LONGER} AND opened_at < ?"
)
_UPKEEP = "SELECT name, at, position FROM @upkeep"
_SAVE = (
    "INSERT INTO @upkeep (name, at, position) VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET at = excluded.at, position = excluded.position"
)
_PRUNE, _PASS, _RECORDS = "prune", "pass", "records"

_PRUNE_VERSIONS = (
    "DELETE FROM @versions WHERE seq IN (SELECT v.seq FROM @versions v WHERE v.at < ?"
    " AND (v.schedule = '' OR EXISTS (SELECT 1 FROM @versions n WHERE n.task = v.task"
    " AND n.place = v.place AND n.seq > v.seq AND n.at < ?)))"
)
_RECORD_TEXTS = (
    _PRUNE_VERSIONS,
    "DELETE FROM @served WHERE until < ?",
    "DELETE FROM @tallies WHERE hour < ?",
    "DELETE FROM @refused WHERE at < ?",
)
_WITHOUT_ROW = (
    "SELECT digest FROM @definitions WHERE digest NOT IN (SELECT digest FROM @tasks)"
    " AND digest NOT IN (SELECT config FROM @configs)"
)
_MANIFESTS = "SELECT manifest FROM @configs"
_UNUSED = "DELETE FROM @definitions WHERE digest IN ({})"
_PRUNE_AUDIT = (
    "DELETE FROM @audit WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM @audit ORDER BY seq"
    " LIMIT 500) oldest WHERE at < ?)"
)
_PRUNE_TASKS = (
    "DELETE FROM @tasks WHERE key IN"
    " (SELECT key FROM @tasks WHERE archived_at < ? FOR UPDATE SKIP LOCKED)"
)


def begin_prune(
    connection: Connection, clock: Callable[[], Instant], *, every: Span
) -> PruneTurn | None:
    """Return what this process prunes now, and record that it does; *clock* is read again."""
    with connection.together():
        found = connection.execute(_UPKEEP)
        now = clock()
    known = {name: (at, position) for name, at, position in found}
    at, position = known.get(_PRUNE, (now - every, 0))
    if now - every < at <= now:
        return None
    if _is_over(known, _PASS, now, DAY):
        position = 0
        connection.execute(_SAVE, (_PASS, now, 0))
    connection.execute(_SAVE, (_PRUNE, now, position))
    with_records = _is_over(known, _RECORDS, now, HOUR)
    if with_records:
        connection.execute(_SAVE, (_RECORDS, now, 0))
    return PruneTurn(now, position, with_records)


def _is_over(known: Mapping[str, tuple[Instant, int]], name: str, now: Instant, span: Span) -> bool:
    at, _ = known.get(name, (0, 0))
    return not at <= now < at + span


def prune(connection: Connection, turn: PruneTurn, limits: Limits) -> PruneTurn | None:
    """Delete what is older than the limits; return what is to be pruned next."""
    window = [*connection.execute(_WINDOW, (turn.position, BATCH))]
    passed = _passed(window, turn.position, limits)
    if window:
        connection.delete_tallied(_OLD, (turn.position, window[-1][0], limits.runs))
    connection.delete_tallied(_OLD_FAILURES, (limits.failures,))
    connection.execute(_SAVE, (_PRUNE, turn.now, passed))
    connection.execute(_PRUNE_TASKS, (limits.runs,))
    connection.execute(_PRUNE_AUDIT, (limits.records,))
    if turn.with_records:
        for text in _RECORD_TEXTS:
            connection.execute(text, (limits.records,) * text.count("?"))
        _delete_definitions(connection)
    connection.reclaim()
    if len(window) < BATCH or passed < window[-1][0]:
        return None
    return PruneTurn(turn.now, passed)


def _passed(window: list[tuple[int, Instant, str | None]], position: int, limits: Limits) -> int:
    """Return the number up to which the pass leaves only runs that are kept longer."""
    for seq, opened_at, outcome in window:
        is_kept = outcome in KEPT_LONGER
        if outcome is None or (not is_kept and opened_at >= limits.runs):
            break
        position = seq
    return position


def _delete_definitions(connection: Connection) -> None:
    """Delete the settings of definitions that no row has, and that no manifest declares.

    A process with an older manifest may come back, or take a task over: it stores no settings then.
    """
    unused = {digest for (digest,) in connection.execute(_WITHOUT_ROW)}
    if not unused:
        return
    for (manifest,) in connection.execute(_MANIFESTS):
        unused.difference_update(Manifest("", bytes(manifest)).digests().values())
    digests = sorted(unused)
    for start in range(0, len(digests), BATCH):
        some = digests[start : start + BATCH]
        connection.execute(_UNUSED.format(", ".join("?" * len(some))), some)
