"""Who calls a store, and what with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member


class SqlCaller(NamedTuple):
    """This process as its store knows it.

    Attributes:
        member: who it is.
        space: `pulse.config.name`.
        definitions: the tasks of its configuration.
        load_task: makes the definition of a task that was added at run time of name and words.
        partitions: the places in which it takes part.
        keep_runs: about how many ended runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    keep_runs: int

    def may_run(self, task: str, digest: str, words: str | None) -> bool:
        """Return whether a row is this process's to run, as far as can be told without looking."""
        if words is not None:
            return True
        held = self.definitions.get(task)
        return held is not None and held.digest == digest

    def define(self, task: str, words: str | None) -> TaskDefinition:
        """Return what this process calls for a row that is its to run.

        Raises:
            ConfigError: the row's words are beyond this release of pulse.

        """
        return self.definitions[task] if words is None else self.load_task(task, words)
