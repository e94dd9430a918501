"""The interface between the rules of a shared store and the storage that keeps its data.

Theory of operation
-------------------
A rule of this package runs in a session of a backend: it reads a snapshot, decides, and applies one
change set. A session is a transaction in SQL. On Redis each call is one script, so that other
processes may change what was read before the change set arrives. In both, a change set is applied
atomically and each change is refused whose row or run has changed since it was read: the row's
version, and the run's holder and attempt, are compared.

What a rule does when a change is refused:

claim       The refused row is left to the process that changed it; the claim reports when the row
            is due next.
finish      The rule reads the row again and decides again, at most `MAX_ROUNDS` times. A refusal
            because the run is not the caller's any more is the result `CLAIM_LOST`.
renew, post A refusal is a lost claim.
take        One comparison accepts the process that posts the run and `QUEUE_HOLDER`; a storage
            without such a comparison reads again (`pulse.store.shared.posting`).
give back   As finish; a run that is not the caller's any more is left as it is.
sync, add, remove, pause, trigger
            The rule reads again and decides again, at most `MAX_ROUNDS` times, then raises
            StoreUnavailableError.
abandon     The run was renewed or recorded meanwhile: it is left as it is.

A heartbeat asks what is missing of the data that the process has stored (`read_fleet`).
`restore` then makes indexes again and empties the list of processes, so that every process syncs.

`Transaction.EXCLUSIVE` sessions (sync, add, remove, pause, the corrections of a heartbeat)
run one at a time in SQL. On Redis they may overlap, and no lock keeps them apart: a lock expires
while its holder stalls, and delays all others after its holder has died. The refusals keep them
apart. What one session reads of a row that another changes is compared when it is written. Of what
is not in the row, one fact decides the content of rows: whether the task is paused in partitions
whose rows are added later (`set_paused`). A change that rests on this fact says so
(`TaskChange.follows_pause`) and is refused where the fact has changed:

sync or add beside pause
            pause records the fact before it reads the rows. A row that is added before that is read
            by pause; a row that is added after that is refused unless it is paused.
pause beside resume
            The rows of the one that was recorded first are refused; it records its fact again, so
            that the rows agree with the fact when both have ended.
remove beside pause
            Likewise; a pause that finds no row any more takes its fact back.
add beside sync, in another partition
            Both rows may be added. The next heartbeat of a process that declares the task archives
            the row of the run-time task (`reconcile`).
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, TypeVar

import msgspec

from pulse.errors import StoreProblem, StoreUnavailableError
from pulse.store.shared.records import RecordsSession

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.run import Run
    from pulse.core.run_query import LastRuns, RunPage, RunQuery
    from pulse.store.base import Member
    from pulse.store.shared.changes import Applied, ChangeSet
    from pulse.store.shared.manifests import Manifest
    from pulse.store.shared.rows import Caller, DueSnapshot, TaskRow, TaskSnapshot
    from pulse.store.steering import AuditEntry, MemberReport, Pause, StopRequest

T = TypeVar("T")

MAX_ROUNDS = 100
"""How often a rule reads and decides again because other processes were faster."""


class Transaction(Enum):
    """What a session needs of a transaction."""

    READ = "read"
    SINGLE = "one statement that writes"
    WRITE = "writes that may overlap"
    EXCLUSIVE = "writes of which one runs at a time"


WITHOUT_DATA = (
    "it came back without its data: tasks are stored again as new ones; history, pauses and tasks"
    " that were added at run time are lost"
)


class StorageReplacedError(StoreUnavailableError):
    """The storage was replaced or has lost data while it was open; `open` uses what exists."""

    problem: ClassVar[StoreProblem] = StoreProblem.REPLACED


class DuplicateKeyError(Exception):
    """A run or a row was to be added whose key exists; nothing was changed."""


class MemberRow(NamedTuple):
    """A process that has a row.

    Attributes:
        member: the process.
        manifest: the key of the manifest that it holds.
        mark: changes with each save of the row.
        silent_us: how long ago the row was saved, by clocks that the caller and the process share.
        report: what the process says about itself; None where it was not read, or for a process of
            an earlier release.

    """

    member: Member
    manifest: str
    mark: int
    silent_us: Span
    report: MemberReport | None = None


class Lease(NamedTuple):
    """The lease of a claimed run, or the wait of a posted one.

    Attributes:
        run: the id of the run.
        mark: changes with each renewal, and with each other holder.
        ends_in: when the lease ends on the storage's clock, from now; None where only observation
            shows that.
        length_us: how long it lasts after a renewal; None for the longest lease of the fleet.
        is_posted: whether the run is posted, so that nobody renews it; *ends_in* and *length_us*
            are known then.

    """

    run: str
    mark: int
    ends_in: Span | None = None
    length_us: Span | None = None
    is_posted: bool = False


class Fleet(NamedTuple):
    """What a heartbeat reads.

    Attributes:
        members: the processes that have a row, dead ones too, by holder.
        leases: the leases of claimed runs.
        missing: what is missing of the data that the caller has stored, as a sentence for the log;
            empty for nothing.
        over: the pauses that are over, by the name of the task, each with its end; `EVERY_TASK` for
            that of all tasks.
        stops: the requests to stop claimed runs, by the ids of the runs.

    """

    members: Sequence[MemberRow]
    leases: Sequence[Lease]
    missing: str
    over: Mapping[str, Instant]
    stops: Mapping[str, StopRequest]


class Posting(NamedTuple):
    """The attempt at a run that a message names: its run, task and number, and who has posted it.

    *poster* is empty where only a run is to be taken that is posted already.
    """

    run: str
    task: str
    attempt: int
    poster: str


class Orphans(NamedTuple):
    """The claimed runs of some processes, and the pending runs of some partitions."""

    claimed: Sequence[Run]
    pending: Sequence[Run]


class LookSnapshot(NamedTuple):
    """What a look reads.

    Attributes:
        fleet: the result of `read_fleet`.
        next_due: when rows or pending runs are next due in each partition that was asked for; those
            without work are left out.
        due: returns the result of `read_due`.

    """

    fleet: Fleet
    next_due: Mapping[str, Instant]
    due: Callable[[], DueSnapshot]


class EarlyData(NamedTuple):
    """Rows in use and pending runs, among them all that a clock that was ahead has moved."""

    rows: Sequence[TaskRow]
    pending: Sequence[Run]


class Written(msgspec.Struct):
    """What a rule has written and a heartbeat is to report.

    Attributes:
        missed: records of fire times that were due when their schedule changed, and posted runs
            that no worker took in time.
        expired_retries: posted runs whose next attempt no worker took in time.
        abandoned: runs that were taken from their holders, as they then are.
        archived: names of tasks whose rows were archived.
        resumed: names of tasks whose pause has ended by itself.
        removed: names of run-time tasks that were removed, since they were done.

    """

    missed: list[Run] = msgspec.field(default_factory=list)
    expired_retries: list[Run] = msgspec.field(default_factory=list)
    abandoned: list[Run] = msgspec.field(default_factory=list)
    archived: list[str] = msgspec.field(default_factory=list)
    resumed: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)

    def add(self, other: Written) -> None:
        """Append what *other* has."""
        self.missed.extend(other.missed)
        self.expired_retries.extend(other.expired_retries)
        self.abandoned.extend(other.abandoned)
        self.archived.extend(other.archived)
        self.resumed.extend(other.resumed)
        self.removed.extend(other.removed)


class Session(RecordsSession, Protocol):
    """One transaction of a storage, for one application's data."""

    name: str
    """The address of the storage, without a password."""

    def now(self) -> Instant:
        """Return the store's clock; in a transaction, as a read of it has found it last."""

    def read_due(self, caller: Caller, limit: int, *, pending: bool) -> DueSnapshot:
        """Return what is due; the caller wants about *limit* rows.

        Rows that an earlier call in the session returned do not come again. With a limit of 0 the
        caller only asks when there is work. Without *pending* only rows are read.

        Pre-filter: a storage may leave out what `Caller.may_run`, the planner and `decide_pending`
        would leave as it is: a row, or a pending run, whose definition the caller does not declare;
        a row that is paused or archived, and every row while all tasks are paused; a parked row
        (`TaskRow.parks`) while as many runs are
        claimed as may be, unless its next fire time was due during a pause or is not later than the
        last decided one; a pending run that was never claimed while as many are claimed as may be.
        Where a task may have one unfinished run only, `DueRow.claimed` may be 0.
        `tests/contracts/test_pre_filters.py` compares each storage with the rules.
        """

    def read_tasks(self, keys: Sequence[str], *, lock: bool = False) -> TaskSnapshot:
        """Return the rows of these keys, archived ones too.

        With *lock* SQL keeps other processes from changing the rows until the session ends.
        """

    def read_tasks_named(self, name: str, *, lock: bool = False) -> TaskSnapshot:
        """Return the rows of a task in all partitions, archived ones too."""

    def read_declared(self) -> list[TaskRow]:
        """Return the rows that configurations declare, without archived ones."""

    def read_in_use(self, name: str | None = None) -> list[tuple[TaskRow, int]]:
        """Return the rows that are not archived, each with the number of its unfinished runs.

        With *name*, those of one task.
        """

    def add_audit(self, entry: AuditEntry) -> None:
        """Append an entry to the audit trail; the storage numbers it."""

    def read_audit(
        self, *, before: int | None, limit: int, tasks: Collection[str] | None = None
    ) -> list[AuditEntry]:
        """Return the newest entries of the audit trail, of all tasks or of some, newest first."""

    def read_last_runs(self, name: str | None = None) -> Mapping[str, LastRuns]:
        """Return how the newest runs of tasks in use, or of one, ended, by the key of the row.

        Rows without runs that a process has begun may be left out.
        """

    def read_early(self, caller: Caller, now: Instant, *, every_row: bool) -> EarlyData:
        """Return rows in use, and pending runs, that a clock ahead of *now* may have moved.

        Pre-filter: a storage may leave out rows and runs of partitions of which *caller* is no
        part, pending runs that are due at *now*, and, without *every_row*, rows of run-time tasks
        whose anchor, last decided fire time and end of a pause are not later than *now*.
        `tests/contracts/test_pre_filters.py` compares each storage with the rules.
        """

    def read_task_names(self, limit: int) -> list[str]:
        """Return names of tasks that are not archived."""

    def read_pending(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the pending runs of some tasks, which are given by partition."""

    def read_posted(self, tasks: Mapping[str, Sequence[str]]) -> Sequence[Run]:
        """Return the posted runs of some tasks, which are given by partition."""

    def take_run(self, posting: Posting, *, member: Member, boot: Span) -> Run | None:
        """Let *member* claim a run that is posted, or is being posted; return the run.

        Return None where the run has another task, attempt or holder, or has ended. The lease is
        that of *member*; *boot* is its boot clock.
        """

    def read_orphans(self, holders: Sequence[str]) -> Orphans:
        """Return the runs that *holders* have claimed, and those pending in their partitions."""

    def read_runs(self, ids: Sequence[str]) -> Mapping[str, Run]:
        """Return the runs of these ids that exist, by id."""

    def read_history(self, query: RunQuery) -> RunPage:
        """Return one page of the history; a storage bounds how many runs it examines for it."""

    def apply(self, changes: ChangeSet) -> Applied:
        """Apply a change set as one atomic step.

        A change set of more than 500 rows and runs may be applied in several steps, each atomic; a
        row and the runs of its task are in one step.
        """

    def restore(self) -> None:
        """Make indexes and counters again after a loss, and empty the list of processes.

        Each process that lives finds at its next heartbeat that it is not listed, and syncs.
        """

    def set_paused(self, name: str, pause: Pause | None) -> None:
        """Record that rows of a task that are added later are paused, or, with None, are not.

        The instant since which the task is paused stays as it was recorded first. `EVERY_TASK`
        names the pause of all tasks: from then on no session reads due rows, and a claim of a row
        that was read before is refused.
        """

    def end_pause(self, name: str, pause: Pause) -> bool:
        """Record that a task is not paused any more; return False if *pause* was changed."""

    def read_done(self) -> Sequence[str]:
        """Return the names of tasks to remove: with `remove_when_done`, and nothing left to run."""

    def read_pauses(self) -> Mapping[str, Pause]:
        """Return the pauses of tasks of which rows that are added later are paused, by name.

        That of all tasks is under `EVERY_TASK`.
        """

    def ask_stop(self, run: Run, request: StopRequest) -> None:
        """Record a request to stop a claimed run, unless it has ended."""

    def read_stops(self, ids: Sequence[str]) -> Callable[[], Mapping[str, StopRequest]]:
        """Return a function that returns the requests to stop some runs, by the ids of the runs.

        In SQL it may be called after other reads, with which the question is sent.
        """

    def add_definitions(self, settings: Mapping[str, Mapping[str, str]]) -> None:
        """Keep the settings of definitions, by their digests."""

    def has_definitions(self, digest: str) -> bool:
        """Return whether settings are kept for a digest."""

    def read_definitions(self, digests: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Return the settings of the definitions of these digests that are kept."""

    def save_member(
        self, member: Member, manifest: Manifest, report: MemberReport, *, boot: Span
    ) -> None:
        """Record that *member* lives, which manifest it holds, and what it says about itself."""

    def save_seen(self, rows: Sequence[MemberRow], *, boot: Span) -> None:
        """Record that processes of this machine live, whose rows these are, with their reports."""

    def add_manifest(self, manifest: Manifest) -> None:
        """Keep a manifest; one that exists keeps its number."""

    def read_manifests(self, keys: Iterable[str]) -> Mapping[str, tuple[int, bytes]]:
        """Return number and content of the manifests of these keys that exist."""

    def read_members(self, caller: Member, *, boot: Span) -> list[MemberRow]:
        """Return the processes that have a row, dead ones too, by holder, with their reports.

        *boot* is the boot clock of *caller*, which processes of one machine share.
        """

    def read_fleet(self, caller: Caller, *, boot: Span) -> Fleet:
        """Return processes and leases, and what is missing; *boot* as in `read_members`."""

    def read_look(
        self, caller: Caller, limit: int, partitions: Collection[str], *, boot: Span
    ) -> LookSnapshot:
        """Return what a heartbeat and a claim read; a storage may read all of it at once.

        If `LookSnapshot.due` is called, it is the next call.
        """

    def remove_members(self, holders: Sequence[str], *, keep: frozenset[str]) -> None:
        """Remove processes and the rows of their partitions; those in *keep* stay listed."""


class Backend(Protocol):
    """A storage that several processes share."""

    name: str
    notice: str
    rolls_back: bool
    """Whether an error within a session undoes what the session has written."""

    def identity(self) -> str:
        """Return a text that is equal for two storages only if they are the same one."""

    def open(self, member: Member) -> None:
        """Connect for *member*, and create or migrate what is kept.

        Raises:
            StoreSchemaError: the storage has a layout that this release cannot use.
            StoreUnavailableError: the storage does not answer.

        """

    def close(self) -> None:
        """Disconnect."""

    def rest(self) -> None:
        """Close connections to a server that no call uses."""

    def forked(self) -> None:
        """Give up the connections, which belong to the parent process, without waiting."""

    def run(self, how: Transaction, rule: Callable[[Session], T]) -> T:
        """Return what *rule* returns, which is called with a session, once in each attempt."""


def too_busy(name: str) -> StoreUnavailableError:
    """Return the error of a rule whose changes were refused too often."""
    return StoreUnavailableError(
        f"{name}: other processes changed the rows {MAX_ROUNDS} times in a row"
    )
