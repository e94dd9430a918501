"""`pulse next`, in the test's process: fire times, and the clock changes between them."""

from __future__ import annotations

import json
import sys

import pytest

from pulse.cli.main import main
from tests.support.terminal import at_terminal

CHANGE = "the clocks of Europe/Berlin are set forward by 1h, from +01:00 to +02:00"
AFTER = ["--after", "2026-01-05T12:00:00Z"]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the module search path."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_duration_is_explained_with_its_fire_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The intervals are counted from the start time."""
    assert main(["next", "1h30m", "--count", "2", *AFTER]) == 0
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()] == [
        ["#", "fire time", "in", "before it"],
        ["1", "2026-01-05T13:30:00Z", "1h30m", ""],
        ["2", "2026-01-05T15:00:00Z", "3h", ""],
    ]
    printed, status = at_terminal(["next", "1h30m", "--count", "2", *AFTER], NO_COLOR="1")
    first, _, _, *rows = printed.splitlines()
    assert (status, first) == (
        0,
        "1h30m (UTC): every 1h30m, counted from when the store first sees it",
    )
    assert [line.split() for line in rows] == [
        ["1", "2026-01-05T13:30:00Z", "1h30m"],
        ["2", "2026-01-05T15:00:00Z", "3h"],
    ]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_closed_stdout_is_no_error(form: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a standard output, the command only returns its exit status."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["next", "5m", *form]) == 0


def test_json_output_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Every instant is an RFC 3339 text."""
    main(["next", "300", "--count", "1", "--json", *AFTER])
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "expression": "300",
        "timezone": "UTC",
        "explained": "every 5m, counted from when the store first sees it",
        "after": "2026-01-05T12:00:00Z",
        "fire_times": [{"at": "2026-01-05T12:05:00Z", "clock_changes": []}],
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["soon"], "expected a cron expression such as '0 3 * * *', a duration such as 5m, or a"),
        (["1 mnth"], "or a period such as '1 month', got '1 mnth'; did you mean 'month'?"),
        (["1 month", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
        (["5m", "--timezone", "Europe/Berlin"], "expected no time zone for a duration"),
        (["0 3 * * nosuchday"], "expected a day of week"),
        (["0 3 * * *", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
    ],
)
def test_invalid_schedule_exits_with_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the expectation."""
    assert main(["next", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["5m", "--count", "0"], ["5m", "--after", "noon"], ["5m", "--count", "many"]]
)
def test_invalid_option_exits_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the option and the expectation."""
    with pytest.raises(SystemExit) as caught:
        main(["next", *arguments])
    assert caught.value.code == 2
    assert ": expected " in capsys.readouterr().err


def test_cron_expression_is_explained_in_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    """Each fire time has its offset."""
    arguments = ["30 2 * * mon", "--timezone", "Europe/Berlin"]
    assert main(["next", *arguments, "--count", "1", *AFTER]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split("\t")[:3] == ["1", "2026-01-12T02:30:00+01:00", "6d13h30m"]
    main(["next", *arguments, "--json"])
    assert json.loads(capsys.readouterr().out)["explained"] == "At 02:30 on Monday"


def test_calendar_period_is_explained_in_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    """The fire times have the time of day at which the store first sees the task."""
    arguments = ["2 weeks", "--timezone", "Europe/Berlin", "--after", "2026-03-23T12:00:00Z"]
    assert main(["next", *arguments, "--count", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split("\t")[:3] == ["1", "2026-04-06T13:00:00+02:00", "13d23h"]
    main(["next", *arguments, "--json"])
    explanation = "every 2 weeks, counted from when the store first sees it"
    assert json.loads(capsys.readouterr().out)["explained"] == explanation


def test_period_with_count_one_is_explained_without_the_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The explanation is "every month" and not "every 1 month"."""
    main(["next", "1 month", "--count", "1", "--json", *AFTER])
    printed = json.loads(capsys.readouterr().out)
    assert printed["explained"] == "every month, counted from when the store first sees it"
    assert printed["fire_times"][0]["at"] == "2026-02-05T12:00:00Z"


def test_clock_change_between_two_fire_times_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line of the fire time after the change describes the change."""
    arguments = ["0 13 * * mon", "--timezone", "Europe/Berlin", "--after", "2026-03-16T12:00:00Z"]
    main(["next", *arguments, "--count", "2"])
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["1", "2026-03-23T13:00:00+01:00", "7d", ""],
        ["2", "2026-03-30T13:00:00+02:00", "13d23h", CHANGE],
    ]


def test_json_output_contains_clock_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """A clock change has its instant and both offsets."""
    arguments = ["@weekly", "--timezone", "Europe/Berlin", "--after", "2026-10-25T00:00:00Z"]
    main(["next", *arguments, "--count", "1", "--json"])
    (fire_time,) = json.loads(capsys.readouterr().out)["fire_times"]
    change = {"at": "2026-10-25T01:00:00Z", "before": "+02:00", "after": "+01:00"}
    assert fire_time["clock_changes"] == [{"zone": "Europe/Berlin", **change}]


def test_schedule_with_fewer_fire_times_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The output has fewer fire times than the option asks for."""
    main(["next", "0 0 1 1 *", "--count", "10", "--json", "--after", "9997-06-01T00:00:00Z"])
    fire_times = json.loads(capsys.readouterr().out)["fire_times"]
    assert [line["at"][:4] for line in fire_times] == ["9998", "9999"]
