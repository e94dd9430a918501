"""What people and applications ask of a store: tasks, history, pauses, triggers, the audit."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.records import PausedInterval
from pulse.core.run import Outcome  # noqa: TC001 - msgspec reads the hints of its structs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pulse.core.records import TaskRecords
    from pulse.core.run import Claim, Run
    from pulse.core.run_query import RunPage, RunQuery
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition


EVERY_TASK = ""
"""The name that stands for all tasks in what is returned and stored; no task has it."""


class Pause(msgspec.Struct, frozen=True, array_like=True):
    """A pause of a task, or of all tasks.

    Attributes:
        since: when it began; None if an older release of pulse has recorded it.
        until: when it ends by itself; None for never.
        by: who asked for it.
        note: why.

    """

    since: Instant | None = None
    until: Instant | None = None
    by: str = ""
    note: str = ""


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What a person or a program has asked for: an entry of the audit trail.

    Attributes:
        at: when, on the store's clock.
        verb: `pause`, `resume`, `trigger`, `run`, `stop`, `add`, `replace`, `remove` or `prune`.
        task: the name of the task; `EVERY_TASK` for what concerns all tasks.
        by: who asked for it; empty if that is not known.
        note: why; for a trigger that was refused, the reason.
        run: the id of the run that a trigger made, or that was to be stopped.
        until: when the pause ends by itself.
        number: rises from entry to entry.

    """

    at: Instant
    verb: str
    task: str
    by: str = ""
    note: str = ""
    run: str = ""
    until: Instant | None = None
    number: int = 0


def pause_entry(name: str | None, pause: Pause | None, *, at: Instant, by: str) -> AuditEntry:
    """Return the entry of a pause, or of a resumption for which *by* has asked."""
    task = EVERY_TASK if name is None else name
    if pause is None:
        return AuditEntry(at=at, verb="resume", task=task, by=by)
    return AuditEntry(
        at=at, verb="pause", task=task, by=pause.by, note=pause.note, until=pause.until
    )


PAUSE_ENDED = "the pause has ended by itself"
"""The note of a resumption for which nobody has asked."""

TASK_DONE = "its last fire time has passed"
"""The note of a removal for which nobody has asked."""

REFUSED_BY_OVERLAP = "refused: the overlap policy permits no further run"
"""The note of a trigger that made no run."""


class DeletedRuns(NamedTuple):
    """The result of one step of `delete_runs`.

    Attributes:
        number: how many runs were deleted.
        cursor: the argument *before* of the next step; None if there is none.

    """

    number: int
    cursor: int | None


class StopRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request to stop a run in progress: when, by whom and why."""

    at: Instant
    by: str = ""
    note: str = ""

    def reason(self) -> str:
        """Return the text that is recorded with the run."""
        who, why = f" by {self.by}" if self.by else "", f": {self.note}" if self.note else ""
        return f"stopped{who}{why}"


class MemberReport(msgspec.Struct, frozen=True, array_like=True):
    """What a process says about itself with its heartbeats.

    Attributes:
        version: the release of pulse.
        server: the server that runs the process, such as `gunicorn`; empty if it is not known.
        slots: how many runs may be in progress at once.
        used: how many are.
        lag_us: the longest delay of the scheduler's loop since the heartbeat before.
        offset_us: the wall clock of the process minus the store's clock.
        stops_runs: whether the process can stop a run in progress.
        silent_broker: the broker to which the process posts runs, without a password, while it does
            not answer; otherwise empty.

    """

    version: str = ""
    server: str = ""
    slots: int = 0
    used: int = 0
    lag_us: Span = 0
    offset_us: Span = 0
    stops_runs: bool = False
    silent_broker: str = ""


class MemberState(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the fleet as `members()` returns it.

    Attributes:
        holder: host:pid:nonce, the name of the process.
        host: the host's name.
        pid: the process id.
        mode: the engine's name.
        digest: the digest of all tasks that the process declares; others may declare other ones.
        lease_us: the length of its leases.
        seen_at: when it was last known to live, on the store's clock.
        report: what it says about itself; None for an earlier release of pulse.

    """

    holder: str
    host: str
    pid: int
    mode: str
    digest: str
    lease_us: Span
    seen_at: Instant
    report: MemberReport | None = None


def paused_intervals(
    entries: Iterable[AuditEntry], current: Mapping[str, Pause]
) -> list[PausedInterval]:
    """Return the pauses of a task and of all tasks, oldest first.

    Args:
        entries: what was asked for, oldest first; other verbs are ignored.
        current: the pauses that last, by the name of the task.

    """
    found: list[PausedInterval] = []
    begun: dict[str, PausedInterval] = {}
    known: set[str] = set()
    for entry in entries:
        every = entry.task == EVERY_TASK
        if entry.verb == "pause":
            since = begun[entry.task].since if entry.task in begun else entry.at
            begun[entry.task] = PausedInterval(since, None, entry.by, entry.note, every)
        elif entry.verb == "resume":
            open_ = begun.pop(entry.task, None)
            if open_ is None and entry.task not in known:
                open_ = PausedInterval(None, None, every=every)
            if open_ is not None:
                found.append(open_._replace(until=entry.at))
        known.add(entry.task)
    for name, pause in current.items():
        every = name == EVERY_TASK
        begun.setdefault(name, PausedInterval(pause.since, None, pause.by, pause.note, every))
    return sorted([*found, *begun.values()], key=lambda one: (one.since or 0, one.every))


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """A task row as `tasks()` returns it.

    Instants are whole microseconds since the Unix epoch, UTC.

    Attributes:
        name: the task's name.
        partition: the part of the fleet that the row belongs to.
        source: `config` or `runtime`.
        digest: identifies the definition of the row.
        paused: whether the task is paused.
        pause: since and until when, by whom and why; None for a task that is not paused.
        anchor: the instant from which intervals are counted.
        next_fire: the oldest fire time that is not decided yet; None for none.
        last_decided: the newest fire time that was ever decided; None for none.
        unfinished: the number of claimed and pending runs.
        schedule: the settings that declare the schedule, such as `{"cron": "0 7 * * *"}`.
        settings: the settings that declare the task and differ from the defaults, as text; of
            headers and bodies no content but `${NAME}`. Empty if an earlier release has stored the
            task.
        last_outcome: how the newest run that a process has begun has ended; None for no such run.
            This and what follows is as of the runs that are kept.
        last_end: when that run ended; when it was claimed, if no end is known.
        last_success: when the newest run that succeeded ended.
        failures: how many runs have ended otherwise since; counted up to 1,000.

    """

    name: str
    partition: str
    source: str
    digest: str
    paused: bool
    anchor: Instant
    next_fire: Instant | None
    last_decided: Instant | None
    unfinished: int
    pause: Pause | None = None
    schedule: Mapping[str, str] = msgspec.field(default_factory=dict)
    settings: Mapping[str, str] = msgspec.field(default_factory=dict)
    last_outcome: Outcome | None = None
    last_end: Instant | None = None
    last_success: Instant | None = None
    failures: int = 0


class Steering(Protocol):
    """The calls of the application and of people; see `pulse.store.base` for those of the loop."""

    def add(
        self, runtime_task: RuntimeTask, *, replace: bool = False, by: str = ""
    ) -> Sequence[Run]:
        """Add a task that every process of the fleet may run, until it is removed.

        With *replace*, the task replaces a run-time task of the same name. The cursor stays when
        the schedule is the same, and otherwise moves as in `sync`.

        Returns:
            The records of fire times that were due when the schedule changed.

        Raises:
            TaskExistsError: a task of that name was added before.
            ConfigTaskError: the configuration declares a task of that name.

        """

    def remove(self, name: str, *, by: str = "") -> None:
        """Archive a run-time task; its pending runs end, its claimed runs continue.

        Raises:
            ConfigTaskError: the configuration declares the task.
            UnknownTaskError: no such task.

        """

    def trigger(
        self, name: str, *, body: bytes | None = None, by: str = "", ident: str | None = None
    ) -> Run | None:
        """Create a pending manual run of a task, due now; return None when overlap refuses it.

        With *ident*, that is the id of the run; a run of that id that exists is returned as it is,
        and no other is created.

        Raises:
            UnknownTaskError: no such task.
            UndeclaredTaskError: no live process declares the task.

        """

    def begin(
        self,
        name: str,
        definition: TaskDefinition | None,
        *,
        body: bytes | None = None,
        by: str = "",
        at_once: bool = False,
    ) -> Claim | None:
        """Create a manual run that the caller has claimed, as a person runs a task in a terminal.

        The caller renews the claim, reads `stop_request` for it, and records its result. The run is
        in a partition of the caller, which need not be a member of the fleet.

        Args:
            name: the name of the task.
            definition: the caller's definition of a configured task; None for a run-time task, of
                which the store has it.
            body: replaces the task's own body.
            by: who asks for it.
            at_once: whether the run begins whatever the overlap policy permits.

        Returns:
            The claim; None when overlap refuses it: as many runs of the task are unfinished as may
            be in progress.

        Raises:
            UnknownTaskError: the store has no row of that task for the caller, or *definition* is
                None and the task is no run-time task.

        """

    def stop_request(self, run: Run) -> StopRequest | None:
        """Return the request to stop a run that the caller has claimed; None if there is none."""

    def pause(self, name: str | None, pause: Pause | None, *, by: str = "") -> Sequence[Run]:
        """Pause a task in all partitions, or resume it; fire times during a pause are missed.

        A pause that has *until* ends then: the next heartbeat of any process resumes the task, from
        that instant. Another pause of a paused task replaces *until*, *by* and *note*.

        Args:
            name: the name of the task. None pauses all tasks, also those that are added or deployed
                later; tasks that are paused by their own names stay so when that pause ends.
            pause: the pause, which begins now; its *since* is not used. None to resume.
            by: who asked to resume.

        Returns:
            After a pause, the records of fire times that were overdue as it began.

        Raises:
            ConfigError: *until* has passed.
            UnknownTaskError: no such task.

        """

    def pause_of_all(self) -> Pause | None:
        """Return the pause of all tasks; None if there is none."""

    def stop(self, ident: str, *, by: str = "", note: str = "") -> Run:
        """Ask for a run to be stopped; return the run as it is.

        A pending run ends at once, as interrupted, and so does a posted one. The holder of a run in
        progress reads the request with its next heartbeat and interrupts the run. A run that has
        ended stays.

        Raises:
            UnknownRunError: no such run, or it is not kept any more.
            RunNotStoppableError: the process that holds the run cannot stop runs.

        """

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, newest first, of 90 days.

        With *before*, those whose number is lower. Pauses, resumptions, triggers, and tasks that
        were added or removed at run time are entries, also those that changed nothing.
        """

    def tasks(self, name: str | None = None) -> list[TaskState]:
        """Return the rows of all tasks, or of one, ordered by name and partition."""

    def records(self, task: str) -> TaskRecords:
        """Return everything that is recorded about a task beside its runs, of 90 days."""

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first, including missed and skipped records."""

    def history(self, query: RunQuery) -> RunPage:
        """Return a page of the history, newest first.

        A store examines a bounded number of runs for a page; then the page has what was found, and
        a cursor.
        """

    def run(self, ident: str) -> Run | None:
        """Return the run of an id; None if there is none, or it is not kept any more."""

    def delete_runs(self, query: RunQuery, *, by: str = "", note: str = "") -> DeletedRuns:
        """Delete those runs of a page of the history that have ended, and count them in tallies.

        The record of a skip stays while the next skip of its task is folded into it.
        The first page, whose *before* is None, is an entry of the audit trail with *by* and *note*.
        """

    def now(self) -> Instant:
        """Return the store's clock."""

    def members(self) -> list[MemberState]:
        """Return the processes that were seen within three of their leases."""
