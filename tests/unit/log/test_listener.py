"""What the log says of each event, and at which level."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse import events
from pulse.core.planner import OLDER_THAN_NEWEST, RUN_UNFINISHED, delay_of
from pulse.core.run import Claim, Outcome, Result, Run, Trigger
from pulse.core.run_transitions import abandon_run, requeue_run
from pulse.log.format import result_text, span_text
from pulse.log.listener import subscribe_claims, subscribe_log
from pulse.store.rules import HOLDER_GONE, LEASE_OVER
from pulse.testing.clock import FakeClock
from tests.support.claims import FIRE_TIME, make_claim
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable

    Say = Callable[[events.Event], logging.LogRecord]

issue_11 = pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 11")


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
    """A bus with the log listener on it, where somebody debugs."""
    caplog.set_level(logging.DEBUG, "pulse")
    bus = events.EventBus()
    subscribe_log(bus, clock)
    subscribe_claims(bus)
    return bus


def test_claims_are_listened_to_only_where_somebody_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There are as many as ticks, and elsewhere none of them is made for the log."""
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


def test_a_success_is_one_readable_line(say: Say) -> None:
    """Task, fire time, outcome, status, duration, lateness, worker."""
    record = say(ended(status=200, message="deleted 3"))
    assert (record.levelname, record.name) == ("INFO", "pulse")
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z succeeded 200 in 12 ms, 3.0 ms late [pid 123]"
    )


def test_attempt_and_trigger_are_told_where_they_are_not_the_usual(say: Say) -> None:
    """The first try on schedule goes without saying."""
    record = say(ended(status=200, attempt=2, trigger=Trigger.MANUAL))
    assert record.getMessage().endswith("3.0 ms late, attempt 2, manual [pid 123]")


def test_a_run_that_began_before_its_time_is_early(say: Say) -> None:
    """The clocks of two hosts may disagree."""
    assert "3.0 ms early" in say(ended(status=200, late=-3_000)).getMessage()


JITTERED = {"interval": 600, "jitter": 600}
JITTER = delay_of("cleanup", FIRE_TIME, below=600_000_000)


def test_a_run_is_not_late_by_its_jitter(say: Say) -> None:
    """The delay was wanted: it is told beside the lateness, and there for JSON loggers."""
    result = Result(Outcome.SUCCEEDED, FIRE_TIME + JITTER + 3_000, 12_345, 200)
    record = say(events.RunEnded(make_claim(**JITTERED), result))
    assert record.getMessage().endswith(
        f"3.0 ms late after a jitter of {span_text(JITTER)} [pid 123]"
    )
    assert record.pulse_jitter_ms == JITTER / 1_000
    assert record.pulse_lateness_ms == JITTER / 1_000 + 3


def test_a_manual_run_has_no_jitter(say: Say) -> None:
    """It is due when it is asked for."""
    claim = make_claim(**JITTERED)
    manual = msgspec.structs.replace(claim.run, scheduled_for=None)
    result = Result(Outcome.SUCCEEDED, FIRE_TIME + 3_000, 12_345, 200)
    record = say(events.RunEnded(Claim(manual, claim.definition, claim.good_until), result))
    assert "3.0 ms late [pid" in record.getMessage()


def test_json_loggers_find_the_facts_in_the_record(say: Say) -> None:
    """Each attribute begins with pulse_."""
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
def test_any_other_end_is_a_warning(say: Say, outcome: Outcome) -> None:
    """It says how the run ended and what it said."""
    record = say(ended(outcome, message="words"))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"cleanup 2026-11-23T07:00:00Z {outcome.value} in 12 ms, 3.0 ms late, "
        "GET /sessions/cleanup [pid 123]: words"
    )


def test_a_traceback_is_whole_and_its_last_line_first(say: Say) -> None:
    """What went wrong is in the line itself; where, below it."""
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no'
    record = say(ended(Outcome.FAILED, message=traceback))
    assert record.getMessage().splitlines() == [
        f"{LATE} failed in 12 ms, 3.0 ms late, GET /sessions/cleanup [pid 123]: ValueError: no",
        "    Traceback (most recent call last):",
        '      File "a.py", line 1',
        "    ValueError: no",
    ]


def test_the_traceback_of_a_group_is_told_too() -> None:
    """All its lines are indented."""
    text = "  + Exception Group Traceback (most recent call last):\n  | ExceptionGroup: two"
    assert result_text(Result(Outcome.FAILED, 0, 0, None, text)).startswith(
        ":   | ExceptionGroup: two\n"
    )


def test_of_a_body_the_first_lines_are_told() -> None:
    """An error page is long, and mostly empty lines."""
    body = "\n\n".join(f"line {number}" for number in range(40))
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, body)).splitlines() == [
        ": line 0",
        "    line 1",
        "    line 2",
        "    line 3",
        "    line 4",
    ]


def test_of_an_html_page_the_title_is_told() -> None:
    """An error page of a framework says in its title what it says at all."""
    page = "<!doctype html>\n<html lang=en>\n<title>500 Internal\n Server Error</title>\n<p>Sorry"
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, page)) == ": 500 Internal Server Error"


def test_of_a_page_without_a_title_the_first_lines_are_told() -> None:
    """Whatever a page begins with is better than nothing."""
    assert (
        result_text(Result(Outcome.FAILED, 0, 0, 500, "<h1>Bad Request</h1>"))
        == ": <h1>Bad Request</h1>"
    )


def test_a_long_line_of_a_body_is_cut() -> None:
    """Minified pages are one line."""
    assert len(result_text(Result(Outcome.FAILED, 0, 0, 500, "x" * 2_000))) < 500


@pytest.mark.parametrize("message", ["", " \n "], ids=["none", "blank"])
def test_a_body_without_words_adds_none(message: str) -> None:
    """There is nothing to tell."""
    assert result_text(Result(Outcome.FAILED, 0, 0, 500, message)).strip(": ") == ""


def test_no_reply_can_forge_a_line_or_move_the_cursor() -> None:
    """Lines after the first are indented, and control characters are spelt."""
    text = result_text(Result(Outcome.FAILED, 0, 0, 500, "a\r2026 INFO forged\x1b[2J\n"))
    assert text == ": a\n    2026 INFO forged\\x1b[2J"


def test_a_claimed_run_is_told_to_those_who_debug(say: Say) -> None:
    """What began and has not ended can be found."""
    record = say(events.RunClaimed(make_claim()))
    assert record.levelname == "DEBUG"
    assert record.getMessage() == "cleanup 2026-11-23T07:00:00Z claimed, attempt 1 [pid 123]"


def test_an_overdue_run_is_a_warning(say: Say) -> None:
    """It says which timeout passed, and how many such runs there are."""
    record = say(events.RunOverdue(make_claim(timeout="90s"), 2))
    assert record.levelname == "WARNING"
    assert "past its timeout of 1m30s and continues" in record.getMessage()
    assert record.pulse_left_behind == 2


@pytest.mark.parametrize("reason", [HOLDER_GONE, LEASE_OVER])
@pytest.mark.parametrize(("attempt", "end"), [(1, ""), (2, ", attempt 2")])
def test_an_abandoned_run_is_a_warning(say: Say, attempt: int, end: str, reason: str) -> None:
    """It says why, and names the holder."""
    held = msgspec.structs.replace(make_claim(attempt=attempt).run, holder="h:1:n")
    record = say(events.RunAbandoned(abandon_run(held, reason)))
    assert record.levelname == "WARNING"
    assert record.getMessage() == (f"cleanup 2026-11-23T07:00:00Z abandoned: {reason}, h:1:n{end}")


def test_an_abandoned_run_that_runs_again_says_why(say: Say) -> None:
    """The reason is that of its last attempt, whose holder nobody knows any more."""
    held = msgspec.structs.replace(make_claim().run, holder="h:1:n")
    record = say(events.RunAbandoned(requeue_run(held, LEASE_OVER, FIRE_TIME)))
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z abandoned: its holder did not renew the lease"
    )


def test_an_abandoned_run_without_a_reason_is_told_all_the_same(say: Say) -> None:
    """A store of somebody else may give none."""
    record = say(events.RunAbandoned(make_claim().run))
    assert record.getMessage().endswith("abandoned: its holder is lost")


def test_a_lost_claim_is_a_warning(say: Say) -> None:
    """The run's end is told although the store refused it."""
    event = ended(status=200)
    record = say(events.ClaimLost(event.claim, event.result))
    assert record.levelname == "WARNING"
    assert "succeeded 200 in 12 ms" in record.getMessage()
    assert "its claim was lost" in record.getMessage()


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 fire time passed"), (12, "12 fire times from then on passed")]
)
def test_missed_ticks_are_one_warning_with_their_count(say: Say, count: int, words: str) -> None:
    """The fire time is that of the oldest."""
    record = say(events.TickMissed(_passed(count)))
    assert (record.levelname, record.pulse_count) == ("WARNING", count)
    assert record.getMessage() == (
        f"cleanup 2026-11-23T07:00:00Z missed: {words} with nobody to run it in time"
    )


def test_an_overload_is_told_in_a_few_lines_a_minute(
    bus: events.EventBus, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand overloaded tasks make ten lines and one that says so, and again a minute later."""
    caplog.set_level(logging.INFO, "pulse")
    missed = events.TickMissed(make_claim().run)
    for _ in range(2):
        for _ in range(1_000):
            bus.emit(missed)
        clock.forward(60)
    assert len(caplog.records) == 22
    assert caplog.messages[10] == caplog.messages[21]
    assert caplog.messages[10].startswith("more than 10 missed ticks")


def test_what_an_overload_leaves_out_is_there_for_who_debugs(
    bus: events.EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG there is a line for each."""
    caplog.set_level(logging.DEBUG, "pulse")
    missed = events.TickMissed(make_claim().run)
    for _ in range(12):
        bus.emit(missed)
    assert sum("cleanup" in message for message in caplog.messages) == 12


def test_skipped_ticks_are_told_at_info(say: Say) -> None:
    """Overlap is the task's own policy."""
    record = say(events.TickSkipped(_passed(1, RUN_UNFINISHED)))
    assert (record.levelname, record.pulse_outcome) == ("INFO", "skipped")
    assert "skipped: 1 fire time found an earlier run still going" in record.getMessage()


def test_skips_in_a_row_say_that_they_are_counted_together(say: Say) -> None:
    """Each of them has a line, with the fire time of the first and the number so far."""
    record = say(events.TickSkipped(_passed(3, RUN_UNFINISHED)))
    assert record.getMessage() == (
        "cleanup 2026-11-23T07:00:00Z skipped: so far 3 fire times in a row found an earlier run"
        " still going"
    )


def test_a_store_outage_is_an_error(say: Say) -> None:
    """Nothing runs while it lasts."""
    record = say(events.StoreUnavailable("disk I/O error"))
    assert record.levelname == "ERROR"
    assert record.getMessage().endswith("nothing runs until it does [pid 123]: disk I/O error")


def test_the_end_of_an_outage_is_told_at_info(say: Say) -> None:
    """With how long it took."""
    record = say(events.StoreRecovered(125_000_000))
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "the store answers again after 2m5s [pid 123]",
    )


@pytest.mark.parametrize(("task", "words"), [("", "error"), ("cleanup", "error with task cleanup")])
def test_a_failed_step_is_an_error_with_its_traceback(say: Say, task: str, words: str) -> None:
    """The task is named where it is known."""
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
def test_the_start_says_how_far_once_reaches(say: Say, tasks: int, reach: str, words: str) -> None:
    """One line at INFO."""
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
def test_the_start_says_under_which_name(
    say: Say, *, name: str, chosen: bool, reach: str, words: str
) -> None:
    """Or that there is none, where it alone would tell applications apart."""
    started = events.SchedulerStarted("h:1:n", "gevent", "x", reach, 1, name=name, chosen=chosen)
    record = say(started)
    assert words in record.getMessage()
    assert record.pulse_name == name


@pytest.mark.parametrize(
    ("interrupted", "level", "words"),
    [
        (0, "INFO", "stopped [pid 123]"),
        (2, "WARNING", "stopped; runs that did not end in time: 2 [pid 123]"),
    ],
)
def test_a_stop_that_cost_runs_is_a_warning(
    say: Say, interrupted: int, level: str, words: str
) -> None:
    """One that cost none is not, and counts nothing."""
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
def test_differing_configurations_are_told_at_info(
    say: Say, tasks: tuple[str, ...], name: str, words: str
) -> None:
    """They are normal in a rolling deploy."""
    record = say(events.DefinitionsSuperseded(tasks, name))
    assert (record.levelname, record.pulse_tasks) == ("INFO", tasks)
    assert record.getMessage().endswith(words)


def test_differing_configurations_without_a_name_are_a_warning(say: Say) -> None:
    """Another application that has none either would be taken for this one."""
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
def test_processes_that_disagree_are_named(say: Say, holders: tuple[str, ...], line: str) -> None:
    """As in a rolling deploy, and so is its end."""
    record = say(events.ConfigMismatch(holders))
    assert (record.levelname, record.getMessage().endswith(line)) == ("INFO", True)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (events.TasksChanged(("a", "b")), "definitions changed: a, b [pid 123]"),
        (events.TaskAdded("b\nc", replace=False), "added at run time: b\\nc [pid 123]"),
        (events.TaskAdded("a", replace=True), "added or replaced at run time: a [pid 123]"),
        (events.TaskRemoved("b\nc"), "removed at run time: b\\nc [pid 123]"),
    ],
    ids=["changed", "added", "replaced", "removed"],
)
def test_what_becomes_of_a_definition_is_told_at_info(
    say: Say, event: events.Event, line: str
) -> None:
    """By the process that does it; a name that a user has made cannot forge a line."""
    record = say(event)
    assert (record.levelname, record.getMessage()) == ("INFO", line)


def test_a_name_that_was_taken_is_a_warning(say: Say) -> None:
    """Somebody has added it, and it is no more; the name cannot forge a line."""
    record = say(events.TasksOverridden(("a", "b\nc")))
    expected = (
        "the configuration declares tasks that were added at run time, and replaces them: a, b\\nc"
    )
    assert (record.levelname, record.getMessage()) == ("WARNING", f"{expected} [pid 123]")
    assert record.pulse_tasks == ("a", "b\nc")


def test_tasks_that_are_put_away_are_named(say: Say) -> None:
    """At INFO: it is the usual end of a task, and shows one that was forgotten."""
    record = say(events.TasksArchived(("a", "b\nc")))
    expected = "archived tasks that no live process has declared for three leases: a, b\\nc"
    assert (record.levelname, record.getMessage()) == ("INFO", f"{expected} [pid 123]")
    assert record.pulse_tasks == ("a", "b\nc")


def test_a_notice_is_a_warning_in_its_own_words(say: Say) -> None:
    """A percent sign in it is only that."""
    record = say(events.Notice("100% here"))
    assert (record.levelname, record.getMessage()) == ("WARNING", "100% here")


def test_a_start_that_failed_is_one_error(say: Say) -> None:
    """On one line, however many things are wrong."""
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
def test_nothing_is_spelt_for_a_line_that_nobody_reads(
    bus: events.EventBus,
    event: events.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The level is asked before any text is made."""
    caplog.set_level(logging.WARNING, "pulse")
    spelt: list[object] = []
    for module in ("listener", "format"):
        monkeypatch.setattr(f"pulse.log.{module}.rfc3339", spelt.append)
    bus.emit(event)
    assert (spelt, caplog.records) == ([], [])


def test_every_kind_of_event_is_heard(bus: events.EventBus) -> None:
    """An event that is added must be given a line."""
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
def test_lengths_are_spelt_for_people(span: int, expected: str) -> None:
    """With no more digits than anybody reads."""
    assert span_text(span) == expected


FAILING_RUN = """
import logging
from pulse.core.run import Claim, Outcome, Result, Run
from pulse.core.task import Task, build_definition
from pulse.events import EventBus, RunEnded
from pulse.log.listener import subscribe_log

bus = EventBus()
subscribe_log(bus)
run = Run(id="0" * 32, task="cleanup", fire_time=0)
claim = Claim(run, build_definition("cleanup", Task(action="x", interval=1)), 1)
bus.emit(RunEnded(claim, Result(Outcome.SUCCEEDED, 0, 1, 200)))
bus.emit(RunEnded(claim, Result(Outcome.FAILED, 0, 1, 500, "no such table")))
assert not logging.getLogger().handlers and not logging.getLogger("pulse").handlers
"""


def test_failures_show_on_stderr_where_no_logging_is_set_up() -> None:
    """Nothing is installed for that, and successes are silent."""
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


@issue_11
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


def test_an_attempt_that_is_retried_says_when(say: Say) -> None:
    """A WARNING in the form of the other lines, with the attempt and the instant of the next."""
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
def test_a_run_that_might_have_been_retried_says_why_not(
    say: Say, schedule: dict[str, object], why: str
) -> None:
    """Whoever has set `retries` waits for another attempt."""
    result = Result(Outcome.FAILED, FIRE_TIME + 3_000, 12_345, 503, "busy")
    record = say(events.RunEnded(make_claim(retries=3, **schedule), result))
    assert f"attempt 1, GET /sessions/cleanup; not retried: {why}" in record.getMessage()


@pytest.mark.parametrize(
    ("status", "attempt"), [(404, 1), (503, 4)], ids=["would fail again", "was the last attempt"]
)
def test_a_failure_that_no_retry_mends_gives_no_reason(say: Say, status: int, attempt: int) -> None:
    """It is plain from the status and the number of the attempt."""
    result = Result(Outcome.FAILED, FIRE_TIME + 3_000, 12_345, status, "busy")
    record = say(events.RunEnded(make_claim(retries=3, attempt=attempt), result))
    assert "retried" not in record.getMessage()


def test_a_run_that_nobody_retried_is_a_warning(say: Say) -> None:
    """It says how the run ended, and why it was not tried again."""
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
