"""Records a run that Celery is about to kill, in the main process of a worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from celery.worker.request import Request

from pulse.celery.carrier import HARD_LIMIT, NO_LIMIT_S
from pulse.child.store_access import StoreAccess
from pulse.clock import SECOND, SystemClock
from pulse.core.error_text import message_of
from pulse.core.run import Claim, CompletedRun, Outcome, Result
from pulse.core.task import TaskDefinition
from pulse.errors import PulseError
from pulse.logger import log
from pulse.worker.process import Pool

if TYPE_CHECKING:
    from pulse.core.run import Run
    from pulse.schedule.base import Schedule
    from pulse.worker.settings import WorkerSettings

KILLED = (
    f"went on for {HARD_LIMIT // SECOND}s after its timeout, and let no other thread of its process"
    " go on; Celery killed the process"
)


class _PulseRequest(Request):
    """A request whose hard time limit is recorded in the store before the child is killed.

    The record has to be written before the kill: afterwards other processes find that the holder of
    the run is gone, and record it as abandoned.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 - those of Celery
        """Keep the hard limit of the message in the prefork pool alone.

        In other pools Celery raises it in the run, or does nothing; the engines of pulse do what
        can be done.
        """
        super().__init__(*arguments, **keywords)
        if self.task.pulse_host.pool is not Pool.PREFORK:
            self.time_limits = (NO_LIMIT_S, NO_LIMIT_S)

    def on_timeout(self, soft: bool, timeout: float) -> None:  # noqa: FBT001 - the interface's signature
        """Record the run as timed out, then do what Celery does."""
        settings: WorkerSettings | None = self.task.pulse_host.settings
        if not soft and settings is not None and settings.store is not None:
            try:
                _record(self.id, settings, took_s=timeout)
            except PulseError as error:
                log(logging.ERROR, f"a run that is killed is not recorded: {message_of(error)}")
        super().on_timeout(soft, timeout)


def _record(ident: str, settings: WorkerSettings, *, took_s: float) -> None:
    """Record the end of the run of a Celery task, if a worker holds that attempt."""
    assert settings.store is not None  # noqa: S101 - checked by the caller
    run_id, _, attempt = ident.rpartition("-")
    access = StoreAccess(settings.store, SystemClock(), lease_us=settings.lease_us)
    try:
        run = access.store.run(run_id)
        if run is None or run.outcome is not None or str(run.attempt) != attempt:
            return
        took = round(took_s * SECOND)
        result = Result(Outcome.TIMED_OUT, access.clock.wall() - took, took, message=KILLED)
        access.store.finish([CompletedRun(_claim_of(run), result)])
    finally:
        access.close()


def _claim_of(run: Run) -> Claim:
    """Return the claim of a run that another process holds; it is not attempted again."""
    definition = TaskDefinition(
        name=run.task, path="/", query="", digest="", schedule=cast("Schedule", None)
    )
    return Claim(run, definition, 0)
