"""`pulse convert`: what it prints fires when the other scheduler would."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import AndTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger
from celery import Celery
from celery.schedules import crontab
from celery.schedules import schedule as celery_interval
from hypothesis import given
from hypothesis import strategies as st

from pulse.cli.convert.apscheduler import convert_jobs
from pulse.cli.convert.celery_beat import convert_beat
from pulse.cli.convert.converted import as_ini, checked
from pulse.cli.convert.crontab import convert_crontab
from pulse.cli.main import main
from pulse.clock import instant_of, moment_of
from pulse.config.loader import load

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.cli.convert.converted import Converted

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def settings_of(found: list[Converted]) -> dict[str, dict[str, str]]:
    """Return the settings of each task."""
    return {one.name: dict(one.settings) for one in found if one.settings}


def fire_times(one: Converted, number: int = 20) -> list[datetime]:
    """Return when a task fires, as pulse reads what is printed."""
    lines = [line for line in as_ini([one]) if line and not line.startswith("#")]
    task = load(dict(line.split(" = ", 1) for line in lines), {}).tasks[one.name]
    at = instant_of(NOW)
    found = []
    for _ in range(number):
        following = task.schedule.next_after(at, anchor=instant_of(NOW))
        if following is None:
            break
        found.append(moment_of(following))
        at = following
    return found


def test_each_line_of_a_crontab_is_converted_or_named() -> None:
    """With the time zone of the lines before it, and the path that curl requests."""
    lines = [
        "# a comment",
        "MAILTO=ops@example.org",
        "0 1 * * * /usr/bin/early",
        "CRON_TZ=Europe/Berlin",
        "*/5 * * * * curl -fsS 'http://localhost/sessions/cleanup?x=1' >/dev/null",
        "@daily backup.sh --all",
        "@daily backup.sh --more",
        "@reboot warm",
        "99 * * * * nope",
        "0 2 * *",
        "0 3 * * * mail%body",
    ]
    found = checked(convert_crontab("\n".join(lines)))
    assert settings_of(found) == {
        "early": {"action": "/tasks/early", "cron": "0 1 * * *"},
        "sessions_cleanup": {
            "action": "/sessions/cleanup?x=1",
            "cron": "*/5 * * * *",
            "timezone": "Europe/Berlin",
        },
        "backup": {"action": "/tasks/backup", "cron": "0 0 * * *", "timezone": "Europe/Berlin"},
        "backup_2": {"action": "/tasks/backup", "cron": "0 0 * * *", "timezone": "Europe/Berlin"},
        "mail_body": {
            "action": "/tasks/mail_body",
            "cron": "0 3 * * *",
            "timezone": "Europe/Berlin",
        },
    }
    notes = {one.source.partition(":")[0]: "; ".join(one.notes) for one in found if one.notes}
    assert set(notes) == {f"line {number}" for number in (2, 3, 8, 9, 10, 11)}
    assert "set timezone" in notes["line 3"]
    assert "got '99'" in notes["line 9"]


def test_crontab_of_the_system_has_a_user_after_the_fields() -> None:
    """As `/etc/crontab` and the files of `/etc/cron.d`."""
    [one] = convert_crontab("17 * * * * root /usr/bin/hourly", with_user=True)
    assert (one.name, one.settings["cron"]) == ("hourly", "17 * * * *")


FIELDS = {
    "minute": st.sampled_from(["*", "0", "5,35", "*/15", "10-20", "10-40/10"]),
    "hour": st.sampled_from(["*", "0", "2", "9-17", "*/6", "1,13"]),
    "month": st.sampled_from(["*", "*", "1", "3-9", "*/2"]),
}
DAYS = st.sampled_from(
    [{}, {"day": "1"}, {"day": "last"}, {"day": "*/10"}, {"day": "2nd fri"}, {"day": "last sun"}]
    + [{"day_of_week": text} for text in ("mon-fri", "0", "6", "sat,sun", "0-4", "tue,3")]
)


@given(st.fixed_dictionaries(FIELDS), DAYS)
def test_job_of_apscheduler_fires_when_its_trigger_does(
    fields: dict[str, str], days: dict[str, str]
) -> None:
    """Numbers of days count from Monday in APScheduler."""
    trigger = CronTrigger(**fields, **days, timezone="UTC")
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(print, trigger, id="job")
    [one] = checked(convert_jobs(scheduler, now=instant_of(NOW)))
    expected, at = [], NOW
    for _ in range(20):
        following = trigger.get_next_fire_time(at, at)
        at = following + timedelta(seconds=1)
        expected.append(following)
    assert fire_times(one) == expected


def test_policies_of_apscheduler_are_converted_and_others_are_named() -> None:
    """Also a trigger that pulse has not."""
    scheduler = BackgroundScheduler(timezone="Europe/Berlin")
    scheduler.add_job(print, "interval", minutes=5, id="each", max_instances=3, coalesce=False)
    scheduler.add_job(print, "cron", hour=2, id="nightly", misfire_grace_time=3_600, jitter=120)
    scheduler.add_job(print, "date", run_date="2027-03-01 09:00:00", id="launch", args=[1])
    scheduler.add_job(print, "cron", week="*/2", id="weeks")
    scheduler.add_job(print, "cron", day="1-7", day_of_week="mon", id="both")
    scheduler.add_job(print, AndTrigger([IntervalTrigger(hours=1)]), id="and")
    found = checked(convert_jobs(scheduler, now=instant_of(datetime.now(UTC))))
    zone = "Europe/Berlin"
    assert settings_of(found) == {
        "each": {
            "action": "/tasks/each",
            "interval": "5m",
            "overlap": "allow",
            "max_running": "3",
            "misfire": "all",
        },
        "nightly": {
            "action": "/tasks/nightly",
            "cron": "0 2 * * *",
            "timezone": zone,
            "misfire": "skip",
            "grace": "1h",
            "jitter": "2m",
        },
        "launch": {
            "action": "/tasks/launch",
            "at": "2027-03-01T08:00:00Z",
            "method": "POST",
            "body": '{"args": [1]}',
        },
    }
    refused = {one.name: one.notes[0] for one in found if one.is_refused}
    assert set(refused) == {"weeks", "both", "and"}


def test_interval_of_apscheduler_keeps_a_start_that_was_chosen() -> None:
    """It decides at which minutes the job runs."""
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(print, "interval", hours=1, id="each", start_date="2026-02-01 00:30:00")
    [one] = checked(convert_jobs(scheduler, now=instant_of(NOW)))
    assert one.settings["start"] == "2026-02-01T00:30:00Z"


@given(
    minute=st.sampled_from(["*", "0", "*/15", "5,35", "10-20"]),
    hour=st.sampled_from(["*", "2", "9-17", "*/6"]),
    day=st.sampled_from(
        [{}, {"day_of_month": "1,15"}, {"day_of_week": "mon-fri"}, {"day_of_week": 0}]
    ),
)
def test_crontab_of_celery_fires_when_its_fields_match(
    minute: str, hour: str, day: dict[str, str | int]
) -> None:
    """Each fire time is in the sets of Celery's fields, and they are in order."""
    made = crontab(minute=minute, hour=hour, **day)
    app = Celery(set_as_current=False)
    app.conf.beat_schedule = {"job": {"task": "shop.job", "schedule": made}}
    [one] = checked(convert_beat(app))
    expected, at = [], NOW
    while len(expected) < 20:
        at += timedelta(minutes=1)
        if (
            at.minute in made.minute
            and at.hour in made.hour
            and at.day in made.day_of_month
            and at.isoweekday() % 7 in made.day_of_week
        ):
            expected.append(at)
    assert fire_times(one) == expected


def test_entries_of_celery_beat_are_converted_or_named() -> None:
    """Solar schedules, and those that require both kinds of days, are refused."""

    class solar:  # noqa: N801 - as Celery names it
        """Stands for Celery's, which needs a package of its own."""

    app = Celery(set_as_current=False)
    app.conf.timezone = "Europe/Berlin"
    app.conf.beat_schedule = {
        "clean up": {"task": "sessions.cleanup", "schedule": 300.0},
        "delta": {"task": "a.b", "schedule": timedelta(hours=1), "options": {"queue": "slow"}},
        "object": {"task": "a.b", "schedule": celery_interval(60)},
        "nightly": {
            "task": "reports.nightly",
            "schedule": crontab(minute=30, hour=2),
            "args": ("full",),
            "options": {"expires": 3_600},
        },
        "sun": {"task": "a.sun", "schedule": solar()},
        "both": {"task": "a.c", "schedule": crontab(0, 0, day_of_month="1-7", day_of_week="mon")},
    }
    found = checked(convert_beat(app))
    made = settings_of(found)
    assert made["clean_up"] == {"action": "/tasks/sessions/cleanup", "interval": "5m"}
    assert (made["delta"]["interval"], made["object"]["interval"]) == ("1h", "1m")
    assert made["nightly"] == {
        "action": "/tasks/reports/nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "method": "POST",
        "body": '{"args": ["full"]}',
        "misfire": "skip",
        "grace": "1h",
    }
    notes = {one.name: "; ".join(one.notes) for one in found if one.notes}
    assert notes["delta"] == "options queue = 'slow': the first free worker runs it"
    assert "sun has set" in notes["sun"]
    assert "both to match" in notes["both"]
    assert {one.name for one in found if one.is_refused} == {"sun", "both"}


def test_command_prints_ini_lines_or_python_and_names_what_is_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit status 2 if something is not."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "crontab"
    file.write_text("CRON_TZ=UTC\n0 3 * * * backup\n")
    assert main(["convert", "crontab", str(file)]) == 0
    assert "pulse.task.backup.cron = 0 3 * * *" in capsys.readouterr().out
    assert main(["convert", "crontab", str(file), "--python"]) == 0
    assert "Task(action='/tasks/backup', cron='0 3 * * *'" in capsys.readouterr().out
    file.write_text("99 * * * * nope\n")
    assert main(["convert", "crontab", str(file)]) == 2
    assert "error: line 1: 99 * * * * nope" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["crontab", "/gone"], "expected a crontab to read"),
        (["celery", "gone"], "expected package.module:name"),
        (["celery", "no_such_module:app"], "expected a module to load"),
        (["celery", "json:dumpz"], "expected a name in module json, got 'dumpz'"),
        (["celery", "json:dumps"], "expected a Celery application"),
        (["apscheduler", "json:dumps"], "expected a scheduler of APScheduler 3"),
    ],
)
def test_source_that_is_none_is_named(
    words: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With exit status 2."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["convert", *words]) == 2
    assert problem in capsys.readouterr().err
