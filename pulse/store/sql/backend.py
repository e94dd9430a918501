"""The backend of shared stores in SQL: sessions on a database, what they read and write."""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pulse.core.cursor import BEFORE_TIME
from pulse.core.run import QUEUE_HOLDER
from pulse.store.base import Member
from pulse.store.process_identity import boot_of
from pulse.store.rules import CONFIG
from pulse.store.shared.backend import (
    WITHOUT_DATA,
    EarlyData,
    Fleet,
    Lease,
    LookSnapshot,
    MemberRow,
)
from pulse.store.shared.manifests import UNKNOWN
from pulse.store.shared.rows import DueRow, DueSnapshot, PendingRow, TaskSnapshot
from pulse.store.sql.accounting import SqlAccounting
from pulse.store.sql.apply import apply
from pulse.store.sql.codec import (
    RUN_COLUMNS,
    RUN_WIDTH,
    TASK_COLUMNS,
    TASK_WIDTH,
    row_of,
    run_of,
)
from pulse.store.sql.database import Update
from pulse.store.sql.due_query import UNFINISHED, pages_for
from pulse.store.sql.retention import begin_prune
from pulse.store.sql.steering import SqlSteering, stop_of
from pulse.store.sql.unfinished import PENDING_IN, SqlUnfinished
from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.shared.backend import Transaction
    from pulse.store.shared.changes import Applied, ChangeSet
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.records import PruneTurn
    from pulse.store.shared.rows import Caller, TaskRow
    from pulse.store.sql.database import Connection, Database, DueRows, QueryResult

T = TypeVar("T")

_ROWS = f"SELECT {TASK_COLUMNS} FROM @tasks t"  # noqa: S608 - constants alone
_NAMED = f"{_ROWS} WHERE t.task IN (?*)"
_LOCKED = f"{_NAMED} ORDER BY t.key FOR UPDATE"
"""A process that waits for several rows locks them in one order, so that none waits forever."""
_DECLARED = f"{_ROWS} WHERE t.source = '{CONFIG}' AND t.archived_at IS NULL"
_COUNTS = (
    "SELECT task, place, count(*) FROM @runs WHERE outcome IS NULL AND task IN (?*)"
    " GROUP BY task, place"
)
_PAUSED = "SELECT task FROM @paused WHERE task IN (?*) UNION ALL SELECT task FROM @fleet_pause"
_ENDS = (
    "SELECT task, until FROM @paused WHERE until IS NOT NULL"
    " UNION ALL SELECT task, until FROM @fleet_pause WHERE until IS NOT NULL"
)
_IN_USE = f"SELECT {TASK_COLUMNS}, {UNFINISHED} FROM @tasks t WHERE t.archived_at IS NULL"  # noqa: S608 - constants alone
_EARLY = (
    f"{_ROWS} WHERE t.archived_at IS NULL"
    f" AND (t.source = '{CONFIG}' OR t.anchor > ? OR t.floor > ? OR t.resumed_at > ?)"
)
_NEXT_ROW = (
    "SELECT place, min(due_at) FROM @tasks WHERE place IN (?*) AND paused = 0"
    " AND archived_at IS NULL AND due_at IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM @fleet_pause) GROUP BY place"
)
_NEXT_PENDING = (
    "SELECT place, min(retry_at) FROM @runs WHERE outcome IS NULL AND holder = ''"
    " AND place IN (?*) GROUP BY place"
)
_NAMES = "SELECT DISTINCT task FROM @tasks WHERE archived_at IS NULL LIMIT ?"
_RUNS = f"SELECT {RUN_COLUMNS} FROM @runs"  # noqa: S608 - constants alone
_MEMBER_FIELDS = Member.__struct_fields__
_MEMBERS = (
    f"SELECT {', '.join(_MEMBER_FIELDS)}, config, seen, seen_boot, report FROM @members"  # noqa: S608 - constants alone
    " ORDER BY holder"
)
_SAVE_MEMBER = (
    f"INSERT INTO @members ({', '.join(_MEMBER_FIELDS)}, config, seen, seen_boot, report)"  # noqa: S608 - constants alone
    f" VALUES ({'?, ' * len(_MEMBER_FIELDS)}?, ?, ?, ?)"
    " ON CONFLICT (holder) DO UPDATE SET config = excluded.config, seen = excluded.seen,"
    " seen_boot = excluded.seen_boot, report = excluded.report"
)
_SEEN = Update("@members", sets=("seen", "seen_boot", "report"), keys=("holder",))
_LEASES = (
    "SELECT id, mark, lease_us, stop, CASE WHEN holder = ? THEN claimed_at + lease_us END"
    " FROM @runs WHERE outcome IS NULL AND holder <> ''"
)
"""The last column is the end of the wait of a posted run: it is counted from the claim, since the
statement that posts a run does not read the clock."""

_ADD_MANIFEST = (
    "INSERT INTO @configs (config, manifest) VALUES (?, ?) ON CONFLICT (config) DO NOTHING"
)
_PRESENT = (
    "SELECT EXISTS (SELECT 1 FROM @tasks), EXISTS (SELECT 1 FROM @configs WHERE config = ?),"
    " EXISTS (SELECT 1 FROM @members WHERE holder = ?)"
)
_WITHOUT_TASKS = (
    "the rows of all tasks are gone: tasks of the configuration are stored again as new ones;"
    " pauses and tasks that were added at run time are lost"
)
_WITHOUT_MANIFESTS = "the lists of declared tasks were lost: each process stores its own again"
_MANIFESTS = "SELECT config, born, manifest FROM @configs WHERE config IN (?*)"
_PRUNE_MANIFESTS = (
    "DELETE FROM @configs WHERE config <> ? AND config NOT IN (SELECT config FROM @members)"
    " AND born NOT IN (SELECT born FROM @configs ORDER BY born DESC LIMIT 32)"
)


_report_of = lru_cache(1024)(msgspec.json.Decoder(MemberReport).decode)
"""Each look reads the reports of all processes, and most of them are as before."""

CONTENTION_WINDOW = 16
"""For how many claims after a lost one a process starts to read further on in the due rows."""


class SqlBackend:
    """Keeps one application's data in the tables of a database.

    Attributes:
        space: `pulse.config.name`.
        members: how many processes have a row, as the last heartbeat has found.

    """

    notice = ""
    rolls_back = True

    def __init__(self, database: Database, *, space: str) -> None:
        self.database: Database = database
        self.name: str = database.name
        self.space: str = space
        self.members: int = 1
        self._contested = 0

    def identity(self) -> str:
        """Return a text that is equal for two databases only if they are the same one."""
        return self.database.identity()

    def open(self, member: Member) -> None:  # noqa: ARG002 - the tables do not depend on it
        """Connect to the database, and create or migrate the tables."""
        self._contested = 0
        self.database.open()

    def close(self) -> None:
        """Close the connections."""
        self.database.close()

    def rest(self) -> None:
        """Close connections to a server that no call uses."""
        self.database.rest()

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""
        self.database.forked()

    def run(self, how: Transaction, rule: Callable[[SqlSession], T]) -> T:
        """Return what *rule* returns, within a transaction."""
        return self.database.run(how, lambda connection: rule(SqlSession(self, connection)))

    def spread_of(self, limit: int) -> int:
        """Return among how many due rows a claim of *limit* may start to read; 0 for the first."""
        return pages_for(self.members) * limit if self._contested else 0

    def note_contention(self, *, contested: bool) -> None:
        """Record whether a claim has lost rows to another process."""
        self._contested = CONTENTION_WINDOW if contested else max(0, self._contested - 1)


class SqlSession(SqlSteering, SqlAccounting, SqlUnfinished):
    """One transaction."""

    __slots__ = ("_now", "backend", "connection", "name")

    def __init__(self, backend: SqlBackend, connection: Connection) -> None:
        self.backend: SqlBackend = backend
        self.connection: Connection = connection
        self.name: str = backend.name
        self._now: Instant | None = None

    def now(self) -> Instant:
        """Return the present on the store's clock, as the transaction has read it last."""
        return self._read(self.connection.clock()) if self._now is None else self._now

    def _read(self, clock: Callable[[], Instant]) -> Instant:
        self._now = now = clock()
        return now

    # Claiming ----------------------------------------------------------------------------

    def read_due(self, caller: Caller, limit: int, *, pending: bool) -> DueSnapshot:  # noqa: ARG002 - one read finds all
        """Return what is due."""
        return self._due_of(self._ask_due(caller, limit)())

    def _ask_due(self, caller: Caller, limit: int) -> Callable[[], DueRows]:
        partitions, spread = sorted(caller.partitions), self.backend.spread_of(limit)
        return self.connection.ask_due(partitions, limit=limit, spread=spread)

    def _due_of(self, found: DueRows) -> DueSnapshot:
        runs = iter(found.pending)
        first = next(runs, None)  # nearly always none
        if first is None:
            return DueSnapshot(found.now, map(_due_row, found.due), ())
        some = map(_pending_row, chain((first,), runs))
        return DueSnapshot(found.now, map(_due_row, found.due), some)

    def apply(self, changes: ChangeSet) -> Applied:
        """Apply a change set."""
        if not changes.now and any(change.runs for change in changes.tasks):
            changes = changes._replace(now=self.now())
        applied = apply(self.connection, changes, space=self.backend.space)
        if changes.tasks and changes.skip_locked:
            self.backend.note_contention(contested=not all(applied.tasks))
        return applied

    # Tasks -------------------------------------------------------------------------------

    def read_tasks(self, keys: Sequence[str], *, lock: bool = False) -> TaskSnapshot:
        """Return the rows of these keys, archived ones too."""
        names = sorted({key.partition("/")[2] for key in keys})
        return self._snapshot(names, frozenset(keys), lock=lock)

    def read_tasks_named(self, name: str, *, lock: bool = False) -> TaskSnapshot:
        """Return the rows of a task in all partitions, archived ones too."""
        return self._snapshot([name], None, lock=lock)

    def _snapshot(
        self, names: Sequence[str], keys: frozenset[str] | None, *, lock: bool
    ) -> TaskSnapshot:
        select_in = self.connection.select_in
        with self.connection.together():
            found = select_in(_LOCKED if lock else _NAMED, names)
            if lock:
                # Read at once, so that no process is stopped while it has the locks and the
                # server waits for the rest of a pipeline.
                found = list(found)
            counted = select_in(_COUNTS, names)
            paused = select_in(_PAUSED, names)
            clock = self.connection.clock()
        rows = {row.task_key: row for row in map(row_of, found)}
        counts = {f"{partition}/{task}": count for task, partition, count in counted}
        if keys is not None:
            rows = {key: row for key, row in rows.items() if key in keys}
        return TaskSnapshot(
            now=self._read(clock),
            rows=rows,
            unfinished={key: counts.get(key, 0) for key in rows},
            paused=frozenset(task for (task,) in paused),
        )

    def read_declared(self) -> list[TaskRow]:
        """Return the rows that configurations declare, without archived ones."""
        return list(map(row_of, self.connection.execute(_DECLARED)))

    def read_in_use(self, name: str | None = None) -> list[tuple[TaskRow, int]]:
        """Return the rows that are not archived, each with the number of its unfinished runs."""
        if name is None:
            found = self.connection.execute(_IN_USE)
        else:
            found = self.connection.execute(f"{_IN_USE} AND t.task = ?", (name,))
        return [(row_of(cells), cells[TASK_WIDTH]) for cells in found]

    def read_early(self, caller: Caller, now: Instant, *, every_row: bool) -> EarlyData:
        """Return rows in use, and pending runs, that a clock ahead of *now* may have moved."""
        rows = self.connection.execute(_EARLY, [BEFORE_TIME if every_row else now] * 3)
        runs = self.connection.select_in(PENDING_IN, sorted(caller.partitions))
        return EarlyData([*map(row_of, rows)], [*map(run_of, runs)])

    def read_task_names(self, limit: int) -> list[str]:
        """Return names of tasks that are not archived."""
        return [name for (name,) in self.connection.execute(_NAMES, (limit,))]

    # Members -----------------------------------------------------------------------------

    def save_member(
        self, member: Member, manifest: Manifest, report: MemberReport, *, boot: Span
    ) -> None:
        """Record that *member* lives, which manifest it holds, and what it says about itself."""
        cells = [*msgspec.structs.astuple(member), manifest.key, self.now(), boot]
        self.connection.execute(_SAVE_MEMBER, [*cells, _json(report)])

    def save_seen(self, rows: Sequence[MemberRow], *, boot: Span) -> None:
        """Record that processes of this machine live."""
        now = self.now()
        cells = [(now, boot, _json(row.report), row.member.holder) for row in rows]
        self.connection.update_many(_SEEN, cells)

    def read_members(self, caller: Member, *, boot: Span) -> list[MemberRow]:
        """Return the processes that have a row, dead ones too, by holder."""
        with self.connection.together():
            rows = self.connection.execute(_MEMBERS)
            clock = self.connection.clock()
        return self._members_of(rows, clock, caller, boot)

    def _members_of(
        self, rows: QueryResult, clock: Callable[[], Instant], caller: Member, boot: Span
    ) -> list[MemberRow]:
        wall, found = self._read(clock), list[MemberRow]()
        for *cells, manifest, seen, seen_boot, report in rows:
            member = Member(**dict(zip(_MEMBER_FIELDS, cells, strict=True)))
            same_boot = boot_of(member.machine) == boot_of(caller.machine)
            silent_us = boot - seen_boot if same_boot else wall - seen
            said = None if report is None else _report_of(report)
            found.append(MemberRow(member, manifest, seen_boot, silent_us, said))
        self.backend.members = len(found)
        return found

    def read_fleet(self, caller: Caller, *, boot: Span) -> Fleet:
        """Return processes and leases, and what is missing, in one round trip."""
        with self.connection.together():
            fleet = self._ask_fleet(caller, boot=boot)
        return fleet()

    def read_look(
        self, caller: Caller, limit: int, partitions: Collection[str], *, boot: Span
    ) -> LookSnapshot:
        """Return what a heartbeat and a claim read, in one round trip."""
        select_in = self.connection.select_in
        with self.connection.together():
            fleet = self._ask_fleet(caller, boot=boot)
            due = self._ask_due(caller, limit)
            work = [select_in(text, partitions) for text in (_NEXT_ROW, _NEXT_PENDING)]
        # The later pair of a partition overwrites the earlier one, so the earliest comes last.
        next_due = dict(sorted(chain(*work), key=itemgetter(1), reverse=True))
        return LookSnapshot(fleet(), next_due, lambda: self._due_of(due()))

    def _ask_fleet(self, caller: Caller, *, boot: Span) -> Callable[[], Fleet]:
        execute, member = self.connection.execute, caller.member
        rows = execute(_MEMBERS)
        clock = self.connection.clock()
        leases = execute(_LEASES, (QUEUE_HOLDER,))
        present = execute(_PRESENT, (caller.manifest, member.holder))
        ends = execute(_ENDS)

        def read() -> Fleet:
            members, claimed = self._members_of(rows, clock, member, boot), list(leases)
            now = self.now()
            return Fleet(
                members,
                [
                    Lease(run, mark, None if end is None else end - now, length, end is not None)
                    for run, mark, length, _, end in claimed
                ],
                _missing(caller, next(iter(present))),
                {task: until for task, until in ends if until <= now},
                {run: stop_of(stop) for run, _, _, stop, _ in claimed if stop is not None},
            )

        return read

    def remove_members(self, holders: Sequence[str], *, keep: frozenset[str]) -> None:
        """Remove processes and the rows of their partitions; those in *keep* stay listed."""
        execute = self.connection.execute
        for holder in holders:
            if holder not in keep:
                execute("DELETE FROM @members WHERE holder = ?", (holder,))
            execute("DELETE FROM @tasks WHERE place = ? AND scope = 'process'", (holder,))

    def add_manifest(self, manifest: Manifest) -> None:
        """Keep a manifest; one that exists keeps its number."""
        self.connection.execute(_ADD_MANIFEST, (manifest.key, manifest.manifest))
        self.connection.execute(_PRUNE_MANIFESTS, (manifest.key,))

    def read_manifests(self, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        """Return number and content of the manifests of these keys that exist."""
        found = self.connection.select_in(_MANIFESTS, sorted(keys))
        return {key: (born, bytes(manifest)) for key, born, manifest in found}

    # The storage -------------------------------------------------------------------------

    def begin_prune(self, *, every: Span) -> PruneTurn | None:
        """Return what this process prunes now; None if one has lately."""
        clock = self.connection.clock
        return begin_prune(self.connection, lambda: self._read(clock()), every=every)

    def restore(self) -> None:
        """Empty the list of processes, so that each syncs; no table depends on another one."""
        self.connection.execute("DELETE FROM @members")


def _json(report: MemberReport | None) -> str | None:
    return None if report is None else msgspec.json.encode(report).decode()


def _missing(caller: Caller, present: Sequence[Any]) -> str:
    """Return what the tables have lost that *caller* has stored there; empty for nothing.

    A sync stores a row for each task that it declares, and its manifest. A row is archived before
    it is deleted, so that the tables are empty only if another program has emptied them. The
    manifest of a process that is not listed may have been pruned.
    """
    if caller.manifest == UNKNOWN.key:
        return ""
    has_tasks, has_manifest, is_listed = present
    if not has_tasks and not has_manifest:
        return WITHOUT_DATA
    if caller.definitions and not has_tasks:
        return _WITHOUT_TASKS
    return _WITHOUT_MANIFESTS if is_listed and not has_manifest else ""


def _due_row(cells: Sequence[Any]) -> DueRow:
    return DueRow(row_of(cells), cells[TASK_WIDTH], cells[TASK_WIDTH + 1])


def _pending_row(cells: Sequence[Any]) -> PendingRow:
    row = cells[RUN_WIDTH + 1 :]
    return PendingRow(run_of(cells), row_of(row), row[TASK_WIDTH])
