"""The process that calls a store, with its task definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member


class SqlCaller(NamedTuple):
    """This process, as its store knows it.

    Attributes:
        member: the process.
        space: `pulse.config.name`.
        definitions: the configured tasks, by name.
        load_task: returns the definition of a run-time task, given its name and its JSON.
        partitions: the partitions whose rows the process reads.
        keep_runs: about how many finished runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    keep_runs: int

    def may_run(self, task: str, digest: str, task_json: str | None) -> bool:
        """Return whether this process may run a task: a run-time task, or one it has declared.

        *digest* and *task_json* are those of the task's row.
        """
        if task_json is not None:
            return True
        own = self.definitions.get(task)
        return own is not None and own.digest == digest

    def define(self, task: str, task_json: str | None) -> TaskDefinition:
        """Return the definition of a task that this process may run.

        Raises:
            ConfigError: *task_json* was written by a newer release, and cannot be read.

        """
        return self.definitions[task] if task_json is None else self.load_task(task, task_json)
