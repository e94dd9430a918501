"""Which rows a process puts right as others come and go: see `configs` for who is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from pulse.policy import Scope
from pulse.store.decide import place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pulse.clock import Instant
    from pulse.run import Run
    from pulse.store.base import Member
    from pulse.store.configs import Standing
    from pulse.task import Definition


class Standable(Protocol):
    """A task's row, as far as deploys concern it."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def place(self) -> str:
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


R = TypeVar("R", bound=Standable)


class Judged(NamedTuple, Generic[R]):
    """What is to be put right.

    Attributes:
        takeovers: rows that ought to say what this process holds.
        unwanted: rows that no live process wants.
        superseded: names of this process's tasks whose newer definition stands instead.

    """

    takeovers: Sequence[tuple[R, Definition]]
    unwanted: Sequence[R]
    superseded: tuple[str, ...]


class Settled(NamedTuple):
    """What was put right: names of archived tasks, and the fire times that changed ones missed."""

    archived: tuple[str, ...] = ()
    passed: Sequence[Run] = ()


def judge(
    rows: Iterable[R], standing: Standing, *, member: Member, definitions: Mapping[str, Definition]
) -> Judged[R]:
    """Return what *member*, which holds *definitions*, puts right while *standing* holds."""
    present = [row for row in rows if row.archived_at is None]
    differing = [
        (row, definition)
        for row in present
        if (definition := mine(row, member, definitions)) is not None
        and definition.digest != row.digest
    ]
    takeovers = [pair for pair in differing if stands(standing, *pair)]
    taken = {row.task for row, _ in takeovers}
    superseded = tuple(sorted({row.task for row, _ in differing} - taken))
    return Judged(takeovers, [row for row in present if _is_unwanted(standing, row)], superseded)


def stands(standing: Standing, row: Standable, definition: Definition) -> bool:
    """Return whether the row ought to say what *definition* says."""
    if row.scope == Scope.PROCESS.value:
        return True
    return standing.of(row.task, definition.scope.value, row.place) == definition.digest


def mine(
    row: Standable, member: Member, definitions: Mapping[str, Definition]
) -> Definition | None:
    """Return what *member*, which holds *definitions*, declares for a row; None for no such row."""
    definition = definitions.get(row.task)
    if definition is None or place_of(definition.scope, member) != row.place:
        return None
    return definition


def _is_unwanted(standing: Standing, row: Standable) -> bool:
    if row.scope == Scope.PROCESS.value:
        return False
    return standing.of(row.task, row.scope, row.place) is None
