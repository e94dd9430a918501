"""Who calls a store, and what with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.store.base import Member
    from pulse.task import Definition


class Here(NamedTuple):
    """This process as its store knows it.

    Attributes:
        member: who it is.
        space: `pulse.config.name`.
        definitions: the tasks that it holds.
        places: the places in which it takes part.
        keep_runs: about how many ended runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, Definition]
    places: frozenset[str]
    keep_runs: int
