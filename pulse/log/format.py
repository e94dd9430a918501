"""Formats parts of log lines: the end of a run, the message of a failure, a length of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND, Span, rfc3339
from pulse.core.cursor import jitter_of
from pulse.core.error_text import summary_line
from pulse.core.retry import may_retry
from pulse.core.run import Outcome
from pulse.settings.converters import duration_text

if TYPE_CHECKING:
    from pulse.core.run import Claim, Result, Run

_SUCCEEDED = Outcome.SUCCEEDED
_BODY_LINES = 5
_LONGEST_LINE = 400
_TENTHS: Span = 10_000


def ended_line(claim: Claim, result: Result, pid: int, *, then: str = "") -> str:
    """Return the line about the end of an attempt; the line of a failure names the request.

    Args:
        claim: the claim of the attempt.
        result: the result of the attempt.
        pid: the process that ran the attempt.
        then: what follows the attempt; the line then includes the number of the attempt.

    """
    run, definition = claim.run, claim.definition
    status = f" {result.status}" if result.status else ""
    words = [
        f"{tick(run)} {result.outcome.value}{status} in {span_text(result.took_us)}",
        _lateness(claim, result),
    ]
    if run.attempt > 1 or then:
        words.append(f"attempt {run.attempt}")
    if run.trigger.value != "schedule":
        words.append(run.trigger.value)
    if result.outcome is not _SUCCEEDED:
        words.append(f"{definition.method} {escape_control_characters(definition.path)}")
    return f"{'; '.join(filter(None, (', '.join(words), then)))} [pid {pid}]"


def _lateness(claim: Claim, result: Result) -> str:
    delay = wanted_delay(claim)
    late = result.started_at - claim.run.fire_time - delay
    wanted = f" after a jitter of {span_text(delay)}" if delay else ""
    return f"{span_text(abs(late))} {'late' if late >= 0 else 'early'}{wanted}"


def wanted_delay(claim: Claim) -> Span:
    """Return the delay that the jitter added to the fire time."""
    slot = claim.run.scheduled_for
    if slot is None or not claim.definition.jitter_us:
        return 0
    return jitter_of(claim.definition, slot, anchor=slot, partition=claim.run.partition)


def not_retried_because(claim: Claim, result: Result) -> str:
    """Return why a run was not retried although retries were left; empty for other runs."""
    if not may_retry(claim.definition, claim.run, result):
        return ""
    slot = claim.run.scheduled_for
    if slot is None or claim.definition.schedule.next_after(slot, anchor=slot) is None:
        return "not retried: that would be more than a day after its fire time"
    return "not retried: the next tick comes first"


def why_abandoned(run: Run) -> str:
    """Return why a run was abandoned; for a run that is not repeated, also the holder."""
    again = run.outcome is None and run.attempts
    reason = run.attempts[-1].message if again else run.message
    return ", ".join(
        map(escape_control_characters, filter(None, (reason or "its holder is lost", run.holder)))
    )


def result_text(result: Result) -> str:
    """Return the message of a failed run, which follows its line; empty for a success.

    A traceback is complete, with its last line repeated first. Of the body of a response only the
    first lines are included, of an HTML page only the title.
    """
    if result.outcome is _SUCCEEDED or not result.message:
        return ""
    summary, rest = _parted(result.message, is_response=result.status is not None)
    return f": {summary}" + "".join(f"\n    {line}" for line in rest)


def summary_text(run: Run) -> str:
    """Return one line about the message of a run: a title, the error of a traceback, or a line."""
    return _parted(run.message, is_response=run.status is not None)[0] if run.message else ""


def _parted(message: str, *, is_response: bool) -> tuple[str, list[str]]:
    """Return the summary of a message, and the lines to show after it."""
    if is_response and (title := _title_of(message)):
        return escape_control_characters(title), []
    lines = [escape_control_characters(line.expandtabs()) for line in message.splitlines()]
    if is_response:
        lines = [line[:_LONGEST_LINE] for line in lines if line.strip()][:_BODY_LINES] or [""]
    summary = summary_line("\n".join(lines))
    return summary, lines[1:] if summary == lines[0] else lines


def _title_of(body: str) -> str:
    if not body.lstrip().startswith("<"):
        return ""
    return " ".join(body.partition("<title>")[2].partition("</title>")[0].split())[:_LONGEST_LINE]


def span_text(span: Span) -> str:
    """Return a span with a unit that suits its length: `0.4 ms`, `12 ms`, `1.53 s`, `2m5s`."""
    if span < _TENTHS:
        return f"{span / 1_000:.1f} ms"
    if span < SECOND:
        return f"{span // 1_000} ms"
    if span < 60 * SECOND:
        return f"{span / SECOND:.2f} s"
    return duration_text(span - span % SECOND)


def tick(run: Run) -> str:
    """Return the task and the fire time of a run, with which each line begins."""
    return f"{escape_control_characters(run.task)} {rfc3339(run.fire_time)}"


def escape_control_characters(line: str) -> str:
    """Return a line with control characters escaped, so that no text controls a terminal."""
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
