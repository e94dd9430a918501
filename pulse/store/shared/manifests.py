"""Which definition of a task stands, when live processes hold different ones.

Each set of config tasks is written once, as a manifest with a number that rises. The definition
of a task that stands is the one in the newest manifest that some live process holds. So a rolling
deploy moves forward, an old worker that is recycled puts nothing back, and a roll-back is taken
over as soon as no live process holds the newer manifest: all of it follows from who lives.

`judge` returns which rows a process changes or archives by that rule, as other processes come and
go.
"""

from __future__ import annotations

import hashlib
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from pulse.core.policies import Scope
from pulse.store.rules import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.core.run import Run
    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member

    ManifestRows = list[tuple[str, str, str]]

_MANIFEST = msgspec.json.Decoder(list[tuple[str, str, str]])


class Manifest(msgspec.Struct, frozen=True):
    """The tasks of one process: name, digest and scope of each, and what they are known by."""

    key: str
    manifest: bytes


UNKNOWN = Manifest("", b"")
"""The config of a process that has not said yet what it holds: it wants nothing."""


class ActiveDefinitions(msgspec.Struct, frozen=True):
    """The digests that stand: of fleet tasks by name, of host tasks by host and name."""

    fleet: dict[str, str]
    hosts: dict[str, dict[str, str]]

    def of(self, task: str, scope: str, partition: str) -> str | None:
        """Return the digest that stands, or None when no live process wants the row.

        Rows of a process belong to it alone, and go with it: they are not judged here.
        """
        if scope == Scope.FLEET.value:
            return self.fleet.get(task)
        return self.hosts.get(partition, {}).get(task)


class ComparableRow(Protocol):
    """A task's row, as far as deploys concern it."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def partition(self) -> str:
        """Where it belongs."""

    @property
    def scope(self) -> str:
        """How far "once" reaches for it."""

    @property
    def digest(self) -> str:
        """The definition that it says."""

    @property
    def archived_at(self) -> Instant | None:
        """When it was put away."""


R = TypeVar("R", bound=ComparableRow)


class Reconciliation(NamedTuple, Generic[R]):
    """What is to be put right.

    Attributes:
        takeovers: rows that ought to say what this process holds.
        unwanted: rows that no live process wants.
        superseded: names of this process's tasks whose newer definition stands instead.

    """

    takeovers: Sequence[tuple[R, TaskDefinition]]
    unwanted: Sequence[R]
    superseded: tuple[str, ...]


class Reconciled(NamedTuple):
    """What was put right: names of archived tasks, and the fire times that changed ones missed."""

    archived: tuple[str, ...] = ()
    missed: Sequence[Run] = ()


def manifest_of(definitions: Mapping[str, TaskDefinition]) -> Manifest:
    """Return the config of a process that holds *definitions*."""
    rows = sorted((name, one.digest, one.scope.value) for name, one in definitions.items())
    manifest = msgspec.json.encode(rows)
    return Manifest(hashlib.blake2b(manifest, digest_size=16).hexdigest(), manifest)


def active_definitions(known: Iterable[tuple[int, bytes, Iterable[str]]]) -> ActiveDefinitions:
    """Return what stands, of the number, the manifest and the hosts of each config that lives."""
    active = ActiveDefinitions({}, {})
    for _, manifest, hosts in sorted(known, key=itemgetter(0)):
        _lay_over(active, _MANIFEST.decode(manifest), hosts)
    return active


def reconcile(
    rows: Iterable[R],
    active: ActiveDefinitions,
    *,
    member: Member,
    definitions: Mapping[str, TaskDefinition],
) -> Reconciliation[R]:
    """Return what *member*, which holds *definitions*, puts right while *standing* holds."""
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
    return Reconciliation(
        takeovers, [row for row in present if _is_undeclared(active, row)], superseded
    )


def is_current(active: ActiveDefinitions, row: ComparableRow, definition: TaskDefinition) -> bool:
    """Return whether the row ought to say what *definition* says."""
    if row.scope == Scope.PROCESS.value:
        return True
    return active.of(row.task, definition.scope.value, row.partition) == definition.digest


def own_definition(
    row: ComparableRow, member: Member, definitions: Mapping[str, TaskDefinition]
) -> TaskDefinition | None:
    """Return what *member*, which holds *definitions*, declares for a row; None for no such row."""
    definition = definitions.get(row.task)
    if definition is None or partition_of(definition.scope, member) != row.partition:
        return None
    return definition


def _lay_over(active: ActiveDefinitions, manifest: ManifestRows, hosts: Iterable[str]) -> None:
    active.fleet.update(
        (name, digest) for name, digest, scope in manifest if scope == Scope.FLEET.value
    )
    local = {name: digest for name, digest, scope in manifest if scope == Scope.HOST.value}
    for host in hosts:
        active.hosts.setdefault(host, {}).update(local)


def _is_undeclared(active: ActiveDefinitions, row: ComparableRow) -> bool:
    if row.scope == Scope.PROCESS.value:
        return False
    return active.of(row.task, row.scope, row.partition) is None
