"""The documents of the API that hold several views, and what they may show of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.core.error_text import summary_line
from pulse.core.policies import Output
from pulse.core.run_query import KEPT_LONGER, state_of
from pulse.web.views import (
    AuditView,
    ExplanationView,
    LedgerView,
    MemberView,
    PauseView,
    RunView,
    TaskView,
    view_explanation,
    view_run,
)

if TYPE_CHECKING:
    from pulse.accounting.why import Explanation
    from pulse.core.run import Run


_REASONS = frozenset({"missed", "skipped", "abandoned"})
"""The outcomes whose message is a sentence of pulse itself."""


class TasksPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of tasks by name, the pause of all tasks, and the parameter *after* of the next page."""

    tasks: Sequence[TaskView]
    pause_of_all: PauseView | None
    next: str | None


class TaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one task: one for each host with `scope = host`."""

    rows: Sequence[TaskView]


class RunsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, newest first, and the parameter *before* of the next page.

    A page may have fewer runs than the limit, or none, and a next one.
    """

    runs: Sequence[RunView]
    next: str | None


class FleetDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that take part."""

    processes: Sequence[MemberView]


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Entries of the audit trail, newest first, and the parameter *before* of the next page."""

    entries: Sequence[AuditView]
    next: str | None


class WhyDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An explanation for each fire time, or for the time itself."""

    explanations: Sequence[ExplanationView]


class LedgerDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each fire time."""

    ledger: LedgerView


class PauseDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The pause that was made; null after a resumption."""

    pause: PauseView | None


class ShownOutput(msgspec.Struct, frozen=True):
    """What is shown of responses and tracebacks.

    Attributes:
        of: of which runs.
        redact: changes a text, with the name of its task; None for a text as it is.

    """

    of: Output = Output.FULL
    redact: Callable[[str, str], str] | None = None

    def view(self, run: Run) -> RunView:
        """Return what is shown of a run."""
        view = view_run(run)
        attempts = [
            msgspec.structs.replace(one, message=self._text(one.message, run.task, one.outcome))
            for one in view.attempts
        ]
        message = self._text(view.message, run.task, view.state)
        return msgspec.structs.replace(view, message=message, attempts=attempts)

    def explanation(self, found: Explanation) -> ExplanationView:
        """Return what is shown of an explanation, whose text may quote the message of its run."""
        view = view_explanation(found)
        if found.run is None:
            return view
        run = self.view(found.run)
        quoted, shown = summary_line(found.run.message), summary_line(run.message)
        text = view.text if quoted == shown else view.text.replace(quoted, shown)
        return msgspec.structs.replace(view, run=run, text=text)

    def body(self, run: Run) -> str | None:
        """Return what is shown of the body of a manual trigger; None for nothing."""
        text = None if run.body is None else run.body.decode("utf-8", "replace")
        return self._text(text, run.task, state_of(run)) or None if text else text

    def _text(self, text: str, task: str, state: str) -> str:
        is_ours = state in _REASONS
        is_shown = self.of is Output.FULL or (self.of is Output.FAILURES and state in KEPT_LONGER)
        if is_ours or not text:
            return text
        if not is_shown:
            return ""
        return text if self.redact is None else self.redact(text, task)
