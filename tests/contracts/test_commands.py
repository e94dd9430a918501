"""The commands that work on a store: what they print, as text and as JSON, and how they end."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pulse.cli.main import main
from pulse.clock import SECOND, instant_of, rfc3339
from pulse.core.run import Outcome
from pulse.core.task import Task
from pulse.store.steering import Pause
from tests.contracts.suite.store_accounts import delete_run
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.stores import SHARED
from tests.support.terminal import at_terminal, watched_at_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pulse.core.run import Claim
    from tests.contracts.suite.store_harness import Fleet, Process

SELF_CONTAINED = re.compile(r"<script|<link|<img|src=|href=|url\(")
"""What a page in a file of its own has none of."""

REPORT = Task(action="/report", cron="0 3 29 2 *")
"""A task that is not due while a test runs."""

pytestmark = pytest.mark.parametrize("fleet", SHARED, indirect=True)


@pytest.fixture
def process(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Process:
    """Return a process of a fleet whose clock is that of the commands, with two runs."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("PULSE_STORE", raising=False)
    behind = instant_of(datetime.now(UTC)) - fleet.clock.wall()
    fleet.clock.forward(behind / SECOND - 60)
    process = fleet.join({"work": make_task(), "report": REPORT})
    for outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
        fleet.clock.forward(EVERY)
        process.finish(process.claim_one(), outcome=outcome)
    process.store.heartbeat()
    return process


@pytest.fixture
def pulse(
    fleet: Fleet, process: Process, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command on the store: its exit status and its output."""
    assert process

    def run(*words: str) -> tuple[int, str]:
        status = main([*words, "--store", fleet.url])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


@pytest.fixture
def pulse_json(pulse: Callable[..., tuple[int, str]]) -> Callable[..., tuple[int, Any]]:
    """Return a function that runs a command with `--json`: its exit status and its document."""

    def run(*words: str) -> tuple[int, Any]:
        status, printed = pulse(*words, "--json")
        document = json.loads(printed)
        assert document.pop("schema") == 1
        return status, document

    return run


def rows(printed: str) -> list[dict[str, str]]:
    """Return the rows of tab-separated text, by the heads of their columns."""
    listed = [line for line in printed.splitlines() if not line.startswith("pulse: ")]
    heads, *lines = (line.split("\t") for line in listed)
    return [dict(zip(heads, line, strict=True)) for line in lines]


def claim_report(fleet: Fleet, process: Process) -> Claim:
    """Return the claim of the run that was triggered."""
    fleet.clock.forward(60)
    [claim] = [one for one in process.claim().claims if one.run.task == "report"]
    return claim


def test_tasks_are_listed_with_schedule_state_and_last_run(
    pulse: Callable[..., tuple[int, str]], pulse_json: Callable[..., tuple[int, Any]]
) -> None:
    """One line for each task, and all that is known about it as JSON."""
    status, printed = pulse("tasks")
    report, work = rows(printed)
    assert (status, report["task"], report["schedule"]) == (0, "report", "cron 0 3 29 2 *")
    assert (work["task"], work["last"], work["failures"]) == ("work", "failed", "1")
    status, document = pulse_json("tasks", "work")
    [task] = document["tasks"]
    assert (task["name"], task["schedule"], task["failures"]) == ("work", {"interval": "10s"}, 1)
    assert task["last_success"] is not None


def test_task_is_running_only_while_a_process_has_its_run(
    fleet: Fleet, process: Process, pulse: Callable[..., tuple[int, str]]
) -> None:
    """A run that waits for a free process has not begun."""
    fleet.clock.forward(EVERY)
    process.claim_one()
    assert pulse("trigger", "report")[0] == 0
    states = {one["task"]: one["state"] for one in rows(pulse("tasks")[1])}
    assert states == {"work": "running", "report": "waiting"}


def test_unknown_task_ends_with_3_and_names_the_nearest(
    pulse: Callable[..., tuple[int, str]],
) -> None:
    """Whatever the command does with it."""
    for words in (
        ["tasks", "wrok"],
        ["runs", "wrok"],
        ["trigger", "wrok"],
        ["pause", "wrok"],
        ["resume", "wrok"],
        ["why", "wrok", "2026-11-28T03:00"],
        ["ledger", "wrok"],
    ):
        status, printed = pulse(*words)
        assert (status, "wrok" in printed) == (3, True), words
    assert "did you mean 'work'" in pulse("tasks", "wrok")[1]


def test_runs_are_filtered_and_one_is_shown_by_the_first_digits_of_its_id(
    pulse: Callable[..., tuple[int, str]], pulse_json: Callable[..., tuple[int, Any]]
) -> None:
    """The listing has the digits that `show` accepts."""
    newest, oldest = rows(pulse("runs")[1])
    assert (newest["state"], oldest["state"]) == ("failed", "succeeded")
    [failed] = rows(pulse("runs", "--failed")[1])
    assert failed == newest
    assert rows(pulse("runs", "work", "--outcome", "succeeded")[1]) == [oldest]
    assert pulse("runs", "report") == (0, "no runs\n")
    status, printed = pulse("show", newest["run"])
    assert status == 0
    assert ["state", "failed"] in [line.split() for line in printed.splitlines()]
    _, document = pulse_json("show", newest["run"])
    assert document["run"]["id"].startswith(newest["run"])
    assert document["run"]["took"] == 0.005
    assert pulse("show", "0" * 32)[0] == 3
    assert pulse("show", "")[0] == 3


def test_listing_continues_at_its_cursor(pulse_json: Callable[..., tuple[int, Any]]) -> None:
    """The cursor is a text, and null at the end."""
    _, first = pulse_json("runs", "--limit", "1")
    _, second = pulse_json("runs", "--limit", "1", "--before", first["cursor"])
    assert [one["runs"][0]["state"] for one in (first, second)] == ["failed", "succeeded"]
    assert second["cursor"] is None


def test_trigger_makes_a_run_and_is_refused_with_5_while_it_is_unfinished(
    pulse: Callable[..., tuple[int, str]],
    pulse_json: Callable[..., tuple[int, Any]],
    fleet: Fleet,
    process: Process,
) -> None:
    """The audit names who asked, by default the user."""
    status, document = pulse_json("trigger", "report", "--by", "ann", "--body", "today")
    assert (status, document["run"]["trigger"]) == (0, "manual")
    status, printed = pulse("trigger", "report")
    assert (status, "overlap permits no other" in printed) == (5, True)
    [refused, asked] = rows(pulse("audit")[1])
    assert (asked["verb"], asked["by"], refused["by"] != "") == ("trigger", "ann", True)
    assert claim_report(fleet, process).run.body == b"today"
    assert pulse("trigger", "report", "--wait", "10ms")[0] == 5


def test_trigger_that_waits_ends_as_the_run_does(
    pulse: Callable[..., tuple[int, str]], fleet: Fleet, process: Process
) -> None:
    """With 124 if the time is over before."""
    assert pulse("trigger", "report", "--wait", "10ms")[0] == 124
    claim = claim_report(fleet, process)
    process.finish(claim, outcome=Outcome.FAILED)
    status, printed = pulse("show", claim.run.id)
    assert (status, "failed" in printed) == (0, True)


def test_task_is_paused_with_a_note_and_resumed(
    pulse: Callable[..., tuple[int, str]], pulse_json: Callable[..., tuple[int, Any]]
) -> None:
    """Until a time, or for a duration."""
    status, printed = pulse("pause", "work", "--for", "2h", "--note", "release 7", "--by", "ann")
    assert (status, printed.startswith("paused: work until 20")) == (0, True)
    _, document = pulse_json("tasks", "work")
    pause = document["tasks"][0]["pause"]
    assert (pause["by"], pause["note"], pause["until"] is not None) == ("ann", "release 7", True)
    assert rows(pulse("tasks")[1])[1]["state"].startswith("paused until ")
    assert pulse("resume", "work") == (0, "resumed: work\n")
    assert [one["verb"] for one in rows(pulse("audit")[1])] == ["resume", "pause"]


def test_all_tasks_are_paused_beside_the_pauses_of_single_ones(
    pulse: Callable[..., tuple[int, str]],
) -> None:
    """The end of the pause of all names those that stay paused."""
    pulse("pause", "work")
    pulse("pause", "--all", "--note", "move of the database")
    states = {one["state"] for one in rows(pulse("tasks")[1])}
    assert all(state.startswith("paused") for state in states)
    status, printed = pulse("resume", "work")
    assert (status, "all tasks are paused" in printed) == (0, True)
    pulse("pause", "work")
    status, printed = pulse("resume", "--all")
    assert (status, printed.splitlines()[1]) == (0, "still paused by their own names: work")


def test_pending_run_is_stopped(pulse: Callable[..., tuple[int, str]], process: Process) -> None:
    """It ends at once; one that has ended stays as it is."""
    run = process.store.trigger("report")
    assert run is not None
    status, printed = pulse("stop", run.id, "--note", "not today")
    assert (status, printed) == (0, f"run {run.id}: interrupted\n")
    assert pulse("stop", run.id)[1] == f"run {run.id} has ended already: interrupted\n"


def test_why_explains_a_fire_time_and_a_time_without_one(
    pulse: Callable[..., tuple[int, str]],
    pulse_json: Callable[..., tuple[int, Any]],
    process: Process,
) -> None:
    """A time to the minute stands for the whole minute."""
    [state] = [one for one in process.store.tasks() if one.name == "work"]
    assert state.last_decided is not None
    status, document = pulse_json("why", "work", rfc3339(state.last_decided))
    [found] = document["why"]
    assert (status, found["kind"], found["run"]["state"]) == (0, "ran", "failed")
    _, printed = pulse("why", "report", rfc3339(state.last_decided))
    assert "not a fire time" in printed
    minute = rfc3339(state.last_decided)[:16]
    _, document = pulse_json("why", "work", minute)
    assert len(document["why"]) >= 1


def test_ledger_accounts_for_the_fire_times_and_ends_with_1_if_one_is_lost(
    pulse: Callable[..., tuple[int, str]],
    pulse_json: Callable[..., tuple[int, Any]],
    process: Process,
) -> None:
    """A row is deleted by hand."""
    status, document = pulse_json("ledger", "work")
    [ledger] = document["ledger"]
    assert (status, ledger["ran"], ledger["unexplained"]) == (0, 2, 0)
    [newest, *_] = rows(pulse("runs", "work")[1])
    _, shown = pulse_json("show", newest["run"])
    delete_run(process, shown["run"]["id"])
    status, document = pulse_json("ledger", "work", "--for", "1h")
    assert (status, document["ledger"][0]["unexplained"]) == (1, 1)
    status, printed = pulse("ledger")
    assert status == 1
    assert {one["task"]: one["unexplained"] for one in rows(printed)} == {
        "report": "0",
        "work": "1",
    }
    assert "pulse: 1 fire times" not in printed  # the total has another number
    assert "1 unexplained" in printed


def test_fleet_is_listed_with_what_its_processes_say(
    pulse: Callable[..., tuple[int, str]], pulse_json: Callable[..., tuple[int, Any]]
) -> None:
    """Slots used and free, lag, and the release of pulse."""
    status, printed = pulse("fleet")
    [row] = rows(printed)
    assert (status, row["host"], row["slots"], row["pulse"]) == (0, "alpha", "2/10", "1.0")
    _, document = pulse_json("fleet")
    assert document["members"][0]["lag"] == 0.003


def test_store_that_is_named_by_the_environment_is_used(
    fleet: Fleet,
    process: Process,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As in a shell of the person on call."""
    assert process
    monkeypatch.setenv("PULSE_STORE", fleet.url)
    assert main(["tasks"]) == 0
    assert [one["task"] for one in rows(capsys.readouterr().out)] == ["report", "work"]


def test_what_a_name_holds_moves_no_cursor_of_the_terminal(
    pulse: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Control characters are printed as text."""
    process.store.pause("work", Pause(by="\x1b[2J", note="a\tb\nc"))
    [entry] = rows(pulse("audit")[1])
    assert (entry["by"], entry["note"]) == ("\\x1b[2J", "a\\tb\\nc")


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("tasks",),
    ("runs",),
    ("show", "RUN"),
    ("fleet",),
    ("audit",),
    ("why", "work", "2026-11-28T03:00"),
    ("ledger",),
    ("trigger", "report"),
    ("pause", "work"),
    ("resume", "work"),
    ("stop", "RUN"),
    ("prune", "--older", "1s", "-y"),
)


def test_every_command_answers_at_a_terminal(fleet: Fleet, process: Process) -> None:
    """As a table or in sentences: without a tab."""
    newest, *_ = process.store.runs()
    for words in COMMANDS:
        named = [newest.id if word == "RUN" else word for word in words]
        printed, status = at_terminal([*named, "--store", fleet.url], NO_COLOR="1")
        assert status == 0, printed
        assert "\t" not in printed, words
        assert re.search(r"\w", printed), words


def test_every_command_ends_with_4_while_the_store_is_away(
    fleet: Fleet, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """With one line that says why, and nothing else."""
    away = {
        "sqlite": "sqlite:////nowhere/at/all.db",
        "postgresql": "postgresql://nobody@127.0.0.1:1/none",
        "redis": "redis://127.0.0.1:1",
    }[fleet.url.partition(":")[0]]
    assert process
    for words in COMMANDS:
        named = ["0" * 32 if word == "RUN" else word for word in words]
        assert main([*named, "--store", away]) == 4, words
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("error: "), words
        assert "Traceback" not in printed.err


def test_body_of_a_trigger_comes_from_a_file(
    pulse: Callable[..., tuple[int, str]], fleet: Fleet, process: Process, tmp_path: Path
) -> None:
    """Two bodies, and a file that cannot be read, are errors before anything is triggered."""
    file = tmp_path / "body"
    file.write_bytes(b"\x00day")
    assert pulse("trigger", "report", "--body", "x", "--body-file", str(file))[0] == 2
    assert pulse("trigger", "report", "--body-file", str(tmp_path / "gone"))[0] == 2
    assert pulse("trigger", "report", "--body-file", str(file))[0] == 0
    assert claim_report(fleet, process).run.body == b"\x00day"


def test_stop_of_a_run_that_goes_on_ends_with_124(
    pulse: Callable[..., tuple[int, str]], fleet: Fleet, process: Process
) -> None:
    """The request stays, and its process reads it with the next heartbeat."""
    process.store.trigger("report")
    claim = claim_report(fleet, process)
    status, printed = pulse("stop", claim.run.id[:10], "--wait", "10ms", "--by", "ann")
    assert (status, printed.startswith("asked, and still in progress")) == (124, True)
    assert process.store.heartbeat().stops[claim.run.id].by == "ann"


def test_task_that_is_not_in_use_any_more_is_accounted_for(
    pulse_json: Callable[..., tuple[int, Any]], fleet: Fleet, process: Process
) -> None:
    """Its records outlive it."""
    process.add("extra", make_task())
    fleet.clock.forward(EVERY)
    [claim] = [one for one in process.claim().claims if one.run.task == "extra"]
    process.finish(claim)
    process.store.remove("extra")
    status, document = pulse_json("why", "extra", rfc3339(claim.run.fire_time))
    assert (status, document["why"][0]["kind"]) == (0, "ran")
    status, document = pulse_json("ledger", "extra")
    assert (status, document["ledger"][0]["ran"]) == (0, 1)


def test_prune_deletes_old_runs_by_age_task_and_outcome(
    pulse: Callable[..., tuple[int, str]],
    pulse_json: Callable[..., tuple[int, Any]],
    process: Process,
) -> None:
    """A dry run counts them; the audit trail has who asked; the ledger accounts for them."""
    assert pulse("prune", "--dry-run") == (0, "0 runs older than 30d would be deleted\n")
    dry = pulse_json("prune", "--older", "1s", "--dry-run")
    assert dry == (0, {"runs": 2, "dry_run": True})
    status, printed = pulse("prune", "work", "--older", "1s", "--outcome", "failed", "-y")
    assert (status, printed) == (0, "1 failed runs of work older than 1s deleted\n")
    assert [run.outcome for run in process.store.runs()] == [Outcome.SUCCEEDED]
    assert pulse("prune", "--older", "1s", "-y", "--by", "ann")[0] == 0
    assert process.store.runs() == []
    entry = process.store.audit()[0]
    assert (entry.verb, entry.by, entry.note) == ("prune", "ann", "runs older than 1s")
    status, document = pulse_json("ledger", "work")
    [ledger] = document["ledger"]
    assert (status, ledger["unexplained"], ledger["ran"]) == (0, 0, 2)


def test_prune_without_a_terminal_has_to_be_confirmed(
    pulse: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Nobody is asked, and nothing is deleted."""
    status, printed = pulse("prune", "--older", "1s")
    assert (status, "expected -y to confirm the deletion" in printed) == (2, True)
    assert len(process.store.runs()) == 2


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 2), ("", 2)])
def test_prune_asks_at_a_terminal(fleet: Fleet, process: Process, answer: str, left: int) -> None:
    """It says how many runs; anything but yes deletes nothing."""
    words = ["prune", "--older", "1s", "--store", fleet.url]
    printed, status = at_terminal(words, answer=f"{answer}\n")
    assert "delete 2 runs older than 1s? [y/N]" in printed
    assert status == (1 if left else 0)
    assert len(process.store.runs()) == left


def test_health_ends_as_monitoring_plugins_do(
    pulse: Callable[..., tuple[int, str]],
    pulse_json: Callable[..., tuple[int, Any]],
    fleet: Fleet,
    process: Process,
) -> None:
    """0 if all is well, 1 with warnings, 2 if the schedule is not kept or the store is away."""
    status, document = pulse_json("health")
    assert (status, document["health"]["status"]) == (1, "warn")
    [problem] = document["health"]["problems"]
    assert (problem["kind"], problem["task"]) == ("failing", "work")
    fleet.clock.forward(EVERY)
    process.finish(process.claim_one())
    status, printed = pulse("health")
    assert (status, printed) == (0, "pass: 2 tasks, 1 process\n")
    process.store.close()
    status, printed = pulse("health")
    assert (status, "nobody serves" in printed) == (2, True)


def test_health_of_a_store_that_is_away_ends_with_2(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Probes do not know 4."""
    away = {
        "sqlite": "sqlite:////nowhere/at/all.db",
        "postgresql": "postgresql://nobody@127.0.0.1:1/none",
        "redis": "redis://127.0.0.1:1",
    }[fleet.url.partition(":")[0]]
    assert main(["health", "--store", away]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err


def test_watch_shows_the_store_live_until_ctrl_c(fleet: Fleet, process: Process) -> None:
    """What needs attention comes first."""
    assert process
    printed, status = watched_at_terminal(
        ["watch", "--every", "100ms", "--store", fleet.url], until="work: overdue"
    )
    assert status == 0
    assert "need attention" in printed


def test_command_that_names_no_application_of_the_store_creates_none(
    fleet: Fleet, process: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name is reported, also the second time."""
    assert process
    for command in ("tasks", "runs", "fleet"):
        assert main([command, "--store", fleet.url, "--name", "a wrong one"]) == 4
        printed = capsys.readouterr()
        assert "application named 'a wrong one', got nothing" in printed.err
        assert printed.out == ""


def test_report_is_one_file_with_what_became_of_each_fire_time(
    pulse: Callable[..., tuple[int, str]],
) -> None:
    """It loads nothing, so that it can be sent to somebody."""
    status, page = pulse("report", "--for", "1h")
    assert status == 0
    assert page.startswith("<!doctype html>")
    assert not SELF_CONTAINED.search(page)
    assert re.search(r"<h2>\d fire times: 2 ran, 0 skipped, 0 missed", page)
    assert "Each fire time is explained, and none ran twice." in page
    assert "1 went wrong: see below." in page
    assert page.count('class="state failed"') == 1


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("", "token=4711"),
        ("pulse.config.output = none", ""),
        ("pulse.config.redact = tests.contracts.test_commands:without_token", "token=..."),
    ],
)
def test_report_shows_of_answers_what_the_configuration_permits(
    fleet: Fleet,
    process: Process,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    line: str,
    shown: str,
) -> None:
    """As the dashboard does: the file leaves the host."""
    fleet.clock.forward(EVERY)
    process.fail(process.claim_one(), message="token=4711")
    file = tmp_path / "site.ini"
    file.write_text(
        "[pipeline:main]\npipeline = pulse site\n"
        "[app:site]\npaste.app_factory = examples.celery.shop:make_app\n"
        f"[filter:pulse]\nuse = egg:pulse\npulse.config.store = {fleet.url}\n{line}\n"
        "pulse.task.work.action = /work\npulse.task.work.interval = 10\n"
    )
    assert main(["report", str(file), "--for", "1h"]) == 0
    page = capsys.readouterr().out
    assert "2 went wrong: see below." in page
    assert ("4711" in page) is (line == "")
    assert shown in page


def without_token(text: str, task: str) -> str:
    """Return a text without the number of a token."""
    assert task == "work"
    return re.sub(r"token=\d+", "token=...", text)


def test_report_as_json_has_what_the_page_shows(pulse: Callable[..., tuple[int, str]]) -> None:
    """For those who make a page of their own."""
    status, text = pulse("report", "--for", "1h", "--json")
    document = json.loads(text)
    assert status == 0
    assert {one["task"]: one["ran"] for one in document["ledger"]} == {"work": 2, "report": 0}
    assert [one["newest"]["state"] for one in document["went_wrong"]] == ["failed"]


def test_report_at_a_terminal_names_the_way_to_a_file(fleet: Fleet, process: Process) -> None:
    """Nobody reads HTML there."""
    assert process
    shown, status = at_terminal(["report", "--store", fleet.url])
    assert status == 2
    assert "report: expected a file or a pipe for the page, such as > week.html" in shown
