"""`pulse next`, in this process: fire times, and what lies between them."""

from __future__ import annotations

import json
import sys

import pytest

from pulse.cli import upcoming
from pulse.cli.main import main
from pulse.clock import SECOND, instant_of, moment_of
from pulse.errors import MissingExtraError
from pulse.testing.clock import NOON

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
    monkeypatch.setattr("pulse.cli.table.find_spec", lambda _: None)
    assert main(["next", "5m", "--json"]) == 0
    assert capsys.readouterr().err == ""


def test_a_table_without_rich_names_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the way around it."""
    monkeypatch.setattr("pulse.cli.table.find_spec", lambda _: None)
    assert main(["next", "5m"]) == 2
    assert "pip install 'pulse[cli]', or use --json" in capsys.readouterr().err


def test_a_missing_extra_is_an_import_error() -> None:
    """Whoever calls the module in a program may catch it as one."""
    assert issubclass(MissingExtraError, ImportError)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["soon"], "expected a cron expression such as '0 3 * * *', or a duration such as 5m"),
        (["5m", "--timezone", "Europe/Berlin"], "expected none beside a duration"),
        (["0 3 * * nosuchday"], "error: cron: "),
        (["0 3 * * *", "--timezone", "Europe/Berln"], "error: "),
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


class Weekly:
    """A schedule in Berlin's time, for as long as pulse's own are elsewhere."""

    ends = instant_of(NOON) + 100 * 7 * 86_400 * SECOND

    def next_after(self, after: int, *, anchor: int) -> int | None:
        """Return a week later."""
        found = after + 7 * 86_400 * SECOND
        return found if anchor < found < self.ends else None

    def spell(self) -> dict[str, str]:
        """Return its settings."""
        return {"weekly": "1", "timezone": "Europe/Berlin"}

    def explain(self) -> str:
        """Return it in words."""
        return "each week"


@pytest.fixture
def weekly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every expression mean each week, in Berlin."""
    monkeypatch.setattr(upcoming, "_schedule", lambda _expression, _zone: Weekly())


@pytest.mark.usefixtures("weekly")
def test_a_clock_change_is_marked_between_two_fire_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line after it says what was set, and the offsets show it."""
    main(["next", "w", "--count", "2", "--after", "2026-03-16T12:00:00Z"])
    assert capsys.readouterr().out.splitlines()[3:] == [
        "1   2026-03-23T13:00:00+01:00   7d",
        f"2   2026-03-30T14:00:00+02:00   14d   {CHANGE}",
    ]


@pytest.mark.usefixtures("weekly")
def test_a_clock_change_is_told_to_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """With its instant and both offsets."""
    main(["next", "w", "--count", "1", "--json", "--after", "2026-10-22T12:00:00Z"])
    (fire_time,) = json.loads(capsys.readouterr().out)["fire_times"]
    change = {"at": "2026-10-25T01:00:00Z", "before": "+02:00", "after": "+01:00"}
    assert fire_time["clock_changes"] == [{"zone": "Europe/Berlin", **change}]


@pytest.mark.usefixtures("weekly")
def test_a_schedule_that_ends_lists_what_is_left() -> None:
    """Fewer fire times than were asked for."""
    after = Weekly.ends - 15 * 86_400 * SECOND
    found = upcoming.find("w", timezone=None, count=10, after=after)
    assert [moment_of(line.fire_time).weekday() for line in found.lines] == [6, 6]
