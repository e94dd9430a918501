"""`pulse next`, in this process: fire times, and what lies between them."""

from __future__ import annotations

import json
import sys

import pytest

from pulse.cli.main import main
from pulse.errors import MissingExtraError

CHANGE = "the clocks of Europe/Berlin are set forward by 1h, from +01:00 to +02:00"
AFTER = ["--after", "2026-01-05T12:00:00Z"]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the module search path as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_a_duration_is_told_in_words_with_its_fire_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As if the store first saw the task at the instant asked about."""
    status = main(["next", "1h30m", "--count", "2", *AFTER])
    printed = capsys.readouterr().out.splitlines()
    assert (status, printed[0]) == (
        0,
        "1h30m (UTC): every 1h30m, counted from when the store first sees it",
    )
    assert [line.split() for line in printed[3:]] == [
        ["1", "2026-01-05T13:30:00Z", "1h30m"],
        ["2", "2026-01-05T15:00:00Z", "3h"],
    ]


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_closed_output_is_no_error(form: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's `>&-` leaves no stdout at all: the exit status is the answer."""
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["next", "5m", *form]) == 0


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    """One object, with every instant as RFC 3339 text."""
    main(["next", "300", "--count", "1", "--json", *AFTER])
    assert json.loads(capsys.readouterr().out) == {
        "expression": "300",
        "timezone": "UTC",
        "explained": "every 5m, counted from when the store first sees it",
        "after": "2026-01-05T12:00:00Z",
        "fire_times": [{"at": "2026-01-05T12:05:00Z", "clock_changes": []}],
    }


def test_json_needs_no_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works where the package rich is not installed."""
    monkeypatch.setattr("pulse.cli.output.find_spec", lambda _: None)
    assert main(["next", "5m", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_a_table_without_rich_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the way around it."""
    monkeypatch.setattr("pulse.cli.output.find_spec", lambda _: None)
    assert main(["next", "5m"]) == 2
    assert "pip install 'pulse[cli]', or use --json" in capsys.readouterr().err


def test_a_missing_extra_is_an_import_error() -> None:
    """Whoever calls the module in a program may catch it as one."""
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["soon"], "expected a cron expression such as '0 3 * * *', a duration such as 5m, or a"),
        (["1 mnth"], "or a period such as '1 month', got '1 mnth'; did you mean 'month'?"),
        (["1 month", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
        (["5m", "--timezone", "Europe/Berlin"], "expected none beside a duration"),
        (["0 3 * * nosuchday"], "expected a day of week"),
        (["0 3 * * *", "--timezone", "Europe/Berln"], "did you mean 'Europe/Berlin'?"),
    ],
)
def test_what_is_no_schedule_ends_with_status_2(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with what was expected."""
    assert main(["next", *arguments]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["5m", "--count", "0"], ["5m", "--after", "noon"], ["5m", "--count", "many"]]
)
def test_a_bad_option_ends_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Argparse says which option, the error what was expected."""
    with pytest.raises(SystemExit) as caught:
        main(["next", *arguments])
    assert caught.value.code == 2
    assert ": expected " in capsys.readouterr().err


def test_a_cron_expression_is_told_in_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    """In words, and with the offset of each fire time."""
    words = ["30 2 * * mon", "--timezone", "Europe/Berlin"]
    assert main(["next", *words, "--count", "1", *AFTER]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "30 2 * * mon (Europe/Berlin): At 02:30 on Monday"
    assert printed[3].split() == ["1", "2026-01-12T02:30:00+01:00", "6d13h30m"]


def test_a_period_of_the_calendar_is_told_in_its_zone(capsys: pytest.CaptureFixture[str]) -> None:
    """As the setting `every` takes it, at the time of day at which the store first sees it."""
    words = ["2 weeks", "--timezone", "Europe/Berlin", "--after", "2026-03-23T12:00:00Z"]
    assert main(["next", *words, "--count", "1"]) == 0
    printed = capsys.readouterr().out.splitlines()
    told = "every 2 weeks, counted from when the store first sees it"
    assert printed[0] == f"2 weeks (Europe/Berlin): {told}"
    assert printed[3].split("   ")[:3] == ["1", "2026-04-06T13:00:00+02:00", "13d23h"]


def test_a_single_period_is_told_without_its_count(capsys: pytest.CaptureFixture[str]) -> None:
    """Every month, not every 1 month."""
    main(["next", "1 month", "--count", "1", "--json", *AFTER])
    found = json.loads(capsys.readouterr().out)
    assert found["explained"] == "every month, counted from when the store first sees it"
    assert found["fire_times"][0]["at"] == "2026-02-05T12:00:00Z"


def test_a_clock_change_is_marked_between_two_fire_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line after it says what was set, and the offsets show it."""
    words = ["0 13 * * mon", "--timezone", "Europe/Berlin", "--after", "2026-03-16T12:00:00Z"]
    main(["next", *words, "--count", "2"])
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()[3:]] == [
        "1   2026-03-23T13:00:00+01:00   7d",
        f"2   2026-03-30T13:00:00+02:00   13d23h   {CHANGE}",
    ]


def test_a_clock_change_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """With its instant and both offsets."""
    words = ["@weekly", "--timezone", "Europe/Berlin", "--after", "2026-10-25T00:00:00Z"]
    main(["next", *words, "--count", "1", "--json"])
    (fire_time,) = json.loads(capsys.readouterr().out)["fire_times"]
    change = {"at": "2026-10-25T01:00:00Z", "before": "+02:00", "after": "+01:00"}
    assert fire_time["clock_changes"] == [{"zone": "Europe/Berlin", **change}]


def test_a_schedule_that_ends_lists_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Fewer fire times than were asked for."""
    main(["next", "0 0 1 1 *", "--count", "10", "--json", "--after", "9997-06-01T00:00:00Z"])
    fire_times = json.loads(capsys.readouterr().out)["fire_times"]
    assert [line["at"][:4] for line in fire_times] == ["9998", "9999"]
