"""The process that calls a shared store: which rows it may run, and with which definition."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.core.task import TaskDefinition
    from pulse.store.base import Member
    from pulse.store.shared.rows import TaskRow


class Caller(NamedTuple):
    """This process, as the rules of a shared store see it.

    Attributes:
        member: the process.
        space: `pulse.config.name`.
        definitions: the tasks of its configuration, by name.
        load_task: returns the definition of a run-time task, from its name and its JSON.
        partitions: the partitions in which the process takes part.
        manifest: the key of the manifest of *definitions*.
        keep_runs: about how many finished runs of each task are kept.

    """

    member: Member
    space: str
    definitions: Mapping[str, TaskDefinition]
    load_task: Callable[[str, str], TaskDefinition]
    partitions: frozenset[str]
    manifest: str
    keep_runs: int

    def may_run(self, row: TaskRow) -> bool:
        """Return whether this process may run the task of *row*.

        A run-time task may be run by every process. A declared task may be run where the process
        declares the definition that the row holds.
        """
        if row.task_json is not None:
            return True
        declared = self.definitions.get(row.task)
        return declared is not None and declared.digest == row.digest

    def define(self, row: TaskRow) -> TaskDefinition:
        """Return the definition of a row that this process may run.

        Raises:
            ConfigError: a newer release of pulse wrote the JSON of the run-time task.

        """
        if row.task_json is None:
            return self.definitions[row.task]
        return self.load_task(row.task, row.task_json)
