"""Which definition of a task is active when live processes declare different ones.

Each set of configured tasks is stored once, as a manifest with a rising number. The active
definition of a task is the one in the newest manifest that a live process declares. A rolling
deploy therefore moves forward, an old worker that is recycled restores nothing, and a roll-back
takes effect as soon as no live process declares the newer manifest.

`reconcile` returns which rows a process changes or archives by that rule, as other processes join
and leave.
"""

from __future__ import annotations

import hashlib
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.policies import Scope
from pulse.store.rules import partition_of
from pulse.store.shared.rows import task_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.shared.rows import TaskRow

    ActiveDefinitions = Mapping[str, str]

_MANIFEST = msgspec.json.Decoder(list[tuple[str, str, str]])


class Manifest(msgspec.Struct, frozen=True):
    """The configured tasks of one process.

    Attributes:
        key: identifies the manifest: a hash of its text.
        manifest: JSON array of (name, digest, scope), ordered by name.

    """

    key: str
    manifest: bytes

    def digests(self) -> dict[str, str]:
        """Return the digests of the tasks by name."""
        return {name: digest for name, digest, _ in _MANIFEST.decode(self.manifest)}


UNKNOWN = Manifest("", b"")
"""The manifest of a process before its first sync: it declares no tasks."""


class Reconciliation(NamedTuple):
    """The result of `reconcile`.

    Attributes:
        takeovers: rows that must get this process's definition, which is active, and the
            definition.
        unwanted: rows that no live process declares, by key.
        superseded: names of this process's tasks for which a newer definition is active.

    """

    takeovers: Sequence[tuple[TaskRow, TaskDefinition]]
    unwanted: Mapping[str, TaskRow]
    superseded: tuple[str, ...]


def manifest_of(definitions: Mapping[str, TaskDefinition]) -> Manifest:
    """Return the manifest of a process that declares *definitions*."""
    rows = sorted((name, one.digest, one.scope.value) for name, one in definitions.items())
    manifest = msgspec.json.encode(rows)
    return Manifest(hashlib.blake2b(manifest, digest_size=16).hexdigest(), manifest)


def active_definitions(known: Iterable[tuple[int, bytes, Iterable[str]]]) -> ActiveDefinitions:
    """Return the digests of the active definitions, by the keys of their rows.

    Rows of scope `process` belong to one process and are removed with it; they have no entry.

    Args:
        known: number, text and hosts of each manifest that a live process declares.

    """
    active: dict[str, str] = {}
    for _, manifest, hosts in sorted(known, key=itemgetter(0)):
        for name, digest, scope in _MANIFEST.decode(manifest):
            if scope == Scope.FLEET.value:
                active[task_key(name, "")] = digest
            elif scope == Scope.HOST.value:
                active.update((task_key(name, host), digest) for host in hosts)
    return active


def reconcile(
    rows: Iterable[TaskRow],
    active: ActiveDefinitions,
    *,
    member: Member,
    definitions: Mapping[str, TaskDefinition],
) -> Reconciliation:
    """Return the corrections that *member*, which declares *definitions*, has to write."""
    present = [row for row in rows if row.archived_at is None]
    differing = [
        (row, definition)
        for row in present
        if (definition := own_definition(row, member, definitions)) is not None
        and definition.digest != row.digest
    ]
    takeovers = [pair for pair in differing if is_current(active, *pair)]
    taken = {row.task for row, _ in takeovers}
    superseded = tuple(sorted({row.task for row, _ in differing} - taken))
    unwanted = {row.task_key: row for row in present if _is_undeclared(active, row)}
    return Reconciliation(takeovers, unwanted, superseded)


def is_current(active: ActiveDefinitions, row: TaskRow, definition: TaskDefinition) -> bool:
    """Return whether *definition* is the active one for the row."""
    if row.scope == Scope.PROCESS.value:
        return True
    return active.get(row.task_key) == definition.digest


def own_definition(
    row: TaskRow, member: Member, definitions: Mapping[str, TaskDefinition]
) -> TaskDefinition | None:
    """Return the definition that *member*, which declares *definitions*, has for a row, or None."""
    definition = definitions.get(row.task)
    if definition is None or partition_of(definition.scope, member) != row.partition:
        return None
    return definition


def _is_undeclared(active: ActiveDefinitions, row: TaskRow) -> bool:
    return row.scope != Scope.PROCESS.value and row.task_key not in active
