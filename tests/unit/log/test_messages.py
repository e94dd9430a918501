"""Log lines and their levels, for each event."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse import events
from pulse.clock import SECOND
from pulse.core.cursor import delay_of
from pulse.core.planner import OLDER_THAN_NEWEST, RUN_UNFINISHED
from pulse.core.run import Claim, Outcome, Result, Run, Trigger
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.errors import StoreProblem
from pulse.log.format import result_text, span_text
from pulse.log.messages import subscribe_claims, subscribe_log
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.testing.clock import FakeClock
from tests.support.claims import FIRE_TIME, make_claim
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[events.Event], logging.LogRecord]


@pytest.fixture(autouse=True)
def pid(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is number 123."""
    monkeypatch.setattr("os.getpid", lambda: 123)


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the log listener."""
    return FakeClock()


@pytest.fixture
def bus(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> events.EventBus:
    """Return a bus with the log listener, at level DEBUG."""
    caplog.set_level(logging.DEBUG, "pulse")
    bus = events.EventBus()
    subscribe_log(bus, clock)
    subscribe_claims(bus)
    return bus


def test_claims_have_a_listener_only_at_level_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every tick has a claim, and otherwise no event is created for it."""
    caplog.set_level(logging.INFO, "pulse")
    bus = events.EventBus()
    subscribe_claims(bus)
    assert not bus.has_listeners(events.RunClaimed)


@pytest.fixture
def say(bus: events.EventBus, caplog: pytest.LogCaptureFixture) -> Say:
    """Emits an event and returns the one record that came of it."""
    caplog.set_level(logging.DEBUG, "pulse")

    def say(event: events.Event) -> logging.LogRecord:
        bus.emit(event)
        (record,) = caplog.records
        return record

    return say


def ended(outcome: Outcome = Outcome.SUCCEEDED, /, **parts: object) -> events.RunEnded:
    """Return the end of a run that was 3 ms late and took 12."""
    claim = make_claim(
        trigger=parts.pop("trigger", Trigger.SCHEDULE), attempt=parts.pop("attempt", 1)
    )
    started = FIRE_TIME + parts.pop("late", 3_000)
    return events.RunEnded(claim, Result(outcome, started, 12_345, **parts))


def test_success_is_one_line(say: Say) -> None:
    """The line has task, fire time, outcome, status, duration, lateness and worker."""
    record = say(ended(status=200, message="deleted 3"))
    assert (record.levelname, record.name) == ("INFO", "pulse")
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z succeeded 200 in 12 ms, 3.0 ms late [pid 123]"
    )


def test_line_has_attempt_and_trigger_unless_they_are_the_usual_ones(say: Say) -> None:
    """The first attempt on schedule is the usual one."""
    record = say(ended(status=200, attempt=2, trigger=Trigger.MANUAL))
    assert record.getMessage().endswith("3.0 ms late, attempt 2, manual [pid 123]")


def test_run_before_its_fire_time_is_early(say: Say) -> None:
    """The clocks of two hosts may differ."""
    assert "3.0 ms early" in say(ended(status=200, late=-3_000)).getMessage()


JITTERED = {"interval": 600, "jitter": 600}
JITTER = delay_of("cleanup", FIRE_TIME, below=600_000_000)


def test_lateness_excludes_the_jitter(say: Say) -> None:
    """The line names the delay beside the lateness, and JSON loggers receive both."""
    result = Result(Outcome.SUCCEEDED, FIRE_TIME + JITTER + 3_000, 12_345, 200)
    record = say(events.RunEnded(make_claim(**JITTERED), result))
    assert record.getMessage().endswith(
        f"3.0 ms late after a jitter of {span_text(JITTER)} [pid 123]"
    )
    assert record.pulse_jitter_ms == JITTER / 1_000
    assert record.pulse_lateness_ms == JITTER / 1_000 + 3


def test_manual_run_has_no_jitter(say: Say) -> None:
    """A manual run is due at its request."""
    claim = make_claim(**JITTERED)
    manual = msgspec.structs.replace(claim.run, scheduled_for=None)
    result = Result(Outcome.SUCCEEDED, FIRE_TIME + 3_000, 12_345, 200)
    record = say(events.RunEnded(Claim(manual, claim.definition, claim.good_until), result))
    assert "3.0 ms late [pid" in record.getMessage()


def test_record_has_the_facts_as_attributes(say: Say) -> None:
    """Each attribute begins with `pulse_`."""
    record = say(ended(status=200))
    facts = {name: value for name, value in vars(record).items() if name.startswith("pulse_")}
    assert facts == {
        "pulse_task": "cleanup",
        "pulse_fire_time": "2026-11-23T07:00:00Z",
        "pulse_run_id": make_claim().run.id,
        "pulse_attempt": 1,
        "pulse_trigger": "schedule",
        "pulse_worker_pid": 123,
        "pulse_outcome": "succeeded",
        "pulse_status": 200,
        "pulse_lateness_ms": 3.0,
        "pulse_jitter_ms": 0.0,
        "pulse_duration_ms": 12.345,
    }


LATE = "cleanup 2026-11-23T07:00:00Z"


@pytest.mark.parametrize(
    "outcome",
    [Outcome.FAILED, Outcome.TIMED_OUT, Outcome.INTERRUPTED, Outcome.ABANDONED],
    ids=lambda outcome: outcome.value,
)
def test_outcome_other_than_success_is_a_warning(say: Say, outcome: Outcome) -> None:
    """The line has the outcome and the message."""
    record = say(ended(outcome, message="words"))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"cleanup 2026-11-23T07:00:00Z {outcome.value} in 12 ms, 3.0 ms late, "
        "GET /sessions/cleanup [pid 123]: words"
    )


def test_traceback_is_complete_and_its_last_line_comes_first(say: Say) -> None:
    """The line names the exception; the traceback follows."""
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no'
    record = say(ended(Outcome.FAILED, message=traceback))
    assert record.getMessage().splitlines() == [
        f"{LATE} failed in 12 ms, 3.0 ms late, GET /sessions/cleanup [pid 123]: ValueError: no",
        "    Traceback (most recent call last):",
        '      File "a.py", line 1',
        "    ValueError: no",
    ]


def test_traceback_of_an_exception_group_is_logged() -> None:
    """All its lines are indented."""
    text = "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: two"
    assert result_text(Result(Outcome.FAILED, 0, 0, None, text)).startswith(
        ":   | ExceptionGroup: two\n"
    )


def test_first_lines_of_a_body_are_logged() -> None:
    """Empty lines are omitted."""
    body = "\n\n".join(f"line {number}" for number in range(40))
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, body)).splitlines() == [
        ": line 0",
        "    line 1",
        "    line 2",
        "    line 3",
        "    line 4",
    ]


def test_title_of_an_html_page_is_logged() -> None:
    """The title of a framework's error page contains the error."""
    page = "<!doctype html>\n<html lang=en>\n<title>500 Internal\n Server Error</title>\n<p>Sorry"
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, page)) == ": 500 Internal Server Error"


def test_first_lines_of_a_page_without_a_title_are_logged() -> None:
    """The page counts as text."""
    assert (
        result_text(Result(Outcome.FAILED, 0, 0, 500, "<h1>Bad Request</h1>"))
        == ": <h1>Bad Request</h1>"
    )


def test_long_line_of_a_body_is_truncated() -> None:
    """Minified pages are one line."""
    assert len(result_text(Result(Outcome.FAILED, 0, 0, 500, "x" * 2_000))) < 500


@pytest.mark.parametrize("message", ["", " \n "], ids=["none", "blank"])
def test_empty_body_adds_no_text(message: str) -> None:
    """The line has no message."""
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, message)).strip(": ") == ""


def test_response_cannot_forge_a_line_or_move_the_cursor() -> None:
    """Further lines are indented, and control characters are escaped."""
    text = result_text(Result(Outcome.FAILED, 0, 0, 500, "a\r2026 INFO forged\x1b[2J\n"))
    assert text == ": a\n    2026 INFO forged\\x1b[2J"


def test_claim_is_logged_at_level_debug(say: Say) -> None:
    """A run without an end can be found."""
    record = say(events.RunClaimed(make_claim()))
    assert record.levelname == "DEBUG"
    assert record.getMessage() == "cleanup 2026-11-23T07:00:00Z claimed, attempt 1 [pid 123]"


@pytest.mark.parametrize(
    ("refused", "following", "text"),
    [
        pytest.param(None, FIRE_TIME, "runs next: 2026-11-23T07:00:00Z", id="moved"),
        pytest.param(FIRE_TIME, None, "07:00:00Z does not run: ", id="refused"),
    ],
)
def test_task_after_a_clock_set_back_is_a_warning(
    say: Say, refused: int | None, following: int | None, text: str
) -> None:
    """The line has the task, the refused fire time and the next one."""
    record = say(events.TaskRewound("cleanup", "", refused, following))
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("cleanup ")
    assert text in record.getMessage()


def test_overdue_run_is_a_warning(say: Say) -> None:
    """The line has the timeout, and the record the number of such runs."""
    record = say(events.RunOverdue(make_claim(timeout="90s"), 2))
    assert record.levelname == "WARNING"
    assert "past its timeout of 1m30s and continues" in record.getMessage()
    assert record.pulse_left_behind == 2


@pytest.mark.parametrize("reason", [HOLDER_GONE, LEASE_OVER])
@pytest.mark.parametrize(("attempt", "end"), [(1, ""), (2, ", attempt 2")])
def test_abandoned_run_is_a_warning(say: Say, attempt: int, end: str, reason: str) -> None:
    """The line has the reason and the holder."""
    held = msgspec.structs.replace(make_claim(attempt=attempt).run, holder="h:1:n")
    record = say(events.RunAbandoned(abandon_run(held, reason)))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (f"cleanup 2026-11-23T07:00:00Z abandoned: {reason}, h:1:n{end}")


def test_line_of_a_requeued_run_has_the_reason(say: Say) -> None:
    """The reason is that of its last attempt; the holder is unknown."""
    held = msgspec.structs.replace(make_claim().run, holder="h:1:n")
    record = say(events.RunAbandoned(requeue_run(held, LEASE_OVER, FIRE_TIME)))
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z abandoned: its holder did not renew the lease"
    )


def test_abandoned_run_without_a_reason_is_logged(say: Say) -> None:
    """A store may give no reason."""
    record = say(events.RunAbandoned(make_claim().run))
    assert record.getMessage().endswith("abandoned: its holder is lost")


def test_lost_claim_is_a_warning(say: Say) -> None:
    """The end of the run is logged although the store refused it."""
    event = ended(status=200)
    record = say(events.ClaimLost(event.claim, event.result))
    assert record.levelname == "WARNING"
    assert "succeeded 200 in 12 ms" in record.getMessage()
    assert "its claim was lost" in record.getMessage()


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 fire time passed"), (12, "12 fire times from then on passed")]
)
def test_missed_ticks_are_one_warning_with_their_count(say: Say, count: int, words: str) -> None:
    """The line has the oldest fire time."""
    record = say(events.TickMissed(_passed(count)))
    assert (record.levelname, record.pulse_count) == ("WARNING", count)
    assert record.getMessage() == (
        f"cleanup 2026-11-23T07:00:00Z missed: {words} with nobody to run it in time"
    )


def test_overload_logs_eleven_lines_per_minute(
    bus: events.EventBus, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand overloaded tasks cause ten lines and a remark, and again a minute later."""
    caplog.set_level(logging.INFO, "pulse")
    missed = events.TickMissed(make_claim().run)
    for _ in range(2):
        for _ in range(1_000):
            bus.emit(missed)
        clock.forward(60)
    assert len(caplog.records) == 22
    assert caplog.messages[10] == caplog.messages[21]
    assert caplog.messages[10].startswith("more than 10 missed ticks")


def test_further_missed_ticks_of_an_overload_are_logged_at_level_debug(
    bus: events.EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Each has a line."""
    caplog.set_level(logging.DEBUG, "pulse")
    missed = events.TickMissed(make_claim().run)
    for _ in range(12):
        bus.emit(missed)
    assert sum("cleanup" in message for message in caplog.messages) == 12


def test_skipped_tick_is_logged_at_level_info(say: Say) -> None:
    """The policy of the task asks for it."""
    record = say(events.TickSkipped(_passed(1, RUN_UNFINISHED)))
    assert (record.levelname, record.pulse_outcome) == ("INFO", "skipped")
    assert "skipped: 1 fire time found an earlier run still going" in record.getMessage()


def test_line_of_consecutive_skips_has_their_count(say: Say) -> None:
    """Each skip has a line with the first fire time and the count so far."""
    record = say(events.TickSkipped(_passed(3, RUN_UNFINISHED)))
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z skipped: so far 3 fire times in a row found an earlier run"
        " still going"
    )


def test_store_outage_is_an_error(say: Say) -> None:
    """No task runs during the outage."""
    record = say(events.StoreUnavailable("disk I/O error"))
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith("nothing runs until it does [pid 123]: disk I/O error")


@pytest.mark.parametrize(
    ("problem", "after", "line"),
    [
        pytest.param(
            StoreProblem.SILENT,
            90 * SECOND,
            "the store still does not answer after 1m30s, nothing runs until it does [pid 123]: x",
            id="silent",
        ),
        pytest.param(
            StoreProblem.REFUSING,
            0,
            "the store refuses calls, nothing runs until it accepts them [pid 123]: x",
            id="refusing",
        ),
        pytest.param(
            StoreProblem.REFUSING,
            90 * SECOND,
            "after 1m30s the store refuses calls, nothing runs until it accepts them [pid 123]: x",
            id="refusing still",
        ),
        pytest.param(
            StoreProblem.REPLACED,
            0,
            "the store was replaced or has lost data [pid 123]: x",
            id="replaced",
        ),
    ],
)
def test_outage_is_logged_with_its_problem_and_duration(
    say: Say, problem: StoreProblem, after: int, line: str
) -> None:
    """The first line of an outage has no duration."""
    assert say(events.StoreUnavailable("x", problem, after)).getMessage() == line


def test_end_of_an_outage_is_logged_at_level_info(say: Say) -> None:
    """The line has the duration of the outage."""
    record = say(events.StoreRecovered(125_000_000))
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "the store answers again after 2m5s [pid 123]",
    )


def test_broker_that_does_not_answer_is_logged_at_level_error(say: Say) -> None:
    """The line says what that means for the runs, and the reason."""
    record = say(events.BrokerUnavailable("amqp://shop:***@mq//", "connection refused"))
    text = "the broker amqp://shop:***@mq// does not answer: nothing is posted until it does"
    line = f"{text} [pid 123]: connection refused"
    assert (record.levelname, record.getMessage()) == ("ERROR", line)


def test_reason_of_a_broker_is_one_line(say: Say) -> None:
    """A client may raise an error of any text."""
    text = say(events.BrokerUnavailable("amqp://mq", "lost\r\nfake line\x1b[31m")).getMessage()
    assert text.endswith(r"[pid 123]: lost\r\nfake line\x1b[31m")
    assert len(text.splitlines()) == 1


def test_broker_that_answers_again_is_logged_at_level_info(say: Say) -> None:
    """The line has the duration of the outage."""
    record = say(events.BrokerRecovered("amqp://shop:***@mq//", 125 * SECOND))
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "the broker amqp://shop:***@mq// answers again after 2m5s [pid 123]",
    )


@pytest.mark.parametrize(("task", "words"), [("", "error"), ("cleanup", "error with task cleanup")])
def test_scheduler_error_is_logged_with_its_traceback(say: Say, task: str, words: str) -> None:
    """The line names the task if it is known."""
    error = ValueError("unforeseen")
    record = say(events.SchedulerError(error, task))
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"the scheduler continues after an unexpected {words}"
    assert record.exc_info == (ValueError, error, None)


@pytest.mark.parametrize(
    ("tasks", "reach", "words"),
    [
        (1, "host", "1 task, mode gevent, store x: each tick runs once on this host [pid 123]"),
        (
            2,
            "fleet",
            "2 tasks, mode gevent, store x: each tick runs once among all processes that share",
        ),
        (2, "process", "each tick runs once in each process"),
    ],
    ids=["host", "fleet", "process"],
)
def test_start_is_logged_with_the_reach_of_the_store(
    say: Say, tasks: int, reach: str, words: str
) -> None:
    """The start is one line at level INFO."""
    record = say(events.SchedulerStarted("h:1:n", "gevent", "x", reach, tasks))
    assert record.levelname == "INFO"
    assert words in record.getMessage()


@pytest.mark.parametrize(
    ("name", "chosen", "reach", "words"),
    [
        ("shop", True, "fleet", "store x, name shop: each tick"),
        ("shop", False, "host", "store x, name shop: each tick"),
        ("", True, "fleet", "store x, no name: each tick"),
        ("", True, "host", "store x, no name: each tick"),
        ("", True, "process", "store x: each tick"),
        ("", False, "host", "store x: each tick"),
    ],
)
def test_start_is_logged_with_the_name(
    say: Say, *, name: str, chosen: bool, reach: str, words: str
) -> None:
    """The line says `no name` if only a name would separate applications."""
    started = events.SchedulerStarted("h:1:n", "gevent", "x", reach, 1, name=name, chosen=chosen)
    record = say(started)
    assert words in record.getMessage()
    assert record.pulse_name == name


@pytest.mark.parametrize(
    ("paused", "words"),
    [
        ((), "started with 12 tasks, mode gevent"),
        (("a\nb",), "started with 12 tasks (1 paused: a\\nb), mode gevent"),
        (("", "a"), "started with 12 tasks (all tasks are paused), mode gevent"),
        (tuple("abcdefghijk"), "(11 paused: a, b, c, d, e, f, g, h, i, j, ...), mode"),
    ],
    ids=["none", "one", "all", "eleven"],
)
def test_start_is_logged_with_the_paused_tasks(
    say: Say, paused: tuple[str, ...], words: str
) -> None:
    """A pause lasts across restarts, until somebody resumes the task."""
    record = say(events.SchedulerStarted("h:1:n", "gevent", "x", "host", 12, paused=paused))
    assert words in record.getMessage()
    assert record.pulse_paused == paused


@pytest.mark.parametrize(
    ("interrupted", "level", "words"),
    [
        (0, "INFO", "stopped [pid 123]"),
        (2, "WARNING", "stopped; runs that did not end in time: 2 [pid 123]"),
    ],
)
def test_stop_with_interrupted_runs_is_a_warning(
    say: Say, interrupted: int, level: str, words: str
) -> None:
    """A stop without interrupted runs is logged at level INFO."""
    record = say(events.SchedulerStopped("h:1:n", interrupted))
    assert (record.levelname, record.getMessage()) == (level, words)


@pytest.mark.parametrize(
    ("tasks", "name", "words"),
    [
        (("a", "b"), "shop", "this process will not run them: a, b [pid 123]"),
        ((), "shop", "this process runs all its tasks again [pid 123]"),
        ((), "", "this process runs all its tasks again [pid 123]"),
    ],
    ids=["differ", "agree", "agree without a name"],
)
def test_superseded_definitions_are_logged_at_level_info(
    say: Say, tasks: tuple[str, ...], name: str, words: str
) -> None:
    """A rolling deploy causes them."""
    record = say(events.DefinitionsSuperseded(tasks, name))
    assert (record.levelname, record.pulse_tasks) == ("INFO", tasks)
    assert record.getMessage().endswith(words)


def test_superseded_definitions_without_a_name_are_a_warning(say: Say) -> None:
    """Another application without a name may be the cause."""
    record = say(events.DefinitionsSuperseded(("a", "b")))
    assert record.levelname == "WARNING"
    assert record.getMessage().endswith(
        "not run them: a, b; if these are tasks of another application, give each application"
        " its own pulse.config.name [pid 123]"
    )


@pytest.mark.parametrize(
    ("holders", "line"),
    [
        (("a:1:x", "b:2:y"), "or if an old worker still runs: a:1:x, b:2:y [pid 123]"),
        ((), "all processes declare the same tasks again [pid 123]"),
    ],
)
def test_processes_with_other_tasks_are_named(
    say: Say, holders: tuple[str, ...], line: str
) -> None:
    """The end of the difference is logged, too."""
    record = say(events.ConfigMismatch(holders))
    assert (record.levelname, record.getMessage().endswith(line)) == ("INFO", True)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (events.TasksChanged(("a", "b")), "definitions changed: a, b [pid 123]"),
        (events.TaskAdded("b\nc", replace=False), "added at run time: b\\nc [pid 123]"),
        (events.TaskAdded("a", replace=True), "added or replaced at run time: a [pid 123]"),
        (events.TaskRemoved("b\nc"), "removed at run time: b\\nc [pid 123]"),
        (events.TaskRemoved("b", "a\nn"), "removed at run time by a\\nn: b [pid 123]"),
        (events.TaskPaused("b\nc"), "paused: b\\nc [pid 123]"),
        (
            events.TaskPaused("a", "ann", 1_767_614_400_000_000, "re\nlease"),
            "paused by ann: a until 2026-01-05T12:00:00Z (re\\nlease) [pid 123]",
        ),
        (events.TaskResumed("a", by="ann"), "resumed by ann: a [pid 123]"),
        (
            events.TaskResumed("a", ended=True),
            "resumed: a, since the pause has ended [pid 123]",
        ),
        (events.TaskPaused("", "ann"), "paused by ann: all tasks [pid 123]"),
        (
            events.TaskResumed("", ended=True),
            "resumed: all tasks, since the pause has ended [pid 123]",
        ),
        (
            events.RunStopped(Run(id="1" * 32, task="a", fire_time=0), "ann", "re\nlease"),
            f"asked to stop by ann: a, run {'1' * 32} (re\\nlease) [pid 123]",
        ),
        (
            events.RunStopped(
                Run(id="1" * 32, task="a", fire_time=0, outcome=Outcome.SUCCEEDED), "ann", "late"
            ),
            f"asked to stop by ann: a, run {'1' * 32}, which has ended: succeeded [pid 123]",
        ),
        (
            events.TaskRemoved("a", done=True),
            "removed at run time: a, since its last fire time has passed [pid 123]",
        ),
        (
            events.RunsDeleted(1_200, "a", "ann", "runs older than 7d"),
            "deleted 1,200 runs older than 7d by ann: a [pid 123]",
        ),
        (events.TaskTriggered("a", make_claim().run), "triggered: a [pid 123]"),
        (
            events.TaskTriggered("a", None, by="ann"),
            "triggered by ann: a, and refused: its overlap policy permits no further run [pid 123]",
        ),
        (
            events.StartDisabled("pulse.config.start is off"),
            "no scheduler starts in this process: pulse.config.start is off [pid 123]",
        ),
    ],
    ids=str,
)
def test_act_of_a_person_is_logged_at_level_info(say: Say, event: events.Event, line: str) -> None:
    """A name that a user has chosen cannot forge a line."""
    record = say(event)
    assert (record.levelname, record.getMessage()) == ("INFO", line)


def test_call_of_the_handle_has_facts_for_json_loggers(say: Say) -> None:
    """The task, who asked for it, and the run."""
    run = make_claim().run
    record = say(events.TaskTriggered("a", run, by="ann"))
    assert (record.pulse_task, record.pulse_by, record.pulse_run_id) == ("a", "ann", run.id)


def test_overridden_runtime_task_is_a_warning(say: Say) -> None:
    """A name that a user has chosen cannot forge a line."""
    record = say(events.TasksOverridden(("a", "b\nc")))
    expected = (
        "the configuration declares tasks that were added at run time, and replaces them: a, b\\nc"
    )
    assert (record.levelname, record.getMessage()) == ("WARNING", f"{expected} [pid 123]")
    assert record.pulse_tasks == ("a", "b\nc")


def test_archived_tasks_are_logged_at_level_info(say: Say) -> None:
    """The line names the tasks."""
    record = say(events.TasksArchived(("a", "b\nc")))
    expected = "archived tasks that no live process has declared for three leases: a, b\\nc"
    assert (record.levelname, record.getMessage()) == ("INFO", f"{expected} [pid 123]")
    assert record.pulse_tasks == ("a", "b\nc")


def test_notice_is_a_warning_with_its_text(say: Say) -> None:
    """A percent sign in the text is not a placeholder."""
    record = say(events.Notice("100% here"))
    assert (record.levelname, record.getMessage()) == ("WARNING", "100% here")


def test_failed_start_is_one_error(say: Say) -> None:
    """Several problems are joined in one line."""
    record = say(events.StartFailed("lease: expected x\ndrain: expected y"))
    text = "the tasks of a PulseMiddleware cannot run in this process [pid 123]"
    expected = f"{text}: lease: expected x; drain: expected y"
    assert (record.levelname, record.getMessage()) == ("ERROR", expected)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(ended(status=200), id="ended"),
        pytest.param(events.RunClaimed(make_claim()), id="claimed"),
        pytest.param(events.TickSkipped(make_claim().run), id="skipped"),
    ],
)
def test_disabled_level_formats_no_line(
    bus: events.EventBus,
    event: events.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The level is checked before a text is made."""
    caplog.set_level(logging.WARNING, "pulse")
    formatted: list[object] = []
    for module in ("messages", "format"):
        monkeypatch.setattr(f"pulse.log.{module}.rfc3339", formatted.append)
    bus.emit(event)
    assert (formatted, caplog.records) == ([], [])


def test_every_event_has_a_listener(bus: events.EventBus) -> None:
    """A new event needs a line."""
    kinds = [kind for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__]
    assert [kind for kind in kinds if not bus.has_listeners(kind)] == []


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        (0, "0.0 ms"),
        (440, "0.4 ms"),
        (9_900, "9.9 ms"),
        (12_900, "12 ms"),
        (999_999, "999 ms"),
        (1_534_000, "1.53 s"),
        (125_400_000, "2m5s"),
        (90_061_000_000, "1d1h1m1s"),
    ],
)
def test_length_has_a_suitable_unit_and_precision(span: int, expected: str) -> None:
    """A longer length has larger units and fewer digits."""
    assert span_text(span) == expected


FAILING_RUN = """
import logging
from pulse.core.run import Claim, Outcome, Result, Run
from pulse.core.task import Task, build_definition
from pulse.events import EventBus, RunEnded
from pulse.log.messages import subscribe_log

bus = EventBus()
subscribe_log(bus)
run = Run(id="0" * 32, task="cleanup", fire_time=0)
claim = Claim(run, build_definition("cleanup", Task(action="x", interval=1)), 1)
bus.emit(RunEnded(claim, Result(Outcome.SUCCEEDED, 0, 1, 200)))
bus.emit(RunEnded(claim, Result(Outcome.FAILED, 0, 1, 500, "no such table")))
assert not logging.getLogger().handlers and not logging.getLogger("pulse").handlers
"""


def test_failures_are_written_to_stderr_without_a_logging_configuration() -> None:
    """Successes are not."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING_RUN], capture_output=True, text=True, check=True, timeout=30
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("pulse: cleanup 1970-01-01T00:00:00Z failed 500 in 0.0 ms")
    assert line.endswith("]: no such table")


CONFIGURED_RUNS = """
import io, logging.config
from pulse import PulseMiddleware, Task
from pulse.testing import travel

def app(environ, start_response):
    raise RuntimeError("boom")

def configure():
    {configure}

built = PulseMiddleware(app, tasks={{"cleanup": Task(action="/cleanup", interval="1m")}})
{before}
with travel(built) as clock:
    {after}
    clock.forward(minutes=1)
    assert [run.outcome for run in clock.runs()] == ["failed"]
"""
"""A site with one failing run, which configures logging before or after the scheduler starts."""

FILE_CONFIG = """[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
handlers ="""
CONFIGURE = {
    "dict": 'logging.config.dictConfig({"version": 1})',
    "root": 'logging.config.dictConfig({"version": 1, "root": {"level": "INFO", "handlers": []}})',
    "file": f"logging.config.fileConfig(io.StringIO({FILE_CONFIG!r}))",
    "keeping": 'logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})',
}


def stderr_of(configure: str, when: str) -> str:
    """Return the stderr of a site with one failing run."""
    calls = {"before": "pass", "after": "pass"} | {when: "configure()"}
    program = CONFIGURED_RUNS.format(configure=CONFIGURE[configure], **calls)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30
    )
    require(done.returncode == 0, f"a run that fails, got {done.stderr}")
    return done.stderr


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("configure", ["dict", "root", "file"])
def test_failure_shows_on_stderr_after_the_logger_was_disabled(configure: str, when: str) -> None:
    """The defaults of dictConfig and fileConfig disable the logger; stderr names the remedy."""
    stderr = stderr_of(configure, when)
    found = (
        stderr.count("cleanup 2026-01-05T12:01:00Z failed"),
        "disable_existing_loggers" in stderr,
    )
    assert found == (1, True)


@pytest.mark.parametrize("when", ["before", "after"])
def test_failure_shows_on_stderr_after_the_logger_was_kept(when: str) -> None:
    """No remedy is named."""
    stderr = stderr_of("keeping", when)
    assert stderr.count("cleanup 2026-01-05T12:01:00Z failed") == 1
    assert "disable_existing_loggers" not in stderr


def _passed(count: int, reason: str = OLDER_THAN_NEWEST) -> Run:
    run = make_claim().run
    return Run(
        id=run.id, task=run.task, fire_time=run.fire_time, count=count, attempt=0, message=reason
    )


def test_line_of_a_failed_attempt_has_the_instant_of_the_retry(say: Say) -> None:
    """The WARNING has the form of other lines."""
    result = Result(Outcome.FAILED, FIRE_TIME + 3_000, 12_345, 503, "busy")
    record = say(events.RunRetrying(make_claim(), result, FIRE_TIME + 5_250_000))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z failed 503 in 12 ms, 3.0 ms late, attempt 1,"
        " GET /sessions/cleanup; retried at 2026-11-23T07:00:05Z [pid 123]: busy"
    )
    assert record.pulse_retry_at == "2026-11-23T07:00:05.250000Z"


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ({"interval": 300}, "the next tick comes first"),
        ({"interval": None, "at": "2026-11-23"}, "that would be more than a day after its fire"),
    ],
    ids=["a tick follows", "none follows"],
)
def test_line_of_a_run_that_is_not_retried_has_the_reason(
    say: Say, schedule: dict[str, object], why: str
) -> None:
    """The task has set `retries`, so a user expects another attempt."""
    result = Result(Outcome.FAILED, FIRE_TIME + 3_000, 12_345, 503, "busy")
    record = say(events.RunEnded(make_claim(retries=3, **schedule), result))
    assert f"attempt 1, GET /sessions/cleanup; not retried: {why}" in record.getMessage()


@pytest.mark.parametrize(
    ("status", "attempt"), [(404, 1), (503, 4)], ids=["would fail again", "was the last attempt"]
)
def test_line_of_a_final_failure_has_no_reason(say: Say, status: int, attempt: int) -> None:
    """The status or the number of the attempt shows it."""
    result = Result(Outcome.FAILED, FIRE_TIME + 3_000, 12_345, status, "busy")
    record = say(events.RunEnded(make_claim(retries=3, attempt=attempt), result))
    assert "retried" not in record.getMessage()


def test_expired_retry_is_a_warning(say: Say) -> None:
    """The line has the outcome, and the reason."""
    run = msgspec.structs.replace(
        make_claim().run, outcome=Outcome.FAILED, status=503, message="busy"
    )
    record = say(events.RetryExpired(run))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z failed 503, attempt 1, and was not retried:"
        " no process was free before the next tick [pid 123]"
    )
    assert (record.pulse_outcome, record.pulse_status) == ("failed", 503)


def test_retry_that_no_worker_takes_is_a_warning(say: Say) -> None:
    """The line has the beginning of the message, which is the reason."""
    run = msgspec.structs.replace(
        make_claim().run,
        outcome=Outcome.ABANDONED,
        message="attempt 2: no worker took it within 5m (queue pulse)\nthe process is gone",
    )
    assert say(events.RetryExpired(run)).getMessage() == (
        "cleanup 2026-11-23T07:00:00Z abandoned, attempt 1, and was not retried: no worker took it"
        " within 5m (queue pulse); is a worker running that reads this queue? [pid 123]"
    )
