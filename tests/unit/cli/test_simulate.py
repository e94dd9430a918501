"""`pulse simulate`, in the test's process: output, and the sources of durations."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from pulse.cli.main import main
from pulse.clock import SECOND, SystemClock
from pulse.core.run import CompletedRun, Outcome, Result
from pulse.core.task import Task, build_definition
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from tests.support.terminal import at_terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TASKS = """[filter:pulse]
use = egg:pulse
pulse.config.name = shop
pulse.config.store = sqlite:///shop.db
pulse.task.cleanup.action = cleanup
pulse.task.cleanup.interval = 5m
pulse.task.report.action = report
pulse.task.report.interval = 1h
"""
FROM = ["--from", "2026-01-05T12:00:00Z"]


def simulated(capsys: pytest.CaptureFixture[str], file: Path, *arguments: str) -> dict:
    """Return the output of `pulse simulate --json` for a file with one section."""
    assert main(["simulate", str(file), "--json", *FROM, *arguments]) == 0
    (section,) = json.loads(capsys.readouterr().out)["simulations"]
    return section


def record(path: Path, took_us: int) -> None:
    """Create a store in which a run of cleanup took *took_us*."""
    store = SqliteStore(
        path, SystemClock(), StoreOptions(name="shop", keep_runs=10, keep_for_us=10**15)
    )
    store.open(this_member("inline", "", SECOND * 30))
    task = Task(action="cleanup", interval="5m", run_at_start=True)
    store.sync({"cleanup": build_definition("cleanup", task)})
    (claim,) = store.claim_due(1).claims
    store.finish([CompletedRun(claim, Result(Outcome.SUCCEEDED, SystemClock().wall(), took_us))])
    store.close()


def test_each_task_is_listed_with_its_ticks(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The section has count, first, last and next fire times of the requested window."""
    forecast = simulated(capsys, ini(TASKS), "--for", "1d")
    assert (forecast["from"], forecast["until"], forecast["ticks"]) == (
        "2026-01-05T12:00:00Z",
        "2026-01-06T12:00:00Z",
        310,
    )
    assert forecast["tasks"][1] == {
        "task": "report",
        "schedule": {"interval": "1h"},
        "ticks": 23,
        "first": "2026-01-05T13:00:00Z",
        "last": "2026-01-06T11:00:00Z",
        "next": [f"2026-01-05T{hour}:00:00Z" for hour in range(13, 18)],
        "took_s": 1.0,
        "took_from": "assumed",
        "overlaps": False,
    }


def test_busiest_hours_and_peak_are_listed(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The peak contains the tasks that run at once."""
    forecast = simulated(capsys, ini(TASKS), "--for", "1d")
    assert forecast["busiest_hours"][0] == {"start": "2026-01-05T13:00:00Z", "ticks": 13}
    assert forecast["peak"] == {
        "at_least": 2,
        "at_most": 2,
        "at": "2026-01-05T13:00:00Z",
        "tasks": ["cleanup", "report"],
    }


def test_duration_is_the_median_of_the_history(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task without a history has the assumed duration."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=250_000)
    tasks = simulated(capsys, file)["tasks"]
    assert [(task["took_s"], task["took_from"]) for task in tasks] == [
        (0.25, "history"),
        (1.0, "assumed"),
    ]


def test_took_option_overrides_the_history(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option allows a forecast with hypothetical durations."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=250_000)
    task = simulated(capsys, file, "--took", "cleanup=6m")["tasks"][0]
    assert (task["took_s"], task["took_from"], task["overlaps"]) == (360, "given", True)


def test_reading_the_history_creates_no_file(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command creates neither a store nor a log of a store."""
    file = ini(TASKS)
    record(tmp_path / "shop.db", took_us=1)
    before = sorted(tmp_path.iterdir())
    simulated(capsys, file)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("store", ["sqlite:///shop.db", "memory:", None])
def test_missing_store_is_not_created(
    store: str | None, ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command creates no file."""
    line = "" if store is None else f"pulse.config.store = {store}\n"
    file = ini(TASKS.replace("pulse.config.store = sqlite:///shop.db\n", line))
    forecast = simulated(capsys, file)
    assert forecast["history"] == "no history: the store has no SQLite file on this host"
    assert [path.name for path in tmp_path.iterdir()] == ["pulse.ini"]


def test_unreadable_history_is_reported(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast uses assumed durations."""
    (tmp_path / "shop.db").write_text("this is no database, and long enough to see that" * 30)
    forecast = simulated(capsys, ini(TASKS))
    assert forecast["history"].startswith("cannot read the history: ")
    assert forecast["tasks"][0]["took_from"] == "assumed"


def test_empty_history_has_no_durations(
    ini: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without the application's tables contains no durations."""
    (tmp_path / "shop.db").touch()
    assert simulated(capsys, ini(TASKS))["tasks"][0]["took_from"] == "assumed"


def shown(file: Path, *arguments: str) -> list[str]:
    """Return the lines of `pulse simulate` at a wide terminal."""
    words = ["simulate", str(file), *FROM, *arguments]
    printed, status = at_terminal(words, NO_COLOR="1", COLUMNS="160")
    assert status == 0, printed
    return printed.splitlines()


def test_terminal_shows_tables_and_the_peak(ini: Callable[..., Path]) -> None:
    """The tables are of tasks and busiest hours; a run that is long is noted."""
    printed = shown(ini(TASKS), "--for", "1d", "--took", "report=2h")
    assert (
        "[filter:pulse] 2026-01-05T12:00:00Z to 2026-01-06T12:00:00Z, as if the store first saw "
        "the tasks then; ticks: 310"
    ) in printed
    (report,) = [line for line in printed if line.startswith("report")]
    assert report.split()[-6:] == ["2h", "(given)", "overlaps", "the", "next", "tick"]
    assert printed[-1] == "most runs at once: 2, first at 2026-01-05T13:00:00Z: cleanup, report"


def test_pipe_has_the_tables_alone(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Separated by tabs, with heads."""
    assert main(["simulate", str(ini(TASKS)), *FROM, "--for", "1d"]) == 0
    heads, cleanup, report, *_ = capsys.readouterr().out.splitlines()
    assert heads.split("\t")[:4] == ["section", "task", "schedule", "ticks"]
    assert cleanup.split("\t")[:4] == ["", "cleanup", "interval = 5m", "287"]
    assert report.split("\t")[1] == "report"


def test_tables_use_the_zone_of_the_configuration(ini: Callable[..., Path]) -> None:
    """A task may have a time zone of its own."""
    zones = "pulse.config.timezone = Europe/Berlin\npulse.task.report.timezone = Asia/Tokyo\n"
    start = "pulse.task.report.start = 2026-01-05T22:00\n"
    printed = "\n".join(shown(ini(TASKS + zones + start), "--for", "1h"))
    assert "[filter:pulse] 2026-01-05T13:00:00+01:00 to 2026-01-05T14:00:00+01:00" in printed
    assert "start = 2026-01-05T22:00:00+09:00" in printed
    assert "first at 2026-01-05T13:05:00+01:00: cleanup" in printed
    assert "Z" not in printed.replace(FROM[1], "")


def test_window_without_ticks_has_no_peak(ini: Callable[..., Path]) -> None:
    """The output has no busiest hours."""
    printed = shown(ini(TASKS), "--for", "1m")
    assert ("busiest" in "".join(printed), printed[-1]) == (False, "runs at once: none")


def test_incomplete_search_reports_both_limits_of_the_peak(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The search for the peak ends early if there are too many ticks."""
    text = TASKS.replace("= 5m", "= 1ms").replace("= 1h", "= 61m")
    peak = simulated(capsys, ini(text), "--for", "2h10m")["peak"]
    assert (peak["at_least"], peak["at_most"]) == (1, 2)
    lines = shown(ini(text), "--for", "2h10m")
    assert any("runs at once: at least 1, at most 2," in line for line in lines)


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (TASKS, ["--took", "reprt=1s"], "got 'reprt'; did you mean 'report'?"),
        (
            TASKS + "pulse.config.mode = gevnt\n",
            ["--json"],
            "[filter:pulse] pulse.config.mode: expected",
        ),
        (TASKS, ["--section", "filter:puls"], "did you mean 'filter:pulse'?"),
    ],
)
def test_invalid_input_exits_with_status_2(
    text: str,
    arguments: list[str],
    sentence: str,
    ini: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The output has no forecast."""
    assert main(["simulate", str(ini(text)), *FROM, *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, sentence in printed.err) == ("", True)


def test_invalid_duration_is_reported_with_its_option(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the option."""
    with pytest.raises(SystemExit):
        main(["simulate", str(ini(TASKS)), "--took", "report=soon"])
    assert "--took: expected seconds as a number" in capsys.readouterr().err


DATED = """[filter:pulse]
use = egg:pulse
pulse.task.launch.action = launch
pulse.task.launch.at = {at}
"""
"""A task with one date; the window begins at 2026-01-05T12:00:00Z."""


@pytest.mark.parametrize(
    ("at", "more"),
    [
        ("2020-01-01", "pulse.task.launch.grace = 1h\n"),
        ("2026-01-05T11:30", "pulse.task.launch.misfire = skip\n"),
        ("2026-01-07", ""),
    ],
    ids=["past its grace", "past under misfire skip", "after the window"],
)
def test_date_that_does_not_run_in_the_window_is_no_tick(
    at: str, more: str, ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that first sees the task at the start of the window runs nothing."""
    forecast = simulated(capsys, ini(DATED.format(at=at) + more), "--for", "1d")
    assert (forecast["ticks"], forecast["tasks"][0]["ticks"]) == (0, 0)


@pytest.mark.parametrize(
    ("at", "more"),
    [
        ("2020-01-01", ""),
        ("2026-01-05T11:59:59.999999", ""),
        ("2026-01-05T11:30", "pulse.task.launch.grace = 1h\n"),
        ("2026-01-05T11:30", "pulse.task.launch.misfire = all\n"),
    ],
    ids=["long ago", "just now", "within its grace", "under misfire all"],
)
def test_past_date_that_runs_at_first_sight_is_one_tick(
    at: str, more: str, ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The forecast assumes that the store first sees the task at the start of the window."""
    forecast = simulated(capsys, ini(DATED.format(at=at) + more), "--for", "1d")
    assert (forecast["ticks"], forecast["tasks"][0]["ticks"]) == (1, 1)


def test_forecast_needs_no_package_of_the_store(
    ini: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A schedule can be examined on a host that does not serve; `pulse check` names the package."""
    monkeypatch.setitem(sys.modules, "redis", None)
    text = DATED.format(at="2026-01-07") + "pulse.config.store = redis://host\n"
    assert simulated(capsys, ini(text), "--for", "3d")["ticks"] == 1
