"""`pulse run`: what one run in a terminal shows, and what it leaves in each shared store."""

from __future__ import annotations

import json
import sys
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pulse.cli.main import main
from pulse.clock import SECOND, instant_of
from pulse.core.run import Outcome, Trigger
from tests.contracts.suite.store_harness import EVERY, make_task
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.contracts.suite.store_harness import Fleet, Process

pytestmark = pytest.mark.parametrize("fleet", SHARED, indirect=True)

SITE = '''
"""A site whose tasks answer, fail, wait, and stop themselves."""

import sys
import time

from pulse import PulseMiddleware, Task


def site(environ, start_response):
    path = environ["PATH_INFO"]
    print("the view was called")
    if path == "/fail":
        raise RuntimeError("no such month")
    if path == "/wait":
        time.sleep(30)
    if path == "/stop":
        environ["pulse.scheduler"].stop(environ["pulse.run"], by="anna", note="wrong month")
        time.sleep(30)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Kind", "report")])
    return [b"hello ", environ["wsgi.input"].read()]


app = PulseMiddleware(
    site,
    store="{url}",
    tasks={{
        "work": Task(action="/work", interval=10),
        "fail": Task(action="/fail", interval=10, retries=3),
        "wait": Task(action="/wait", interval=10, timeout=0.5),
        "stop": Task(action="/stop", interval=10),
        "new": Task(action="/new", interval=10),
    }},
)
'''


@pytest.fixture
def process(fleet: Fleet) -> Process:
    """Return a process of a fleet whose clock is that of the command."""
    fleet.clock.forward((instant_of(datetime.now(UTC)) - fleet.clock.wall()) / SECOND)
    tasks = ("work", "fail", "wait", "stop")
    return fleet.join({name: make_task(action=f"/{name}") for name in tasks})


@pytest.fixture
def run(
    fleet: Fleet,
    process: Process,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a task of the site: the exit status, and what is printed."""
    assert process
    name = f"site_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SITE).format(url=fleet.url))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def run_task(task: str, *words: str) -> tuple[int, str]:
        sys.modules.pop(name, None)  # each call is a process of its own for a user
        status = main(["run", task, f"{name}:app", *words])
        printed = capfd.readouterr()
        return status, printed.out if status not in {2, 3, 4} else printed.err

    return run_task


def document_of(printed: str) -> dict[str, Any]:
    """Return the JSON document of a run."""
    document: dict[str, Any] = json.loads(printed)
    assert document.pop("schema") == 1
    return document


def test_response_is_shown_and_the_run_is_recorded_as_manual(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Status line, headers, body and time; what the view prints is not among it."""
    status, printed = run("work", "--body", "world", "--by", "anna")
    assert status == 0
    first, line, *rest = printed.splitlines()
    assert (first, line) == ("GET /work", "200 OK")
    assert rest[:4] == ["Content-Type: text/plain", "X-Kind: report", "", "hello world"]
    assert rest[5].startswith("succeeded in ")
    assert "the view was called" not in printed
    [recorded] = process.store.runs()
    assert rest[6] == f"recorded as run {recorded.id}"
    assert (recorded.trigger, recorded.outcome) == (Trigger.MANUAL, Outcome.SUCCEEDED)
    assert (recorded.status, recorded.message) == (200, "hello world")
    [entry] = process.store.audit()
    assert (entry.verb, entry.by, entry.run) == ("run", "anna", recorded.id)


def test_run_is_one_json_document(run: Callable[..., tuple[int, str]]) -> None:
    """With the run as other commands have it, and the whole response."""
    status, printed = run("work", "--json")
    document = document_of(printed)
    assert (status, document["recorded"], document["run"]["state"]) == (0, True, "succeeded")
    assert document["response"] == {
        "status": "200 OK",
        "headers": [["Content-Type", "text/plain"], ["X-Kind", "report"]],
        "body": "hello ",
    }


def test_exception_is_shown_and_is_not_retried(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Without frames of pulse, and with exit status 1."""
    status, printed = run("fail")
    assert status == 1
    assert "RuntimeError: no such month" in printed
    assert "pulse/" not in printed.partition("Traceback")[2]
    [recorded] = process.store.runs()
    assert (recorded.outcome, recorded.retry_at) == (Outcome.FAILED, None)


def test_timeout_interrupts_the_run(run: Callable[..., tuple[int, str]], process: Process) -> None:
    """It shows where the view was."""
    status, printed = run("wait")
    assert (status, "time.sleep(30)" in printed) == (1, True)
    assert "run_watch.py" not in printed
    assert process.store.runs()[0].outcome is Outcome.TIMED_OUT


def test_request_to_stop_it_interrupts_the_run(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Within about a second, with who asked."""
    status, printed = run("stop")
    assert (status, "stopped by anna: wrong month; it was here:" in printed) == (1, True)
    assert process.store.runs()[0].outcome is Outcome.INTERRUPTED


def test_overlap_refuses_a_second_run(
    run: Callable[..., tuple[int, str]], fleet: Fleet, process: Process
) -> None:
    """Recorded or not; --anyway runs it beside the first one."""
    fleet.clock.forward(EVERY)
    [claim] = [one for one in process.claim().claims if one.run.task == "work"]
    before = len(process.store.runs())
    for words in ([], ["--no-record"]):
        status, printed = run("work", *words)
        assert (status, printed.startswith("work: refused, since a run is")) == (5, True)
    assert len(process.store.runs()) == before
    assert run("work", "--anyway")[0] == 0
    assert len(process.store.runs()) == before + 1
    process.finish(claim)
    assert run("work")[0] == 0


def test_run_without_a_record_leaves_nothing_in_the_store(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """Neither a run nor an entry of the audit trail."""
    status, printed = run("work", "--no-record")
    assert (status, printed.splitlines()[-1]) == (0, "not recorded: --no-record")
    assert process.store.runs() == []
    assert process.store.audit() == []


def test_task_that_no_server_has_deployed_runs_without_a_record(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """The last line says why."""
    status, printed = run("new", "--json")
    document = document_of(printed)
    assert (status, document["recorded"]) == (0, False)
    assert process.store.runs() == []


def test_task_that_was_added_at_run_time_runs(
    run: Callable[..., tuple[int, str]], process: Process
) -> None:
    """As the store has it."""
    process.add("added", make_task(action="/added", method="POST"))
    status, printed = run("added")
    assert (status, printed.splitlines()[0]) == (0, "POST /added")
    assert process.store.runs()[0].task == "added"
    assert run("added", "--no-record")[0] == 3


def test_unknown_task_ends_with_3(run: Callable[..., tuple[int, str]]) -> None:
    """The error names the nearest one."""
    status, printed = run("wrok")
    assert (status, "did you mean 'work'?" in printed) == (3, True)


def test_store_that_is_away_ends_with_4(
    run: Callable[..., tuple[int, str]], fleet: Fleet, tmp_path: Path
) -> None:
    """The error names the option that runs the task all the same."""
    (tmp_path / "text").write_text("no database " * 1_000)
    away = {
        "sqlite": f"sqlite:///{tmp_path}/text",
        "postgresql": "postgresql://nobody@127.0.0.1:1/none",
        "redis": "redis://127.0.0.1:1",
    }[fleet.url.partition(":")[0]]
    [file] = tmp_path.glob("site_*.py")
    file.write_text(file.read_text().replace(fleet.url, away))
    status, printed = run("work")
    assert (status, "pulse run --no-record runs the task" in printed) == (4, True), printed
    assert run("work", "--no-record")[0] == 0
