"""The change set: everything that one write changes, each change with the state that it requires.

A rule of this package reads a snapshot, decides, and describes the result as a `ChangeSet`. The
storage applies a change set as one atomic step and refuses each change whose row or run is not as
it was read any more. What was applied is in the `Applied` that the storage returns.
"""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of `Applied`
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs

if TYPE_CHECKING:
    from pulse.core.run import Run
    from pulse.store.shared.rows import TaskRow


class TaskChange(msgspec.Struct, frozen=True, gc=False):
    """A row to add or to change, and the runs that are added with it.

    Attributes:
        row: the row as it is to be.
        was: the row as it was read; None where no row of that key may exist.
        runs: the runs to add.
        folded: an existing skip record as it is to be; only its count differs.
        moves_only: only the cursor, the end of a pause and the last skip differ.
        returned: the row was archived and is not any more.
        reschedules: the row gets another schedule.
        follows_pause: the change is refused as well where `Session.set_paused` has recorded another
            pause of the task than that of *row*. SQL need not check it: sessions that change it run
            one at a time.

    """

    row: TaskRow
    was: TaskRow | None
    runs: Sequence[Run] = ()
    folded: Run | None = None
    moves_only: bool = False
    returned: bool = False
    reschedules: bool = False
    follows_pause: bool = False


class RunChange(msgspec.Struct, frozen=True, gc=False):
    """An unfinished run to change from one state to another.

    The change is refused unless the run is unfinished and its holder and attempt are those of
    *was*.

    Attributes:
        was: the run as it was read.
        run: the run as it is to be; None to renew its lease.
        row: the row of its task, where it was read.
        guarded: the change is refused as well where *row* has changed since.
        max_claimed: refused as well if already so many runs of the row are claimed.
        mark: refused as well where the lease was renewed, which moves its mark.
        lease_us: the length of the lease, where it is another one than that of the change set: how
            long a run that is posted may wait.

    """

    was: Run
    run: Run | None
    row: TaskRow | None = None
    guarded: bool = False
    max_claimed: int | None = None
    mark: int | None = None
    lease_us: Span | None = None


class ChangeSet(NamedTuple):
    """What one write changes, in this order: *closed*, *tasks*, *runs*.

    Attributes:
        now: the store's clock at the read.
        lease_us: the lease of the runs that become claimed or are renewed.
        boot: the boot clock when the call began: the renewal mark of those leases in SQL.
        closed: pending runs to end before rows are changed. Where one is refused, the row of its
            task is refused as well: the plan counted on its end.
        tasks: rows.
        runs: other runs.
        released: keys of rows that the read reserved and that are not changed.
        trimmed: tasks whose history is cut to about *keep_runs*.
        check_existing: look for runs that exist before runs are added; without it the storage may
            raise DuplicateKeyError, having changed nothing.
        skip_locked: a row that another process is changing is refused instead of awaited.

    """

    now: Instant = 0
    lease_us: Span = 0
    boot: Span = 0
    closed: Sequence[RunChange] = ()
    tasks: Sequence[TaskChange] = ()
    runs: Sequence[RunChange] = ()
    released: Sequence[str] = ()
    trimmed: Sequence[str] = ()
    keep_runs: int = 0
    check_existing: bool = False
    skip_locked: bool = False


class Applied(NamedTuple):
    """Which changes were applied, in the order of the change set.

    Attributes:
        due: when each refused row is due, as far as the storage knows; None for never.
        existing: ids of runs that were to be added and exist already.

    """

    closed: Sequence[bool]
    tasks: Sequence[bool]
    runs: Sequence[bool]
    due: Sequence[Instant | None] = ()
    existing: frozenset[str] = frozenset()
