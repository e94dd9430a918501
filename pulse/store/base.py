"""The interface of stores: where processes agree on who runs a tick, and where history is kept.

Theory of operation
-------------------
A store holds one *row* per task and partition: its cursor (anchor, next fire time, last decided
fire time), whether the task is paused, the digest of the active definition, the source, and a
version. The store holds one *run* per execution, and one *member* per live process. The store is
the only truth: a process holds no schedule state that the store lacks. There is no leader: every
member may claim.

A row and its runs move through these states:

    row:  due --claim_due--> cursor moved, run created
    run:  (none) --claim_due--> claimed --finish--> finished
                                claimed --lease over, or holder gone--> finished (abandoned)
                                claimed --same, on_abandoned = rerun--> pending, same attempt
                                claimed --finish, to be retried--> pending, same attempt
                                claimed --give_back--> pending, attempt - 1
                                claimed --post--> posted
                                posted or claimed --take--> claimed by the worker, same attempt
                                posted --waited too long--> missed, attempt - 1; a retry or rerun:
                                                            finished as its last attempt
                                posted --stop, or its task archived--> finished, attempt - 1
          (none) --trigger, run_at_start--> pending --claim_due--> claimed, attempt + 1
          (none) --claim_due, overlap = wait, another run is unfinished--> pending, attempt 0
                                            pending, retry too late--> finished as its last attempt
                                            pending, waited past its grace--> missed

A run is *unfinished* until it has an outcome. Overlap counts all unfinished runs, claimed and
pending ones. A pending run has `retry_at`, the instant from which `claim_due` may claim it. Pending
runs are in the store alone, so no death of a process loses one. A pending run is claimed while
fewer than `max_concurrent` runs of its task are claimed in its partition; otherwise it waits until
one of them finishes. `Run.attempts` lists the earlier attempts of the run. A retry that is not
claimed before the next tick of its task is due expires before that tick is planned
(`pulse.core.retry.retry_expires_at`).

What every implementation promises:

1. `claim_due` creates at most one run for each (task, partition, fire time), ever, whatever calls
   run at the same time. Three rules ensure this: the cursor moves by compare-and-set on the row's
   version, a fire time that is not later than the last decided one is opened only in a recorded gap
   (`pulse.core.planner.Cursor.gaps`), and a uniqueness constraint refuses a second run of a fire
   time. A claim that another process won is absent from the result; this is no error. A fire time
   that is refused is reported in `Claimed.rewound`.
2. The planner decides (`pulse.core.planner.plan`), from one consistent read, outside the write.
   Every change that creates a run raises the row's version. A row whose schedule raises is set
   aside and reported in `Claimed.failed_tasks`; all other rows can still be claimed.
3. A claim is valid for one lease, counted on the holder's boot clock from the *start* of the claim
   call (`Claim.good_until`). The store's record of the lease ends one lease after the claim on the
   store's clock, which is later: a holder stops trusting its claim before other processes take the
   run. No clock that may be set ends a lease: an observer ends it when its renewal mark has not
   changed for a whole lease under observation (`pulse.store.lease_watch`).
4. `finish` and `renew` change a run only while its holder and attempt match the claim and the run
   is unfinished. A refusal is a return value, not an exception. The store decides whether another
   attempt follows when it records the result (`pulse.core.retry`), and returns that decision.
5. `heartbeat` abandons a run when its lease has ended. It abandons a run at once when the holder
   was on this host and no longer exists (compared by boot id, pid namespace, pid and start time).
   A member abandons by lease only after its own calls have succeeded for a whole lease, so that
   after an outage the holders can renew or record first.
6. Missed and skipped fire times are recorded as rows with a reason. This includes the fire times
   that were due when their schedule changed. A skip that directly follows a skip of the same task
   is folded into that row: its count rises.
7. A member claims a configured task only while the digest of the row equals the digest of its own
   definition. The row of a run-time task holds the complete settings of the task as JSON, so every
   process that has synced may claim it. The process builds the definition when the row is due; the
   cost of a poll therefore does not grow with the number of run-time tasks. Settings that a newer
   release wrote and this release cannot read leave the row unclaimed, and the task is reported in
   `Claimed.failed_tasks`. When a configuration declares the name of a run-time task, the
   configuration replaces it.
8. A call that cannot reach its storage within its time limit raises `StoreUnavailableError`. It has
   then changed nothing, or everything. A claim whose result was lost is an unfinished run of this
   holder that nobody dispatches. The holder gives back what `claim_due` or `take` has claimed so
   with its next heartbeat; if the holder ends before that, the run ends as abandoned.
9. `forked` is called in a forked child, where the store is a copy (`pulse.forks`), at any time,
   also in the middle of another call. From then on the copy is not open, changes nothing, sends and
   reads nothing, and closes nothing that belongs to the parent.
10. `post` hands a claimed run over to the workers of a queue, and `take` gives it to one of them.
    Both compare run, attempt and holder in the write. `take` accepts the process that posts the run
    and `QUEUE_HOLDER` alike, in one comparison: a worker may be faster than `post`, which is then
    refused. So a message may be lost, late or delivered twice: each attempt is taken once. Nobody
    renews a posted run: its lease is the time that it may wait. When that is over it is recorded as
    missed, or, if it was attempted before, with the outcome of its last attempt. It is not
    attempted again. The attempt that was posted has not begun, and cannot be taken any more. A
    posted run is claimed for overlap and `max_concurrent`. It does not depend on the process that
    has posted it. An observer ends the wait as it ends a lease: when the run has not changed for
    the whole wait under observation. It also ends it once the wait is over on the store's clock,
    after a lease of observation: so processes that live for less than the wait end it too, and a
    clock that is set may end it early, which loses no more than the run. A posted run ends as a
    pending one does when somebody stops it, and when its task is archived.

The loop of each process calls the store; request threads call it for reads and for the methods of
the handle. An implementation is safe for these concurrent calls. Nothing is opened before `open`,
which is called after the fork. The store's clock decides what is due and what has expired;
`Claimed.now` reports its reading.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from pulse.clock import DAY, Instant, Span
from pulse.store.steering import MemberReport, Steering, StopRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pulse.core.policies import Scope
    from pulse.core.run import Claim, CompletedRun, RecordResult, Run
    from pulse.core.task import TaskDefinition
    from pulse.store.lease_watch import Observations


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options that every store takes, passed unchanged from the settings to the store.

    Attributes:
        name: `pulse.config.name`, which separates applications that share a storage; empty if
            the application has no name.
        keep_runs: about how many finished runs of each task are kept.
        keep_for_us: the longest time that a finished run is kept.
        keep_failures_us: the same for runs that failed, timed out or were abandoned, of which up to
            *keep_runs* more of each task are kept.
        creates: whether tables are created where there are none; else opening the store raises
            StoreUnavailableError there, as for a command that only looks.

    """

    name: str = ""
    keep_runs: int = 1_000
    keep_for_us: Span = 30 * DAY
    keep_failures_us: Span = 90 * DAY
    creates: bool = True


DEFAULT_OPTIONS = StoreOptions()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One live process of the fleet.

    Attributes:
        holder: host:pid:nonce, made after fork.
        host: the host's name, the partition of tasks with `scope = host`.
        machine: boot id and pid namespace; pids are comparable only within one machine.
        pid: the process id.
        pid_started: the start time of the process in clock ticks since boot; 0 when unknown.
        mode: the engine's name.
        digest: the digest of all configured tasks together.
        lease_us: the length of the leases of this process, in microseconds.

    """

    holder: str
    host: str
    machine: str
    pid: int
    pid_started: int
    mode: str
    digest: str
    lease_us: Span


class PostedRun(NamedTuple):
    """A claim to hand over to the workers of a queue.

    Attributes:
        claim: the claim of this process.
        wait_us: how long the run may wait for a worker before it is missed.
        queue: the name of the queue, for messages.

    """

    claim: Claim
    wait_us: Span
    queue: str


class ReturnedRun(NamedTuple):
    """A claim to give back, since its run could not be handed over and has not begun.

    Attributes:
        claim: the claim of this process.
        delay_us: when the run may be claimed again, from now.
        reason: why it is given back, as a part of a sentence, for the run and its history.

    """

    claim: Claim
    delay_us: Span
    reason: str


class FailedTask(NamedTuple):
    """A task that was set aside because its schedule raised, and the exception."""

    task: str
    error: Exception


class RewoundTask(NamedTuple):
    """A task whose next run is another one than its schedule says, since the clock was set back.

    Attributes:
        task: the name of the task.
        partition: the partition of its row.
        refused: the first fire time that does not run, since it was decided while the clock was
            ahead; None if none is refused.
        next_fire: the fire time that runs next; None for none.

    """

    task: str
    partition: str
    refused: Instant | None
    next_fire: Instant | None


class Claimed(NamedTuple):
    """The result of `claim_due`.

    Attributes:
        claims: the claims that this call won, in order of fire time.
        not_run: the records of missed and skipped fire times that this call wrote. A skip that was
            folded into an earlier record is represented by the updated record.
        now: the store's clock at the call.
        next_wakeup: the next instant at which the store has work, as far as it is known; None when
            there is no work. Not later than *now* when the limit was reached and more is due.
        failed_tasks: tasks that were set aside because their schedule raised.
        expired_retries: runs whose retry nobody claimed in time, with the outcome of their last
            attempt.
        rewound: tasks whose cursor was moved back after the clock was set back, and tasks of which
            fire times are refused.

    """

    claims: Sequence[Claim]
    not_run: Sequence[Run]
    now: Instant
    next_wakeup: Instant | None
    failed_tasks: Sequence[FailedTask] = ()
    expired_retries: Sequence[Run] = ()
    rewound: Sequence[RewoundTask] = ()


class SyncResult(NamedTuple):
    """The result of `sync`.

    Attributes:
        added: names of tasks that are new to the store, or were archived until now.
        changed: names of tasks whose rows have another definition now.
        superseded: names of tasks that keep the newer definition of another process.
        overridden: names of run-time tasks that a configured task replaced.
        missed: the records of fire times that were due when their schedule changed.
        paused: names of tasks that are paused; `EVERY_TASK` among them if all are.

    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    superseded: tuple[str, ...]
    overridden: tuple[str, ...] = ()
    missed: Sequence[Run] = ()
    paused: tuple[str, ...] = ()


NO_STOPS: Mapping[str, StopRequest] = {}


class HeartbeatResult(NamedTuple):
    """The result of `heartbeat`.

    Attributes:
        abandoned: runs that were taken from their holders; a run that will be rerun has no outcome.
        archived: names of tasks whose rows were archived because no live process declares them.
        superseded: names of this process's tasks for which a newer definition is active; reported
            by every heartbeat while this lasts.
        next_expiry: the instant of the boot clock at which the next lease ends unless it is
            renewed. A heartbeat at that instant abandons the runs of a dead holder as early as
            allowed.
        missed: the records of fire times that were due when their schedule changed, and posted runs
            that no worker took in time.
        members: the live processes; empty for a store that no other process can use.
        resumed: names of tasks whose pause has ended by itself; `EVERY_TASK` for the pause of all.
        stops: the requests to stop runs that this process holds, by the ids of the runs.
        removed: names of run-time tasks that were removed, since they were done.
        expired_retries: posted runs whose next attempt no worker took in time; each has the outcome
            of its last attempt.

    """

    abandoned: Sequence[Run]
    archived: tuple[str, ...]
    superseded: tuple[str, ...]
    next_expiry: Span | None = None
    missed: Sequence[Run] = ()
    members: Sequence[Member] = ()
    resumed: Sequence[str] = ()
    stops: Mapping[str, StopRequest] = NO_STOPS
    removed: Sequence[str] = ()
    expired_retries: Sequence[Run] = ()


class Look(NamedTuple):
    """The result of `look`.

    Attributes:
        heartbeat: what the heartbeat found.
        claimed: what was claimed; None where the heartbeat had something to write: `claim_due` is
            to be called after it.
        next_due: when work is next due in the partitions that were asked for, on the store's
            clock; those without work are left out.
        observed: what this process has seen of the leases of others; None for nothing.

    """

    heartbeat: HeartbeatResult
    claimed: Claimed | None
    next_due: Mapping[str, Instant]
    observed: Observations | None = None


class Store(Steering, Protocol):
    """Decides which process runs a tick, and keeps the history. See the module's docstring."""

    name: str
    """The store in log lines and errors, such as `memory:`; without a password."""
    reach: Scope
    blocking: bool
    """Whether calls block without yielding to gevent; such a store is called through `offload`."""

    @property
    def notice(self) -> str:
        """A warning for operators, available once the store is open; empty for none."""

    def open(self, member: Member, *, report: Callable[[], MemberReport] = MemberReport) -> None:
        """Join the fleet as *member*; create the storage if it does not exist.

        Args:
            member: this process.
            report: returns what the process says about itself, whenever the store records that it
                lives; the store fills *offset_us* in.

        Raises:
            StoreInUseError: this process has the same storage open under the same name.
            StoreSchemaError: the storage has a layout that this version cannot use.
            StoreUnavailableError: the storage does not answer.

        """

    def open_as_client(self, member: Member) -> None:
        """Open the store in a child process of *member*, only to read, pause and trigger.

        A client is not recorded as a member. It declares no tasks and holds no runs, so it never
        claims, syncs or sends heartbeats, and closing it does not affect *member*. Any number of
        clients may be open at once.

        Raises:
            NotServingError: the storage cannot be reached from another process.
            StoreSchemaError: the storage has a layout that this version cannot use.
            StoreUnavailableError: the storage does not answer.

        """

    def open_as_worker(
        self, member: Member, *, report: Callable[[], MemberReport] = MemberReport
    ) -> None:
        """Join the fleet as a process that takes posted runs, and claims none by itself.

        A worker is recorded as a member, so that other processes find its end at once, and its
        heartbeats abandon the runs of others, and end pauses, as those of every member do. It
        declares no tasks: it adds and archives no row, and does not count as a process that serves
        a partition. It calls neither `sync` nor `claim_due`. Any number of workers may be open in
        one process, beside other stores of the same storage.

        Raises:
            NotServingError: the storage cannot be reached from another process.
            StoreSchemaError: the storage has a layout that this version cannot use.
            StoreUnavailableError: the storage does not answer.

        """

    def close(self) -> None:
        """Leave the fleet, or close the client; without effect when the store is not open."""

    def forked(self) -> None:
        """Disable this copy of the store in a forked child; see promise 9."""

    def sync(self, definitions: Mapping[str, TaskDefinition]) -> SyncResult:
        """Create and update the rows of this process's configured tasks.

        *definitions* are also kept to plan with. `sync` adds and updates rows; it never deletes
        one. A row whose schedule is unchanged keeps its cursor. When the schedule changed, the
        cursor moves to the next fire time of the new schedule, and the fire times of the old
        schedule that were due are recorded as missed. A pending retry that was planned later than
        the new fire time is moved forward to it, where it expires in favour of the tick. A
        superseded definition is not restored while a live member declares the newer one. A new row
        of a task with `run_at_start` gets one pending start-up run.
        """

    def claim_due(self, limit: int) -> Claimed:
        """Decide what is due, and claim at most *limit* runs for this process.

        With a limit of 0 nothing is claimed or decided; the result has only `now` and
        `next_wakeup`.
        """

    def finish(self, completed: Sequence[CompletedRun]) -> list[RecordResult]:
        """Record results of runs; return for each whether it is final, retried, or refused."""

    def renew(self, claims: Sequence[Claim]) -> list[bool]:
        """Extend the leases of claimed runs; return False for each claim that was lost."""

    def post(self, posted: Sequence[PostedRun]) -> list[bool]:
        """Hand claimed runs over to the workers of a queue.

        Return False for each run that this process does not hold any more: a worker may have taken
        it before this call, which is no error.

        Raises:
            NotServingError: the storage cannot be reached from another process.

        """

    def take(
        self, ident: str, attempt: int, *, poster: str, definition: TaskDefinition
    ) -> Claim | None:
        """Claim a run that *poster* has posted, or is posting, for this process.

        Return None where there is nothing to run: the attempt was taken already, has ended, or was
        given back.

        Args:
            ident: the id of the run.
            attempt: the number of the attempt that was posted.
            poster: the holder that has posted it.
            definition: the definition of the task, for the claim; the run is one of this task.

        """

    def give_back(self, returned: Sequence[ReturnedRun]) -> list[bool]:
        """Make claimed runs pending again, with the attempts that they had before the claim.

        The run of a task that was archived since ends instead, as its pending runs did, and so does
        a run that somebody has asked to stop. A run that waits past the grace of its task is
        missed, for the reason for which it was given back. A retry expires as others do.

        Return False for each run that this process does not hold any more.
        """

    def runtime_definition(self, task: str) -> TaskDefinition | None:
        """Return the definition of a task that was added at run time; None if there is none.

        Raises:
            ConfigError: a newer release of pulse wrote the task.

        """

    def heartbeat(self) -> HeartbeatResult:
        """Record that this member lives, and abandon the runs of dead members."""

    def look(
        self,
        limit: int,
        *,
        partitions: Collection[str] = (),
        observed: Observations | None = None,
    ) -> Look:
        """Do `heartbeat` and `claim_due`: one read, where there is nothing to write.

        Args:
            limit: as that of `claim_due`.
            partitions: those of processes of this machine whose next work the result names.
            observed: what another process of this machine has seen of the leases, whose observation
                this one continues.

        """

    def keep_alive(self, reports: Mapping[str, MemberReport | None]) -> list[str]:
        """Record that other members live, which let this one look for them and send no heartbeats.

        *reports* has what they say about themselves, by holder; None where that is not known.
        Return the holders that are no members, as after a loss of data: a heartbeat of their own
        makes them members again.
        """

    def rest(self) -> None:
        """Close connections to a server that no call uses; the next call opens one again."""
