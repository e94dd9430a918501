"""`pulse check`, in the test's process: output and exit status."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pulse import PulseMiddleware, Task
from pulse.cli.check import check
from pulse.cli.main import main
from pulse.testing import travel
from pulse.testing.clock import FakeClock
from tests.support.setups import require

if TYPE_CHECKING:
    from collections.abc import Callable

FILTER = """[filter:pulse]
use = egg:pulse
pulse.config.context = sessions
pulse.task.cleanup.action = cleanup?full=1
pulse.task.cleanup.interval = 5m
"""
STARTED = "pulse.task.cleanup.start = 2027-01-01T00:00:00+01:00\n"
LAUNCH = """[filter:pulse]
use = egg:pulse
pulse.config.timezone = Europe/Berlin
pulse.task.launch.action = launch
pulse.task.launch.at = 2027-01-01T09:00
"""
GOOD_LINES = [
    "[filter:pulse] mode = threading, store = an SQLite file of this host, tasks: 1",
    "cleanup: GET /sessions/cleanup?full=1, interval = 5m; as if the store first saw it now:",
    "    2026-01-05T12:05:00Z",
    "    2026-01-05T12:10:00Z",
    "    2026-01-05T12:15:00Z",
]
APP = f"""
[app:main]
paste.app_factory = {__name__}:never_built
"""


def never_built(_global_conf: dict[str, str]) -> None:
    """Fail the test: no check may build the application."""
    pytest.fail("the app was built")


def make_one(loader: Any, global_conf: dict[str, str], **apps: str) -> object:
    """Return the first application of a composite, as a composite that chooses one."""
    return loader.get_app(next(iter(apps.values())), global_conf=global_conf)


def test_filter_section_is_listed_with_its_tasks(ini: Callable[..., Path]) -> None:
    """Each task has its call, its schedule and the next three fire times."""
    assert check(ini(FILTER), clock=FakeClock()) == (GOOD_LINES, [])


def test_name_of_the_application_is_listed_if_set(ini: Callable[..., Path]) -> None:
    """The name distinguishes applications that share a store."""
    text = FILTER + "pulse.config.store = redis://localhost\npulse.config.name = shop\n"
    line = check(ini(text), clock=FakeClock()).lines[0]
    assert line == (
        "[filter:pulse] mode = threading, store = redis://localhost, name = shop, tasks: 1"
    )


@pytest.mark.parametrize(
    "store",
    [
        "redis://bob:S3CRETPW@127.0.0.1:6379/0",
        "redis://:S3CRETPW@127.0.0.1",
        "redis://127.0.0.1/0?password=S3CRETPW",
        "unix:///run/redis.sock?password=S3CRETPW",
        "postgresql://bob:S3CRETPW@127.0.0.1/db",
        "postgresql://127.0.0.1/db?password=S3CRETPW",
        "postgresql://127.0.0.1/db?sslpassword=S3CRETPW",
    ],
)
def test_check_of_a_store_with_a_password_does_not_show_it(
    ini: Callable[..., Path], store: str
) -> None:
    """The output of a check is copied into tickets and logs."""
    found = check(ini(f"{FILTER}pulse.config.store = {store}\n"), clock=FakeClock())
    require(not found.problems, "a file that is right")
    assert "S3CRETPW" not in "\n".join(found.lines)


@pytest.mark.parametrize(
    "line",
    [
        "pulse.config.store = redis://bob:S3CRETPW@host/x",
        "pulse.config.store = mysql://bob:S3CRETPW@host/db",
        "pulse.config.base_url = https://bob:S3CRETPW@host",
        "pulse.task.cleanup.headers = Authorization Bearer S3CRETPW",
    ],
)
def test_problem_with_a_secret_setting_does_not_show_it(
    ini: Callable[..., Path], line: str
) -> None:
    """The problem names the key, and does not repeat the secret."""
    found = check(ini(f"{FILTER}{line}\n"), clock=FakeClock())
    require(len(found.problems) == 1, "one problem")
    assert "S3CRETPW" not in found.problems[0]


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("pulse.config.mode = gevent", "gevent", "gevent"),
        ("pulse.config.store = redis://u:S3CRETPW@host", "redis", "redis"),
        ("pulse.config.store = postgresql://u:S3CRETPW@host/db", "psycopg", "postgres"),
    ],
)
def test_package_that_is_not_installed_is_a_problem(
    line: str, package: str, extra: str, ini: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with these settings would run no task; one text names the remedy."""
    monkeypatch.setitem(sys.modules, package, None)
    (problem,) = check(ini(f"{FILTER}{line}\n"), clock=FakeClock()).problems
    key = line.partition(" = ")[0] + (" = gevent" if extra == "gevent" else "")
    assert problem == (
        f"[filter:pulse] {key}: expected the package {package}, which is not installed;"
        f" pip install 'pulse[{extra}]', or in a clone of pulse: pip install '.[{extra}]'"
    )


@pytest.mark.parametrize(
    ("broker", "problem"),
    [
        ("no_such_module:app", "expected a module that can be imported, got ModuleNotFoundError"),
        ("json:loads", "expected a Celery application, got"),
        ("redis://mq", "expected the package redis, which is not installed"),
        ("redis://mq", ""),
    ],
)
def test_broker_that_no_process_could_use_is_a_problem(
    broker: str, problem: str, ini: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the start of a web server or a worker says; the broker itself is not asked."""
    if problem.endswith("not installed"):
        monkeypatch.setitem(sys.modules, "redis", None)
    text = f"{FILTER}pulse.config.mode = celery\npulse.config.broker = {broker}\n"
    problems = check(ini(text), clock=FakeClock()).problems
    assert [
        one.startswith(f"[filter:pulse] pulse.config.broker = {broker}") for one in problems
    ] == ([True] if problem else [])
    assert problem in "".join(problems)


def test_option_of_a_store_that_the_driver_refuses_is_a_problem(ini: Callable[..., Path]) -> None:
    """A worker with this store would not start."""
    text = f"{FILTER}pulse.config.store = redis://host/0?bogus=1\n"
    assert check(ini(text), clock=FakeClock()).problems


def test_fire_times_of_a_task_with_start_need_no_note(ini: Callable[..., Path]) -> None:
    """The fire times do not depend on the first sight of the task."""
    lines = check(ini(FILTER + STARTED), clock=FakeClock()).lines
    assert lines[1:3] == [
        "cleanup: GET /sessions/cleanup?full=1, interval = 5m, start = 2026-12-31T23:00:00Z:",
        "    2026-12-31T23:00:00Z",
    ]


@pytest.mark.parametrize(
    ("zone", "at"),
    [("", "2027-01-01T09:00:00+01:00"), ("Asia/Tokyo", "2027-01-01T09:00:00+09:00")],
    ids=["zone of the configuration", "zone of the task"],
)
def test_dates_are_shown_in_the_time_zone_of_the_task(
    zone: str, at: str, ini: Callable[..., Path]
) -> None:
    """The settings and the fire times have the same time zone."""
    own = f"pulse.task.launch.timezone = {zone}\n" if zone else ""
    lines = check(ini(LAUNCH + own), clock=FakeClock()).lines
    assert lines[1:] == [f"launch: GET /launch, at = {at}:", f"    {at}"]


def test_date_that_overflows_in_the_zone_is_shown_in_utc(ini: Callable[..., Path]) -> None:
    """The maximum datetime in the zone is earlier than the maximum in UTC."""
    text = LAUNCH.replace("2027-01-01T09:00", "9999-12-31T23:30Z")
    line = check(ini(text), clock=FakeClock()).lines[1]
    assert line == "launch: GET /launch, at = 9999-12-31T23:30:00Z:"


@pytest.mark.parametrize(
    ("settings", "listed"),
    [
        ({"jitter": "30s", "run_at_start": "yes"}, "jitter = 30s, run_at_start = true"),
        ({"timeout": "1h", "misfire": "skip"}, "timeout = 1h, misfire = skip, grace = 1m"),
        ({"retries": "3", "retry_min_backoff": "1"}, "retries = 3, retry_min_backoff = 1s"),
        ({"overlap": "wait", "scope": "host"}, "overlap = wait, scope = host"),
        ({"overlap": "allow", "max_running": "4"}, "overlap = allow, max_running = 4"),
        ({"overlap": "skip", "retries": "0", "headers": "X-Token: secret"}, ""),
    ],
    ids=["jitter and start", "timeout and misfire", "retries", "wait", "allow", "defaults"],
)
def test_policies_are_listed_unless_they_are_the_defaults(
    settings: dict[str, str], listed: str, ini: Callable[..., Path]
) -> None:
    """The settings follow the schedule."""
    lines = [f"pulse.task.cleanup.{name} = {value}\n" for name, value in settings.items()]
    line = check(ini(FILTER + STARTED + "".join(lines)), clock=FakeClock()).lines[1]
    assert line.partition("start = 2026-12-31T23:00:00Z")[2].strip(", :") == listed


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (FILTER.replace("filter:", "filter-app:") + "next = main" + APP, "filter-app:pulse"),
        ("[filter:other]\nuse = egg:pulse\n" + FILTER, "filter:other"),
        (f"[filter:other]\nuse = pulse\n{FILTER}", "filter:other"),
        (f"{FILTER}{APP}filter-with = pulse\n", "filter:pulse"),
        (FILTER.replace("filter:pulse", "filter: pulse"), "filter: pulse"),
        (FILTER.replace("egg:pulse", "egg:pulse#pulse_factory"), "filter:pulse"),
        (
            FILTER.replace("use =", "paste.filter_app_factory =").replace(
                "egg:pulse", "pulse.middleware:pulse_filter_app_factory"
            ),
            "filter:pulse",
        ),
    ],
    ids=["filter-app", "two filters", "inherited", "filter-with", "blank", "old name", "explicit"],
)
def test_the_sections_that_use_pulse_are_found(
    text: str, section: str, ini: Callable[..., Path]
) -> None:
    """Every syntax of PasteDeploy is recognised without building the application."""
    output = check(ini(text), clock=FakeClock())
    assert output.lines[0].startswith(f"[{section}] mode = threading")
    assert output.problems == []


def test_pipeline_with_a_filter_of_another_file_is_checked(ini: Callable[..., Path]) -> None:
    """If no section of the file uses pulse, the check follows its pipelines."""
    ini(FILTER, name="other.ini")
    text = "[pipeline:main]\npipeline = config:other.ini#pulse app\n" + APP.replace("main", "app")
    output = check(ini(text), clock=FakeClock())
    assert output.lines[0].startswith("[pipeline:main] mode = threading")
    assert output.lines[1:] == GOOD_LINES[1:]


def test_filter_with_of_another_file_is_checked(ini: Callable[..., Path]) -> None:
    """The check follows `filter-with` to the other file."""
    ini(FILTER, name="other.ini")
    output = check(ini(f"{APP}filter-with = config:other.ini#pulse\n"), clock=FakeClock())
    assert output.lines[1:] == GOOD_LINES[1:]


def test_all_problems_are_reported_with_their_section(ini: Callable[..., Path]) -> None:
    """The check lists valid sections, too."""
    bad = FILTER.replace("filter:pulse", "filter:bad") + "pulse.config.mode = gevnt\nfoo = 1\n"
    output = check(ini(FILTER + bad), clock=FakeClock())
    assert output.lines == GOOD_LINES
    assert [problem.partition(": ")[0] for problem in output.problems] == [
        "[filter:bad] foo",
        "[filter:bad] pulse.config.mode",
    ]


def test_section_option_checks_only_this_section(ini: Callable[..., Path]) -> None:
    """The check does not read the other sections."""
    file = ini(f"{FILTER}[filter:bad]\nuse = egg:there-is-no-such-thing\n")
    assert check(file, clock=FakeClock(), section="filter:pulse") == (GOOD_LINES, [])


def test_global_conf_provides_variables(ini: Callable[..., Path]) -> None:
    """The variables correspond to gunicorn's `--paste-global`."""
    file = ini(FILTER + "pulse.config.mode = %(mode)s\n")
    lines = check(file, clock=FakeClock(), global_conf={"mode": "gevent"}).lines
    assert lines[0].startswith("[filter:pulse] mode = gevent")


@pytest.mark.parametrize(
    ("text", "section", "sentence"),
    [
        ("x", None, "MissingSectionHeaderError: File contains no section headers"),
        (FILTER + FILTER, None, "DuplicateSectionError"),
        (APP, None, "expected a section that uses egg:pulse, found none"),
        (FILTER + APP, "app:main", "expected a section that uses egg:pulse, found none"),
        (FILTER, "filter:puls", "got 'filter:puls'; did you mean 'filter:pulse'?"),
        (FILTER, "zzz", "got 'zzz'; the file has filter:pulse"),
        ("[filter:a]\nuse = egg:pulse#pulsar\n", None, "[filter:a] cannot be read: LookupError"),
        ("[filter:a]\nuse = egg:no-such-egg\n", None, "[filter:a] cannot be read: PackageNotFound"),
        (FILTER + "pulse.config.mode = %(mode)s", None, "InterpolationMissingOptionError"),
    ],
)
def test_unreadable_file_is_a_problem(
    text: str, section: str | None, sentence: str, ini: Callable[..., Path]
) -> None:
    """The problem contains the error of PasteDeploy without a traceback."""
    output = check(ini(text), clock=FakeClock(), section=section)
    assert output.lines == []
    assert sentence in output.problems[0]


def test_valid_file_exits_with_status_0(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The tasks are on standard output."""
    assert main(["check", str(ini(FILTER + STARTED))]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == GOOD_LINES[0]
    assert printed.err == ""


def test_invalid_file_exits_with_status_2(
    ini: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error has one line for each problem."""
    file = ini(FILTER + "pulse.config.mode = %(mode)s\n")
    assert main(["check", str(file), "--section", "filter:pulse", "--global", "mode=gevnt"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: [filter:pulse] pulse.config.mode: expected one of")
    assert printed.err.count("\n") == 1


def test_missing_file_exits_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the file name."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    assert main(["check", "no.ini"]) == 2
    assert capsys.readouterr().err == "error: no.ini: the file does not exist\n"


def test_unopenable_file_is_reported_with_the_system_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The problem contains the error text of the system."""
    monkeypatch.chdir(tmp_path)
    Path("site").mkdir()
    assert check(Path("site"), clock=FakeClock()).problems == [
        "site: cannot be opened: Is a directory"
    ]


def test_missing_referenced_file_is_reported(ini: Callable[..., Path], tmp_path: Path) -> None:
    """The problem names the section that references the file."""
    file = ini("[app:main]\nuse = config:other.ini\n")
    (problem,) = check(file, clock=FakeClock()).problems
    assert problem == f"[app:main] cannot be read: the file {tmp_path / 'other.ini'} does not exist"


@pytest.mark.parametrize(
    "arguments", [[], ["chek"], ["check"], ["check", "a.ini", "--global", "mode"]], ids=" ".join
)
def test_invalid_arguments_exit_with_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The command prints its usage."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: pulse")


def test_python_m_pulse_runs_the_command(ini: Callable[..., Path]) -> None:
    """The module runs the command if the script is not on the PATH."""
    command = [sys.executable, "-m", "pulse", "check", str(ini(FILTER))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, GOOD_LINES[0] in ended.stdout) == (0, True)


def test_version_option_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the installed package."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"pulse {version('pulse')}\n")


def test_unencodable_name_is_escaped(
    ini: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name outside the encoding of the terminal does not fail the check."""
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    status = main(["check", str(ini(FILTER.replace(".cleanup.", ".zürich.")))])
    sys.stdout.flush()
    assert (status, b"\nz\\xfcrich: GET" in shown.getvalue()) == (0, True)


def test_closed_pipe_is_no_error() -> None:
    """A reader such as `head` may close the pipe early."""
    command = f"{sys.executable} -m pulse next 5m --count 1000 --json | head -n 1"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("{\n", "")


PAST = "2026-01-05T11:30"
"""An instant half an hour before the current time of these tests."""

BEYOND_GRACE = {
    "a short grace": {"at": PAST, "grace": "10m"},
    "misfire skip": {"at": PAST, "misfire": "skip"},
    "misfire all and a grace": {"at": PAST, "misfire": "all", "grace": "29m"},
    "a zone of its own": {"at": PAST, "timezone": "Asia/Tokyo", "grace": "1h"},
}
"""Dates in the past beyond their grace."""

WITHIN_GRACE = {
    "no grace": {"at": PAST},
    "a long grace": {"at": PAST, "grace": "31m"},
    "misfire skip and a long grace": {"at": PAST, "misfire": "skip", "grace": "1h"},
}
"""Dates in the past that run when a store first sees the task."""

each_beyond_grace = pytest.mark.parametrize("settings", BEYOND_GRACE.values(), ids=BEYOND_GRACE)
each_within_grace = pytest.mark.parametrize("settings", WITHIN_GRACE.values(), ids=WITHIN_GRACE)


def outcomes_of(settings: dict[str, str]) -> list[str | None]:
    """Return the outcomes of the runs of a task that a store first sees now."""
    task = Task(action="/launch", **settings)
    with travel(PulseMiddleware(respond, tasks={"launch": task})) as clock:
        clock.forward("1m")
        return [run.outcome for run in clock.runs("launch")]


def respond(_environ: dict, start_response: Callable) -> list[bytes]:
    """Return a successful response."""
    start_response("200 OK", [])
    return [b"done"]


def ini_text(settings: dict[str, str]) -> str:
    """Return an ini file with one task."""
    keys = {"action": "/launch", **settings}.items()
    return "[filter:pulse]\nuse = egg:pulse\n" + "".join(
        f"pulse.task.launch.{name} = {value}\n" for name, value in keys
    )


@each_beyond_grace
def test_date_beyond_its_grace_is_missed(settings: dict[str, str]) -> None:
    """A store that first sees the task now runs nothing."""
    assert outcomes_of(settings) == ["missed"]


@each_beyond_grace
def test_date_beyond_its_grace_is_listed_as_missed(
    settings: dict[str, str], ini: Callable[..., Path]
) -> None:
    """The note of the fire time does not announce a run."""
    (fire_time,) = check(ini(ini_text(settings)), clock=FakeClock()).lines[2:]
    assert "runs at once" not in fire_time
    assert "missed" in fire_time


@each_within_grace
def test_date_within_its_grace_runs_and_is_listed_accordingly(
    settings: dict[str, str], ini: Callable[..., Path]
) -> None:
    """The note of the fire time equals the behaviour of the scheduler."""
    (fire_time,) = check(ini(ini_text(settings)), clock=FakeClock()).lines[2:]
    assert (outcomes_of(settings), "runs at once" in fire_time) == (["succeeded"], True)


# Under mode = processing -------------------------------------------------------------------

PROCESSING = FILTER + "pulse.config.mode = processing\n"
SITE = """
[pipeline:main]
pipeline = pulse site
[app:site]
use = call:tests.support.marked_site:make_leaf
mark = site
"""


@pytest.fixture
def loadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of modules that child processes can import."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("application", "problem"),
    [
        ("nomodule:app", "No module named 'nomodule'"),
        ("shop_c:none", "expected a name in module shop_c, got 'none', which it does not have"),
        ("shop_c:number", "expected a WSGI application, got 7, which cannot be called"),
        ("shop_c:make", "if that is a factory, write shop_c:make()"),
        ("shop_c:make()", "expected a WSGI application, got None, which cannot be called"),
        ("raises_c:app", "got ZeroDivisionError: division by zero"),
        ("shop_c:other", "got 1 with other settings (pulse.config.name: 'other')"),
        ("mian", "expected an application of config:"),
        ("site", "expected section site of config:"),
    ],
)
def test_application_that_children_cannot_load_is_a_problem(
    application: str, problem: str, ini: Callable[..., Path], loadable: Path
) -> None:
    """A child process loads it, as for a run; the sentence names section and setting."""
    loadable.joinpath("raises_c.py").write_text("1 / 0")
    loadable.joinpath("shop_c.py").write_text(
        "from pulse import PulseMiddleware\n"
        "number, make = 7, lambda: None\n"
        "other = PulseMiddleware(lambda *_: [], name='other')\n"
    )
    file = ini(f"{PROCESSING}pulse.config.application = {application}\n{SITE}")
    (found,) = check(file, clock=FakeClock()).problems
    assert found.startswith("[filter:pulse] pulse.config.application")
    assert problem in found
    assert "\n" not in found


@pytest.mark.parametrize("application", ["main", "shop_c:app", "shop_c:make()"])
def test_application_that_children_can_load_is_no_problem(
    application: str, ini: Callable[..., Path], loadable: Path
) -> None:
    """The setting names a section, an object, or a factory."""
    loadable.joinpath("shop_c.py").write_text("def app(e, s): return []\ndef make(): return app\n")
    file = ini(f"{PROCESSING}pulse.config.application = {application}\n{SITE}")
    assert check(file, clock=FakeClock()).problems == []


def test_without_the_setting_no_application_is_loaded(ini: Callable[..., Path]) -> None:
    """Child processes load the application of the server, which is unknown here."""
    file = ini(PROCESSING + "[pipeline:main]\npipeline = pulse app\n" + APP.replace("main", "app"))
    assert check(file, clock=FakeClock()).problems == []


# One application that holds two -----------------------------------------------------------

COMPOSITE = "tests.support.marked_site:make_composite"
MOUNTED = f"""
[composite:main]
use = call:{COMPOSITE}
/v1 = api
/v2 = api
[pipeline:api]
pipeline = pulse site
[app:site]
use = call:tests.support.marked_site:make_leaf
mark = site
"""


@pytest.mark.parametrize(
    "text",
    [
        FILTER + MOUNTED,
        FILTER + MOUNTED.replace("/v2 = api", "/v2 = again") + "[app:again]\nuse = api\n",
        FILTER
        + MOUNTED.replace("pulse site", "pulse inner").replace("/v2 = api", "")
        + "[app:inner]\nuse = wrapped\n[filter-app:wrapped]\nuse = pulse\nnext = site\n",
        FILTER + MOUNTED.replace("/v2 = api", "filter-with = pulse"),
        PROCESSING + "pulse.config.store = memory:\n" + MOUNTED,
    ],
    ids=["mounted twice", "by another name", "nested", "filter-with", "memory"],
)
def test_filter_that_an_application_builds_twice_is_a_problem(
    text: str, ini: Callable[..., Path]
) -> None:
    """Both would act as one; the sentence names the sections and the remedy."""
    (problem,) = check(ini(text), clock=FakeClock()).problems
    assert problem.startswith("[composite:main] builds [")
    assert "2 times: pulse.config.name: expected one for each PulseMiddleware" in problem


@pytest.mark.parametrize(
    "text",
    [
        FILTER + "pulse.config.store = memory:\n" + MOUNTED,
        FILTER + MOUNTED.replace(COMPOSITE, f"{__name__}:make_one"),
        FILTER
        + MOUNTED.replace("/v2 = api", "/v2 = back")
        + "[pipeline:back]\npipeline = other site\n[filter:other]\nuse = pulse\n"
        "pulse.config.name = other\n",
        FILTER + MOUNTED.replace("/v2 = api", "") + "[pipeline:admin]\npipeline = pulse site\n",
    ],
    ids=["memory", "another composite", "two names", "two applications"],
)
def test_filters_that_do_not_act_as_one_are_no_problem(text: str, ini: Callable[..., Path]) -> None:
    """Filters that may not be built together are no problem either."""
    assert check(ini(text), clock=FakeClock()).problems == []


def test_setting_that_is_probably_not_meant_is_listed_as_a_warning(
    ini: Callable[..., Path],
) -> None:
    """A warning stands below the fire times of its task, and is no problem."""
    text = FILTER.replace(
        "pulse.task.cleanup.interval = 5m", "pulse.task.cleanup.cron = */45 * * * *"
    )
    output = check(ini(text), clock=FakeClock())
    warnings = [line for line in output.lines if "warning" in line]
    assert (warnings, output.problems) == (
        ["    warning: cron: the step 45 selects minute 0, 45, not a constant distance"],
        [],
    )


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        (
            FILTER + MOUNTED.replace("/v2 = api", "/v2 = main"),
            "[composite:main] -> [composite:main]",
        ),
        ("[app:main]\nuse = other\n[app:other]\nuse = main\n", "[app:main] -> [app:other]"),
        ("[filter:a]\nuse = b\n[filter:b]\nuse = a\n", "[filter:a] -> [filter:b] -> [filter:a]"),
    ],
    ids=["composite", "app", "filter"],
)
def test_section_that_refers_to_itself_is_a_problem(
    text: str, cycle: str, ini: Callable[..., Path]
) -> None:
    """A server that loads it ends with a RecursionError; the sentence names the sections."""
    problems = check(ini(text), clock=FakeClock()).problems
    assert [problem for problem in problems if cycle in problem] != []
