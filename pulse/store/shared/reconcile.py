"""Updates rows as other processes join and leave; `pulse.store.shared.manifests` has the rules."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pulse.core.policies import Scope
from pulse.store.lease_watch import ExpiryWatch
from pulse.store.rules import CONFIG
from pulse.store.shared.changes import TaskChange
from pulse.store.shared.manifests import Reconciliation, reconcile
from pulse.store.shared.members import SILENT_LEASES, read_active_definitions
from pulse.store.shared.orphans import apply_with_pending
from pulse.store.shared.rows import task_key
from pulse.store.shared.sync import changed_row, is_hidden_by_config
from pulse.store.shared.tasks import change_rows, record_changes
from pulse.store.steering import EVERY_TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from pulse.clock import Instant, Span
    from pulse.store.shared.backend import MemberRow, Session, Written
    from pulse.store.shared.changes import Applied
    from pulse.store.shared.rows import Caller, TaskRow, TaskSnapshot


class Reconciler:
    """Writes the active definitions of this process into their rows, and archives unwanted rows.

    It also archives a run-time row with the name of a task that this process declares in another
    partition: the two rows are not compared in one write.

    The rows are read only when the set of manifests that live processes hold has changed: between
    deploys the cost does not depend on the number of tasks.
    """

    def __init__(self, lease_us: Span) -> None:
        self._watch: ExpiryWatch[str] = ExpiryWatch(lease_us)
        self._fleet: frozenset[tuple[str, str]] | None = None
        self._members: frozenset[str] = frozenset()
        self._judged = Reconciliation((), {}, ())
        self._hidden: dict[str, TaskRow] = {}
        self._paused: frozenset[str] = frozenset()
        self._expired: Collection[str] = ()
        self.superseded: tuple[str, ...] = ()

    def synced(self, superseded: tuple[str, ...]) -> None:
        """Judge the rows at the next heartbeat: this process has synced."""
        self._fleet = None
        self.superseded = superseded

    def forget(self) -> None:
        """Count again for how long rows have been unwanted: a call has failed."""
        self._watch.forget()

    def check(
        self, session: Session, caller: Caller, live: Sequence[MemberRow], *, boot: Span
    ) -> bool:
        """Find out what is to be changed, without a write; return whether processes have ended."""
        members = frozenset(one.member.holder for one in live)
        have_ended, self._members = bool(self._members - members), members
        fleet = frozenset((one.manifest, one.member.host) for one in live)
        if fleet != self._fleet:
            self._judge(session, caller, live)
            self._fleet = fleet
        span = SILENT_LEASES * caller.member.lease_us
        unwanted = dict.fromkeys(
            (*self._judged.unwanted, *map(_pause_key, self._paused)), (0, span)
        )
        self._expired = self._watch.expired(unwanted, boot)
        return have_ended

    def _judge(self, session: Session, caller: Caller, live: Sequence[MemberRow]) -> None:
        self._judged = reconcile(
            session.read_declared(),
            read_active_definitions(session, live),
            member=caller.member,
            definitions=caller.definitions,
        )
        self._hidden = _hidden_rows(session, caller)
        self._paused = frozenset(
            name
            for name in session.read_pauses()
            if name != EVERY_TASK and not session.read_tasks_named(name).in_use().rows
        )
        self.superseded = self._judged.superseded

    def has_work(self) -> bool:
        """Return whether the rules have anything to write."""
        return bool(self._judged.takeovers or self._expired or self._hidden)

    def rules(self, caller: Caller) -> list[Callable[[Session, Written], None]]:
        """Return the rules that write what the last check found, each for a session of its own."""
        rules: list[Callable[[Session, Written], None]] = []
        if self._judged.takeovers:
            rules.append(partial(self._take_over, caller=caller))
        judged = self._judged.unwanted
        unwanted = {key: row for key, row in judged.items() if key in self._expired}
        if unwanted or self._hidden:
            rules.append(partial(_archive, unwanted=unwanted | self._hidden))
        pauses = [name for name in self._paused if _pause_key(name) in self._expired]
        if pauses:
            rules.append(partial(end_pauses, names=pauses))
        if rules:
            self._fleet = None
        return rules

    def _take_over(self, session: Session, written: Written, *, caller: Caller) -> None:
        definitions = {row.task_key: definition for row, definition in self._judged.takeovers}
        changed_at = session.now()

        def change(row: TaskRow, now: Instant) -> TaskChange | None:
            nonlocal changed_at
            changed_at = now
            definition = definitions[row.task_key]
            stale = caller.definitions.get(row.task) is not definition
            if stale or row.digest == definition.digest or row.source != CONFIG:
                return None
            return changed_row(row, definition, space=caller.space, now=now)

        def read() -> TaskSnapshot:
            return session.read_tasks(sorted(definitions)).in_use()

        write = partial(apply_with_pending, written=written)
        made = change_rows(session, read, change, write=write)
        record_changes(session, made, now=changed_at)


def _pause_key(name: str) -> str:
    """Return the key of a pause without a row; the key of a row has a slash after its partition."""
    return f"pause {name}"


def _hidden_rows(session: Session, caller: Caller) -> dict[str, TaskRow]:
    """Return the run-time rows with names of tasks that this process declares elsewhere."""
    keys = [
        task_key(definition.name, "")
        for definition in caller.definitions.values()
        if definition.scope is not Scope.FLEET
    ]
    found = session.read_tasks(keys).rows if keys else {}
    return {key: row for key, row in found.items() if is_hidden_by_config(caller, row)}


def _archive(session: Session, written: Written, *, unwanted: dict[str, TaskRow]) -> None:
    """Archive rows; their last decided fire times stay, and their pending runs end."""

    def change(row: TaskRow, now: Instant) -> TaskChange | None:
        known = unwanted[row.task_key]
        if (row.digest, row.source) != (known.digest, known.source):
            return None
        return TaskChange(row.changed(archived_at=now, paused=False, resumed_at=None), row)

    def write(session: Session, changes: Sequence[TaskChange]) -> Applied:
        applied = apply_with_pending(session, changes, written)
        for one, done in zip(changes, applied.tasks, strict=True):
            if done and one.row.source == CONFIG:
                written.archived.append(one.row.task)
        return applied

    def read() -> TaskSnapshot:
        return session.read_tasks(sorted(unwanted)).in_use()

    made = change_rows(session, read, change, write=write)
    record_changes(session, made, now=session.now())
    end_pauses(session, written, names={row.task for row in unwanted.values()})


def end_pauses(session: Session, _: Written, *, names: Collection[str]) -> None:
    """Resume the tasks of *names* that have no row any more: their pauses end with them."""
    for name in sorted(names):
        found = session.read_tasks_named(name)
        if name in found.paused and not found.in_use().rows:
            session.set_paused(name, None)
