"""The page of a run: its attempts, why it ran or did not, and a test that repeats it."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import moment_of
from pulse.core.access import Level
from pulse.errors import UnknownRunError
from pulse.store.steering import TaskState  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.web.dashboard.repetition import repetition_of
from pulse.web.dashboard.texts import UTC, zone_of
from pulse.web.views import ExplanationView, RunView  # noqa: TC001 - likewise

if TYPE_CHECKING:
    from pulse.core.run import Run
    from pulse.handle.handle import SchedulerHandle
    from pulse.handle.health import Overview
    from pulse.web.documents import ShownOutput


class RunModel(msgspec.Struct, frozen=True, kw_only=True):
    """The page.

    Attributes:
        run: the run.
        zone: the time zone of its task.
        task: the row of its task; None if that is gone.
        why: the explanations of its fire time.
        is_open: whether it waits or is in progress.
        test: a test that repeats it; empty for what did not run.

    """

    run: RunView
    zone: str
    task: TaskState | None
    why: Sequence[ExplanationView]
    is_open: bool
    test: str


def run_model(
    overview: Overview, handle: SchedulerHandle, ident: str, output: ShownOutput, level: Level
) -> RunModel:
    """Return the page of a run; the body of a manual trigger is for those who may act.

    Raises:
        UnknownRunError: no such run, or it is not kept any more.

    """
    run = handle.run(ident)
    if run is None:
        raise UnknownRunError(f"expected the id of a run that is kept, got {ident[:64]!r}")
    task = next((row for row in overview.tasks if row.name == run.task), None)
    why: list[ExplanationView] = []
    if run.scheduled_for is not None:
        found = handle.why(run.task, moment_of(run.fire_time))
        why = [output.explanation(one) for one in found if one.partition == run.partition]
    return RunModel(
        run=output.view(run),
        zone=UTC if task is None else zone_of(task.schedule),
        task=task,
        why=why,
        is_open=run.outcome is None,
        test=_repetition(run, task, output, level) if run.claimed_at is not None else "",
    )


def _repetition(run: Run, task: TaskState | None, output: ShownOutput, level: Level) -> str:
    body = output.body(run) if run.body is not None and level is Level.ACT else None
    return repetition_of(run, task, body=body)
