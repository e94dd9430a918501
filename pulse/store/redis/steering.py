"""What sessions on Redis read and write for people: history, pauses, audit; and what is deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant
from pulse.core.run import Outcome
from pulse.core.run_query import EXECUTED, MOST_FAILURES, LastRuns, page_of
from pulse.core.runtime_task import REMOVED_WHEN_DONE
from pulse.store.redis.codec import (
    audit_of,
    audit_record,
    pause_of,
    pause_record,
    run_of,
    settings_of,
    settings_record,
    stop_of,
    stop_record,
)
from pulse.store.steering import EVERY_TASK, AuditEntry, Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pulse.core.run import Run
    from pulse.core.run_query import RunPage, RunQuery
    from pulse.store.redis.client import RedisClient
    from pulse.store.shared.rows import TaskRow
    from pulse.store.steering import StopRequest

LAST_RUNS = 25
"""For how many tasks a call reads how their newest runs ended: of each, it may read all runs."""
EXAMINED = 1_000
"""How many runs are examined for one page of the history at most."""
_LAST_REPLY = msgspec.msgpack.Decoder(list[tuple[str, Instant | bool, Instant | bool, int] | bool])
_DONE = msgspec.msgpack.Decoder(bool)
_NAMES = msgspec.msgpack.Decoder(list[str])
_PAIRS = 1_000
"""How many keys and values one command has at most, whose stack in Lua is limited."""


class RedisSteering:
    """The part of a session that no claim and no heartbeat needs."""

    __slots__ = ()

    _server: RedisClient

    def _all_rows(self) -> list[TaskRow]:
        """Return the rows in use."""
        raise NotImplementedError

    def add_audit(self, entry: AuditEntry) -> None:
        """Append an entry to the audit trail."""
        head, tail = audit_record(entry)
        self._server.run("audit", _DONE, head=head, tail=tail)

    def read_audit(
        self, *, before: int | None, limit: int, tasks: Collection[str] | None = None
    ) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, of all tasks or of some, newest first."""
        newest = "+inf" if before is None else f"({before}"
        _, (records,) = self._server.batch(
            ("ZREVRANGEBYSCORE", "audit", newest, "-inf", "LIMIT", 0, limit)
        )
        found = map(audit_of, records or ())
        return [entry for entry in found if tasks is None or entry.task in tasks]

    def read_last_runs(self, name: str | None = None) -> dict[str, LastRuns]:
        """Return how the newest runs of tasks in use ended, by the key of the row."""
        keys = [row.task_key for row in self._all_rows() if name in {None, row.task}]
        found: dict[str, LastRuns] = {}
        for start in range(0, len(keys), LAST_RUNS):
            some = keys[start : start + LAST_RUNS]
            executed = dict.fromkeys(sorted(EXECUTED), True)
            replies = self._server.run(
                "last_runs", _LAST_REPLY, row_keys=some, executed=executed, most=MOST_FAILURES
            )
            for key, reply in zip(some, replies, strict=True):
                if not isinstance(reply, bool):
                    outcome, ended, succeeded, failures = reply
                    found[key] = LastRuns(
                        Outcome(outcome), ended or None, succeeded or None, failures
                    )
        return found

    def set_paused(self, name: str, pause: Pause | None) -> None:
        """Record that rows of a task that are added later are paused, or not."""
        if name == EVERY_TASK:
            self._set_all_paused(pause)
            return
        if pause is None:
            self._server.batch(("SREM", "paused", name), ("HDEL", "pauses", name))
            return
        _, (record, is_paused) = self._server.batch(
            ("HGET", "pauses", name), ("SISMEMBER", "paused", name)
        )
        if record and is_paused:  # an older release leaves the record when it resumes the task
            pause = msgspec.structs.replace(pause, since=pause_of(record).since)
        self._server.batch(("SADD", "paused", name), ("HSET", "pauses", name, pause_record(pause)))

    def _set_all_paused(self, pause: Pause | None) -> None:
        if pause is None:
            self._server.batch(("DEL", "fleet_pause"))
            return
        _, (record,) = self._server.batch(("GET", "fleet_pause"))
        if record:
            pause = msgspec.structs.replace(pause, since=pause_of(record).since)
        self._server.batch(("SET", "fleet_pause", pause_record(pause)))

    def end_pause(self, name: str, pause: Pause) -> bool:
        """Record that a task is not paused any more, unless *pause* was changed."""
        return self._server.run("end_pause", _DONE, task=name, record=pause_record(pause))

    def read_done(self) -> list[str]:
        """Return the names of tasks to remove, which have nothing left to run."""
        return self._server.run("read_done", _NAMES, word=REMOVED_WHEN_DONE)

    def read_pauses(self) -> dict[str, Pause]:
        """Return the pauses of tasks of which rows that are added later are paused, by name."""
        _, (names, records, every) = self._server.batch(
            ("SMEMBERS", "paused"), ("HGETALL", "pauses"), ("GET", "fleet_pause")
        )
        pauses = pauses_of(records)
        found = {name: pauses.get(name, Pause()) for name in names}
        return {EVERY_TASK: pause_of(every), **found} if every else found

    def ask_stop(self, run: Run, request: StopRequest) -> None:
        """Record a request to stop a claimed run, unless it has ended."""
        self._server.batch(("HSET", "stops", run.id, stop_record(request)))

    def read_stops(self, ids: Sequence[str]) -> Callable[[], dict[str, StopRequest]]:
        """Return a function that returns the requests to stop some runs."""
        _, (records,) = self._server.batch(("HMGET", "stops", *ids))
        asked = {one: stop_of(record) for one, record in zip(ids, records, strict=True) if record}
        return lambda: asked

    def add_definitions(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Keep the settings of definitions, by their digests."""
        pairs = [
            text for digest, one in settings.items() for text in (digest, settings_record(one))
        ]
        for start in range(0, len(pairs), _PAIRS):
            self._server.batch(("HSET", "definitions", *pairs[start : start + _PAIRS]))

    def has_definitions(self, digest: str) -> bool:
        """Return whether settings are kept for a digest."""
        _, (found,) = self._server.batch(("HEXISTS", "definitions", digest))
        return bool(found)

    def read_definitions(self, digests: Collection[str]) -> dict[str, dict[str, str]]:
        """Return the settings of the definitions of these digests that are kept."""
        found: dict[str, dict[str, str]] = {}
        wanted = [*digests]
        for start in range(0, len(wanted), _PAIRS):
            some = wanted[start : start + _PAIRS]
            _, (records,) = self._server.batch(("HMGET", "definitions", *some))
            pairs = zip(some, records, strict=True)
            found |= {digest: settings_of(record) for digest, record in pairs if record}
        return found

    def read_runs(self, ids: Sequence[str | bytes]) -> dict[str, Run]:
        """Return the runs of these ids that exist, by id."""
        if not ids:
            return {}
        records = self._server.command("HMGET", self._server.key("runs"), *ids)
        runs = [run_of(record) for record in records if record is not None]
        return {run.id: run for run in runs}

    def read_history(self, query: RunQuery) -> RunPage:
        """Return one page of the history; with a filter, few runs are examined for it."""
        key = "history" if query.task is None else f"history:{query.task}"
        newest = "+inf" if query.before is None else f"({query.before}"
        examined = EXAMINED if query.is_filter else query.limit + 1
        _, (entries,) = self._server.batch(
            ("ZREVRANGEBYSCORE", key, newest, "-inf", "WITHSCORES", "LIMIT", 0, examined)
        )
        numbers = dict(zip(entries[::2], map(int, entries[1::2]), strict=True))
        found = [
            (numbers[run.id], run)
            for run in self.read_runs([*numbers]).values()
            if query.selects(run)
        ]
        is_end = len(numbers) < examined
        stopped_at = None if is_end else min(numbers.values())
        return page_of(found, limit=query.limit, stopped_at=stopped_at)


def pauses_of(fields: Sequence[str]) -> dict[str, Pause]:
    """Return the pauses of a hash, by the name of the task."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {name: pause_of(record) for name, record in pairs}
