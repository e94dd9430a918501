"""What a chaos run leaves behind: the app's lines, the faults, the store's history, the tasks.

All instants are whole microseconds since the Unix epoch, all spans whole microseconds. Nothing
here, nor in the checker, uses pulse.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Spec(NamedTuple):
    """A task as the checker knows it: a grid, and what may become of its ticks.

    Attributes:
        name: the task's name.
        every: the span from tick to tick.
        start: the first tick.
        overlap: skip, wait or allow.
        misfire: latest or all.
        rerun: whether a run whose process died is dispatched again.
        retries: how many attempts may follow a failure.

    """

    name: str
    every: int
    start: int
    overlap: str = "skip"
    misfire: str = "latest"
    rerun: bool = False
    retries: int = 0


class Line(NamedTuple):
    """One line that the app appended to its file.

    Attributes:
        what: start, stop (this process takes part, no more); leave (it has served enough requests
            and is replaced, so it takes no new work); begin, end (of an attempt); block,
            unblock (user code holds the process); victim (it kills or stops itself now). In a fleet
            with Celery also claim (a web process has claimed an attempt), ready (a process of a
            worker executes runs from now on), consume (the main process of a worker takes
            messages from now on).
        wall: the wall clock.
        boot: the boot clock.
        pid: the process.
        task: the task's name, as the header says it.
        fire_time: the header's fire time.
        run: the header's run id.
        attempt: the header's attempt.
        status: what an `end` answered.
        point: where a `victim` struck.
        worker: the name of the Celery worker of a `ready` or `consume`.
        slots: how many runs a process that is `ready` executes at once.

    """

    what: str
    wall: int
    boot: int
    pid: int
    task: str = ""
    fire_time: int = 0
    run: str = ""
    attempt: int = 0
    status: int = 0
    point: str = ""
    worker: str = ""
    slots: int = 0


class Fault(NamedTuple):
    """Something that was done to the fleet, as the one who did it wrote it down.

    Attributes:
        kind: one of `KILLS`, `PAUSES`, `LEAVES`, `WORKER_LEAVES`, `STORE`, `BROKER`, `MACHINE` or
            `MARKS`.
        began: when it was about to be done.
        ended: when it was over; for a kill, when it was done.
        pids: whom it hit; a store's or machine's fault hits all.

    """

    kind: str
    began: int
    ended: int
    pids: tuple[int, ...] = ()


KILLS = frozenset(
    {
        *("kill", "kill-looker", "kill-after-claim", "kill-mid-request", "kill-before-finish"),
        *("kill-child", "kill-worker"),
    }
)
"""The process is gone at once."""

PAUSES = frozenset(
    {
        *("stop", "stop-lookers", "stop-after-claim", "block"),
        *("stop-child", "purge", "copies"),
    }
)
"""The process does nothing for a while, and comes back. Two faults stop the main processes of the
Celery workers until messages wait in the queue, and delete these or send each of them thrice."""

LEAVES = frozenset({"hup", "restart", "kill-master"})
"""The process is told to go, and takes no new work."""

WORKER_LEAVES = frozenset({"term-worker"})
"""The same for the processes of a Celery worker."""

BROKER = frozenset({"broker-stop", "proxy-deaf", "proxy-stall", "proxy-cut"})
"""The broker is away, or the web processes cannot reach it."""

STORE = frozenset({"store-pause", "store-restart", "stop-in-write"})
MACHINE = frozenset({"stall"})
MARKS = frozenset({"mark-delete", "mark-truncate", "mark-read-only"})
"""What is done to the mark of a host: no process loses the ability to run ticks."""


class Row(NamedTuple):
    """One row of the store's history.

    Attributes:
        task: the task's name.
        fire_time: the fire time, of several the oldest.
        run: the id of the run.
        outcome: "" while it is open.
        attempt: the last attempt.
        holder: a pid, 0 for none.
        claimed_at: when it was claimed last; 0 for never.
        count: of how many fire times it is the record.
        posted: whether it waits in the queue.
        untaken: whether no worker took its last attempt, or its only one.

    """

    task: str
    fire_time: int
    run: str
    outcome: str
    attempt: int = 1
    holder: int = 0
    claimed_at: int = 0
    count: int = 1
    posted: bool = False
    untaken: bool = False


class Account(NamedTuple):
    """The ledger of a task, as pulse has made it from the store after the fleet has ended.

    Attributes:
        task: the task's name.
        since: the earliest fire time that is accounted for.
        until: the instant before which all are.
        fire_times: how many there are.
        ran: how many were claimed, dispatched or not.
        passed: how many were skipped, missed, or passed in a pause.
        unexplained: the first fire times that are nowhere.
        twice: ids of runs that may have been dispatched twice.

    """

    task: str
    since: int
    until: int
    fire_times: int
    ran: int
    passed: int
    unexplained: tuple[int, ...] = ()
    twice: tuple[str, ...] = ()


class Case(NamedTuple):
    """A whole run, as it is judged.

    Attributes:
        specs: the tasks.
        lines: the app's, in the order in which they were appended.
        faults: in any order.
        history: the rows of the store, in any order.
        ended: when the fleet was told to stop.
        lease: how long a claim is good without renewal.
        accounts: the ledgers of the tasks.
        wait: how long a run waits for a Celery worker; 0 in a fleet without Celery.

    """

    specs: tuple[Spec, ...]
    lines: tuple[Line, ...]
    faults: tuple[Fault, ...]
    history: tuple[Row, ...]
    ended: int
    lease: int
    accounts: tuple[Account, ...] = ()
    wait: int = 0


def ticks(spec: Spec, until: int) -> Iterator[int]:
    """Walk a task's fire times, one by one, up to *until*."""
    tick = spec.start
    while tick <= until:
        yield tick
        tick += spec.every


def read_lines(path: Path) -> tuple[Line, ...]:
    """Return the lines of an app's file, without a last one that is being written."""
    whole, _, _ = path.read_text().rpartition("\n")
    return tuple(Line(**json.loads(text)) for text in whole.splitlines())


def micros(text: str) -> int:
    """Return an instant from RFC 3339."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)


def clock_of(instant: int) -> str:
    """Return an instant as a person reads it in a log."""
    return (_EPOCH + timedelta(microseconds=instant)).strftime("%H:%M:%S.%f")[:-3]


def keep_case(folder: Path, case: Case) -> None:
    """Write down all but the app's own lines, so that the run can be judged again."""
    (folder / "case.json").write_text(json.dumps(case._replace(lines=())._asdict()))


def read_case(folder: Path) -> Case:
    """Return the run that was kept in a folder."""
    kept = json.loads((folder / "case.json").read_text())
    return Case(
        specs=tuple(Spec(*one) for one in kept["specs"]),
        lines=read_lines(folder / "evidence.jsonl"),
        faults=tuple(
            Fault(kind, began, ended, tuple(pids)) for kind, began, ended, pids in kept["faults"]
        ),
        history=tuple(Row(*one) for one in kept["history"]),
        ended=kept["ended"],
        lease=kept["lease"],
        accounts=tuple(
            Account(*numbers, tuple(unexplained), tuple(twice))
            for *numbers, unexplained, twice in kept.get("accounts", ())
        ),
        wait=kept.get("wait", 0),
    )
