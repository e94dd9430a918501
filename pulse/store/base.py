"""The port of stores: where processes agree on who runs a tick, and history is kept.

Theory of operation
-------------------
A store holds one *row* per task and place: its cursor (anchor, next fire time, floor), whether
it is paused, the digest of the definition that stands, its source, and a version. It holds one
*run* per execution, and one *member* per live process. It is the one truth: a process holds no
schedule state that the store lacks. There is no leader: every member may claim.

A row and its runs move through these states:

    row:  due --claim_due--> cursor moved, run opened
    run:  (none) --claim_due--> held --finish--> ended
                                held --lease over, or holder gone--> abandoned (ended)
                                held --same, on_abandoned = rerun--> unheld, attempt as it was
                                held --finish, to be retried--> unheld, attempt as it was
          (none) --trigger, run_at_start--> unheld --claim_due--> held, attempt + 1
          (none) --claim_due, another is going (wait)--> unheld, attempt 0
                                            unheld, retry too late--> ended as its last attempt
                                            unheld, waited past its grace--> missed

A run is *open* until it has an outcome; an open run counts as running for overlap, held or not.
An unheld run has `retry_at`, the instant from which `claim_due` may take it, and lives in the
store alone, so that no death loses one. It is taken while fewer than `max_concurrent` runs of its
task are claimed in its partition; else it waits until one of them ends. `Run.attempts` names the
attempts that others followed. A retry that nobody has taken when the next tick of its task is due
is given up
before that tick is planned (`pulse.core.retry.retry_expires_at`).

What every keeper promises:

1. `claim_due` opens each (task, place, slot) at most once, ever, whatever calls run at the same
   time: the cursor moves by compare-and-set on the row's version, the floor never falls, and a
   second run of a slot is refused by uniqueness. A claim that another process won is absent from
   the answer; that is no error.
2. The planner decides (`pulse.core.planner.plan`), on what one consistent read has seen, outside
   the write. Whatever opens a run moves the row's version. A row whose schedule raises is set aside
   and told of; it keeps no other row from being claimed.
3. A claim is good for one lease from the *start* of the claim attempt on the boot clock
   (`Claim.good_until`); the store's record of it ends one lease after the claim on the store's
   clock, which is later: a holder stops trusting its claim before others take it away. A store
   without a clock of its own asks no wall clock, which may be set: an observer calls a lease over
   when its mark has stood still for a lease under the observer's eyes (`pulse.store.lease_watch`).
4. `finish` and `renew` touch a run only while holder and attempt match and it is open. A refusal
   is an answer, not an exception. Whether the attempt is followed by another one is decided as it
   is recorded (`pulse.core.retry`), and the answer says so.
5. A run is abandoned by `heartbeat` when its lease has ended, and at once when its holder was on
   this host and is gone (boot id, pid namespace, pid and start time say so). A member abandons by
   lease only after its own calls have succeeded for a whole lease: after an outage the holders
   get their chance first.
6. Missed and skipped fire times are rows, which say why: also those that were due as their
   schedule was changed. A skip that directly follows a skip of
   the same task is folded into it: its count grows.
7. A member claims only rows of the configuration whose digest is the one it holds itself. A row
   that was added at run time holds the words that define its task, complete, and no process holds
   it: whoever has synced may claim it, and makes the definition when the row is due. So its cost
   does not grow with their number. One that a process does not understand, because a newer
   release wrote it, is left alone and told of as unplanned. Where a configuration declares the
   name of such a row, the configuration stands.
8. A call that cannot reach its storage within its time limit raises `StoreUnavailableError` and
   has changed nothing, or has changed everything it would have: a claim whose answer was lost is
   an open run of this holder that nobody dispatches, and it ends as abandoned.
9. `forked` is called in a forked child, where the store is a copy (`pulse.forks`), at any time,
   also in the middle of another call. From then on the copy changes nothing, sends and reads
   nothing, closes nothing that is the parent's, and is not open.

Calls come from one loop per process and, for reads and the verbs of the handle, from request
threads; a keeper is safe for that. Nothing is opened before `open`, which is called after fork.
A store's clock decides what is due and what has expired; `Claimed` tells what it said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from pulse.clock import DAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pulse.clock import Instant, Span
    from pulse.core.policies import Scope
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.runtime_task import RuntimeTask
    from pulse.core.task import TaskDefinition


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that every store takes, passed unchanged from the settings to the store.

    Attributes:
        name: `pulse.config.name`, which separates applications that share a storage; empty if
            the application has no name.
        keep_runs: about how many finished runs of each task are kept.
        keep_for_us: the longest time that a finished run is kept.

    """

    name: str = ""
    keep_runs: int = 1_000
    keep_for_us: Span = 30 * DAY


DEFAULT_OPTIONS = StoreOptions()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One live process that takes part.

    Attributes:
        holder: host:pid:nonce, made after fork.
        host: the host's name, the place of tasks with `scope = host`.
        machine: boot id and pid namespace; pids compare only between equal machines.
        pid_started: the start time of the process in clock ticks since boot; 0 where unknown.
        mode: the engine's name.
        digest: the digest of all config tasks together.
        lease_us: the lease that this process asks for.

    """

    holder: str
    host: str
    machine: str
    pid: int
    pid_started: int
    mode: str
    digest: str
    lease_us: Span


class FailedTask(NamedTuple):
    """A task whose schedule raised, and what: it is set aside, the others go on."""

    task: str
    error: Exception


class Claimed(NamedTuple):
    """What `claim_due` won and decided.

    Attributes:
        claims: the runs that this process now holds, in order of fire time.
        not_run: the rows of missed and skipped fire times that this call wrote, one for each skip;
            a skip that was folded comes as its row now stands.
        now: the store's clock at the call.
        next_wakeup: the store's next known instant of work; None when there is none. Not later than
            *now* when the limit was reached and more is due.
        failed_tasks: tasks that were set aside because their schedule raised.
        expired_retries: runs that nobody retried in time; each has ended as its last attempt did.

    """

    claims: Sequence[Claim]
    not_run: Sequence[Run]
    now: Instant
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask] = ()
    expired_retries: Sequence[Run] = ()


class SyncResult(NamedTuple):
    """What `sync` did, by name.

    Attributes:
        added: tasks that are new to the store, or come back to it.
        changed: tasks whose rows have another definition now.
        superseded: tasks whose newer definition stands instead.
        overridden: those of the changed that had been added at run time.
        not_run: the rows of fire times that were due as their schedule was changed.

    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    superseded: tuple[str, ...]
    overridden: tuple[str, ...] = ()
    missed: Sequence[Run] = ()


class HeartbeatResult(NamedTuple):
    """What a heartbeat found.

    Attributes:
        abandoned: runs taken from their holders; one that will be run again has no outcome.
        archived: names of rows put away because no live process wants them.
        superseded: names of this process's tasks whose newer definition stands instead, as long
            as it does.
        next_expiry: the instant of the boot clock at which a lease is over unless it is renewed: a
            beat that comes then abandons what a dead holder left no later than it may.
        not_run: the rows of fire times that were due as their schedule was changed.

    """

    abandoned: Sequence[Run]
    archived: tuple[str, ...]
    superseded: tuple[str, ...]
    next_expiry: Span | None = None
    missed: Sequence[Run] = ()


class TaskState(msgspec.Struct, frozen=True, kw_only=True):
    """A task's row, as people are shown it; *source* is `config` or `runtime`.

    Instants are whole microseconds since the Unix epoch, UTC.
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


class Store(Protocol):
    """Agrees between processes who runs a tick, and keeps what happened."""

    name: str
    """What people are told it is, such as `memory:`."""
    reach: Scope
    blocking: bool
    """Whether calls wait where gevent does not see it; such a store is called by `offload`."""
    notice: str
    """What a person should know of it once it is open; empty for nothing."""

    def open(self, member: Member) -> None:
        """Take part as *member*; makes the storage where it is not there yet.

        Raises:
            StoreInUseError: this process has the same storage open under the same name.
            StoreSchemaError: the storage has a layout that this version cannot use.
            StoreUnavailableError: it does not answer.

        """

    def open_as_client(self, member: Member) -> None:
        """Reach what is kept, from a child process of *member*: to read, pause and trigger alone.

        Nobody is told of the visit. It wants no tasks and holds no runs, so it never claims,
        syncs or beats, and its end leaves *member* as it is. Any number may go on at once.

        Raises:
            NotServingError: the storage cannot be reached from another process.
            StoreSchemaError: the storage has a layout that this version cannot use.
            StoreUnavailableError: it does not answer.

        """

    def close(self) -> None:
        """Take part no more, or end the visit; harmless when the store is not open."""

    def forked(self) -> None:
        """Leave everything to the parent: this is a copy, in a forked child; see promise 9."""

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Make rows for this process's config tasks, and keep *definitions* to plan with.

        Adds and updates, never deletes. A row whose schedule is unchanged keeps its cursor; a
        changed one moves to the next instant of the new grid and fires nothing by itself; what
        was due of the old one is missed; a retry that was to come later than that instant is
        given up then, for the tick to run. A definition that has been replaced stays replaced
        while a live member holds the newer one. A row made for a task with `run_at_start` gets
        one unheld start-up run.
        """

    def add(self, runtime_task: RuntimeTask, *, replace: bool = False) -> Sequence[Run]:
        """Keep a task of the fleet that every process may run, until it is removed.

        With *replace* it takes the place of one that was added before: the cursor stays where the
        schedule is the same, and otherwise moves as `sync` moves it; the answer is what it missed.

        Raises:
            TaskExistsError: a task of that name was added before.
            ConfigTaskError: the row of that name is one of the configuration's.

        """

    def remove(self, name: str) -> None:
        """Put a task away that was added; what waits ends, what is held goes on.

        Raises:
            ConfigTaskError: the row of that name is one of the configuration's.
            UnknownTaskError: no such task.

        """

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and open at most *limit* runs for this process.

        With a limit of 0 nothing is claimed or decided; `now` and `next_wakeup` are still told.
        """

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record how runs ended, and tell what became of each: ended, to be retried, or refused."""

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of runs in progress; False stands where the claim was lost."""

    def heartbeat(self) -> HeartbeatResult:
        """Record that this member lives, and abandon the runs of those that do not."""

    def trigger(self, name: str, *, body: bytes | None = None) -> Run | None:
        """Open an unheld manual run of a task, due now; None when overlap refuses it.

        Raises:
            UnknownTaskError: no such task.

        """

    def pause(self, name: str, *, paused: bool) -> None:
        """Pause or resume a task, in all its places; what passed while paused is missed.

        Raises:
            UnknownTaskError: no such task.

        """

    def tasks(self) -> list[TaskState]:
        """Return the rows, by name and place."""

    def runs(self, *, task: str | None = None, limit: int = 100) -> list[Run]:
        """Return the newest runs, newest first: open and ended ones, missed and skipped rows."""

    def members(self) -> list[Member]:
        """Return the processes seen within three of their leases."""
