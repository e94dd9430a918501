"""What sessions in SQL read and write for people: history, pauses, audit; and what is deleted."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from pulse.core.runtime_task import REMOVED_WHEN_DONE
from pulse.store.sql.codec import read_runs
from pulse.store.sql.database import Insert
from pulse.store.sql.history import read_last_runs, read_page
from pulse.store.steering import EVERY_TASK, AuditEntry, Pause, StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pulse.core.run import Run
    from pulse.core.run_query import LastRuns, RunPage, RunQuery
    from pulse.store.sql.database import Cell, Connection

_ALL_PAUSED = (
    "SELECT task, since, until, author, note FROM @paused"
    " UNION ALL SELECT task, since, until, author, note FROM @fleet_pause"
)
_PAUSE = (
    "INSERT INTO @paused AS p (task, since, until, author, note) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (task) DO UPDATE SET since = coalesce(p.since, excluded.since),"
    " until = excluded.until, author = excluded.author, note = excluded.note"
)
_RESUME = "DELETE FROM @paused WHERE task = ?"
_ENTRY = ("number", "at", "verb", "task", "run", "by", "note", "until")
_read_entry = attrgetter(*_ENTRY[1:])
_ADD_AUDIT = (
    "INSERT INTO @audit (at, verb, task, run, author, note, until) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_AUDIT = (
    "SELECT seq, at, verb, task, run, author, note, until FROM @audit WHERE seq < ?{}"
    " ORDER BY seq DESC LIMIT ?"
)
_LAST = 2**63 - 1


_PAUSE_ALL, _RESUME_ALL = (one.replace("@paused", "@fleet_pause") for one in (_PAUSE, _RESUME))
_RAISE_VERSIONS = "UPDATE @tasks SET version = version + 1 WHERE archived_at IS NULL"
"""Refuses the claims that other processes have planned before the pause."""
_STOP = "UPDATE @runs SET stop = ? WHERE id = ? AND outcome IS NULL"
_STOPS = "SELECT id, stop FROM @runs WHERE stop IS NOT NULL AND id IN (?*)"
_DEFINE = Insert("@definitions", ("digest", "settings"), also="ON CONFLICT (digest) DO NOTHING")
_DEFINITIONS = "SELECT digest, settings FROM @definitions WHERE digest IN (?*)"
_DONE = (
    "SELECT task FROM @tasks t WHERE next_fire IS NULL AND archived_at IS NULL AND words LIKE ?"
    " AND NOT EXISTS (SELECT 1 FROM @runs r WHERE r.outcome IS NULL AND r.task = t.task)"
)
_settings = msgspec.json.Decoder(dict[str, str])
_stop = msgspec.json.Decoder(StopRequest)


class SqlSteering:
    """The part of a session that no claim and no heartbeat needs."""

    __slots__ = ()

    connection: Connection

    def add_audit(self, entry: AuditEntry) -> None:
        """Append an entry to the audit trail."""
        self.connection.execute(_ADD_AUDIT, _read_entry(entry))

    def read_audit(
        self, *, before: int | None, limit: int, tasks: Collection[str] | None = None
    ) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, of all tasks or of some, newest first."""
        names = [] if tasks is None else sorted(tasks)
        some = f" AND task IN ({', '.join('?' * len(names))})" if names else ""
        values: list[Cell] = [_LAST if before is None else before, *names, limit]
        found = self.connection.execute(_AUDIT.format(some), values)
        return [AuditEntry(**dict(zip(_ENTRY, cells, strict=True))) for cells in found]

    def read_last_runs(self, name: str | None = None) -> dict[str, LastRuns]:
        """Return how the newest runs of tasks in use ended, by the key of the row."""
        return read_last_runs(self.connection, name)

    def set_paused(self, name: str, pause: Pause | None) -> None:
        """Record that rows of a task that are added later are paused, or not."""
        every = name == EVERY_TASK
        if pause is None:
            self.connection.execute(_RESUME_ALL if every else _RESUME, (name,))
            return
        cells = (name, *msgspec.structs.astuple(pause))
        self.connection.execute(_PAUSE_ALL if every else _PAUSE, cells)
        if every:
            self.connection.execute(_RAISE_VERSIONS)

    def end_pause(self, name: str, pause: Pause) -> bool:  # noqa: ARG002 - changes of pauses run one at a time
        """Record that a task is not paused any more."""
        self.set_paused(name, None)
        return True

    def read_done(self) -> list[str]:
        """Return the names of tasks to remove, which have nothing left to run."""
        return [name for (name,) in self.connection.execute(_DONE, (f"%{REMOVED_WHEN_DONE}%",))]

    def read_pauses(self) -> dict[str, Pause]:
        """Return the pauses of tasks of which rows that are added later are paused, by name."""
        found = self.connection.execute(_ALL_PAUSED)
        return {
            task: Pause(since, until, author or "", note or "")
            for task, since, until, author, note in found
        }

    def ask_stop(self, run: Run, request: StopRequest) -> None:
        """Record a request to stop a claimed run, unless it has ended."""
        self.connection.execute(_STOP, (msgspec.json.encode(request).decode(), run.id))

    def read_stops(self, ids: Sequence[str]) -> Callable[[], dict[str, StopRequest]]:
        """Return a function that returns the requests to stop some runs."""
        found = self.connection.select_in(_STOPS, ids)
        return lambda: {ident: stop_of(text) for ident, text in found}

    # Definitions -------------------------------------------------------------------------

    def add_definitions(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Keep the settings of definitions, by their digests."""
        cells = [(digest, msgspec.json.encode(one).decode()) for digest, one in settings.items()]
        self.connection.insert_many(_DEFINE, cells)

    def has_definitions(self, digest: str) -> bool:
        """Return whether settings are kept for a digest."""
        return bool(self.read_definitions([digest]))

    def read_definitions(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the settings of the definitions of these digests that are kept."""
        found = self.connection.select_in(_DEFINITIONS, digests)
        return {digest: _settings.decode(text) for digest, text in found}

    def read_runs(self, ids: Sequence[str]) -> dict[str, Run]:
        """Return the runs of these ids that exist, by id."""
        return read_runs(self.connection, ids)

    def read_history(self, query: RunQuery) -> RunPage:
        """Return one page of the history."""
        return read_page(self.connection, query)


def stop_of(text: str) -> StopRequest:
    """Return the request to stop a run of a cell."""
    return _stop.decode(text)
